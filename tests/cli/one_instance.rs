//! At most one instance of each gateway, whatever happens to its supervisor; and a killed
//! supervisor leaves nothing except what it supervised.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::home::Home;
use crate::support::WAIT_LIMIT;
use crate::support::processes::{self, Held};
use crate::support::waiting;

/// Holds a lock as long as it lives. A second instance beside it is recorded in `twice`.
const ALONE: &str =
    "exec 9>>\"$2/alone\"\nflock -n 9 || { echo $$ >>\"$2/twice\"; exit 1; }\necho begins\nexec sleep 3600";

fn assert_one_of_each(home: &Home, names: &[&str]) {
    for name in names {
        assert!(!home.profile_dir(name).join("twice").exists(), "{name} ran twice at one time");
    }
}

/// Kills the supervisor, and waits until nothing of it is left but the gateways.
fn kill_supervisor_and_its_helpers(home: &mut Home, names: &[&str]) {
    let others = processes::children(home.running().pid());
    let others: Vec<Held> = others
        .into_iter()
        .filter(|&pid| names.iter().all(|name| home.pid(name) != pid))
        .filter_map(Held::of)
        .collect();
    home.kill_supervisor();
    for held in &others {
        held.until_gone("a watcher, a greeter or a log daemon of a supervisor that was killed");
    }
}

#[test]
fn up_after_a_killed_up_ends_what_that_left_and_runs_one_of_each_gateway() {
    let mut home = Home::with_script(ALONE, &[]);
    home.profile("coder");
    home.profile("writer");
    home.want_running("coder");
    home.want_running("writer");
    home.up();
    let names = ["coder", "writer"];
    let orphans = names.map(|name| Held::of(home.pid(name)).unwrap());
    kill_supervisor_and_its_helpers(&mut home, &names);
    assert!(orphans.iter().all(|held| !held.is_gone()), "a gateway does not end with its supervisor");
    home.up();
    assert!(orphans.iter().all(Held::is_gone));
    for name in names {
        assert_eq!(home.report(name)["state"], "up");
        // This is a supervised process, not the orphan, and its lines are kept.
        home.until_logged(name, "begins");
    }
    assert_one_of_each(&home, &names);
    home.running().until_warns("left by an earlier supervisor");
    home.down();
}

#[test]
fn a_home_has_one_supervisor_whatever_its_scandir_and_none_that_was_killed_blocks_the_next() {
    let mut home = Home::with_script(ALONE, &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up();
    let orphan = Held::of(home.pid("coder")).unwrap();
    let (first, second) = (home.scandir(), home.beside("second"));
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());
    let by =
        format!("of this home, and that is process {} (`gatevisor`), on the scandir", home.running().pid());
    for last in ["--quiet", "--detach"] {
        let said = home.run(["--scandir", second, "up", last]).refused(103);
        assert!(said.contains(&by) && said.contains(&format!("--scandir {first} down` ends it")), "{said}");
    }
    let lock = home.path().join(".gatevisor.lock");
    std::fs::rename(&lock, home.beside("lock")).unwrap();
    let unlocked = home.run(["--scandir", second, "up", "--quiet"]).refused(103);
    assert!(unlocked.contains(&format!("--scandir {first} down` ends it")), "{unlocked}");
    let down = home.run(["--scandir", second, "down"]).refused(1);
    assert!(down.contains(&format!("--scandir {first} down` ends it")), "{down}");
    std::fs::rename(home.beside("lock"), &lock).unwrap();
    assert!(!std::path::Path::new(second).exists());
    // Nobody proposes there what would be refused.
    let doctor = home.run(["--scandir", second, "doctor"]).out;
    assert!(
        doctor.contains("and so runs the gateways of this home") && !doctor.contains(" up\n"),
        "{doctor}"
    );
    let explained = home.run(["--scandir", second, "explain", "coder"]).ok();
    assert!(explained.contains("(runs-elsewhere)") && !explained.contains(" up\n"), "{explained}");
    home.kill_supervisor();
    // The gateway has not ended with it, and nothing on the other scandir would end it.
    let left = home.run(["--scandir", second, "up", "--quiet"]).refused(103);
    assert!(left.contains(&format!("--scandir {first} up` ends what it left")), "{left}");
    // The note in a copy of the home is about the other one.
    let copy = home.beside("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(home.path()).arg(&copy).status().unwrap();
    assert!(copied.success());
    let on_the_copy = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gatevisor"));
        command.arg("--home").arg(&copy).arg("--agent").arg(home.agent().unwrap());
        home.spawn({
            command.args(["--scandir", second]).args(words);
            command
        })
        .ended(WAIT_LIMIT)
        .ok()
    };
    assert!(on_the_copy(&["up", "--detach", "--quiet"]).contains("supervising in the background"));
    on_the_copy(&["down"]);
    home.up();
    assert!(orphan.is_gone());
    home.down();
    home.up_with(["--scandir", second, "up"]);
    home.running().until_says("coder");
    home.down();
    assert_one_of_each(&home, &["coder"]);
}

#[test]
fn a_scandir_that_another_home_has_now_keeps_no_home_that_had_it_before_from_another() {
    let mut home = Home::with_script(ALONE, &[]);
    home.profile("coder");
    home.want_running("coder");
    let (shared, other, sleeper) = (home.beside("shared"), home.beside("other"), home.beside("sleeper"));
    std::fs::write(&sleeper, "exec sleep 1000\n").unwrap();
    let shared = shared.to_str().unwrap();
    home.up_with(["--scandir", shared, "up"]);
    home.running().until_says("coder");
    home.down();
    let on_the_other = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gatevisor"));
        command.arg("--home").arg(&other).arg("--agent").arg(home.agent().unwrap());
        home.spawn({
            command.args(["--scandir", shared]).args(words).env("AGENT_SCRIPT", &sleeper);
            command
        })
        .ended(WAIT_LIMIT)
        .ok()
    };
    std::fs::create_dir(&other).unwrap();
    on_the_other(&["up", "--detach", "--quiet"]);
    on_the_other(&["profile", "create", "writer", "--start"]);
    home.says("up --detach --quiet").ok();
    home.says("down").ok();
    on_the_other(&["down"]);
}

#[test]
fn whoever_has_the_lock_of_a_home_is_named_to_an_up_and_no_other_home_is_kept_from_it() {
    let mut home = Home::with_script(ALONE, &[]);
    home.profile("coder");
    let lock = home.path().join(".gatevisor.lock");
    let mut holder = std::process::Command::new("flock");
    holder.arg("--no-fork").arg(&lock).args(["sh", "-c", "echo held; exec sleep 1000"]);
    let mut holder = home.spawn(holder);
    holder.until_out("the lock", |out| out.contains("held").then_some(()));
    let said = home.says("up --quiet").refused(103);
    let by = format!("and that is process {} (`sleep`); end that first", holder.pid());
    assert!(said.contains(&by) && said.contains("name another home with --home"), "{said}");
    let mut other = Home::with_script(ALONE, &[]);
    other.up();
    other.down();
    holder.signal(Signal::KILL);
    holder.child.wait().unwrap();
    home.up();
    home.down();
}

#[test]
fn a_gateway_that_was_stopped_while_nobody_supervised_it_is_ended_by_the_next_up() {
    let mut home = Home::with_script(ALONE, &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up();
    let orphan = Held::of(home.pid("coder")).unwrap();
    home.kill_supervisor();
    // The desired state is recorded, and a message says that no supervisor runs.
    assert_eq!(home.says("gateway stop coder").code, Some(102));
    home.up();
    assert!(orphan.gone_by(crate::support::soon()));
    home.until_state("coder", "down");
    home.down();
}

#[test]
fn whenever_a_supervisor_is_killed_there_is_never_more_than_one_of_a_gateway() {
    const TIMES: u64 = 100;
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let mut home = Home::with_script(ALONE, &[]);
    for name in NAMES {
        home.profile(name);
        home.want_running(name);
    }
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..TIMES {
        home.up_with(["up", "--quiet"]);
        // A random moment between its first instruction and a while after everything is up.
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Instant::now() + Duration::from_millis((chance >> 33) % 400);
        assert!(!Held::of(home.running().pid()).unwrap().gone_by(moment), "{}", home.running().err());
        home.kill_supervisor();
        assert_one_of_each(&home, &NAMES);
    }
    home.up();
    for name in NAMES {
        let session = home.pid(name);
        let alike: Vec<i32> =
            home.processes().into_iter().filter(|&pid| pid != session && is_payload(pid)).collect();
        assert_eq!(alike.len(), NAMES.len() - 1, "{alike:?}");
    }
    assert_one_of_each(&home, &NAMES);
    home.down();
}

#[test]
fn a_gateway_whose_profile_vanished_while_nobody_supervised_it_is_ended_by_the_next_up() {
    let mut home = Home::with_script(ALONE, &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up();
    home.until_last_command("coder", b"sleep\x003600\0");
    let pid = home.pid("coder");
    let orphan = Held::of(pid).unwrap();
    // The watcher of profiles would remove the slot if it still ran.
    let keeper = home.keeper().and_then(Held::of);
    home.kill_supervisor();
    assert!(
        keeper.is_none_or(|keeper| keeper.gone_by(crate::support::soon())),
        "it ends with the supervisor"
    );
    std::fs::rename(home.profile_dir("coder"), home.beside("gone")).unwrap();
    let out = home.up();
    assert!(orphan.is_gone());
    let said =
        format!("reconcile: gateway-coder: ended process {pid} (sleep 3600), left by an earlier supervisor");
    assert!(out.contains(&said), "{out}");
    home.down();
}

/// Removes a directory in which a watcher that is about to end may still write.
fn remove(path: &std::path::Path) {
    waiting::polled("that it is removed", || {
        let _ = std::fs::remove_dir_all(path);
        (!path.exists()).then_some(())
    });
}

/// Kills the supervisor of a gateway, has something done to what that left, and starts another one.
fn up_after(what: impl FnOnce(&Home)) {
    let mut home = Home::with_script(ALONE, &[]);
    home.profile("coder");
    home.profile("writer");
    home.want_running("coder");
    home.want_running("writer");
    home.up_quietly();
    let names = ["coder", "writer"];
    for name in names {
        home.until_state(name, "up");
        home.until_logged(name, "begins");
    }
    let orphans = names.map(|name| Held::of(home.pid(name)).unwrap());
    let pid = home.pid("coder");
    kill_supervisor_and_its_helpers(&mut home, &names);
    what(&home);
    let explained = home.says("explain coder").ok();
    let says = format!("(orphan): process {pid} (");
    assert!(explained.contains(&says) && explained.contains(" up\n"), "{explained}");
    let said = home.says("up --detach --quiet").ok();
    assert!(said.contains(&format!("reconcile: gateway-coder: ended process {pid} (")), "{said}");
    for name in names {
        home.until_logged(name, "begins");
        home.until_state(name, "up");
    }
    for held in &orphans {
        held.until_gone("what the supervisor left that was killed");
    }
    assert_one_of_each(&home, &names);
    home.says("down").ok();
}

#[test]
fn what_a_killed_supervisor_left_is_ended_by_the_next_up_although_the_scandir_was_removed() {
    up_after(|home| remove(&home.scandir()));
}

#[test]
fn what_a_killed_supervisor_left_is_ended_by_the_next_up_although_the_scandir_was_moved() {
    up_after(|home| std::fs::rename(home.scandir(), home.beside("moved")).unwrap());
}

#[test]
fn what_a_killed_supervisor_left_is_ended_by_the_next_up_although_a_slot_was_removed() {
    up_after(|home| remove(home.slot("coder").path()));
}

#[test]
fn what_another_user_says_about_the_last_scandir_is_no_reason_to_end_a_process() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut home = Home::with_script(ALONE, &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    // Before it is its command, it ends with its supervisor.
    home.until_logged("coder", "begins");
    let pid = home.pid("coder");
    kill_supervisor_and_its_helpers(&mut home, &["coder"]);
    remove(&home.scandir());
    let note = home.path().join(".gatevisor-scandir");
    let theirs = Some(12_345);
    std::os::unix::fs::chown(&note, theirs, theirs).unwrap();
    let said = home.says("up --quiet").refused(103);
    assert!(said.contains(&format!("`kill {pid}` ends it")), "{said}");
    assert!(processes::stat(pid).is_some_and(|stat| stat.state != 'Z'), "it was ended");
    processes::signal(pid, rustix::process::Signal::KILL);
}

/// Returns a home whose supervisor was killed, and the process of its gateway, which runs on.
fn orphaned() -> (Home, i32) {
    let mut home = Home::with_script(ALONE, &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_state("coder", "up");
    let pid = home.pid("coder");
    home.kill_supervisor();
    (home, pid)
}

#[test]
fn down_after_a_killed_supervisor_names_what_still_runs_and_how_to_end_it() {
    let (home, pid) = orphaned();
    let named = format!("coder (process {pid})");
    let said = home.says("down").refused(1);
    let how = format!("left what still runs: {named}; `gatevisor up` ends the gateways' own processes (with");
    assert!(said.contains(&how) && said.contains(&format!("`kill {pid}` only ends it")), "{said}");
    let doctor = home.says("doctor").out;
    assert!(doctor.contains(&format!("what it left still runs: {named}")), "{doctor}");
    let orphan = Held::of(pid).unwrap();
    processes::signal(pid, Signal::TERM);
    orphan.until_gone("what was left");
    assert_eq!(home.says("down").ok(), "no supervisor was running\n");
}

#[test]
fn what_a_killed_supervisor_left_is_named_until_the_next_up_and_nobody_claims_to_know_its_state() {
    let (home, pid) = orphaned();
    let report = home.report("coder");
    assert_eq!(report["orphan_pid"], pid, "{report}");
    assert_eq!((&report["state"], &report["pid"]), (&"not-supervised".into(), &serde_json::Value::Null));
    for field in ["up", "ready", "wantedup", "updownfor"] {
        assert_eq!(report[field], serde_json::Value::Null, "`{field}` in {report}");
    }
    let has_up = |home: &Home| {
        let metrics = home.says("metrics").ok();
        let is_of_coder = |line: &str| line.contains("\"gateway-coder\"");
        metrics.lines().any(|line| line.starts_with("gatevisor_service_up{") && is_of_coder(line))
    };
    assert!(!has_up(&home), "nobody can tell whether it is up");
    let named = format!("process {pid} still runs, left by a supervisor that was killed");
    for line in ["status", "gateway status coder"] {
        let said = home.says(line).ok();
        assert!(said.contains(&named), "{line}: {said}");
    }
    let waited = home.says("wait coder --live").refused(102);
    assert!(waited.contains("no supervisor"), "{waited}");
    let stopped = home.says("gateway stop coder").refused(102);
    let runs_on = format!("until then, process {pid} of it goes on running");
    assert!(stopped.contains(&runs_on), "{stopped}");
    let orphan = Held::of(pid).unwrap();
    processes::signal(pid, Signal::TERM);
    orphan.until_gone("what was left");
    let report = home.report("coder");
    assert_eq!((&report["up"], &report["orphan_pid"]), (&false.into(), &serde_json::Value::Null));
    assert!(has_up(&home));
    let stopped = home.says("gateway stop coder").refused(102);
    assert!(!stopped.contains("goes on running"), "{stopped}");
}

#[test]
fn what_a_killed_supervisor_left_without_its_environment_is_not_said_to_be_down() {
    let mut home = Home::with_script("exec env -i sleep 3600", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_state("coder", "up");
    let pid = home.pid("coder");
    crate::support::waiting::polled("a process without an environment", || {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
        (read("comm") == b"sleep\n" && read("environ").is_empty()).then_some(())
    });
    home.kill_supervisor();
    let report = home.report("coder");
    for field in ["up", "ready", "wantedup", "updownfor", "orphan_pid"] {
        assert_eq!(report[field], serde_json::Value::Null, "`{field}` in {report}");
    }
    let left = Held::of(pid).unwrap();
    processes::signal(pid, Signal::KILL);
    left.until_gone("what was left");
    assert_eq!(home.report("coder")["up"], false);
}

#[test]
fn a_supervisor_whose_scandir_was_moved_is_named_everywhere_and_down_ends_it() {
    down_after(|home| std::fs::rename(home.scandir(), home.beside("moved")).unwrap());
}

#[test]
fn a_supervisor_whose_scandir_was_removed_is_named_everywhere_and_down_ends_it() {
    down_after(|home| {
        let files = home.scandir().join(".s6-svscan");
        // A watcher may write there at the same time.
        crate::support::waiting::polled("the supervisor's files are removed", || {
            let _ = std::fs::remove_dir_all(&files);
            (!files.exists()).then_some(())
        });
    });
}

#[test]
fn a_supervisor_whose_scandir_and_lock_were_removed_is_named_everywhere_and_down_ends_it() {
    down_after(|home| {
        std::fs::remove_file(home.path().join(".gatevisor.lock")).unwrap();
        std::fs::rename(home.scandir(), home.beside("moved")).unwrap();
    });
}

/// Takes the scandir from a supervisor, and has it ended.
fn down_after(what: impl FnOnce(&Home)) {
    let mut home = Home::with_script(ALONE, &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_state("coder", "up");
    what(&home);
    let pid = home.running().pid();
    let named = format!("process {pid} supervises this home");
    let status = home.says("status");
    assert!(status.err.contains(&named) && status.err.contains("`gatevisor down` ends it"), "{status:?}");
    let doctor = home.says("doctor");
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.out.contains(&named) && doctor.out.contains(" down\n"), "{doctor:?}");
    let explained = home.says("explain coder").ok();
    assert!(explained.contains(&named) && explained.contains(" down\n"), "{explained}");
    let refused = home.says("up --quiet").refused(103);
    assert!(refused.contains(&format!("process {pid}")) && refused.contains(" down` ends it"), "{refused}");
    let down = home.says("down").ok();
    assert!(
        down.contains(&format!("the supervisor has ended, and every gateway before it (pid {pid})")),
        "{down}"
    );
    assert_eq!(home.ended().code, Some(0));
    home.up_quietly();
    home.until_state("coder", "up");
    home.down();
    assert_one_of_each(&home, &["coder"]);
}

fn is_payload(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x003600\0")
}

#[test]
fn a_supervisor_that_is_killed_while_it_stops_its_gateways_leaves_none_to_the_next() {
    let script = format!(
        "trap 'sleep 0.3; exit 0' TERM\n{}",
        ALONE.replace("exec sleep 3600", "sleep 3600 9>&- &\nwait")
    );
    let mut home = Home::with_script(&script, &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up();
    home.until_logged("coder", "begins");
    home.running().signal(Signal::TERM);
    home.running().until_warns("stopping");
    home.kill_supervisor();
    home.up();
    assert_one_of_each(&home, &["coder"]);
    for pid in home.processes().into_iter().filter(|&pid| is_payload(pid)) {
        if processes::stat(pid).is_some_and(|stat| stat.session != home.pid("coder")) {
            processes::signal_if_there(pid, Signal::KILL);
        }
    }
    home.down();
}

#[test]
fn a_restart_whose_interpreter_has_been_moved_away_fails_at_once_and_says_why() {
    let mut home = Home::with_script(ALONE, &[]);
    let program = home.beside("gatevisor");
    std::fs::copy(env!("CARGO_BIN_EXE_gatevisor"), &program).unwrap();
    home.use_program(program.clone());
    home.profile("coder");
    home.want_running("coder");
    home.up();
    std::fs::rename(&program, home.beside("moved")).unwrap();
    home.use_program(home.beside("moved"));
    // The command ends within a test's deadline, and so before its own timeout.
    let said = home.says("gateway restart coder --timeout 6000").refused(1);
    assert!(said.contains("failed to start: executing ./run: No such file or directory"), "{said}");
    home.down();
}

#[test]
fn a_command_that_waits_for_a_gateway_learns_at_once_that_the_supervisor_was_killed() {
    let probed =
        "ready = { http = \"http://127.0.0.1:${PORT:-8700}/health\", timeout-ms = 6000000 }\nstop-timeout-ms";
    let mut home = Home::with_script("exec sleep 3600", &[("stop-timeout-ms", probed)]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until("coder", gatevisor_client::Condition::Up);
    let waiting = ["gateway start coder --ready --timeout 6000", "wait --ready coder"];
    let waiting = waiting.map(|line| (line, home.start_uncounted(line.split(' '))));
    // Each command has subscribed when it waits.
    for (_, running) in &waiting {
        crate::listening::until_subscribed(running, &home, "coder");
    }
    home.kill_supervisor();
    for (line, running) in waiting {
        let ran = running.ended(crate::support::WAIT_LIMIT);
        assert_eq!(ran.code, Some(102), "{line}: {ran:?}");
        assert!(ran.err.contains("went away") || ran.err.contains("no supervisor"), "{line}: {ran:?}");
    }
    home.up_quietly();
    home.down();
}

#[test]
fn who_waits_for_a_gateway_whose_slot_is_removed_is_told_that_and_not_that_nobody_supervises() {
    let mut home = Home::with_script(ALONE, &[]);
    home.profile("coder");
    home.up_quietly();
    home.until_state("coder", "down");
    let waits = home.start("wait coder --up --timeout 60".split(' '));
    crate::listening::until_subscribed(&waits, &home, "coder");
    home.says("gateway unregister coder").ok();
    // It may have said before that the gateway is down.
    let waited = waits.ended(WAIT_LIMIT);
    assert_eq!(waited.code, Some(1), "{waited:?}");
    assert!(waited.err.contains("the gateway of `coder` is not registered"), "{waited:?}");
}
