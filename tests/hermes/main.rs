//! The promises of the README, tested with the real Hermes from PyPI.
//!
//! Hermes 0.19 is `HERMES_BIN`, and 0.22 `HERMES_022_BIN` (`real_hermes`). Each profile is started
//! at most five times, because from the sixth start within two minutes on, Hermes waits by itself.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic in a test says what is wrong")]

mod drain;
#[path = "../support/home.rs"]
mod home;
mod matrix;
mod migrate;
#[path = "../support/model.rs"]
mod model;
#[path = "../support/real_hermes.rs"]
mod real_hermes;
#[path = "../support/mod.rs"]
mod support;
mod topology;
#[path = "../support/tried.rs"]
mod tried;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use home::{Home, Port, Ran, until_file};
use real_hermes::{configure, hermes, installed, with_hermes, with_program};
use support::processes::{self, Held};
use support::waiting;

/// The time that a start of Hermes may take on a busy machine.
const WAIT_LIMIT: Duration = Duration::from_mins(1);

fn profile(home: &Home, name: &str) -> Port {
    home.run(["profile", "create", name]).ok();
    configure(home, name)
}

/// Runs a command that waits for Hermes.
#[track_caller]
fn patient(home: &Home, line: &str) -> Ran {
    home.start(line.split(' ')).ended(WAIT_LIMIT + WAIT_LIMIT)
}

/// Ends the supervisor with Ctrl-C. Hermes leaves a short diagnosis process behind, which may take
/// a moment.
#[track_caller]
fn stopped(home: &mut Home) {
    let ran = home.down();
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn real_hermes_goes_the_whole_way() {
    let mut home = with_hermes();
    home.up_quietly();

    // create → start → /health answers
    let coder = profile(&home, "coder");
    let writer = profile(&home, "writer");
    let said = patient(&home, "gateway start coder --ready --timeout 60").ok();
    assert!(said.starts_with("coder: ready (pid "), "{said}");
    assert!(coder.healthy(), "it is ready and does not answer");
    patient(&home, "gateway start writer --ready --timeout 60").ok();
    assert!(writer.healthy());
    patient(&home, "gateway stop writer").ok();
    assert!(!writer.healthy(), "it is stopped and answers");

    // kill -9 → new pid and /health again
    let old = home.pid("coder");
    processes::signal(old, Signal::KILL);
    let report = home.until_report("coder", "another process that is ready", |report| {
        report["state"] == "ready" && report["pid"] != old
    });
    assert!(coder.healthy(), "{report}");
    assert_eq!(report["deaths"][0]["signal"], "SIGKILL", "{report}");

    // supervisor stopped and started → the running one is back, the stopped one is not
    let held = Held::of(home.pid("coder")).unwrap();
    stopped(&mut home);
    assert!(held.is_gone() && !coder.healthy());
    let out = up(&mut home);
    assert!(out.contains("profile=coder prior_state=running action=started"), "{out}");
    assert!(out.contains("profile=writer prior_state=stopped action=registered"), "{out}");
    assert!(coder.healthy() && !writer.healthy());
    assert_eq!(
        (&home.report("coder")["state"], &home.report("writer")["state"]),
        (&"ready".into(), &"down".into())
    );

    // delete → slot and process gone
    let held = Held::of(home.pid("coder")).unwrap();
    patient(&home, "profile delete --yes coder").ok();
    assert!(held.is_gone(), "the process is still there");
    assert!(!home.slot("coder").path().exists() && !home.profile_dir("coder").exists());
    assert!(!coder.healthy());
    assert_eq!(home.report("writer")["state"], "down", "the other one is as it was");
    stopped(&mut home);
}

#[test]
fn doctor_finds_nothing_wrong_and_asks_for_what_hermes_has() {
    let mut home = with_hermes();
    home.up_quietly();
    let _port = profile(&home, "coder");
    patient(&home, "gateway start coder --ready --timeout 60").ok();
    let out = home.says("doctor --json").ok();
    let found: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // A test does not control how full the machine's own disk is.
    assert!(found.iter().all(|finding| finding["check"] == "disk"), "{out}");
    patient(&home, "gateway stop coder").ok();
    stopped(&mut home);

    // Every variable of the definition occurs in the program's own text.
    let program = hermes();
    let lib = program.parent().unwrap().join("../lib");
    let doctor = gatevisor_gateways::AgentDefinition::built_in().unwrap().doctor;
    let ports = doctor.ports.iter().flat_map(|port| port.when.iter().chain([&port.variable]));
    for name in doctor.exclusive.iter().chain(ports) {
        let mut grep = Command::new("grep");
        grep.args(["-rqwF", "--include=*.py", "-e", name]);
        for package in ["gateway", "plugins"] {
            let places = fs::read_dir(&lib)
                .unwrap()
                .flatten()
                .map(|entry| entry.path().join("site-packages").join(package));
            grep.args(places.filter(|path| path.is_dir()));
        }
        assert!(grep.status().unwrap().success(), "Hermes knows no {name}");
    }
}

/// Starts the supervisor, and returns what it printed once all gateways that shall run are ready.
#[track_caller]
fn up(home: &mut Home) -> String {
    home.up_with(["up"]);
    // Waits as long as Hermes takes, in portions of the suites' deadline.
    waiting::polled("the reconciliation", || home.running().out().contains("reconcile:").then_some(()));
    for profile in ["coder", "writer"] {
        if home.state_file(profile).exists() && home.state(profile)["desired_state"] == "running" {
            home.until_supervised(profile);
            patient(home, &format!("wait --ready --timeout 60 {profile}")).ok();
        }
    }
    home.running().until_says("Here: Ctrl-C")
}

#[test]
fn real_hermes_knows_that_a_stop_is_meant() {
    let mut home = with_hermes();
    home.up_quietly();
    let coder = profile(&home, "coder");
    patient(&home, "gateway start coder --ready --timeout 60").ok();
    assert!(coder.healthy());
    // Its signal handlers are complete a moment after its first answer, which its state file then
    // shows.
    until_file(&home.state_file("coder"), "gateway_state running", |text| {
        serde_json::from_str::<Value>(text).is_ok_and(|state| state["gateway_state"] == "running")
    });
    patient(&home, "gateway stop coder").ok();
    let report = home.report("coder");
    assert_eq!((&report["exitcode"], &report["state"]), (&0.into(), &"down".into()), "{report}");
    let state = home.state("coder");
    assert_eq!(state["gateway_state"], "stopped", "{state}");
    assert_eq!(state["desired_state"], "stopped", "{state}");
    assert!(
        !home.profile_dir("coder").join(".gateway-planned-stop.json").exists(),
        "the announcement is left"
    );
    stopped(&mut home);
}

#[test]
fn real_hermes_keeps_its_desired_state_when_the_supervisor_ends() {
    let mut home = with_hermes();
    profile(&home, "coder");
    home.want_running("coder");
    let coder = configure(&home, "coder");
    up(&mut home);
    assert!(coder.healthy());
    until_file(&home.state_file("coder"), "gateway_state running", |text| {
        serde_json::from_str::<Value>(text).is_ok_and(|state| state["gateway_state"] == "running")
    });
    let desired_state = |state: &Value| {
        ["desired_state", "desired_by", "desired_at", "desired_reason"].map(|key| state[key].clone())
    };
    let before = desired_state(&home.state("coder"));
    home.running().signal(Signal::TERM);
    let ran = home.ended();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let state = home.state("coder");
    assert_eq!(desired_state(&state), before, "going down changed the desired state: {state}");
    assert_eq!(
        (&state["desired_state"], &state["gateway_state"]),
        (&"running".into(), &"running".into()),
        "{state}"
    );
    let said = home.says("reconcile --dry-run").ok();
    assert!(said.contains("profile=coder prior_state=running action=started"), "{said}");
}

#[test]
fn real_hermes_greets_in_its_log_and_two_do_not_disturb_each_other() {
    let mut home = with_hermes();
    let ports = ["coder", "writer"].map(|name| profile(&home, name));
    home.want_running("coder");
    home.want_running("writer");
    home.set("PYTHONUNBUFFERED", "1");
    let out = up(&mut home);
    assert!(ports.iter().all(Port::healthy), "{out}");
    for name in ["coder", "writer"] {
        let log = home.until_logged(name, "Hermes Gateway Starting");
        assert!(log.contains('⚕'), "{log}");
        home.running().until_out("the banner", |out| {
            let label = format!("{name} | ");
            out.lines()
                .any(|line| line.starts_with(&label) && line.contains("Hermes Gateway Starting"))
                .then_some(())
        });
    }
    // One gateway dies, and the other one is not affected.
    let (coder, writer) = (home.pid("coder"), home.pid("writer"));
    processes::signal(coder, Signal::KILL);
    assert!(ports[1].healthy());
    home.until_report("coder", "its restart", |report| report["state"] == "ready" && report["pid"] != coder);
    assert_eq!(home.pid("writer"), writer);
    assert!(ports.iter().all(Port::healthy));
    let said = patient(&home, "gateway restart coder --ready").ok();
    assert!(said.starts_with("coder: restarted, ready (pid "), "{said}");
    let report = home.report("coder");
    assert_eq!(report["deaths"][0]["exitcode"], 75, "{report}");
    assert!(ports.iter().all(Port::healthy));
    stopped(&mut home);
}

#[test]
fn real_hermes_whose_port_is_taken_failed_for_good_and_says_why() {
    let mut home = with_hermes();
    home.up_quietly();
    let coder = profile(&home, "coder");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let env = home.profile_dir("coder").join(".env");
    let text = fs::read_to_string(&env).unwrap();
    let number = taken.local_addr().unwrap().port();
    fs::write(env, text.replace(&format!("PORT={}", coder.number), &format!("PORT={number}"))).unwrap();
    let ran = patient(&home, "gateway start coder --ready --timeout 60");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let held = format!("port {number} is held by process {} (", std::process::id());
    assert!(ran.err.contains(&format!("failed for good: {held}")), "{ran:?}");
    assert!(ran.err.contains("; exit 78;"), "{ran:?}");
    let report = home.report("coder");
    assert_eq!(
        (&report["state"], &report["desired_state"]),
        (&"failed".into(), &"running".into()),
        "{report}"
    );
    stopped(&mut home);
}

#[test]
fn real_hermes_that_was_stopped_by_its_own_command_stays_stopped_and_that_is_said() {
    let mut home = with_hermes();
    home.up_quietly();
    profile(&home, "coder");
    patient(&home, "gateway start coder --ready --timeout 60").ok();
    let mut command = Command::new(hermes());
    command.args(["-p", "coder", "gateway", "stop"]).env("HERMES_HOME", home.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    home.running().until_warns("the gateway of coder was stopped by another program, and stays stopped");
    let report = home.report("coder");
    assert_eq!(
        (&report["state"], &report["desired_state"], &report["desired_by_another"], &report["restarts"]),
        (&"down".into(), &"stopped".into(), &true.into(), &0.into()),
        "{report}"
    );
    stopped(&mut home);
}

/// What makes a gateway keep Python's interpreter lock for good.
const HOLDER: &str = include_str!("../support/holds_the_lock.py");

#[test]
fn real_hermes_that_is_frozen_by_a_signal_or_by_a_held_interpreter_lock_is_ended_with_evidence_and_works_again()
 {
    support::set_wait_limit(Duration::from_mins(4));
    let mut home = with_hermes();
    let hold = tempfile::tempdir().unwrap();
    fs::write(hold.path().join("sitecustomize.py"), HOLDER).unwrap();
    home.set("PYTHONPATH", hold.path());
    home.set("HOLD_DIRECTORY", hold.path());
    home.up_quietly();
    let names = ["coder", "writer"];
    let ports = names.map(|name| profile(&home, name));
    for name in names {
        patient(&home, &format!("gateway start {name} --ready --timeout 60")).ok();
        let works = |home: &Home| (home.report(name)["live"]["state"] == "live").then_some(());
        waiting::polled_slowly("a gateway that works", || works(&home));
    }
    let frozen = names.map(|name| home.pid(name));
    processes::signal(frozen[0], Signal::STOP);
    let file = hold.path().join("hold");
    fs::write(hold.path().join("new"), frozen[1].to_string()).unwrap();
    fs::rename(hold.path().join("new"), &file).unwrap();
    waiting::polled_slowly("the interpreter lock", || (!file.exists()).then_some(()));
    for ((name, pid), port) in names.into_iter().zip(frozen).zip(&ports) {
        let report = waiting::polled_slowly("another process that works", || {
            let report = home.report(name);
            (report["live"]["state"] == "live" && report["pid"] != pid && report["ready"] == true)
                .then_some(report)
        });
        assert!(port.healthy(), "{report}");
        assert_eq!(report["live_restart"]["pid"], pid, "{report}");
        let incident = Path::new(report["live_restart"]["incident"].as_str().unwrap());
        let kept = fs::read_to_string(incident.join("processes.txt")).unwrap();
        assert!(kept.contains(&format!("{pid} ")), "{kept}");
        for part in fs::read_dir(incident).unwrap() {
            let text = fs::read(part.unwrap().path()).unwrap();
            let env = fs::read_to_string(home.profile_dir(name).join(".env")).unwrap();
            let key = env.lines().find_map(|line| line.strip_prefix("API_SERVER_KEY=")).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains(key), "a key is in the evidence");
        }
    }
    stopped(&mut home);
}
