//! Causes that `gatevisor explain` names and that need something beside the gateway to come about:
//! a process that is held, a question, another user. And a check that every cause is brought about
//! by some test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use gatevisor_doctor::explain::CauseKind;
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::explain::{self, MEANINGS, SLEEPER, assert_first, explained, wanted};
use crate::home::Home;
use crate::support::{WAIT_LIMIT, processes, set_wait_limit, waiting};

/// Causes that no row of `explain` brings about, and the test that does.
const ELSEWHERE: &[(&str, &str)] = &[
    ("not-allowed-to-look", "cli::causes::whoever_may_not_look_into_a_slot_is_told_that_and_no_other_cause"),
    ("ending-leftovers", "cli::causes::a_gateway_that_waits_for_the_end_of_what_it_left_is_explained_so"),
    ("asked-for-handoff", "cli::causes::a_gateway_that_is_being_asked_what_it_wants_is_explained_so"),
    ("traced", "cli::causes::a_gateway_that_a_debugger_holds_is_explained_so"),
    (
        "ended-as-unresponsive",
        "cli::causes::a_gateway_that_was_ended_because_it_did_not_work_is_explained_so",
    ),
    ("back-off", "cli::causes::a_gateway_that_waits_for_its_next_start_is_explained_so"),
    (
        "not-watched",
        "cli::keeper::where_nobody_watches_the_gateways_that_is_said_wherever_somebody_asks_whether_all_is_well",
    ),
    (
        "degraded",
        "cli::health::a_gateway_whose_channels_never_worked_is_degraded_with_their_names_and_ready_once_they_work",
    ),
    (
        "supervisor-stopped",
        "cli::keeper::a_gateway_that_has_ended_under_a_stopped_supervisor_is_not_said_to_be_starting",
    ),
    ("queued", "cli::turns::so_many_gateways_are_starting_at_a_time_and_the_others_wait_and_say_so"),
    (
        "draining",
        "cli::drain::a_restart_with_drain_waits_until_the_gateway_is_idle_and_status_shows_how_far_it_is",
    ),
    (
        "drift",
        "cli::declared::a_config_map_that_changes_makes_starts_and_stops_and_what_differs_here_is_shown_and_then_reverted",
    ),
    // Only a container has a command that wants no gateways; here the fact is given by hand.
    ("no-gateways-here", "doctor::explain::causes_outside_of_a_gateway_come_before_what_it_did_itself"),
];

#[test]
fn every_cause_that_can_be_named_is_brought_about_by_a_test() {
    let elsewhere = ELSEWHERE.iter().map(|(cause, _)| *cause);
    let mut caused: Vec<&str> = explain::ROWS.iter().copied().chain(elsewhere).collect();
    let mut all: Vec<&str> = CauseKind::ALL.iter().map(|kind| kind.word()).collect();
    caused.sort_unstable();
    caused.dedup();
    all.sort_unstable();
    assert_eq!(caused, all);
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (cause, test) in ELSEWHERE {
        assert!(crate::faults::exists(&tree, test), "{cause}: there is no test `{test}`");
    }
}

#[test]
fn whoever_may_not_look_into_a_slot_is_told_that_and_no_other_cause() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = wanted(Home::with_script(SLEEPER, &[]), "up");
    let slot = home.slot("coder");
    for open in [&home.beside(""), home.path(), &home.scandir()] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(slot.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = home.command(["--json", "explain", "coder"]);
    command.uid(23_456).gid(23_456);
    let ran = home.spawn(command).ended(WAIT_LIMIT);
    assert_eq!(ran.code, Some(111), "{ran:?}");
    let said: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(said["causes"][0]["cause"], "not-allowed-to-look", "{said:#}");
    assert_eq!(said["state"], "unknown", "{said:#}");
}

/// Sends a signal to a process that may have ended meanwhile.
fn send(pid: i32, signal: Signal) {
    let _ = kill_process(processes::process_id(pid), signal);
}

#[test]
fn a_gateway_that_waits_for_the_end_of_what_it_left_is_explained_so() {
    // What it leaves obeys no signal that can be ignored, so that it takes a while to end it.
    let deaf = "setsid sh -c 'trap \"\" TERM; while :; do sleep 3600; done' &\nexec sleep 1000";
    let change = ("stop-timeout-ms", "survivors = \"kill\"\nstop-timeout-ms");
    let home = wanted(Home::with_script(deaf, &[change]), "up");
    let ending = waiting::polled("what ends it, held", || {
        let report = home.report("coder");
        let pid = i32::try_from(report["pid"].as_i64()?).ok()?;
        match report["state"].as_str()? {
            "waiting" => send(pid, Signal::STOP),
            // If everything was ended before it was held, the next death is another chance.
            "up" => send(pid, Signal::KILL),
            _ => {}
        }
        let is_held = processes::stat(pid).is_some_and(|stat| stat.state == 'T');
        (is_held && home.report("coder")["state"] == "waiting").then_some(pid)
    });
    assert_first(&home, "ending-leftovers", "an earlier run of it left are being ended first; process ");
    send(ending, Signal::CONT);
}

#[test]
fn a_gateway_that_waits_for_its_next_start_is_explained_so() {
    let causes = explained(&explain::waits())["causes"].clone();
    let causes = causes.as_array().unwrap();
    let rests = causes.iter().find(|cause| cause["cause"] == "back-off");
    assert!(
        rests.is_some_and(|cause| cause["what"].as_str().unwrap().contains("starts it again in")),
        "{causes:#?}"
    );
}

#[test]
fn a_gateway_that_is_being_asked_what_it_wants_is_explained_so() {
    let asks = "[gateway.handoff]\nafter-exit-codes = [0]\n\
                command = [\"/bin/sh\", \"-c\", \"until test -e told; do sleep 0.1; done; echo '{}'\"]\n\n\
                [gateway.exit-meanings]";
    let home = wanted(Home::with_script("exit 0", &[(MEANINGS, asks)]), "asking");
    assert_first(&home, "asked-for-handoff", "exit code 0");
    home.says("gateway stop coder").ok();
}

/// Holds the process whose number it is given, and says so.
const HOLDS: &str = "import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
pid = int(sys.argv[1])
if libc.ptrace(16, pid, 0, 0) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(pid, 0)
print('held', flush=True)
time.sleep(1000)";

#[test]
fn a_gateway_that_a_debugger_holds_is_explained_so() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = wanted(Home::with_script(SLEEPER, &[]), "up");
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-u", "-c", HOLDS, &home.pid("coder").to_string()]);
    command.stdin(Stdio::null());
    let mut debugger = home.spawn(command);
    debugger.until_out("that it is held", |out| out.contains("held").then_some(()));
    assert_first(&home, "traced", "traced");
    debugger.signal(Signal::KILL);
    debugger.child.wait().unwrap();
}

#[test]
fn a_gateway_that_was_ended_because_it_did_not_work_is_explained_so() {
    let live = "[gateway.live]\npolicy = \"restart\"\ninterval-ms = 200\nmisses = 2\ngrace-ms = 200\n\
                heartbeat = { file = \"{profile-home}/beat\", max-age-ms = 500 }\n\n[gateway.exit-meanings]";
    set_wait_limit(Duration::from_mins(1));
    // The first one falls silent, and the next one shows nothing from the beginning.
    let script = "test -e \"$2/seen\" || until test -e \"$2/seen\"; do date +%s%N >\"$2/beat\"; sleep 0.1; done\n\
                  exec sleep 1000";
    let home = wanted(Home::with_script(script, &[(MEANINGS, live)]), "up");
    let pid = home.pid("coder");
    waiting::polled("a sign of life", || (home.report("coder")["live"]["state"] == "live").then_some(()));
    fs::write(home.profile_dir("coder").join("seen"), "").unwrap();
    waiting::polled("another process", || {
        let report = home.report("coder");
        (report["pid"].is_number() && report["pid"] != pid && report["up"] == true).then_some(())
    });
    let causes = explained(&home)["causes"].clone();
    let causes = causes.as_array().unwrap();
    assert!(causes.iter().any(|cause| cause["cause"] == "ended-as-unresponsive"), "{causes:#?}");
}
