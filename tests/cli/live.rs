//! Whether gateways work: what the watcher reports about them, and what it does about one that does
//! not.
//!
//! A gateway here is a shell that rewrites its heartbeat all the time. On a busy machine it may
//! fall silent by itself. So the tests check no state at one moment, only the final one.

use std::fs;
use std::time::Duration;

use gatevisor_wire::control::{Control, ControlSignal};
use rustix::process::Signal;
use serde_json::Value;

use crate::home::Home;
use crate::support::{be_patient, processes, waiting};

/// Writes a heartbeat ten times a second. If there is a file `silent`, a process without heartbeat
/// replaces it.
const BEATS: &str = "while :; do echo \"$$ $(date +%s%N)\" >\"$2/beat.new\" && mv \"$2/beat.new\" \"$2/beat\"; \
                     if [ -e \"$2/silent\" ]; then rm \"$2/silent\"; exec sleep 1000; fi; sleep 0.1; done";

/// Returns a home whose profile coder shall run, with the supervisor up and a policy.
fn wanted(policy: &str) -> Home {
    let live = format!(
        "[gateway.live]\npolicy = \"{policy}\"\ninterval-ms = 300\nmisses = 3\ngrace-ms = 500\n\
         evidence = [\"echo\", \"the agent says so\"]\n\
         heartbeat = {{ file = \"{{profile-home}}/beat\", max-age-ms = 3000 }}\n\n[gateway.exit-meanings]"
    );
    // On a busy machine, collecting evidence takes a while, and so does a start.
    be_patient(Duration::from_mins(1));
    let mut home = Home::with_script(BEATS, &[("[gateway.exit-meanings]", &live)]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_supervised("coder");
    home.says("wait coder --live --timeout 60").ok();
    home
}

fn live_state(report: &Value) -> Option<&str> {
    report.get("live")?.get("state")?.as_str()
}

/// Waits for a report about coder that satisfies the condition.
fn until(home: &Home, what: &str, expected: impl Fn(&Value) -> bool) -> Value {
    waiting::polled(what, || Some(home.report("coder")).filter(|report| expected(report)))
}

#[test]
fn a_gateway_that_a_signal_has_stopped_is_ended_with_evidence_and_works_again() {
    let home = wanted("restart");
    let pid = home.pid("coder");
    processes::signal(pid, Signal::STOP);
    let report = until(&home, "another process that works", |report| {
        report["pid"] != pid && live_state(report) == Some("live")
    });
    let ended = &report["live_restart"];
    assert!(ended["reason"].as_str().is_some_and(|reason| reason.starts_with("heartbeat: ")), "{report}");
    let incident = ended["incident"].as_str().unwrap_or_else(|| panic!("no incident in {report}"));
    assert!(fs::read_dir(incident).unwrap().count() > 1, "{incident}");
    let details = home.says("gateway status coder").ok();
    assert!(details.contains("because it did not respond: heartbeat: "), "{details}");
    assert!(home.says("incidents coder").ok().contains("heartbeat: "));
}

#[test]
fn a_gateway_that_runs_and_does_nothing_any_more_is_ended_and_works_again() {
    let home = wanted("restart");
    let pid = home.pid("coder");
    fs::write(home.profile_dir("coder").join("silent"), "").unwrap();
    until(&home, "another process that works", |report| {
        report["pid"] != pid && live_state(report) == Some("live")
    });
}

#[test]
fn where_the_policy_is_to_warn_one_that_does_not_respond_is_told_everywhere_and_left_alone() {
    let home = wanted("warn");
    let pid = home.pid("coder");
    let events = home.start(["events", "coder"]);
    processes::signal(pid, Signal::STOP);
    let report =
        until(&home, "that it does not respond", |report| live_state(report) == Some("unresponsive"));
    assert_eq!((&report["state"], &report["up"]), (&"unresponsive".into(), &true.into()), "{report}");
    events.until_out("that it does not respond", |out| out.contains("unresponsive").then_some(()));
    let table = home.says("status").ok();
    assert!(table.contains("unresponsive for ") && table.contains("stopped by a signal"), "{table}");
    assert!(home.says("gateway status coder").ok().contains("unresponsive, by heartbeat, since "));
    let health = home.says("health coder");
    assert_eq!(health.code, Some(1), "{health:?}");
    assert!(home.says("doctor").out.contains("coder runs, and does not respond"));
    processes::signal(pid, Signal::CONT);
    let report = until(&home, "that it works again", |report| live_state(report) == Some("live"));
    assert_eq!(report["pid"], pid, "nobody has ended it");
}

#[test]
fn what_is_paused_through_its_supervisor_is_paused_and_not_unresponsive() {
    let home = wanted("restart");
    let pid = home.pid("coder");
    home.slot("coder").send(&[Control::Signal(ControlSignal::Stop)]).unwrap();
    until(&home, "that it is paused", |report| live_state(report) == Some("paused"));
    home.slot("coder").send(&[Control::Signal(ControlSignal::Continue)]).unwrap();
    let report = until(&home, "that it works", |report| live_state(report) == Some("live"));
    assert_eq!(report["pid"], pid);
}

#[test]
fn a_watcher_that_is_killed_or_stopped_is_replaced() {
    let home = wanted("restart");
    let line = || fs::read_to_string(home.scandir().join(".live/.watcher")).unwrap();
    let watcher = || line().split_whitespace().nth(1).unwrap().parse::<i32>().unwrap();
    let first = watcher();
    processes::signal(first, Signal::KILL);
    waiting::polled("another watcher", || (watcher() != first).then_some(()));
    until(&home, "that it is followed by that one", |report| live_state(report) == Some("live"));
}

#[test]
fn to_wait_for_what_nothing_tells_is_an_error() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_supervised("coder");
    let refused = home.says("wait coder --live --timeout 20").refused(1);
    assert!(refused.contains("nothing tells whether it works"), "{refused}");
    assert_eq!(home.report("coder")["live"], Value::Null);
}

/// Reports to the given socket that it works, until there is a file `silent`.
const NOTIFIES: &str = "exec python3 -u -c 'import os, pathlib, socket, sys, time
assert os.environ[\"WATCHDOG_USEC\"] == \"600000\"
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
silent = pathlib.Path(sys.argv[1]) / \"silent\"
while not silent.exists():
    try:
        s.sendto(b\"WATCHDOG=1\", os.environ[\"NOTIFY_SOCKET\"])
    except OSError:
        pass
    time.sleep(0.1)
silent.unlink()
time.sleep(1000)' \"$2\"";

#[test]
fn a_gateway_that_says_so_itself_works_and_one_that_falls_silent_is_ended_and_works_again() {
    let live = "[gateway.live]\npolicy = \"restart\"\ninterval-ms = 300\nmisses = 3\ngrace-ms = 500\nnotify = true\n\n\
         [gateway.exit-meanings]";
    be_patient(Duration::from_mins(1));
    let mut home = Home::with_script(NOTIFIES, &[("[gateway.exit-meanings]", live)]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_supervised("coder");
    let report = until(&home, "a word of its own", |report| live_state(report) == Some("live"));
    assert_eq!(report["live"]["evidence"], "notify", "{report}");
    let pid = home.pid("coder");
    fs::write(home.profile_dir("coder").join("silent"), "").unwrap();
    let report = until(&home, "another process that works", |report| {
        report["pid"] != pid && live_state(report) == Some("live")
    });
    assert!(report["live_restart"]["reason"].as_str().unwrap().starts_with("notify: "), "{report}");
}
