//! What `gateway start`, `gateway restart` and `profile create --start` wait for: evidence that the
//! gateway works, or that somebody stops it.
//!
//! On a busy machine the watcher may look late, so nothing here is decided by time.

use std::fs;
use std::time::Duration;

use gatevisor_client::Condition;
use gatevisor_wire::control::Control;
use rustix::process::Signal;
use serde_json::Value;

use crate::home::Home;
use crate::support::running::Running;
use crate::support::{processes, set_wait_limit, waiting};

/// Writes a heartbeat as soon as there is a file `go`, and never if there is a file `silent`. It
/// says whose it is, so that the last one of a process does not count for the next.
const BEATS: &str = "[ ! -e \"$2/silent\" ] || exec sleep 1000; until [ -e \"$2/go\" ]; do sleep 0.05; done; \
                     while :; do echo \"{\\\"pid\\\":$$}\" >\"$2/beat.new\" && mv \"$2/beat.new\" \"$2/beat\"; sleep 0.1; done";

/// How long a command may take to return after what it waited for.
const LIMIT: Duration = Duration::from_mins(1);

/// A probe that nobody answers.
const READY: &str = "ready = { http = \"http://127.0.0.1:${PORT:-8700}/health\", interval-ms = 50, timeout-ms = 600000 }\n\
                     stop-timeout-ms";

/// Returns a home whose gateways show by a heartbeat that they work, with the supervisor up. A
/// gateway without evidence would have started at once.
fn beating(start_deadline_ms: u32) -> Home {
    let live = format!(
        "[gateway.live]\npolicy = \"warn\"\ninterval-ms = 200\nmisses = 2\nstart-deadline-ms = {start_deadline_ms}\n\
         heartbeat = {{ file = \"{{profile-home}}/beat\", max-age-ms = 3000 }}\n\n[gateway.exit-meanings]"
    );
    set_wait_limit(LIMIT);
    let changes =
        [("[gateway.exit-meanings]", &*live), ("stop-timeout-ms", "start-window-ms = 1\nstop-timeout-ms")];
    let mut home = Home::with_script(BEATS, &changes);
    home.profile("coder");
    home.up_quietly();
    home.until_supervised("coder");
    // Without a watcher, nobody could tell whether a gateway works.
    waiting::polled("the watcher", || {
        let pulse = fs::read(home.scandir().join(".live/.watcher"));
        pulse.is_ok_and(|pulse| !pulse.is_empty()).then_some(())
    });
    home
}

fn until_live_state(home: &Home, expected: &str) {
    waiting::polled(expected, || {
        let report = home.report("coder");
        let state = report.pointer("/live/state").and_then(Value::as_str);
        (state == Some(expected)).then_some(())
    });
}

#[test]
fn a_start_goes_on_when_another_command_has_the_gateway_end_meanwhile_and_fails_when_it_ends_by_itself() {
    let home = beating(600_000);
    let start = home.start(["gateway", "start", "coder"]);
    home.until("coder", Condition::Up);
    crate::listening::until_subscribed(&start, &home, "coder");
    let first = home.pid("coder");
    // As a restart does that was asked for before.
    home.slot("coder").send(&[Control::DownSignal]).unwrap();
    home.until_report("coder", "another process", |report| report["up"] == true && report["pid"] != first);
    fs::write(home.profile_dir("coder").join("go"), "").unwrap();
    let said = start.ended(LIMIT).ok();
    assert!(said.starts_with("coder: live (pid ") && !said.contains(&first.to_string()), "{said}");
    // Nobody has asked its supervisor for this death.
    home.says("gateway stop coder").ok();
    fs::remove_file(home.profile_dir("coder").join("go")).unwrap();
    let start = home.start(["gateway", "start", "coder"]);
    home.until("coder", Condition::Up);
    crate::listening::until_subscribed(&start, &home, "coder");
    processes::signal(home.pid("coder"), Signal::TERM);
    let refused = start.ended(LIMIT).refused(1);
    assert!(refused.contains("failed to start: it ended") && refused.contains("SIGTERM"), "{refused}");
}

#[test]
fn a_start_returns_when_the_gateway_shows_that_it_works_and_not_after_the_start_window() {
    let home = beating(600_000);
    let start = home.start(["gateway", "start", "coder"]);
    let report = home.until_report("coder", "its command", |report| report["up"] == true);
    let states = (&report["state"], &report["live"]["state"]);
    assert_eq!(states, (&"starting".into(), &"starting".into()), "{report}");
    let health = home.says("health coder");
    assert_eq!((health.code, &*health.out), (Some(1), "coder: starting\n"), "{health:?}");
    crate::explain::assert_first(&home, "not-ready-yet", "and may show nothing for 600 s");
    fs::write(home.profile_dir("coder").join("go"), "").unwrap();
    let said = start.ended(LIMIT).ok();
    assert!(said.starts_with("coder: live (pid "), "{said}");
    let said = home.says("gateway restart coder").ok();
    assert!(said.starts_with("coder: restarted, live (pid "), "{said}");
    let create = home.start(["profile", "create", "writer", "--start"]);
    let directory = home.profile_dir("writer");
    waiting::polled("the profile", || fs::write(directory.join("go"), "").ok());
    let said = create.ended(LIMIT).ok();
    assert!(said.contains("registered, live (pid "), "{said}");
}

#[test]
fn several_that_are_started_are_each_waited_for() {
    let home = beating(600_000);
    home.profile("writer");
    fs::write(home.profile_dir("writer").join("go"), "").unwrap();
    let start = home.start(["--json", "gateway", "start", "coder", "writer"]);
    until_live_state(&home, "starting");
    fs::write(home.profile_dir("coder").join("go"), "").unwrap();
    let said = start.ended(LIMIT).ok();
    let results: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(results.len(), 2, "{said}");
    for result in results {
        assert!(result["result"].as_str().is_some_and(|words| words.starts_with("live (pid ")), "{said}");
    }
}

#[test]
fn a_gateway_that_shows_nothing_until_its_start_deadline_has_failed_to_start_and_is_left_alone_at_first() {
    let home = beating(500);
    let never = home.says("gateway start coder");
    assert_eq!(never.code, Some(1), "{never:?}");
    assert!(never.err.contains("it has never shown that it works, so it is left alone"), "{never:?}");
    fs::write(home.profile_dir("coder").join("go"), "").unwrap();
    until_live_state(&home, "live");
    fs::write(home.profile_dir("coder").join("silent"), "").unwrap();
    let ran = home.says("gateway restart coder");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("does not show that it works: heartbeat: "), "{ran:?}");
}

#[test]
fn a_start_that_a_probe_and_the_watcher_wait_for_fails_as_soon_as_the_watcher_calls_it_unresponsive() {
    let live = "[gateway.live]\ninterval-ms = 200\nmisses = 2\nstart-deadline-ms = 500\n\
                http = { url = \"http://127.0.0.1:${PORT:-8700}/health\" }\n\n[gateway.exit-meanings]";
    set_wait_limit(LIMIT);
    let changes = [("[gateway.exit-meanings]", live), ("stop-timeout-ms", READY)];
    let mut home = Home::with_script("exec sleep 1000", &changes);
    let _port = home.profile("coder");
    home.up_quietly();
    home.until_supervised("coder");
    let said = home.start(["gateway", "start", "coder"]).ended(LIMIT).refused(1);
    assert!(said.contains("failed to start") && said.contains("http: "), "{said}");
    let report = home.report("coder");
    assert_eq!(report["state"], "unresponsive", "{report}");
}

/// Starts gateways that never are ready, and returns when that of coder is up.
fn starting(home: &mut Home, words: &[&str]) -> Running {
    home.profile("coder");
    home.up_quietly();
    home.until_supervised("coder");
    let start = home.start(words);
    home.until("coder", Condition::Up);
    start
}

#[test]
fn a_start_ends_when_somebody_stops_the_gateway_and_says_who() {
    let mut home = Home::with_script("exec sleep 1000", &[("stop-timeout-ms", READY)]);
    let start = starting(&mut home, &["gateway", "start", "coder"]);
    home.run(["gateway", "stop", "coder", "--reason", "a new key"]).ok();
    let said = start.ended(LIMIT).refused(1);
    let expected = "the start of `coder` was given up, because the gateway was stopped meanwhile";
    assert!(said.contains(expected) && said.contains("with `gateway stop`"), "{said}");
    assert!(said.contains("a new key"), "{said}");
}

#[test]
fn a_restart_ends_when_somebody_tells_the_supervisor_to_stop_the_gateway() {
    let mut home = Home::with_script("exec sleep 1000", &[("stop-timeout-ms", READY)]);
    let restart = starting(&mut home, &["--json", "gateway", "restart", "coder"]);
    home.slot("coder").send(&[Control::Down]).unwrap();
    let ran = restart.ended(LIMIT);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let result: Value = serde_json::from_str(ran.out.trim()).unwrap();
    let error = result["error"].as_str().unwrap();
    assert!(error.starts_with("the restart of `coder` was given up"), "{error}");
    assert!(error.contains("somebody told its supervisor so"), "{error}");
}
