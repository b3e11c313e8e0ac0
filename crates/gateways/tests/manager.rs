//! The manager against a genuine s6-svscan: what holds there holds for any supervisor that speaks
//! the contract.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use common::{WAIT_LIMIT, World, agent, free_port, http_agent, name, request};
use gatevisor_gateways::agent::PlannedStop;
use gatevisor_gateways::inspect::{self, ServiceReport, ServiceState};
use gatevisor_gateways::manager::{
    ControlError, GatewayRequest, RegisterError, Registered, RestartOutcome, StartOutcome, StopOutcome,
    Unregistered, WaitFor, WaitOutcome, WaitUntil,
};
use gatevisor_gateways::{AgentDefinition, ProfileName, ServiceManager};
use gatevisor_wire::exit::ExitError as _;
use rustix::fs::{CWD, FileType, Mode, mknodat};

const SLEEP: [&str; 2] = ["sleep", "1000"];
const STUBBORN: [&str; 3] = ["sh", "-c", "trap '' TERM; while :; do read x </dev/zero; done"];

/// Returns an agent whose gateways do something in their profile's home when they are told to end.
///
/// They write to the FIFO `started` when they are ready for that.
fn trapping(what: &str) -> AgentDefinition {
    let script = format!("sleep 1000 & trap '{what}; kill $!; exit 0' TERM; echo up >started; wait");
    let mut agent = agent(&["sh", "-c", &script.replace('$', "$$")], "");
    agent.gateway.directory = Some("{profile-home}".to_owned());
    // It ends by itself, and may need a while for that.
    agent.gateway.stop_timeout_ms = 60_000;
    agent
}

/// Waits until a gateway has this state: its finish script may run still, or its next attempt.
fn until_state(world: &World, name: &ProfileName, state: ServiceState) -> ServiceReport {
    let deadline = Instant::now() + WAIT_LIMIT;
    loop {
        let report = inspect::inspect(&world.manager, name).unwrap();
        if report.state == state {
            return report;
        }
        assert!(Instant::now() < deadline, "{report:?}");
        thread::yield_now();
    }
}

fn alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn pid_of(world: &World, profile: &str) -> i32 {
    inspect::inspect(&world.manager, &name(profile)).unwrap().pid.unwrap_or(-1)
}

#[test]
fn a_registered_gateway_is_supervised_and_down_when_registration_returns() {
    let world = World::supervised(agent(&SLEEP, ""));
    let coder = world.profile("coder");
    let done = world.manager.register(&coder, false, &request(WaitFor::Up)).unwrap();
    assert_eq!(done.outcome, Registered::Down);
    assert_eq!(world.manager.list().unwrap(), std::slice::from_ref(&coder));
    assert!(world.manager.slot(&coder).supervised().unwrap());
    let report = inspect::inspect(&world.manager, &coder).unwrap();
    assert_eq!(
        (report.state, report.up, report.normallyup, report.pid),
        (ServiceState::Down, Some(false), Some(false), None)
    );
    assert_eq!(world.entries(), ["gateway-coder"]);
    assert!(!world.manager.home().profile_dir(&coder).join("gateway_state.json").exists());
}

#[test]
fn a_gateway_registered_with_start_is_up_and_its_desired_state_is_on_disk() {
    let world = World::supervised(agent(&SLEEP, ""));
    let coder = world.profile("coder");
    let done = world.manager.register(&coder, true, &request(WaitFor::Up)).unwrap();
    assert!(matches!(done.outcome, Registered::Up(Some(_))), "{done:?}");
    let state = world.state(&coder);
    assert_eq!(state["desired_state"], "running");
    assert_eq!(state["desired_by"]["command"], "test request");
    assert_eq!(state["desired_reason"], "a test");
    let report = inspect::inspect(&world.manager, &coder).unwrap();
    assert_eq!((report.state, report.wantedup), (ServiceState::Up, Some(true)));
    assert!(report.memory_bytes.is_some() && report.processes == Some(1), "{report:?}");
}

#[test]
fn of_twenty_registrations_at_once_one_wins_and_the_others_say_so() {
    let world = World::supervised(agent(&SLEEP, ""));
    let coder = world.profile("coder");
    let barrier = Barrier::new(20);
    let results: Vec<_> = thread::scope(|scope| {
        let register = || {
            barrier.wait();
            world.manager.register(&coder, false, &request(WaitFor::Up))
        };
        let all: Vec<_> = (0..20).map(|_| scope.spawn(register)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let won = results.iter().filter(|result| result.is_ok()).count();
    let refused = |r: &&Result<_, RegisterError>| matches!(r, Err(RegisterError::AlreadyRegistered { .. }));
    assert_eq!((won, results.iter().filter(refused).count()), (1, 19));
    assert_eq!(world.entries(), ["gateway-coder"]);
}

#[test]
fn an_http_gateway_is_ready_when_its_start_returns() {
    let world = World::supervised(http_agent());
    let (coder, (port, _held)) = (world.profile("coder"), free_port());
    let home = world.manager.home().profile_dir(&coder);
    std::fs::write(home.join(".env"), format!("PORT={port}\n")).unwrap();
    let done = world.manager.start(&coder, &request(WaitFor::Ready)).unwrap();
    assert!(matches!(done.outcome, StartOutcome::Ready(Some(_))), "{done:?}");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
    let before = pid_of(&world, "coder");
    let done = world.manager.restart(&coder, &request(WaitFor::Ready)).unwrap();
    assert!(matches!(done.outcome, RestartOutcome::Ready(Some(pid)) if pid.get() != before), "{done:?}");
    let report = inspect::inspect(&world.manager, &coder).unwrap();
    assert_eq!(report.state, ServiceState::Ready);
    assert_eq!(
        report.deaths()[0].meaning.as_deref(),
        Some("requested restart, started again without penalty")
    );
    assert_eq!(world.manager.stop(&coder, &request(WaitFor::Up)).unwrap().outcome, StopOutcome::Down);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let log = world.manager.home().root().join("logs/gateways/coder/current");
    // The logger is a process of its own.
    let deadline = Instant::now() + WAIT_LIMIT;
    while !std::fs::read_to_string(&log).unwrap_or_default().contains("leaving: SIGTERM") {
        assert!(Instant::now() < deadline, "its last line is not in the log");
        thread::yield_now();
    }
}

#[test]
fn start_and_stop_record_the_desired_state_and_wait_for_its_effect() {
    let world = World::supervised(agent(&SLEEP, ""));
    let coder = world.profile("coder");
    let slot = world.manager.slot(&coder);
    drop(world.manager.register(&coder, false, &request(WaitFor::Up)).unwrap());

    assert!(matches!(
        world.manager.start(&coder, &request(WaitFor::Up)).unwrap().outcome,
        StartOutcome::Up(Some(_))
    ));
    assert_eq!(slot.normally_up(), Some(true), "the down file must be gone");
    assert!(matches!(
        world.manager.start(&coder, &request(WaitFor::Up)).unwrap().outcome,
        StartOutcome::WasUp(Some(_))
    ));
    let pid = pid_of(&world, "coder");

    assert_eq!(world.manager.stop(&coder, &request(WaitFor::Up)).unwrap().outcome, StopOutcome::Down);
    assert!(!alive(pid));
    assert_eq!(slot.normally_up(), Some(false), "there must be a down file");
    assert_eq!(world.state(&coder)["desired_state"], "stopped");
    assert_eq!(world.manager.stop(&coder, &request(WaitFor::Up)).unwrap().outcome, StopOutcome::WasDown);
}

#[test]
fn a_gateway_without_a_slot_gets_one_when_it_is_started() {
    let world = World::supervised(agent(&SLEEP, ""));
    let coder = world.profile("coder");
    assert!(matches!(
        world.manager.start(&coder, &request(WaitFor::Up)).unwrap().outcome,
        StartOutcome::Up(Some(_))
    ));
    assert_eq!(world.entries(), ["gateway-coder"]);
    let error = world.manager.stop(&world.profile("other"), &request(WaitFor::Up)).unwrap_err();
    assert!(matches!(error, ControlError::NotRegistered { .. }), "{error}");
    assert!(!world.manager.home().profile_dir(&name("other")).join("gateway_state.json").exists());
}

#[test]
fn a_restart_has_another_process_and_one_of_a_down_gateway_says_that_it_was_down() {
    let world = World::supervised(agent(&SLEEP, ""));
    let coder = world.profile("coder");
    let done = world.manager.restart(&coder, &request(WaitFor::Up)).unwrap();
    assert!(matches!(done.outcome, RestartOutcome::WasDown(StartOutcome::Up(Some(_)))), "{done:?}");
    let before = pid_of(&world, "coder");
    let done = world.manager.restart(&coder, &request(WaitFor::Up)).unwrap();
    assert!(matches!(done.outcome, RestartOutcome::Up(Some(pid)) if pid.get() != before), "{done:?}");
    assert!(!alive(before));
    drop(world.manager.stop(&coder, &request(WaitFor::Up)).unwrap());
    let done = world.manager.restart(&coder, &request(WaitFor::Nothing)).unwrap();
    assert_eq!(done.outcome, RestartOutcome::WasDown(StartOutcome::Told));
    assert_eq!(world.manager.wait(&coder, WaitUntil::Up, Some(WAIT_LIMIT)).unwrap(), WaitOutcome::Reached);
}

#[test]
fn a_gateway_that_ignores_a_restart_is_killed() {
    let world = World::supervised(agent(&STUBBORN, ""));
    let coder = world.profile("coder");
    let mut request = request(WaitFor::Up);
    drop(world.manager.start(&coder, &request).unwrap());
    let before = pid_of(&world, "coder");
    request.timeout = None;
    let done = world.manager.restart(&coder, &request).unwrap();
    assert!(matches!(done.outcome, RestartOutcome::Up(Some(pid)) if pid.get() != before), "{done:?}");
    assert!(!alive(before));
}

#[test]
fn an_unregistered_gateway_is_gone_with_its_process_and_its_name_is_free_at_once() {
    let world = World::supervised(agent(&SLEEP, ""));
    let coder = world.profile("coder");
    for _ in 0..3 {
        drop(world.manager.register(&coder, true, &request(WaitFor::Up)).unwrap());
        let pid = pid_of(&world, "coder");
        assert_eq!(world.manager.unregister(&coder).unwrap().outcome, Unregistered::Gone);
        assert!(!alive(pid));
        assert!(world.entries().is_empty(), "{:?}", world.entries());
        assert!(world.manager.list().unwrap().is_empty());
    }
    assert_eq!(world.manager.unregister(&coder).unwrap().outcome, Unregistered::WasAbsent);
}

#[test]
fn a_gateway_that_ignores_its_end_is_killed_before_it_is_unregistered() {
    let world = World::supervised(agent(&STUBBORN, ""));
    let coder = world.profile("coder");
    drop(world.manager.register(&coder, true, &request(WaitFor::Up)).unwrap());
    let pid = pid_of(&world, "coder");
    assert_eq!(world.manager.unregister(&coder).unwrap().outcome, Unregistered::Gone);
    assert!(!alive(pid) && world.entries().is_empty());
}

#[test]
fn the_longest_name_works_everywhere() {
    let world = World::supervised(agent(&SLEEP, ""));
    let long = world.profile(&"x".repeat(243));
    drop(world.manager.register(&long, true, &request(WaitFor::Up)).unwrap());
    assert_eq!(world.manager.stop(&long, &request(WaitFor::Up)).unwrap().outcome, StopOutcome::Down);
    assert_eq!(world.manager.list().unwrap(), std::slice::from_ref(&long));
    assert_eq!(world.manager.unregister(&long).unwrap().outcome, Unregistered::Gone);
}

#[test]
fn without_a_supervisor_a_desired_state_is_recorded_and_a_registration_leaves_nothing() {
    let world = World::new(agent(&SLEEP, ""));
    let coder = world.profile("coder");
    let error = world.manager.register(&coder, true, &request(WaitFor::Up)).unwrap_err();
    assert!(matches!(error, RegisterError::NoSupervisor { .. }) && error.exit_code() == 102, "{error}");
    assert!(world.entries().is_empty());
    let error = world.manager.start(&coder, &request(WaitFor::Up)).unwrap_err();
    assert_eq!(error.exit_code(), 102);
    insta::assert_snapshot!(
        error.to_string().replace(&world.manager.scandir().display().to_string(), "SCANDIR"),
        @"no supervisor is running for `coder` (`SCANDIR`); the desired state, running, is recorded and takes effect at the next `gatevisor up`"
    );
    assert_eq!(world.state(&coder)["desired_state"], "running");
    assert_eq!(world.manager.stop(&coder, &request(WaitFor::Up)).unwrap_err().exit_code(), 102);
    assert_eq!(world.state(&coder)["desired_state"], "stopped");
    assert_eq!(world.manager.unregister(&coder).unwrap().outcome, Unregistered::WasAbsent);
}

#[test]
fn a_slot_that_nobody_supervises_is_simply_removed() {
    let mut world = World::supervised(agent(&SLEEP, ""));
    let coder = world.profile("coder");
    drop(world.manager.register(&coder, true, &request(WaitFor::Up)).unwrap());
    world.stop_supervisor();
    assert_eq!(world.entries(), ["gateway-coder"]);
    let report = inspect::inspect(&world.manager, &coder).unwrap();
    assert_eq!((report.state, report.up, report.pid), (ServiceState::NotSupervised, Some(false), None));
    assert_eq!(world.manager.unregister(&coder).unwrap().outcome, Unregistered::Gone);
    assert!(world.entries().is_empty());
}

#[test]
fn a_gateway_that_fails_for_good_says_why() {
    let world =
        World::supervised(agent(&["sh", "-c", "exit 78"], "ready = { http = \"http://127.0.0.1:1/\" }"));
    let coder = world.profile("coder");
    let error = world.manager.start(&coder, &request(WaitFor::Ready)).unwrap_err();
    insta::assert_snapshot!(error, @"the gateway of `coder` failed for good: exit 78: will not be retried; fix that, then start it again");
    assert_eq!(error.exit_code(), 1);
    let report = until_state(&world, &coder, ServiceState::Failed);
    assert_eq!(report.exitcode, Some(78));
    assert_eq!(report.reason.as_deref(), Some("exit 78: will not be retried"));
    // Our supervisor says that it failed; of s6 that cannot be known, so there the time is over.
    let waited = world.manager.wait(&coder, WaitUntil::Up, Some(Duration::ZERO)).unwrap();
    assert_ne!(waited, WaitOutcome::Reached);
}

#[test]
fn a_command_that_cannot_be_executed_is_named_with_its_stage() {
    let world =
        World::supervised(agent(&["/nonexistent/program"], "ready = { http = \"http://127.0.0.1:1/\" }"));
    let coder = world.profile("coder");
    let error = world.manager.start(&coder, &request(WaitFor::Ready)).unwrap_err();
    assert!(matches!(error, ControlError::FailedToStart { .. }), "{error}");
    insta::assert_snapshot!(error, @"the gateway of `coder` failed to start: executing: `/nonexistent/program`: No such file or directory; is the path right, and the interpreter in its first line there? (errno 2); it is tried again with growing pauses");
    until_state(&world, &coder, ServiceState::FailedToStart);
    assert_eq!(world.manager.stop(&coder, &request(WaitFor::Up)).unwrap().outcome, StopOutcome::Down);
}

#[test]
fn a_gateway_that_keeps_dying_is_down_for_certain_when_its_stop_returns() {
    let world = World::supervised(agent(&["false"], ""));
    let coder = world.profile("coder");
    drop(world.manager.start(&coder, &request(WaitFor::Up)).unwrap());
    assert_eq!(world.manager.stop(&coder, &request(WaitFor::Up)).unwrap().outcome, StopOutcome::Down);
    let report = inspect::inspect(&world.manager, &coder).unwrap();
    assert_eq!((report.state, report.wantedup, report.pid), (ServiceState::Down, Some(false), None));
}

#[test]
fn many_gateways_are_told_before_any_is_waited_for_and_a_failure_stops_no_other() {
    let world = World::supervised(agent(&SLEEP, ""));
    let names: Vec<_> = ["a", "b", "c"].map(|text| world.profile(text)).into();
    let with_missing = [names.clone(), vec![name("missing")]].concat();
    let started = world.manager.start_all(&with_missing, &request(WaitFor::Up));
    assert_eq!(started.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, true, false]);
    assert!(matches!(&started[3], Err(ControlError::NoProfile { .. })));
    let before: HashMap<_, _> = names.iter().map(|n| (n, pid_of(&world, n.as_str()))).collect();
    for (n, result) in names.iter().zip(world.manager.restart_all(&names, &request(WaitFor::Up))) {
        assert!(matches!(result.unwrap().outcome, RestartOutcome::Up(Some(pid)) if pid.get() != before[n]));
    }
    let stopped = world.manager.stop_all(&with_missing, &request(WaitFor::Up));
    assert_eq!(stopped.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, true, false]);
    assert!(stopped.into_iter().take(3).all(|result| result.unwrap().outcome == StopOutcome::Down));
    let survey = inspect::survey(&world.manager).unwrap();
    let names: Vec<_> = survey.iter().map(|report| (report.service.as_str(), report.state)).collect();
    let down = |name| (name, ServiceState::Down);
    assert_eq!(
        names,
        [
            ("gateway-default", ServiceState::NotSupervised),
            down("gateway-a"),
            down("gateway-b"),
            down("gateway-c")
        ]
    );
}

#[test]
fn a_planned_stop_is_announced_to_the_gateway_in_its_own_home() {
    let mut agent = trapping("cp marker.json seen.json");
    agent.gateway.planned_stop = Some(PlannedStop { file: "marker.json".to_owned(), ttl_s: 60 });
    let world = World::supervised(agent);
    let coder = world.profile("coder");
    world.start_and_receive(&coder);
    let pid = pid_of(&world, "coder");
    assert_eq!(world.manager.stop(&coder, &request(WaitFor::Up)).unwrap().outcome, StopOutcome::Down);
    let home = world.manager.home().profile_dir(&coder);
    let seen: serde_json::Value =
        serde_json::from_slice(&std::fs::read(home.join("seen.json")).unwrap()).unwrap();
    assert_eq!(seen["target_pid"], pid);
    assert_eq!(seen["stopper_pid"], std::process::id());
    assert!(seen["target_start_time"].is_u64() && seen["written_at"].is_string());
    assert!(!home.join("marker.json").exists(), "a marker that nobody took must not stay");
}

#[test]
fn a_desired_state_survives_a_gateway_that_puts_an_older_one_back_while_it_ends() {
    let world = World::supervised(trapping(r#"echo "{\"mark\":1}" >gateway_state.json"#));
    let coder = world.profile("coder");
    world.start_and_receive(&coder);
    assert_eq!(world.manager.stop(&coder, &request(WaitFor::Up)).unwrap().outcome, StopOutcome::Down);
    assert_eq!(world.state(&coder)["desired_state"], "stopped");
    assert_eq!(world.state(&coder)["mark"], 1, "the gateway must have overwritten it");
}

#[test]
fn a_stop_that_a_start_overtakes_says_so_at_once_and_names_who_started_it() {
    let mut agent = trapping("echo got >got; read x <go");
    agent.gateway.stop_timeout_ms = 600_000;
    let world = World::supervised(agent);
    let coder = world.profile("coder");
    let home = world.manager.home().profile_dir(&coder);
    for fifo in ["got", "go"] {
        mknodat(CWD, home.join(fifo), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }
    world.start_and_receive(&coder);
    let unlimited = || GatewayRequest { timeout: None, ..request(WaitFor::Up) };
    let stopped = thread::scope(|scope| {
        let stop = scope.spawn(|| world.manager.stop(&coder, &unlimited()));
        assert_eq!(std::fs::read_to_string(home.join("got")).unwrap(), "got\n");
        drop(world.manager.start(&coder, &request(WaitFor::Nothing)).unwrap());
        stop.join().unwrap()
    });
    let error = stopped.unwrap_err();
    assert!(matches!(error, ControlError::Started { .. }), "{error:?}");
    let expected = "the stop of `coder` was given up, because the gateway was started meanwhile: \
                    its desired state is now running, said by ";
    assert!(error.to_string().starts_with(expected), "{error}");
    // Nobody is there for the next process, so no FIFO may hold it up.
    for fifo in ["started", "got"] {
        std::fs::remove_file(home.join(fifo)).unwrap();
    }
    std::fs::write(home.join("go"), "\n").unwrap();
    std::fs::remove_file(home.join("go")).unwrap();
    std::fs::write(home.join("go"), "\n").unwrap();
}

#[test]
fn a_wait_ends_when_the_state_is_reached_or_the_time_is_over() {
    let world = World::supervised(agent(&SLEEP, ""));
    let coder = world.profile("coder");
    let error = world.manager.wait(&coder, WaitUntil::Up, None).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    drop(world.manager.register(&coder, false, &request(WaitFor::Up)).unwrap());
    let short = Some(Duration::from_millis(10));
    assert_eq!(world.manager.wait(&coder, WaitUntil::Up, short).unwrap(), WaitOutcome::TimedOut);
    assert_eq!(world.manager.wait(&coder, WaitUntil::Down, None).unwrap(), WaitOutcome::Reached);
    drop(world.manager.start(&coder, &request(WaitFor::Nothing)).unwrap());
    assert_eq!(world.manager.wait(&coder, WaitUntil::Up, Some(WAIT_LIMIT)).unwrap(), WaitOutcome::Reached);
}
