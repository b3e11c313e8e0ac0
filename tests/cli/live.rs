//! Whether gateways work: what the watcher reports about them, and what it does about one that does
//! not.
//!
//! A gateway here is a shell that rewrites its heartbeat all the time. On a busy machine it may
//! fall silent by itself. So the tests check no state at one moment, only the final one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use gatevisor_wire::control::{Control, ControlSignal};
use rustix::process::Signal;
use serde_json::Value;

use crate::home::Home;
use crate::support::{processes, set_wait_limit, waiting};

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
    set_wait_limit(Duration::from_mins(1));
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
    let part = |file: &str| fs::read_to_string(Path::new(incident).join(file)).unwrap();
    let summary: Value = serde_json::from_str(&part("incident.json")).unwrap();
    let parts = summary["parts"].as_array().unwrap_or_else(|| panic!("no parts in {summary}"));
    // Each part has a time limit, and on a busy machine that of this very part may be over.
    let is_late = |file: &str| {
        parts.iter().any(|part| part["file"] == file && part["missing"] == "it did not come in time")
    };
    assert!(is_late("evidence.txt") || part("evidence.txt") == "the agent says so\n", "{summary}");
    assert!(part("probes.txt").contains("heartbeat: "), "{summary}");
    assert!(is_late("threads.txt") || part("threads.txt").contains(&ended["pid"].to_string()), "{summary}");
    part("log.txt");
    let details = home.says("gateway status coder").ok();
    assert!(details.contains("because it did not respond: heartbeat: "), "{details}");
    assert!(home.says("incidents coder").ok().contains("heartbeat: "));
}

#[test]
fn to_wait_for_a_sign_of_life_goes_on_while_the_watcher_replaces_a_gateway() {
    let home = wanted("restart");
    let pid = home.pid("coder");
    processes::signal(pid, Signal::STOP);
    // The kernel may stop it a little later, and the watcher may have killed it by then.
    waiting::polled("that it is held", || {
        processes::stat(pid).is_none_or(|stat| "TZX".contains(stat.state)).then_some(())
    });
    home.says("wait coder --live --timeout 60").ok();
    let report = home.report("coder");
    assert!(report["pid"] != pid && report["live_restart"]["pid"] == pid, "{report}");
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
fn a_gateway_that_is_ended_because_it_does_not_work_has_not_ended_by_itself_whatever_its_exit_code() {
    set_wait_limit(Duration::from_mins(1));
    // Once silent, it exits with its own code when it is told to end.
    let script = "trap 'exit 7' TERM; until test -e \"$2/silent\"; do date +%s%N >\"$2/beat\"; sleep 0.1; done; \
                  while :; do sleep 0.1; done";
    let live = "[gateway.live]\npolicy = \"restart\"\ninterval-ms = 300\nmisses = 3\ngrace-ms = 60000\n\
                heartbeat = { file = \"{profile-home}/beat\", max-age-ms = 3000 }\n\n[gateway.exit-meanings]";
    let mut home = Home::with_script(script, &[("[gateway.exit-meanings]", live)]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_supervised("coder");
    home.says("wait coder --live --timeout 60").ok();
    let pid = home.pid("coder");
    fs::write(home.profile_dir("coder").join("silent"), "").unwrap();
    let report = until(&home, "another process", |report| {
        report["up"] == true && report["pid"].is_number() && report["pid"] != pid
    });
    assert_eq!(report["live_restart"]["pid"], pid, "{report}");
    assert_eq!((&report["restarts"], &report["commanded_restarts"]), (&0.into(), &1.into()), "{report}");
    let explained: Value = serde_json::from_str(&home.says("explain coder --json").ok()).unwrap();
    let causes = explained["causes"].as_array().unwrap();
    let has = |word: &str| causes.iter().any(|cause| cause["cause"] == word);
    assert!(has("ended-as-unresponsive") && !has("died") && !has("commanded"), "{explained}");
    assert!(!explained.to_string().contains("by itself"), "{explained}");
    assert!(!home.says("gateway status coder").ok().contains("by itself"));
    let metrics = home.says("metrics").ok();
    for (cause, count) in [("itself", 0), ("command", 1)] {
        let series = format!("profile=\"coder\",cause=\"{cause}\"}} {count}.0");
        assert!(metrics.lines().any(|line| line.ends_with(&series)), "{series} in {metrics}");
    }
}

#[test]
fn where_the_policy_is_to_warn_one_that_does_not_respond_is_told_everywhere_and_left_alone() {
    let home = wanted("warn");
    let pid = home.pid("coder");
    let events = home.start(["events", "coder"]);
    crate::listening::until_subscribed(&events, &home, "coder");
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
fn what_is_paused_through_its_supervisor_and_continued_by_hand_is_followed_again() {
    let home = wanted("warn");
    let pid = home.pid("coder");
    home.slot("coder").send(&[Control::Signal(ControlSignal::Stop)]).unwrap();
    until(&home, "that it is paused", |report| {
        live_state(report) == Some("paused") && report["state"] == "paused"
    });
    processes::signal(pid, Signal::CONT);
    let report = until(&home, "that it works", |report| live_state(report) == Some("live"));
    assert_eq!((&report["state"], &report["pid"]), (&"up".into(), &pid.into()), "{report}");
    // Once its supervisor knows that it goes on, a signal that stops it is no pause.
    waiting::polled("that its supervisor does not count it as paused any more", || {
        home.slot("coder").status().is_ok_and(|status| !status.paused).then_some(())
    });
    processes::signal(pid, Signal::STOP);
    let report =
        until(&home, "that it does not respond", |report| live_state(report) == Some("unresponsive"));
    assert_eq!((&report["state"], &report["pid"]), (&"unresponsive".into(), &pid.into()), "{report}");
}

#[test]
fn a_process_that_a_signal_has_stopped_is_well_nowhere_even_if_nobody_follows_it() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_state("coder", "up");
    home.says("health coder").ok();
    processes::signal(home.pid("coder"), Signal::STOP);
    let report = home.until_state("coder", "unresponsive");
    assert_eq!(report["reason"], "a signal has stopped its process", "{report}");
    let health = home.says("health coder");
    assert_eq!(health.code, Some(1), "{health:?}");
    let health = health.out;
    assert!(health.contains("coder: unresponsive: a signal has stopped its process"), "{health}");
    let found = crate::doctor::finding(&home, "crash", Some("coder"));
    assert!(found["what"].as_str().unwrap().contains("does nothing: a signal has stopped"), "{found}");
    crate::doctor::fix(&home, &found);
    home.until_state("coder", "up");
}

#[test]
fn nobody_is_told_that_a_gateway_works_whose_process_a_signal_has_stopped_a_moment_ago() {
    let home = wanted("warn");
    let pid = home.pid("coder");
    processes::signal(pid, Signal::STOP);
    processes::until_state(pid, "T");
    // The watcher still says that it is live.
    let start = home.says("gateway start coder");
    assert_eq!(start.code, Some(1), "{start:?}");
    assert!(start.err.contains("a signal has stopped its process"), "{start:?}");
    let waited = home.says("wait coder --live --timeout 1").refused(99);
    assert!(waited.contains("it is unresponsive: ") && waited.contains("stopped"), "{waited}");
    processes::signal(pid, Signal::CONT);
    home.says("wait coder --live --timeout 60").ok();
    home.says("gateway start coder").ok();
}

#[test]
fn a_gateway_that_was_ready_and_shows_nothing_to_the_watcher_is_unresponsive_everywhere() {
    let closed = crate::home::Port::free();
    let live = format!(
        "[gateway.live]\ninterval-ms = 300\nmisses = 3\ntcp = {{ url = \"http://127.0.0.1:{}\" }}\n\n\
         [gateway.exit-meanings]",
        closed.number
    );
    set_wait_limit(Duration::from_mins(1));
    let mut home = Home::with_agent(&[("[gateway.exit-meanings]", &live)]);
    let _port = home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    let report =
        until(&home, "that it does not respond", |report| live_state(report) == Some("unresponsive"));
    let reason = report["live"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("tcp: "), "{report}");
    assert_eq!((&report["state"], &report["ready"]), (&"unresponsive".into(), &true.into()), "{report}");
    let health = home.says("health coder");
    assert_eq!(health.code, Some(1), "{health:?}");
    let health = health.out;
    assert!(health.contains("coder: unresponsive: tcp: "), "{health}");
    let found = crate::doctor::finding(&home, "crash", Some("coder"));
    assert!(found["why"].as_str().unwrap().starts_with("tcp: "), "{found}");
    crate::explain::assert_first(&home, "unresponsive", "tcp: ");
}

#[test]
fn a_gateway_that_a_signal_has_stopped_is_not_asked_because_the_kernel_would_accept_in_its_place() {
    set_wait_limit(Duration::from_mins(1));
    for kind in ["tcp", "http"] {
        let live = format!(
            "[gateway.live]\ninterval-ms = 300\nmisses = 3\n\
             {kind} = {{ url = \"http://127.0.0.1:${{PORT:-8700}}\" }}\n\n[gateway.exit-meanings]"
        );
        let mut home = Home::with_agent(&[("[gateway.exit-meanings]", &live)]);
        let _port = home.profile("coder");
        home.want_running("coder");
        home.up_quietly();
        until(&home, "that it works", |report| live_state(report) == Some("live"));
        processes::signal(home.pid("coder"), Signal::STOP);
        let report =
            until(&home, "that it does not respond", |report| live_state(report) == Some("unresponsive"));
        let reason = format!("{kind}: not asked, stopped by a signal");
        assert_eq!(report["live"]["reason"], reason.as_str(), "{report}");
        processes::signal(home.pid("coder"), Signal::CONT);
        until(&home, "that it works again", |report| live_state(report) == Some("live"));
    }
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
    set_wait_limit(Duration::from_mins(1));
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

/// Returns a home whose gateway coder sleeps, and is followed like this.
fn sleeping(live: &str) -> Home {
    let live = format!(
        "[gateway.live]\ninterval-ms = 300\nmisses = 3\nstart-deadline-ms = 300\n{live}\n\n[gateway.exit-meanings]"
    );
    set_wait_limit(Duration::from_mins(1));
    let home = Home::with_script("exec sleep 1000", &[("[gateway.exit-meanings]", &live)]);
    home.profile("coder");
    home.want_running("coder");
    home
}

#[test]
fn a_command_that_fails_says_that_a_gateway_does_not_work_and_one_that_ends_well_that_it_does() {
    let mut home = sleeping("command = { argv = [\"test\", \"-e\", \"well\"] }");
    let well = home.profile_dir("coder").join("well");
    fs::write(&well, "").unwrap();
    home.up_quietly();
    let report = until(&home, "that it works", |report| live_state(report) == Some("live"));
    assert_eq!(report["live"]["evidence"], "command", "{report}");
    fs::remove_file(&well).unwrap();
    let report =
        until(&home, "that it does not respond", |report| live_state(report) == Some("unresponsive"));
    let reason = report["live"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("command: exit 1"), "{report}");
}

#[test]
fn what_another_process_answers_on_the_port_of_a_gateway_says_nothing_of_the_gateway() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut home = sleeping(&format!("tcp = {{ url = \"http://127.0.0.1:{port}\" }}"));
    home.up_quietly();
    let report =
        until(&home, "that it does not respond", |report| live_state(report) == Some("unresponsive"));
    let reason = report["live"]["reason"].as_str().unwrap();
    let expected = format!("port {port} is held by process {}", std::process::id());
    assert!(reason.contains(&expected) && reason.contains("not by this gateway"), "{report}");
}

#[test]
fn a_gateway_that_says_in_its_state_file_that_it_drains_or_is_not_well_is_shown_so() {
    let mut home = sleeping(
        "command = { argv = [\"true\"] }\n\
         state = { file = \"{profile-home}/doing\", key = \"doing\", draining = [\"draining\"], degraded = [\"ill\"] }",
    );
    home.up_quietly();
    let file = home.profile_dir("coder").join("doing");
    for (text, state, live) in [
        ("{\"doing\": \"draining\"}", "draining", "draining"),
        ("{\"doing\": \"ill\"}", "degraded", "degraded"),
        ("{\"doing\": \"draining\", \"pid\": 1}", "up", "live"),
    ] {
        fs::write(file.with_extension("new"), text).unwrap();
        fs::rename(file.with_extension("new"), &file).unwrap();
        let report = until(&home, text, |report| live_state(report) == Some(live));
        assert_eq!(report["state"], state, "{report}");
        home.says("wait coder --live --timeout 60").ok();
    }
}

#[test]
fn a_profile_can_say_in_its_own_environment_file_how_it_is_followed() {
    let mut home = sleeping("grace-ms = \"${LIVE_GRACE:-400}\"\ncommand = { argv = [\"true\"] }");
    home.profile("writer");
    home.want_running("writer");
    for (name, grace) in [("coder", "700"), ("writer", "soon")] {
        fs::write(home.profile_dir(name).join(".env"), format!("LIVE_GRACE={grace}\n")).unwrap();
    }
    home.up_quietly();
    until(&home, "that it works", |report| live_state(report) == Some("live"));
    let settings = fs::read_to_string(home.slot("coder").path().join("data/live")).unwrap();
    assert!(settings.contains("grace-ms = \"700\""), "{settings}");
    let report = waiting::polled("that it cannot start", || {
        Some(home.report("writer")).filter(|report| report["state"] == "failed-to-start")
    });
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.contains("live.grace-ms: `soon`: must be a number from 1 to"), "{report}");
}

/// Writes one heartbeat, and then shares one processor with another process, so that each of them
/// waits for it for half of the time.
const CONTENDED: &str = "taskset -cp \"$(sed -n 's/^Cpus_allowed_list:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/self/status)\" $$; \
    (while kill -0 $$ 2>/dev/null; do :; done) & \
    while [ ! -e \"$2/silent\" ]; do echo \"$$ $(date +%s%N)\" >\"$2/beat.new\" && mv \"$2/beat.new\" \"$2/beat\"; done; \
    while :; do :; done";

#[test]
fn a_gateway_that_falls_silent_on_a_contended_processor_is_unresponsive_everywhere_and_not_ended() {
    let live = "[gateway.live]\npolicy = \"restart\"\ninterval-ms = 300\nmisses = 3\ngrace-ms = 500\n\
         heartbeat = { file = \"{profile-home}/beat\", max-age-ms = 3000 }\n\n[gateway.exit-meanings]";
    set_wait_limit(Duration::from_mins(1));
    let mut home = Home::with_script(CONTENDED, &[("[gateway.exit-meanings]", live)]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_supervised("coder");
    home.says("wait coder --live --timeout 60").ok();
    let pid = home.pid("coder");
    fs::write(home.profile_dir("coder").join("silent"), "").unwrap();
    let why = "but it waits for a contended processor; while that lasts, it is not ended";
    until(&home, "that it does not respond", |report| {
        let reason = report.pointer("/live/reason").and_then(Value::as_str);
        live_state(report) == Some("unresponsive") && reason.is_some_and(|reason| reason.contains(why))
    });
    let health = home.says("health coder");
    assert_eq!(health.code, Some(1), "{health:?}");
    assert!(health.out.contains("coder: unresponsive: heartbeat: "), "{health:?}");
    // The age of the heartbeat in the reason is another one with each look.
    let found = home.says("doctor").out;
    assert!(found.contains("coder runs, and does not respond"), "{found}");
    crate::explain::assert_first(&home, "unresponsive", "heartbeat: ");
    let late = home.says("wait coder --live --timeout 1");
    assert_eq!(late.code, Some(99), "{late:?}");
    assert!(late.err.contains("it is unresponsive: heartbeat: "), "{late:?}");
    let metrics = home.says("metrics").ok();
    let is_not_live = |line: &str| line.contains("service_live{") && line.ends_with(" 0.0");
    assert!(metrics.lines().any(is_not_live), "{metrics}");
    assert_eq!(home.pid("coder"), pid, "the watcher has ended it");
}

#[test]
fn events_tell_that_a_gateway_was_paused_and_that_it_goes_on_whether_or_not_it_is_followed() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until("coder", gatevisor_client::Condition::Up);
    let events = home.start(["events", "coder"]);
    let until_told = |what: &str, count: usize| {
        events.until_out(what, |out| (out.matches(what).count() >= count).then_some(()));
    };
    crate::listening::until_subscribed(&events, &home, "coder");
    for round in 1..=2 {
        home.slot("coder").send(&[Control::Signal(ControlSignal::Stop)]).unwrap();
        until_told("coder paused", round);
        home.slot("coder").send(&[Control::Signal(ControlSignal::Continue)]).unwrap();
        until_told("coder continued", round);
    }
}

#[test]
fn events_tell_that_a_paused_gateway_was_continued_by_hand() {
    let home = wanted("warn");
    let pid = home.pid("coder");
    let events = home.start(["events", "coder"]);
    crate::listening::until_subscribed(&events, &home, "coder");
    home.slot("coder").send(&[Control::Signal(ControlSignal::Stop)]).unwrap();
    until(&home, "that it is paused", |report| live_state(report) == Some("paused"));
    events.until_out("that it is paused", |out| out.contains("coder paused").then_some(()));
    processes::signal(pid, Signal::CONT);
    events.until_out("that it goes on", |out| out.contains("coder continued").then_some(()));
}
