//! How a container ends: what receives the signal first, what is recorded, and that nothing waits
//! for time to pass.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::engine::{Container, Start, container, docker, skipped};
use crate::hermes::{self, CALM};
use crate::home::Port;
use crate::model::{Model, turn};
use crate::support::{set_wait_limit, waiting};

/// A service of the agent that prints when it is up and what ends it, and ends slowly.
fn service(container: &Container, name: &str, body: &str) {
    let script = format!(
        "cd /run/service && mkdir .{name} && printf '%s\\n' '#!/bin/sh' \"$1\" > .{name}/run && chmod 755 .{name}/run && \
         chown -R hermes: .{name} && mv .{name} {name} && /command/s6-svscanctl -a /run/service && /command/s6-svwait -u -t 20000 {name}"
    );
    container.exec(&["bash", "-c", &script, "-", body]).ok();
}

#[test]
fn an_idle_container_stops_at_once_with_0() {
    if skipped() {
        return;
    }
    let container = container().started();
    assert_eq!(container.stop_as_usual(), 0, "{}", container.said());
    let out_of_memory =
        docker(["inspect", "--format", "{{.State.OOMKilled}} {{.State.Error}}", container.name()]);
    assert_eq!(out_of_memory.ok().trim(), "false");
}

#[test]
fn gateways_are_told_before_the_command_and_each_once() {
    if skipped() {
        return;
    }
    // They write into one file, in the order in which they received the signal.
    let command = "trap 'echo command >> /opt/data/told; exit 12' TERM; echo ready to be told; while :; do sleep infinity & wait; done";
    let container = container().started_as(&["bash", "-c", command]);
    container.says("ready to be told");
    let gateway = "trap 'echo gateway >> /opt/data/told' TERM; echo gateway up >&2; while :; do sleep infinity & wait; [ -e /tmp/told ] && { echo gateway ends >> /opt/data/told; exit 0; }; : > /tmp/told; exec 3<>/tmp/never; mkfifo /tmp/fifo; read -rt 1 <>/tmp/fifo; echo gateway ends >> /opt/data/told; exit 0; done";
    service(&container, "gateway-slow", gateway);
    let other = "trap 'echo other >> /opt/data/told; exit 0' TERM; echo other up >&2; while :; do sleep infinity & wait; done";
    service(&container, "other", other);
    container.says("gateway up");
    container.says("other up");
    assert_eq!(container.stop(), 12, "{}", container.said());
    docker(["start", container.name()]).ok();
    let told = container.sh("cat /opt/data/told");
    assert_eq!(told, "gateway\ngateway ends\ncommand\nother", "{}", container.said());
}

#[test]
fn what_is_killed_at_the_end_of_the_grace_is_named() {
    if skipped() {
        return;
    }
    let command = "trap '' TERM; echo deaf; while :; do read -rt 1 <>/tmp/fifo; done";
    let script = format!("mkfifo /tmp/fifo; {command}");
    let container = container().env("GATEVISOR_GRACE", "1").started_as(&["bash", "-c", &script]);
    container.says("deaf");
    assert_eq!(container.stop(), 137, "{}", container.said());
    let said = container.said();
    assert_eq!(said.matches("killing what did not stop in time: the command").count(), 1, "{said}");
}

#[test]
fn what_a_service_says_last_is_kept() {
    if skipped() {
        return;
    }
    let container = container().started();
    let script = "cd /run/service && mkdir -p .talker/log && \
        printf '%s\\n' '#!/bin/sh' 'trap \"seq 1 20000; echo last words; exit 0\" TERM; echo talking; while :; do sleep infinity & wait; done' > .talker/run && \
        printf '%s\\n' '#!/bin/sh' 'exec s6-log n10 s1000000 T /opt/data/talker' > .talker/log/run && chmod 755 .talker/run .talker/log/run && \
        mv .talker talker && /command/s6-svscanctl -a /run/service && /command/s6-svwait -u -t 20000 talker";
    container.sh(script);
    container.file_says("/opt/data/talker/current", "talking");
    assert_eq!(container.stop(), 0, "{}", container.said());
    docker(["start", container.name()]).ok();
    container.file_says("/opt/data/talker/current", "last words");
    assert_eq!(container.sh("grep -c . /opt/data/talker/current"), "20002");
}

#[test]
fn the_grace_bounds_a_service_that_will_not_end() {
    if skipped() {
        return;
    }
    let container = container().env("GATEVISOR_GRACE", "1").started();
    service(&container, "stubborn", "trap '' TERM; echo deaf >&2; while :; do sleep 1; done");
    container.says("deaf");
    // The engine itself would kill everything after ten seconds, with exit code 137.
    assert_eq!(container.stop_as_usual(), 0, "{}", container.said());
}

/// A container whose gateway of coder has begun a turn, which the model holds.
struct Asking {
    container: Container,
    model: Model,
    answer: JoinHandle<String>,
}

impl Asking {
    fn begun(start: Start) -> Self {
        set_wait_limit(Duration::from_mins(1));
        let (model, port) = (Model::start(), Port::free());
        // The gateway asks the model of this test, and answers to this test.
        let container = start.with("--network host").env(CALM.0, CALM.1).started();
        container.hermes("profile create coder").ok();
        // The slot is Hermes' own for two seconds, and nothing probes what is started from that.
        waiting::polled_slowly("that the slot is as the definition has it", || {
            let is_ours = container.exec(&["test", "-e", "/run/service/gateway-coder/data/agent"]).code == 0;
            is_ours.then_some(())
        });
        let key = "0123456789abcdef0123456789abcdef";
        let script = format!(
            "cd /opt/data/profiles/coder && \
             printf '%s\\n' API_SERVER_ENABLED=true API_SERVER_HOST=127.0.0.1 API_SERVER_PORT={} API_SERVER_KEY={key} > .env && \
             printf '%s\\n' model: '  default: slow' '  provider: custom' '  base_url: http://127.0.0.1:{}/v1' '  api_key: none' '  context_length: 200000' > config.yaml",
            port.number, model.port.number
        );
        container.sh(&script);
        hermes::start(&container, "coder");
        container.exec(&["gatevisor", "wait", "--ready", "--timeout", "80", "coder"]).ok();
        model.hold();
        let answer = turn(port.number, key.to_owned(), "hermes-agent", "before the end.".to_owned());
        model.until_asked("before the end.");
        Self { container, model, answer }
    }
}

#[test]
fn a_turn_that_is_under_way_is_answered_before_the_container_ends() {
    if skipped() {
        return;
    }
    let Asking { container, model, answer } = Asking::begun(container().env("GATEVISOR_GRACE", "60"));
    let name = container.name().to_owned();
    let stopped = std::thread::spawn(move || docker(["stop", "--time", "80", &name]));
    waiting::polled_slowly("that it drains", || {
        let state = container.exec(&["cat", "/opt/data/profiles/coder/gateway_state.json"]).out;
        state.contains("\"draining\"").then_some(())
    });
    // One that it interrupts has five seconds.
    let ended = container.exec(&["/command/s6-svwait", "-D", "-t", "8000", "/run/service/gateway-coder"]);
    assert_eq!(ended.code, 99, "it has ended in the middle of a turn: {ended:?}");
    model.release();
    let answer = answer.join().unwrap();
    assert!(answer.contains("you said: before the end."), "the turn is lost: {answer:?}");
    stopped.join().unwrap().ok();
    assert_eq!(container.ended(), 0, "{}", container.said());
}

#[test]
fn a_turn_that_takes_too_long_for_a_plain_stop_is_named_and_nothing_is_killed_before_the_grace_is_over() {
    if skipped() {
        return;
    }
    let Asking { container, model, answer } = Asking::begun(container());
    // Docker's ten seconds would leave two for this machine. The grace is the usual one.
    let began = Instant::now();
    docker(["stop", "--time", "60", container.name()]).ok();
    let took = began.elapsed();
    model.release();
    let answer = answer.join().unwrap();
    assert!(!answer.contains("you said: "), "the turn was waited for: {answer:?}");
    let said = container.said();
    let cut_off = |line: &str| {
        line.starts_with("coder | ")
            && line.contains("drain timed out after 1.0s")
            && line.contains("1 api_server run(s); interrupting remaining work")
    };
    assert!(said.lines().any(cut_off), "{said}");
    let was_killed = said.contains("killing what did not stop in time");
    assert!(!was_killed || took >= Duration::from_secs(8), "killed after {took:?}: {said}");
    assert_eq!(container.ended(), 0, "{said}");
}
