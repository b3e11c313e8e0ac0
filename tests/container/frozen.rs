//! Real gateways that are frozen in a container, with the settings that the image has: they are
//! found, explained, ended with evidence, and work again.

#![expect(clippy::indexing_slicing, reason = "a panic in a test says what is wrong")]

use std::time::Duration;

use serde_json::Value;

use crate::engine::{Container, container, skipped};
use crate::hermes::CALM;
use crate::support::{set_wait_limit, waiting};

const HOLDER: &str = include_str!("../support/holds_the_lock.py");
/// One is stopped by a signal, and the other one holds its own interpreter lock.
const NAMES: [&str; 2] = ["coder", "writer"];

fn json(container: &Container, words: &[&str]) -> Value {
    let mut all = vec!["gatevisor", "--json"];
    all.extend(words);
    serde_json::from_str(container.exec(&all).ok()).expect("it is JSON")
}

/// Waits until the report about a gateway satisfies the condition.
fn until(container: &Container, name: &str, what: &str, expected: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = waiting::found_slowly(|| {
        last = json(container, &["gateway", "status", name]);
        expected(&last).then_some(())
    });
    assert!(found.is_some(), "waited for {what}: {last}");
    last
}

fn first_cause(container: &Container, name: &str) -> Value {
    json(container, &["explain", name])["causes"][0]["cause"].clone()
}

/// Has the gateways start, and returns their processes once there is evidence that they work.
fn working(container: &Container) -> [i64; 2] {
    for name in NAMES {
        container.hermes(&format!("profile create {name}")).ok();
        container.exec(&["gatevisor", "gateway", "start", name, "--no-wait"]).ok();
    }
    NAMES.map(|name| {
        let report =
            until(container, name, "a gateway that works", |report| report["live"]["state"] == "live");
        assert_eq!(report["live"]["evidence"], "heartbeat", "{report}");
        report["pid"].as_i64().unwrap()
    })
}

#[test]
fn hermes_that_is_frozen_by_a_signal_or_a_held_interpreter_lock_is_explained_ended_with_evidence_and_works_again()
 {
    if skipped() {
        return;
    }
    set_wait_limit(Duration::from_mins(4));
    let container = container()
        .env(CALM.0, CALM.1)
        .env("PYTHONPATH", "/opt/data/hold")
        .env("HOLD_DIRECTORY", "/opt/data/hold")
        .started();
    let script = "mkdir /opt/data/hold && printf %s \"$1\" > /opt/data/hold/sitecustomize.py";
    container.exec(&["bash", "-c", script, "-", HOLDER]).ok();
    let frozen = working(&container);

    container.sh(&format!("kill -STOP {}", frozen[0]));
    container.sh(&format!("cd /opt/data/hold && echo {} > new && mv new hold", frozen[1]));
    assert_eq!(first_cause(&container, NAMES[0]), "frozen");
    waiting::polled_slowly("the interpreter lock", || {
        (container.exec(&["test", "-e", "/opt/data/hold/hold"]).code == 1).then_some(())
    });

    for (name, pid) in NAMES.into_iter().zip(frozen) {
        let report = until(&container, name, "another process that works", |report| {
            report["pid"] != pid && report["live"]["state"] == "live"
        });
        let ended = &report["live_restart"];
        assert_eq!(ended["pid"], pid, "{report}");
        assert!(ended["reason"].as_str().unwrap().starts_with("heartbeat: "), "{report}");
        let processes = format!("{}/processes.txt", ended["incident"].as_str().unwrap());
        let kept = container.exec(&["cat", &processes]);
        assert!(kept.ok().contains(&format!("{pid} ")), "{kept:?}");
        assert_eq!(first_cause(&container, name), "ended-as-unresponsive");
    }
}

#[test]
fn a_gateway_whose_slot_hermes_has_made_is_followed_too() {
    if skipped() {
        return;
    }
    set_wait_limit(Duration::from_mins(2));
    let container = container().env(CALM.0, CALM.1).started();
    container.exec(&["/command/s6-svc", "-wD", "-d", "/run/service/profile-watcher"]).ok();
    container.hermes("profile create coder").ok();
    let run = "/run/service/gateway-coder/run";
    assert!(container.exec(&["cat", run]).ok().contains("with-contenv"), "Hermes makes its own slot");
    container.exec(&["/command/s6-svc", "-u", "/run/service/profile-watcher"]).ok();
    container.says("the slot of coder, which another program made, is as the definition has it");
    let made = container.exec(&["cat", run]);
    assert!(made.ok().contains("[live]"), "{made:?}");
    assert!(container.state("gateway-coder").starts_with("down"));
    container.hermes("-p coder gateway start").ok();
    until(&container, "coder", "a gateway that works", |report| report["live"]["state"] == "live");
}
