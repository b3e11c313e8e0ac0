//! `gatevisor up`: the startup progress, at most one instance, and the end.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use insta::assert_snapshot;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::home::Home;
use crate::support::processes::{self, Held};
use crate::support::{WAIT_LIMIT, soon, waiting};

#[test]
fn up_shows_progress_the_table_and_what_to_type_next() {
    let mut home = Home::new();
    let ports = ["coder", "writer"].map(|name| home.profile(name));
    home.want_running("coder");
    home.want_running("writer");
    let out = home.up();
    assert!(ports.iter().all(crate::home::Port::healthy), "the greeting came too early");
    for line in ["PROFILE ", "coder    ready ", "writer   ready ", "default  down "] {
        assert!(out.lines().any(|shown| shown.starts_with(line)), "no `{line}` in {out}");
    }
    for hint in ["status --watch", "logs -f coder", "gateway restart coder"] {
        let line =
            out.lines().find(|shown| shown.ends_with(hint)).unwrap_or_else(|| panic!("no `{hint}` in {out}"));
        let output = Command::new("sh").arg("-c").arg(format!("{} --help", line.trim())).output().unwrap();
        assert!(output.status.success(), "what to type next does not work: {line}");
    }
    let log = home.running().err();
    assert!(log.contains("waiting for the 2 gateways of coder, writer"), "{log}");
    assert!(log.contains("coder is ready after ") && log.contains("writer is ready after "), "{log}");
}

#[test]
fn a_second_up_exits_103_and_says_what_is_there_and_the_first_goes_on() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up();
    let pid = home.pid("coder");
    home.until_state("coder", "up");
    let supervisor = format!("(pid {})", home.running().pid());
    let said = home.redact(&home.says("up").refused(103)).replace(&supervisor, "(pid PID)");
    assert_snapshot!(said, @"gatevisor: error: another supervisor (pid PID) already runs on `HOME/run/service`, with 2 gateways: 1 up, 1 down; `gatevisor status` shows what it does, and `gatevisor down` ends it");
    for line in ["up --quiet", "up --detach"] {
        let again = home.redact(&home.says(line).refused(103)).replace(&supervisor, "(pid PID)");
        assert_eq!(again, said, "{line}");
    }
    assert_eq!(home.pid("coder"), pid);
}

#[test]
fn of_ten_that_come_up_at_once_one_supervises_and_the_others_leave_it_alone() {
    for _ in 0..3 {
        let mut home = Home::with_script("echo \"begins $$\"\nexec sleep 1000", &[]);
        home.profile("coder");
        home.want_running("coder");
        let mut all: Vec<_> = (0..10).map(|_| home.start(["up", "--quiet"])).collect();
        let scandir = gatevisor_client::ScanDir::new(home.scandir());
        waiting::polled("a supervisor", || scandir.running().unwrap().then_some(()));
        home.until_state("coder", "up");
        // All but one of them end by themselves.
        let winner = waiting::polled("nine ends", || {
            let alive: Vec<usize> =
                (0..10).filter(|&one| Held::of(all[one].pid()).is_some_and(|held| !held.is_gone())).collect();
            <[usize; 1]>::try_from(alive).ok()
        })[0];
        home.adopt(all.swap_remove(winner));
        for loser in all {
            let ran = loser.ended(WAIT_LIMIT);
            assert!(matches!(ran.code, Some(103 | 100)), "{ran:?}");
        }
        assert_eq!(home.until_state("coder", "up")["restarts"], 0);
        let log = home.until_logged("coder", "begins");
        assert_eq!(log.lines().count(), 1, "it was started more than once: {log}");
    }
}

#[test]
fn ctrl_c_on_its_terminal_stops_everything_in_order_and_exits_0() {
    let home = Home::new();
    let port = home.profile("coder");
    home.want_running("coder");
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let side = || Stdio::from(File::options().read(true).write(true).open(&name).unwrap());
    let mut command = Command::new("setsid");
    let up = home.command(["up"]);
    command.args(["--ctty", "--wait"]).arg(up.get_program()).args(up.get_args());
    for (variable, value) in up.get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    let mut child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
    let mut terminal = File::from(terminal);
    let mut seen = Vec::new();
    let mut read_until = |words: &str| {
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(words) {
            assert!(
                waiting::readable(&terminal, soon()),
                "no `{words}` in {}",
                String::from_utf8_lossy(&seen)
            );
            let length = terminal.read(&mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..length]);
        }
    };
    read_until("Here: Ctrl-C");
    assert!(port.healthy());
    terminal.write_all(b"\x03").unwrap();
    let held = Held::of(i32::try_from(child.id()).unwrap()).unwrap();
    let in_time = held.gone_by(soon());
    let left = home.processes();
    for held in left.iter().copied().filter_map(Held::of) {
        held.gone_by(soon());
    }
    assert!(in_time, "it did not end");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(home.processes(), [0_i32; 0]);
    assert!(!port.healthy());
}

#[test]
fn ctrl_c_during_the_startup_progress_ends_up_as_well() {
    let changes = [("timeout-ms = 20000", "timeout-ms = 60000")];
    let mut home = Home::with_agent(&changes);
    // It never answers.
    let program = home.beside("agent.py");
    std::fs::write(&program, "import time\ntime.sleep(1000)\n").unwrap();
    home.set("HTTP_AGENT_PROGRAM", program);
    home.profile("coder");
    home.want_running("coder");
    home.up_with(["up"]);
    home.running().until_out("the reconciliation", |out| out.contains("profile=coder").then_some(()));
    home.until_supervised("coder");
    let ran = home.down();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.out.contains("Here: Ctrl-C"), "{ran:?}");
}

#[test]
fn every_signal_to_end_stops_up_in_order_and_leaves_nothing() {
    for signal in [Signal::INT, Signal::TERM] {
        let script = "(exec sleep 1000) &\nsetsid sleep 1000 &\ntrap 'echo goodbye; kill $(jobs -p); exit 0' TERM\necho begins\nwait";
        let mut home = Home::with_script(script, &[]);
        home.profile("coder");
        home.want_running("coder");
        home.up();
        home.until_logged("coder", "begins");
        home.running().signal(signal);
        let ran = home.ended();
        assert_eq!(ran.code, Some(0), "{signal:?}");
        assert!(ran.out.contains("coder | goodbye\n"), "it was not asked to end: {ran:?}");
    }
}

#[test]
fn a_gateway_that_ignores_the_end_is_killed_after_the_grace() {
    let mut home = Home::with_script("trap '' TERM INT HUP\necho deaf\nexec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_with(["up", "--grace", "1"]);
    home.until_supervised("coder");
    home.until_logged("coder", "deaf\n");
    assert_eq!(home.down().code, Some(0));
}

#[test]
fn a_supervisor_in_the_background_of_a_script_can_be_interrupted() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    let mut command = home.command(["up", "--quiet"]);
    let ignoring = "trap '' INT TERM HUP QUIT; exec \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(ignoring).arg(command.get_program()).args(command.get_args());
    for (variable, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(variable, value),
            None => shell.env_remove(variable),
        };
    }
    shell.stdin(Stdio::null()).process_group(0);
    command.stdin(Stdio::null());
    home.adopt(home.spawn(shell));
    let scandir = gatevisor_client::ScanDir::new(home.scandir());
    waiting::polled("the supervisor", || scandir.running().unwrap().then_some(()));
    assert_eq!(home.down().code, Some(0));
}

#[test]
fn hup_looks_at_the_scandir_again_and_ends_nothing() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up();
    let pid = home.pid("coder");
    home.running().signal(Signal::HUP);
    home.run(["profile", "create", "writer", "--start"]).ok();
    assert_eq!(home.pid("coder"), pid);
}

#[test]
fn quiet_prints_no_table() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_state("coder", "up");
    let ran = home.down();
    assert!(!ran.out.contains("PROFILE") && !ran.err.contains("waiting for"), "{ran:?}");
}

#[test]
fn the_supervisor_is_one_thread_of_its_own_program_and_its_gateways_lead_their_sessions() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up();
    let supervisor = home.running().pid();
    assert_eq!(processes::status_line(supervisor, "Threads"), "1");
    let pid = home.pid("coder");
    let stat = processes::stat(pid).unwrap();
    assert_eq!((stat.parent, stat.session, stat.group), (supervisor, pid, pid));
    assert!(
        processes::descriptors(pid).iter().any(|fd| fd == "0 /dev/null"),
        "{:?}",
        processes::descriptors(pid)
    );
}
