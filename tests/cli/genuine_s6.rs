//! The manager on a tree of genuine s6: s6-svscan supervises, s6-log or our own logger writes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use gatevisor_client::Subscription;
use gatevisor_wire::control::{Control, ControlSignal};
use gatevisor_wire::event::ServiceEvent;
use rustix::process::Signal;

use crate::home::{Home, Ran};
use crate::support::service::give;
use crate::support::{WAIT_LIMIT, executable, is_root, need_root, processes, soon, waiting};

/// The user of that name, as every system has it.
const NOBODY: u32 = 65_534;

/// Writes what it receives through a FIFO in the profile's home.
const PARROT: &str = "echo \"begins\"\nexec cat 0<>\"$2/lines\"";

/// Returns a home whose scandir s6-svscan supervises, with a gateway that is up.
fn under_s6() -> (Home, fs::File) {
    let mut home = Home::with_script(PARROT, &[]);
    home.profile("coder");
    let lines = waiting::fifo(&home.profile_dir("coder").join("lines"));
    rustix::fs::fcntl_setfl(&lines, rustix::fs::OFlags::empty()).unwrap();
    supervise_with_s6(&mut home);
    home.says("gateway start coder").ok();
    (home, lines)
}

/// Has s6-svscan supervise the scandir of a home.
fn supervise_with_s6(home: &mut Home) {
    fs::create_dir_all(home.scandir()).unwrap();
    let ours = home.command(["up"]);
    let mut command = Command::new("s6-svscan");
    command.arg(home.scandir()).env("HTTP_AGENT_HOME", home.path());
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let supervisor = home.spawn(command);
    home.adopt(supervisor);
    let scandir = gatevisor_client::ScanDir::new(home.scandir());
    waiting::polled("s6-svscan", || scandir.running().unwrap().then_some(()));
}

#[test]
fn a_command_that_was_never_executed_is_never_ready_under_s6_with_a_probe_or_without() {
    let default = "[\"/bin/sh\", \"${AGENT_SCRIPT}\", \"default\", \"{profile-home}\"]";
    let named = "[\"/bin/sh\", \"${AGENT_SCRIPT}\", \"{profile}\", \"{profile-home}\"]";
    let ready = "ready = { http = \"http://127.0.0.1:${PORT:-8700}/\", interval-ms = 50 }\nstop-timeout-ms";
    for probe in [None, Some(("stop-timeout-ms", ready))] {
        let missing = [(default, "[\"/nonexistent\"]"), (named, "[\"/nonexistent\"]")];
        let mut home = Home::with_script("", &missing.into_iter().chain(probe).collect::<Vec<_>>());
        home.profile("coder");
        supervise_with_s6(&mut home);
        home.says("gateway register coder").ok();
        let events = home.start(["events", "coder"]);
        crate::listening::until_subscribed(&events, &home, "coder");
        for line in
            ["gateway start coder --timeout 60", "gateway restart coder --timeout 60", "wait coder --ready"]
        {
            let ran = home.says(line);
            assert_eq!(ran.code, Some(1), "{line}: {ran:?}");
            assert_eq!(home.report("coder")["ready"], false, "{line}");
        }
        events.until_says("coder failed to start");
        assert!(!events.out().contains("coder ready"), "{}", events.out());
    }
}

#[test]
fn our_supervisor_is_known_by_its_lock_under_the_name_of_s6s_and_to_strangers() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    // The boot of a container prepares it like this: everybody may look.
    fs::create_dir_all(home.scandir().join(".s6-svscan")).unwrap();
    let named = home.beside("s6-svscan");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_gatevisor"), &named).unwrap();
    let scandir = gatevisor_client::ScanDir::new(home.scandir());
    for (program, name) in [(named.as_path(), "gatevisor"), (std::path::Path::new("s6-svscan"), "s6-svscan")]
    {
        let ours = home.command(["up"]);
        let mut command = Command::new(program);
        command.arg(home.scandir()).env("HTTP_AGENT_HOME", home.path());
        command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        home.adopt(home.spawn(command));
        waiting::polled("the supervisor", || scandir.running().unwrap().then_some(()));
        let comm = fs::read_to_string(format!("/proc/{}/comm", home.running().pid())).unwrap();
        assert_eq!(comm, "s6-svscan\n");
        home.says("gateway register coder").ok();
        assert_eq!(
            home.report("coder")["supervisor"],
            name,
            "the name that the first left behind means nothing"
        );
        let is_said = home.says("status").err.contains("s6-svscan supervises `");
        assert_eq!(is_said, name == "s6-svscan");
        if is_root() && name == "gatevisor" {
            let ran = as_nobody(&home, &["status", "coder"]);
            // Our supervisor runs, which is not mentioned. The user may not look at the state of
            // the gateway.
            assert_eq!(ran.code, Some(111), "{ran:?}");
            let is_said = ran.err.contains("cannot tell what is in `");
            assert!(is_said && !ran.err.contains("supervises"), "{ran:?}");
        }
        home.says("gateway unregister coder").ok();
        home.running().signal(Signal::TERM);
        home.ended();
    }
}

/// Runs a command as a user who owns nothing in the home, and sees only what everybody may see.
fn as_nobody(home: &Home, words: &[&str]) -> Ran {
    for path in [home.beside(""), home.path().to_owned(), home.path().join("run"), home.profile_dir("coder")]
    {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let line = home.command(words);
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatevisor"));
    command.args(["s6", "s6-setuidgid", "nobody"]).arg(line.get_program()).args(line.get_args());
    command.envs(line.get_envs().filter_map(|(name, value)| Some((name, value?))));
    home.spawn(command).ended(WAIT_LIMIT)
}

fn write(mut lines: &fs::File, text: &str) {
    use std::io::Write;
    lines.write_all(text.as_bytes()).unwrap();
}

#[test]
fn status_wait_and_logs_work_and_status_says_who_supervises() {
    let (home, lines) = under_s6();
    home.says("wait coder --up --timeout 20").ok();
    assert_eq!(home.says("wait coder --down --timeout 0").code, Some(99));
    let report = home.until_report("coder", "it is up", |report| report["up"] == true);
    assert_eq!(report["supervisor"], "s6-svscan", "{report}");
    let ran = home.says("status");
    assert!(ran.err.contains("s6-svscan supervises `"), "{ran:?}");
    assert!(ran.out.contains("coder") && ran.code == Some(0), "{ran:?}");
    let details = home.says("gateway status coder").ok();
    assert!(details.contains("gateway-coder, under s6-svscan\n"), "{details}");
    // Our own logger runs as a process of its own, under s6-supervise.
    write(&lines, "one\n");
    home.until_logged("coder", "one\n");
    let following = home.start(["logs", "-f", "coder"]);
    following.until_says("one\n");
    home.says("gateway restart coder").ok();
    write(&lines, "two\n");
    let out = following.until_says("two\n");
    let texts: Vec<&str> = out.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(texts, ["begins", "one", "begins", "two"]);
    following.signal(Signal::TERM);
    following.ended(WAIT_LIMIT);
    home.says("gateway stop coder").ok();
    home.says("wait coder --down --timeout 20").ok();
}

#[test]
fn a_directory_that_s6_log_writes_is_printed_and_followed() {
    let (home, lines) = under_s6();
    // Upstream's logger: a script that becomes s6-log, with upstream's log directory.
    let slot = home.slot("coder").path().to_owned();
    let directory = home.log_file("coder").parent().unwrap().to_owned();
    home.until_logged("coder", "begins\n");
    let script = format!("#!/bin/sh\nexec s6-log n100 s4096 T '{}'\n", directory.display());
    fs::write(slot.join("log/run"), script).unwrap();
    let logger = gatevisor_client::ServiceDir::new(slot.join("log"));
    let mut events = Subscription::subscribe(&logger).unwrap();
    logger.send(&[Control::Signal(ControlSignal::Kill)]).unwrap();
    while events.next(Some(soon())).unwrap().expect("the logger comes up again") != ServiceEvent::Up {}
    let following = home.start(["logs", "-f", "-n", "all", "coder"]);
    following.until_says("begins\n");
    let count = 600;
    for number in 0..count {
        write(&lines, &format!("line {number:04} {}\n", "x".repeat(60)));
    }
    let out = following.until_says(&format!("line {:04} ", count - 1));
    let numbers: Vec<usize> =
        out.lines().filter_map(|line| line.split_once("line ")?.1.split(' ').next()?.parse().ok()).collect();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    let archives = fs::read_dir(&directory).unwrap().flatten();
    // The number depends on how much s6-log reads at a time.
    assert!(archives.filter(|entry| entry.file_name().to_string_lossy().starts_with('@')).count() > 1);
    let all = home.says("logs coder -n all --grep ^line").ok();
    assert_eq!(all.lines().count(), count);
    following.signal(Signal::TERM);
    following.ended(WAIT_LIMIT);
}

/// Runs a line with a `PATH` in which no program can be found.
fn without_s6(home: &Home, line: &str) -> Ran {
    let mut command = home.command(line.split(' '));
    command.env("PATH", "/nonexistent");
    home.spawn(command).ended(WAIT_LIMIT + WAIT_LIMIT)
}

/// Returns the command line of each process of a home.
fn processes_of(home: &Home) -> String {
    home.processes().into_iter().map(processes::describe).collect::<Vec<_>>().join("\n")
}

#[test]
fn profiles_come_and_go_without_the_manager_starting_a_program_of_s6() {
    let (home, _lines) = under_s6();
    without_s6(&home, "profile create late").ok();
    let _late = waiting::fifo(&home.profile_dir("late").join("lines"));
    home.until_supervised("late");
    assert_eq!(home.report("late")["state"], "down");
    without_s6(&home, "gateway start late").ok();
    let first = home.pid("late");
    without_s6(&home, "gateway restart late").ok();
    assert_ne!(home.pid("late"), first);
    without_s6(&home, "wait late --up --timeout 20").ok();
    assert!(without_s6(&home, "status late").ok().contains("late"));
    assert!(processes_of(&home).contains("s6-supervise gateway-late"), "{}", processes_of(&home));
    without_s6(&home, "gateway stop late").ok();
    without_s6(&home, "wait late --down --timeout 20").ok();
    without_s6(&home, "gateway start late").ok();
    // A gateway that is up is ended first.
    without_s6(&home, "profile delete --yes late").ok();
    assert!(!home.slot("late").path().exists() && !home.profile_dir("late").exists());
    waiting::polled("the end of both its supervisors", || {
        (!processes_of(&home).contains("gateway-late")).then_some(())
    });
    // The same name again.
    without_s6(&home, "profile create late").ok();
    home.until_supervised("late");
    assert_eq!(home.report("late")["state"], "down");
    assert_eq!(home.report("coder")["up"], true);
    without_s6(&home, "profile delete --yes late").ok();
    without_s6(&home, "gateway stop coder").ok();
}

#[test]
fn doctor_says_that_s6_supervises_and_finds_a_crash_loop_by_the_deaths() {
    let mut home = Home::with_script("test -e \"$2/well\" || exit 3\nexec sleep 1000", &[]);
    home.profile("coder");
    fs::create_dir_all(home.scandir()).unwrap();
    let ours = home.command(["up"]);
    let mut command = Command::new("s6-svscan");
    command.arg(home.scandir()).env("HTTP_AGENT_HOME", home.path());
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    home.adopt(home.spawn(command));
    let scandir = gatevisor_client::ScanDir::new(home.scandir());
    waiting::polled("s6-svscan", || scandir.running().unwrap().then_some(()));
    home.says("gateway register coder").ok();
    let ran = home.says("doctor");
    assert!(ran.out.contains("note: `s6-svscan` supervises `") && ran.code == Some(0), "{ran:?}");
    home.says("gateway start coder --no-wait").ok();
    home.until_report("coder", "three deaths", |report| report["deaths"].as_array().unwrap().len() >= 3);
    let ran = home.says("doctor");
    assert!(ran.out.contains("error: the gateway of coder keeps dying: ") && ran.code == Some(1), "{ran:?}");
    assert!(ran.out.contains("the last time with exit 3"), "{ran:?}");
    fs::write(home.profile_dir("coder").join("well"), "").unwrap();
    home.until_report("coder", "it is up for good", |report| report["up"] == true);
    home.says("gateway stop coder").ok();
}

#[test]
fn a_slot_that_root_runs_drops_to_the_user_it_names() {
    need_root();
    let (home, _lines) = under_s6();
    home.says("gateway stop coder").ok();
    let dir = home.profile_dir("coder");
    for path in dir.ancestors().take_while(|path| path.starts_with(home.beside(""))) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    give(&dir, NOBODY);
    let run = home.slot("coder").path().join("run");
    let text = fs::read_to_string(&run).unwrap();
    let (interpreter, settings) = text.split_once('\n').unwrap();
    executable(&run, &format!("{interpreter}\nuser = \"nobody\"\n{settings}"));
    home.says("gateway start coder").ok();
    home.until_report("coder", "it is up", |report| report["up"] == true);
    let gateway = home.pid("coder");
    waiting::polled("its own command", || {
        fs::read(format!("/proc/{gateway}/comm")).ok().filter(|comm| comm == b"cat\n")
    });
    let id = NOBODY.to_string();
    for key in ["Uid", "Gid"] {
        let ids = processes::status_line(gateway, key);
        assert!(ids.split(' ').all(|one| one == id), "{key}: {ids}");
    }
    // The supervisor is root's, and obeys the desired state as usual.
    assert_eq!(home.report("coder")["supervisor"], "s6-svscan");
    home.says("gateway stop coder").ok();
}
