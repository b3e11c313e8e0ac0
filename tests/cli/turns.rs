//! Starts that take turns: at most `start-parallel` gateways are starting at a time, those that
//! `after` names start before the others, and whoever waits says so.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::home::{Home, Port};
use crate::support::{processes, waiting};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Returns a home with five gateways that shall run, of which two may be starting at a time. Each
/// begins to answer when there is a file `go` in its home.
fn five() -> (Home, Vec<Port>) {
    five_with("start-parallel = 2")
}

/// Does the same as [`five`], with these lines in the definition.
fn five_with(lines: &str) -> (Home, Vec<Port>) {
    let named = "command-named = [\"python3\", \"-u\", \"${HTTP_AGENT_PROGRAM:-/usr/local/bin/http-agent.py}\", \"{profile}\", \"{profile-home}\"]";
    let waits = format!(
        "command-named = [\"/bin/sh\", \"-c\", \"touch begun; until [ -e go ]; do sleep 0.1; done; exec python3 -u $$0 $$1 $$2\", \
         \"${{HTTP_AGENT_PROGRAM}}\", \"{{profile}}\", \"{{profile-home}}\"]\n{lines}"
    );
    let changes = [
        (named, waits.as_str()),
        ("interval-ms = 50, timeout-ms = 20000", "interval-ms = 50, timeout-ms = 3600000"),
    ];
    let home = Home::with_agent(&changes);
    let ports = NAMES.map(|name| home.profile(name));
    (home, ports.into())
}

fn has_begun(home: &Home, name: &str) -> bool {
    home.profile_dir(name).join("begun").exists()
}

fn begun(home: &Home) -> Vec<&'static str> {
    NAMES.into_iter().filter(|name| has_begun(home, name)).collect()
}

fn queued(home: &Home) -> Vec<(u64, &'static str)> {
    let place = |name: &'static str| Some((home.report(name).get("queued")?.as_u64()?, name));
    let mut queued: Vec<_> = NAMES.into_iter().filter_map(place).collect();
    queued.sort_unstable();
    queued
}

/// Waits until so many have begun and so many wait, one behind the other.
fn until(home: &Home, have_begun: usize, wait: usize) -> Vec<(u64, &'static str)> {
    waiting::polled("starts that wait", || {
        let now = begun(home).len();
        assert!(now <= have_begun, "{now} have begun, and only {have_begun} may have");
        let places = queued(home);
        let is_line = places.iter().map(|(place, _)| *place).eq(0..u64::try_from(wait).unwrap());
        (now == have_begun && is_line).then_some(places)
    })
}

fn go(home: &Home, name: &str) {
    fs::write(home.profile_dir(name).join("go"), "").unwrap();
}

#[test]
fn so_many_gateways_are_starting_at_a_time_and_the_others_wait_and_say_so() {
    let (mut home, _ports) = five();
    for name in NAMES {
        home.want_running(name);
    }
    home.up_quietly();
    let line = until(&home, 2, 3);
    let (first, last) = (line[0].1, line[2].1);
    let report = home.report(last);
    assert_eq!((&report["state"], &report["up"]), (&"starting".into(), &false.into()), "{report}");
    assert_eq!(report["reason"], "queued, 2 before it", "{report}");
    assert!(home.says("status").ok().contains("starting: queued, 2 before it"));
    assert!(home.says(&format!("gateway status {last}")).ok().contains("queued, 2 before it"));
    let why: Value = serde_json::from_str(&home.says(&format!("explain --json {last}")).ok()).unwrap();
    assert_eq!(why["causes"][0]["cause"], "queued", "{why}");
    // A command that waits only for so long says what it has waited for.
    let late = home.says(&format!("gateway start {last} --timeout 1")).refused(99);
    assert!(late.contains("queued, 2 before it"), "{late}");
    // The end of one start is the beginning of the next.
    go(&home, begun(&home)[0]);
    let line = until(&home, 3, 2);
    assert_ne!(line[0].1, first, "the first of those that waited has begun");
    for name in NAMES {
        go(&home, name);
    }
    for name in NAMES {
        home.says(&format!("wait --ready {name}")).ok();
        assert_eq!(home.report(name)["queued"], Value::Null);
    }
}

#[test]
fn a_gateway_that_waits_for_its_turn_can_be_stopped_and_is_told_in_the_events() {
    let (mut home, _ports) = five();
    home.up_quietly();
    for name in NAMES {
        home.until_supervised(name);
    }
    for name in ["a", "b"] {
        home.says(&format!("gateway start {name} --no-wait")).ok();
    }
    until(&home, 2, 0);
    let events = home.start(["events", "--json"]);
    crate::listening::until_subscribed(&events, &home, "c");
    home.says("gateway start c --no-wait").ok();
    until(&home, 2, 1);
    events.until_out("a start that waits", |out| {
        let mut lines = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|event| event["event"] == "queued" && event["profile"] == "c" && event["queued"] == 0)
    });
    home.says("gateway stop c").ok();
    let report = home.report("c");
    assert_eq!((&report["state"], &report["queued"]), (&"down".into(), &Value::Null), "{report}");
    assert!(!has_begun(&home, "c"));
}

#[test]
fn a_gateway_that_a_signal_has_stopped_keeps_no_other_from_its_start() {
    let (mut home, _ports) = five();
    home.up_quietly();
    for name in NAMES {
        home.until_supervised(name);
    }
    for name in ["a", "b", "c"] {
        home.says(&format!("gateway start {name} --no-wait")).ok();
    }
    let waits = until(&home, 2, 1)[0].1;
    let stopped = home.pid(begun(&home)[0]);
    processes::signal(stopped, Signal::STOP);
    waiting::polled("the start of another one", || has_begun(&home, waits).then_some(()));
    processes::signal(stopped, Signal::CONT);
}

#[test]
fn gateways_that_show_nothing_of_themselves_wait_for_nobody() {
    let mut home =
        Home::with_script("exec sleep 1000", &[("stop-timeout-ms", "start-parallel = 1\nstop-timeout-ms")]);
    for name in NAMES {
        home.profile(name);
        home.want_running(name);
    }
    home.up_quietly();
    for name in NAMES {
        home.until_supervised(name);
        home.says(&format!("wait --up {name}")).ok();
    }
    assert!(!home.scandir().join(".turns").exists());
}

/// Waits until exactly these have begun and each of the others says that it starts after this one.
fn until_after(home: &Home, have_begun: &[&str], after: &str) {
    let service = format!("gateway-{after}");
    waiting::polled("starts that wait for another", || {
        let now = begun(home);
        assert!(
            now.iter().all(|name| have_begun.contains(name)),
            "{now:?} have begun, not only {have_begun:?}"
        );
        let waits =
            |name: &&str| home.report(name).get("starts_after").is_some_and(|after| *after == service);
        let others = NAMES.iter().filter(|name| !have_begun.contains(name));
        (now.len() == have_begun.len() && others.copied().all(|name| waits(&name))).then_some(())
    });
}

#[test]
fn those_that_after_names_start_first_and_in_this_order_and_the_others_say_what_they_wait_for() {
    let (mut home, _ports) = five_with("after = [\"d\", \"b\", \"nobody\"]\nstart-parallel = 0");
    for name in NAMES {
        home.want_running(name);
    }
    home.up_quietly();
    until_after(&home, &["d"], "d");
    let report = home.report("a");
    assert_eq!((&report["state"], &report["up"]), (&"starting".into(), &false.into()), "{report}");
    assert_eq!((&report["reason"], &report["queued"]), (&"queued, starts after d".into(), &Value::Null));
    assert!(home.says("status").ok().contains("starting: queued, starts after d"));
    let why: Value = serde_json::from_str(&home.says("explain --json a").ok()).unwrap();
    assert_eq!(why["causes"][0]["cause"], "queued", "{why}");
    let late = home.says("gateway start a --timeout 1").refused(99);
    assert!(late.contains("starts after d"), "{late}");
    let events = home.start(["events", "--json"]);
    crate::listening::until_subscribed(&events, &home, "c");
    home.says("gateway stop c").ok();
    home.says("gateway start c --no-wait").ok();
    events.until_out("a start that waits for another", |out| {
        let mut lines = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|event| event["event"] == "queued" && event["profile"] == "c")
    });
    go(&home, "d");
    until_after(&home, &["d", "b"], "b");
    for name in NAMES {
        go(&home, name);
    }
    for name in NAMES {
        home.says(&format!("wait --ready {name}")).ok();
        assert_eq!(home.report(name)["starts_after"], Value::Null);
    }
}

#[test]
fn one_that_is_not_wanted_or_has_failed_keeps_no_other_from_its_start() {
    let script = "[ \"$1\" != b ] || exit 3; exec sleep 1000";
    let mut home =
        Home::with_script(script, &[("stop-timeout-ms", "after = [\"a\", \"b\"]\nstop-timeout-ms")]);
    for name in ["a", "b", "c"] {
        home.profile(name);
    }
    home.want_running("b");
    home.want_running("c");
    home.up_quietly();
    home.until_supervised("c");
    home.says("wait --up c").ok();
    assert_eq!(home.report("a")["state"], "down");
    waiting::polled("deaths of b", || home.report("b")["restarts"].as_u64().filter(|deaths| *deaths > 0));
}

#[test]
fn one_that_only_its_watcher_can_find_working_is_waited_for_until_the_watcher_has() {
    let script = "touch \"$2/begun\"; until [ \"$1\" != d ] || [ -e \"$2/go\" ]; do sleep 0.1; done; \
                  while :; do date >\"$2/beat.new\" && mv \"$2/beat.new\" \"$2/beat\"; sleep 0.1; done";
    let live = "[gateway.live]\ninterval-ms = 300\n\
                heartbeat = { file = \"{profile-home}/beat\", max-age-ms = 3000 }\n\n[gateway.exit-meanings]";
    let after = ("stop-timeout-ms", "after = [\"d\"]\nstop-timeout-ms");
    let mut home = Home::with_script(script, &[("[gateway.exit-meanings]", live), after]);
    for name in ["a", "d"] {
        home.profile(name);
    }
    home.want_running("d");
    home.up_quietly();
    home.until_supervised("a");
    home.until_supervised("d");
    // Before the first line of the watcher, a start waits for a few seconds only.
    waiting::polled("the watcher", || home.scandir().join(".live/.watcher").exists().then_some(()));
    home.says("wait --up d").ok();
    home.says("gateway start a --no-wait").ok();
    waiting::polled("the wait of a", || {
        assert!(!has_begun(&home, "a"), "{}", home.report("d"));
        home.report("a").get("starts_after").is_some_and(|after| *after == "gateway-d").then_some(())
    });
    go(&home, "d");
    home.says("wait a --live --timeout 60").ok();
    assert!(has_begun(&home, "a"));
}
