//! Reports about a gateway are backed by evidence: it is up when its command was executed, ready
//! when it answered, and started when it stayed up.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use insta::assert_snapshot;
use serde_json::Value;

use crate::home::Home;
use crate::support::running::Ran;
use crate::support::{WAIT_LIMIT, processes, waiting};

/// Attempts follow each other as fast as possible.
const EAGER: (&str, &str) = (
    "[gateway.exit-meanings]",
    "[gateway.restart]\nbackoff-first-ms = 1\nbackoff-max-ms = 1\n\n[gateway.exit-meanings]",
);
const PATIENT: (&str, &str) =
    (EAGER.0, "[gateway.restart]\nbackoff-first-ms = 60000\n\n[gateway.exit-meanings]");
const READY: &str =
    "ready = { http = \"http://127.0.0.1:${PORT:-8700}/health\", interval-ms = 50, timeout-ms = 20000 }\n";

/// The number of tries. `make soak` makes 1,000 tries while the processors are busy.
fn tries() -> usize {
    std::env::var("GATEVISOR_TRIES").ok().and_then(|tries| tries.parse().ok()).unwrap_or(12)
}

/// Keeps the processors busy during `work`, if there are many tries.
fn under_load<T>(tries: usize, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(tries < 100);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = work();
        over.store(true, Ordering::Relaxed);
        result
    })
}

/// Returns a home whose gateways are a program that does not exist, with or without a probe.
fn missing(probe: bool, pauses: (&str, &str)) -> Home {
    let default = "[\"/bin/sh\", \"${AGENT_SCRIPT}\", \"default\", \"{profile-home}\"]";
    let named = "[\"/bin/sh\", \"${AGENT_SCRIPT}\", \"{profile}\", \"{profile-home}\"]";
    let probed = format!("{READY}stop-timeout-ms");
    let mut changes = vec![(default, "[\"/nonexistent\"]"), (named, "[\"/nonexistent\"]"), pauses];
    if probe {
        changes.push(("stop-timeout-ms", &probed));
    }
    Home::with_script("", &changes)
}

/// Returns the value of a metric of coder's gateway.
fn of_coder<'a>(metrics: &'a str, name: &str) -> Option<&'a str> {
    let begin = format!("gatevisor_service_{name}{{");
    let mut lines = metrics.lines().filter(|line| line.starts_with(&begin));
    lines.find(|line| line.contains("\"gateway-coder\""))?.rsplit(' ').next()
}

#[test]
fn a_command_that_was_never_executed_is_never_up_and_never_ready() {
    let questions = ["wait --up", "wait --ready", "gateway start", "gateway restart --ready"];
    // Each question is a try, with a probe and without one.
    let (tries, rounds) = (tries(), tries().div_ceil(questions.len()));
    for probe in [false, true] {
        let mut home = missing(probe, EAGER);
        home.profile("coder");
        home.want_running("coder");
        home.up_quietly();
        let events = home.start(["events", "--json", "coder"]);
        let seen = waiting::found_often(|| events.out().contains("failed to start").then_some(()));
        assert!(seen.is_some(), "no event tells that it failed: {} {}", events.out(), events.err());
        under_load(tries, || {
            for n in 0..rounds {
                for question in questions {
                    let ran = home.says(&format!("{question} coder --timeout 10"));
                    assert_eq!(ran.code, Some(1), "try {n}, probe {probe}: {question}: {ran:?}");
                    // The next attempt removes the text of this one.
                    let says_why = ["`/nonexistent`", "exit 127: the command does not exist"];
                    assert!(says_why.iter().any(|why| ran.err.contains(why)), "try {n}: {question}: {ran:?}");
                }
                let report = home.report("coder");
                assert_eq!((&report["up"], &report["ready"]), (&false.into(), &false.into()), "{report}");
                assert!(report["state"] != "up" && report["state"] != "ready", "{report}");
                let metrics = home.says("metrics").ok();
                for name in ["up", "ready", "works"] {
                    assert_eq!(of_coder(&metrics, name), Some("0.0"), "try {n}, probe {probe}: {metrics}");
                }
            }
        });
        let said = events.out();
        let words: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let claims = words.iter().filter(|event| event["event"] == "up" || event["event"] == "ready");
        assert_eq!(claims.count(), 0, "{said}");
    }
}

#[test]
fn the_progress_of_up_says_that_a_command_is_missing_and_not_that_it_is_up() {
    for probe in [false, true] {
        let mut home = missing(probe, PATIENT);
        home.profile("coder");
        home.want_running("coder");
        home.up();
        let said = home.running().err();
        assert!(said.contains("coder failed to start: executing: `/nonexistent`"), "{said}");
        assert!(!said.contains("coder is up") && !said.contains("coder is ready"), "{said}");
    }
}

#[test]
fn a_gateway_that_nobody_probes_is_up_and_to_wait_for_ready_is_an_error() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.up();
    // To wait for it would be in vain, so that is said at once.
    assert_snapshot!(home.says("wait --ready coder").refused(1), @"gatevisor: error: the gateway of coder is down, and nothing tells whether it is ready: nobody probes it; wait with --up, or give it a probe, `[gateway.ready]` in the agent definition");
    assert_snapshot!(home.says("gateway start coder").ok().split(" (pid").next().unwrap(), @"coder: up");
    home.says("wait --up coder").ok();
    assert_snapshot!(home.says("wait --ready coder").refused(1), @"gatevisor: error: the gateway of coder is up, and nothing tells whether it is ready: nobody probes it; wait with --up, or give it a probe, `[gateway.ready]` in the agent definition");
    let said = home.says("gateway start coder --ready").refused(1);
    assert!(said.contains("nothing tells whether it is ready"), "{said}");
    let report = home.report("coder");
    assert_eq!((&report["state"], &report["ready"]), (&"up".into(), &false.into()), "{report}");
}

#[test]
fn a_probe_that_is_switched_off_makes_nothing_ready() {
    let probe = READY.replace("interval-ms", "when = \"${PROBED:-no}\", interval-ms");
    let mut home =
        Home::with_script("exec sleep 1000", &[("stop-timeout-ms", &format!("{probe}stop-timeout-ms"))]);
    home.profile("coder");
    home.want_running("coder");
    home.up();
    let said = home.running().err();
    assert!(said.contains("coder is up after") && !said.contains("ready"), "{said}");
    home.says("wait --ready coder").refused(1);
    let report = home.report("coder");
    assert_eq!((&report["state"], &report["ready"]), (&"up".into(), &false.into()), "{report}");
}

#[test]
fn a_gateway_that_ends_within_the_start_window_is_a_failed_start_with_its_last_lines() {
    let script = "echo 'the key is missing'; exit 78";
    let mut home = Home::with_script(script, &[PATIENT]);
    home.profile("coder");
    home.up();
    let ran = home.says("gateway start coder");
    assert_eq!((ran.code, &*ran.out), (Some(1), ""), "{ran:?}");
    assert!(ran.err.contains("failed") && ran.err.contains("exit 78"), "{ran:?}");
    assert!(ran.err.contains("it printed: the key is missing\n"), "{ran:?}");
    let created = home.run(["profile", "create", "writer", "--start"]);
    assert_eq!(created.code, Some(1), "{created:?}");
    assert!(created.err.contains("it printed: the key is missing\n"), "{created:?}");
    let details = home.says("gateway status coder").ok();
    assert!(details.contains("\nprinted  the key is missing\n"), "{details}");
    // `register --start` reports that the command was executed.
    home.run(["profile", "create", "late"]).ok();
    home.says("gateway unregister late").ok();
    let registered = home.says("gateway register late --start").ok();
    assert!(registered.starts_with("late: registered, up"), "{registered}");
}

#[test]
fn a_gateway_that_ends_after_the_start_window_was_started() {
    // The gateway ends when the test tells it to, after the window.
    let script = "until test -e \"$2/end\"; do sleep 0.05; done; exit 3";
    let mut home =
        Home::with_script(script, &[PATIENT, ("stop-timeout-ms", "start-window-ms = 5000\nstop-timeout-ms")]);
    home.profile("coder");
    home.up();
    home.says("gateway start coder").ok();
    fs::write(home.profile_dir("coder").join("end"), "").unwrap();
    // After the first death, the gateway is started again at once, and is then within its window.
    let report =
        home.until_report("coder", "a pause", |report| report["next_start_in_ms"].as_u64().is_some());
    assert_eq!(report["state"], "failed-to-start", "{report}");
    // With a window of 0, a start has succeeded when the command is executed.
    let said = home.says("gateway start coder --window 0").ok();
    assert!(said.starts_with("coder: up"), "{said}");
}

#[test]
fn a_text_that_no_program_can_be_given_is_a_failed_start_everywhere() {
    let mut home = Home::with_script(
        "exec sleep 1000",
        &[PATIENT, ("environment = { ", "environment = { TEXT = \"${TEXT}\", ")],
    );
    home.profile("coder");
    fs::write(home.profile_dir("coder").join(".env"), b"TEXT=a\0b\n").unwrap();
    home.up();
    let said = home.says("gateway start coder").refused(1);
    assert!(said.contains("failed to start: ") && said.contains("NUL byte"), "{said}");
    let report = home.until_state("coder", "failed-to-start");
    assert!(report["reason"].as_str().unwrap().contains("NUL byte"), "{report}");
    let found = home.says("doctor");
    assert!(found.out.contains("NUL byte"), "{found:?}");
}

#[test]
fn only_deaths_that_nobody_asked_for_are_restarts() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.up();
    home.says("gateway start coder").ok();
    home.says("gateway restart coder").ok();
    home.says("gateway stop coder").ok();
    home.says("gateway start coder").ok();
    let report = home.report("coder");
    assert_eq!((&report["restarts"], &report["commanded_restarts"]), (&0.into(), &2.into()), "{report}");
    processes::signal(home.pid("coder"), rustix::process::Signal::KILL);
    let report = home.until_report("coder", "a restart", |report| report["restarts"] == 1);
    assert_eq!(report["commanded_restarts"], 2, "{report}");
    let details = home.says("gateway status coder").ok();
    assert!(details.contains("\nrestarts 1, and 2 that a command or the watcher asked for\n"), "{details}");
}

/// Returns what this program prints for a user who may look at nothing in a home.
fn as_a_stranger(home: &Home, line: &str) -> Ran {
    let mut command = home.command(line.split_whitespace());
    command.uid(23_456).gid(23_456);
    home.spawn(command).ended(WAIT_LIMIT)
}

#[test]
fn without_permission_the_answer_is_that_it_cannot_be_known_and_not_that_nothing_is_there() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.up();
    home.says("gateway start coder").ok();
    let open = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    // The directories above the home are open, so only the home itself, or what is in it, is
    // closed.
    open(&home.beside(""), 0o755);
    for (mode, what) in [(0o700, "the home"), (0o755, "the scandir and the profiles")] {
        open(home.path(), mode);
        if mode == 0o755 {
            open(&home.profile_dir("coder"), 0o700);
            open(&home.scandir(), 0o700);
        }
        for line in ["status", "gateway status coder", "gateway restart coder", "wait --up coder", "events"] {
            let ran = as_a_stranger(&home, line);
            let said = format!("{}{}", ran.out, ran.err);
            assert_eq!(ran.code, Some(111), "{what}: {line}: {said}");
            for untrue in ["no supervisor", "there is no", "not registered", "not supervised"] {
                assert!(!said.contains(untrue), "{what}: {line}: {said}");
            }
            assert!(said.contains("Permission denied"), "{what}: {line}: {said}");
        }
    }
}
