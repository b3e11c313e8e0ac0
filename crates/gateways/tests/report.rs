//! Reports, from facts alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::name;
use gatevisor_client::status_view::StateName;
use gatevisor_gateways::AgentDefinition;
use gatevisor_gateways::desired::{DesiredOrigin, Prior, Provenance, Recorded};
use gatevisor_gateways::inspect::{ServiceReport, ServiceState};
use gatevisor_gateways::live::{LiveReport, LiveState};
use gatevisor_gateways::manager::Observed;
use gatevisor_gateways::tree::Usage;
use gatevisor_liveness::Liveness;
use gatevisor_wire::Pid;
use gatevisor_wire::fail_code::FailCode;
use gatevisor_wire::policy::{ENDING_SURVIVORS, PublishedPolicy, RestartPhase};
use gatevisor_wire::status::Status;
use gatevisor_wire::tai::Tai64n;
use gatevisor_wire::tally::Death;
use gatevisor_wire::wait::WaitStatus;
use insta::assert_snapshot;

const NOW: i64 = 1_780_000_000;

fn at(before_s: i64) -> Tai64n {
    Tai64n::from_unix(NOW - before_s, 0)
}

fn status(pid: i32, want_up: bool, last: WaitStatus) -> Status {
    Status {
        changed: at(90),
        ready_at: at(89),
        pid: Pid::new(pid),
        last,
        paused: false,
        finishing: false,
        want_up,
        ready: pid > 0,
    }
}

fn observed(state: StateName, status: Option<Status>) -> Observed {
    Observed {
        service: "gateway-coder".to_owned(),
        profile: Some(name("coder")),
        state,
        executed: status.is_some_and(|status| status.is_up()),
        status,
        policy: None,
        normally_up: Some(true),
        deaths: Vec::new(),
        start_error: None,
        not_ready: None,
        delay: None,
        problem: None,
        fail_codes: vec![FailCode::at_once(78)],
        restart_codes: vec![75],
    }
}

fn desired_state(word: &str) -> Recorded {
    Recorded {
        desired_state: Some(word.to_owned()),
        origin: DesiredOrigin::said(
            Provenance { uid: 7, user: "u".to_owned(), command: "c".to_owned(), pid: 9, login_uid: None },
            Some("why".to_owned()),
            Some("2026-05-28T20:00:00.000Z".to_owned()),
        ),
        prior: Prior::State(word.to_owned()),
        ..Recorded::default()
    }
}

fn report(observed: &Observed, word: &str) -> ServiceReport {
    ServiceReport::new(
        &AgentDefinition::built_in().unwrap(),
        observed,
        Some(Ok(Some(desired_state(word)))),
        None,
        at(0),
    )
}

#[test]
fn a_ready_gateway_is_reported_with_all_its_fields() {
    let mut observed = observed(StateName::Ready, Some(status(4711, true, WaitStatus::exited(75))));
    observed.policy = Some(PublishedPolicy { restarts: 3, commanded: 2, ..PublishedPolicy::default() });
    observed.deaths = vec![
        Death { at: at(5000), exit_code: 137, signal: 9 },
        Death { at: at(100), exit_code: 78, signal: 0 },
        Death { at: at(91), exit_code: 75, signal: 0 },
    ];
    let memory = Some(Usage { memory_bytes: 52_428_800, cpu_ms: 1500, processes: 2, is_stopped: false });
    let agent = AgentDefinition::built_in().unwrap();
    let report =
        ServiceReport::new(&agent, &observed, Some(Ok(Some(desired_state("running")))), memory, at(0));
    assert_snapshot!(serde_json::to_string_pretty(&report).unwrap(), @r#"
        {
          "profile": "coder",
          "service": "gateway-coder",
          "up": true,
          "ready": true,
          "pid": 4711,
          "orphan_pid": null,
          "wantedup": true,
          "normallyup": true,
          "updownfor": 90,
          "exitcode": null,
          "signal": null,
          "state": "ready",
          "reason": null,
          "supervisor": null,
          "restarts": 3,
          "commanded_restarts": 2,
          "last_run_ms": null,
          "next_start_in_ms": null,
          "memory_bytes": 52428800,
          "processes": 2,
          "cpu_ms": 1500,
          "deaths": [
            {
              "at": "2026-05-28T20:25:09.000Z",
              "exitcode": 75,
              "signal": null,
              "meaning": "requested restart, started again without penalty"
            },
            {
              "at": "2026-05-28T20:25:00.000Z",
              "exitcode": 78,
              "signal": null,
              "meaning": "configuration error, will not be retried"
            },
            {
              "at": "2026-05-28T19:03:20.000Z",
              "exitcode": null,
              "signal": "SIGKILL",
              "meaning": null
            }
          ],
          "desired_state": "running",
          "desired_problem": null,
          "desired_by": {
            "uid": 7,
            "user": "u",
            "command": "c",
            "pid": 9
          },
          "desired_reason": "why",
          "desired_at": "2026-05-28T20:00:00.000Z",
          "desired_by_another": false,
          "desired_as": null,
          "desired_unknown": null,
          "declared": null,
          "queued": null,
          "starts_after": null,
          "problem": null,
          "log_problem": null,
          "log_problem_since": null,
          "port_held": null,
          "port_holder": null,
          "live": null,
          "drain": null,
          "asked_restart": null,
          "live_restart": null,
          "served": null,
          "served_from": "own",
          "topology_problem": null,
          "older_than_definition": false
        }
        "#);
}

#[test]
fn a_gateway_that_is_backing_off_says_for_how_long_and_why() {
    let until_unix_ms = Some(NOW * 1000 + 1500);
    let mut observed =
        observed(StateName::BackingOff { until_unix_ms }, Some(status(0, true, WaitStatus::exited(1))));
    observed.policy = Some(PublishedPolicy {
        phase: RestartPhase::Backoff,
        restarts: 9,
        failures: 4,
        ..PublishedPolicy::default()
    });
    let report = report(&observed, "running");
    assert_eq!(
        (report.state, report.next_start_in_ms, report.exitcode),
        (ServiceState::BackingOff, Some(1500), Some(1))
    );
    assert_snapshot!(report.reason.unwrap(), @"exit 1: failed start, or stopped by a signal that nobody announced");
    let killed = Observed { status: Some(status(0, true, WaitStatus::killed(9).unwrap())), ..observed };
    let report = self::report(&killed, "running");
    assert_eq!((report.exitcode, report.signal.as_deref()), (None, Some("SIGKILL")));
    assert_eq!(report.reason.as_deref(), Some("signal SIGKILL"));
}

/// Returns a gateway whose process has ended after so many milliseconds, and whose leftovers are
/// being ended.
fn ending_survivors(want_up: bool, last: WaitStatus, ran_ms: u64, is_asked_for: bool) -> Observed {
    let state = StateName::Waiting { reason: Some(ENDING_SURVIVORS.to_owned()) };
    let mut observed = observed(state, Some(Status { finishing: true, ..status(70, want_up, last) }));
    let mut policy = PublishedPolicy {
        phase: RestartPhase::Clearing,
        failures: 1,
        ran_ms: Some(ran_ms),
        ..PublishedPolicy::default()
    };
    policy.asked.push(is_asked_for);
    observed.policy = Some(policy);
    observed
}

#[test]
fn how_a_process_ended_is_told_while_what_its_process_left_is_being_ended() {
    let of = |observed: &Observed| {
        let report = report(observed, "running");
        (report.state, report.reason.unwrap_or_default())
    };
    let (state, reason) = of(&ending_survivors(true, WaitStatus::exited(3), 120, false));
    assert_eq!(state, ServiceState::Waiting);
    assert_snapshot!(reason, @"what its last process may have left behind is being ended first; it ended 0.1 s after its start: exit 3");
    let (_, reason) = of(&ending_survivors(false, WaitStatus::exited(78), 5000, false));
    assert_snapshot!(reason, @"what its last process may have left behind is being ended first; it ended 5.0 s after its start: exit 78: configuration error, will not be retried");
    // An end that somebody asked for is not told as a failure.
    let (_, reason) = of(&ending_survivors(true, WaitStatus::exited(3), 120, true));
    assert_eq!(reason, ENDING_SURVIVORS);
    let mut missing = ending_survivors(true, WaitStatus::exited(127), 3, false);
    missing.start_error = Some("executing: `/nonexistent`".to_owned());
    let (_, reason) = of(&missing);
    assert!(reason.ends_with("it ended 0.0 s after its start: executing: `/nonexistent`"), "{reason}");
}

#[test]
fn a_gateway_whose_start_failed_is_starting_and_not_up_until_the_window_is_over_again() {
    let since =
        |ms: u64| Tai64n::from_unix(NOW - 9, 0).checked_add(Duration::from_millis(9000 - ms)).unwrap();
    let again = |up_ms: u64, ran_ms: u64, failures: u32, signal: u8| {
        let up = Status { changed: since(up_ms), ready: false, ..status(70, true, WaitStatus::exited(3)) };
        let mut observed = observed(StateName::Up, Some(up));
        observed.policy =
            Some(PublishedPolicy { failures, ran_ms: Some(ran_ms), ..PublishedPolicy::default() });
        observed.deaths = vec![Death { at: since(up_ms + 9), exit_code: 3, signal }];
        report(&observed, "running")
    };
    let report = again(400, 800, 2, 0);
    assert_eq!((report.state, report.is_healthy()), (ServiceState::Starting, Some(false)));
    assert_snapshot!(report.reason.unwrap(), @"ended 0.8 s after its start: exit 3; it is tried again");
    // Its window is over, or the one before was; nothing failed; somebody killed it.
    for report in
        [again(1400, 800, 2, 0), again(400, 1800, 2, 0), again(400, 800, 0, 0), again(400, 800, 2, 9)]
    {
        assert_eq!((report.state, report.is_healthy()), (ServiceState::Up, Some(true)));
    }
}

#[test]
fn a_death_because_memory_ran_out_is_told_from_any_other_kill() {
    let killed = Death { at: Tai64n::from_unix(NOW - 9, 0), exit_code: 0, signal: 9 };
    let ended = Death { at: Tai64n::from_unix(NOW - 9, 0), exit_code: 0, signal: 15 };
    let cause = "out of memory: killed";
    let policy = |phase, reason: Option<&str>| {
        Some(PublishedPolicy { phase, reason: reason.map(str::to_owned), ..PublishedPolicy::default() })
    };
    for (deaths, policy, meaning) in [
        (vec![killed, killed], policy(RestartPhase::Running, Some(cause)), Some(cause)),
        (vec![killed], policy(RestartPhase::Backoff, Some(cause)), Some(cause)),
        (vec![killed], policy(RestartPhase::Running, None), None),
        (vec![killed], None, None),
        // What is not about a death, and what is about an earlier one.
        (vec![killed], policy(RestartPhase::FailedToStart, Some("no ./run")), None),
        (vec![ended], policy(RestartPhase::Running, Some(cause)), None),
    ] {
        let mut observed = observed(StateName::Down, Some(status(0, true, WaitStatus::killed(9).unwrap())));
        (observed.deaths, observed.policy) = (deaths, policy);
        let report = report(&observed, "running");
        assert_eq!(report.deaths()[0].meaning.as_deref(), meaning, "{observed:?}");
        assert!(report.deaths().iter().skip(1).all(|death| death.meaning.is_none()));
    }
    let state = StateName::BackingOff { until_unix_ms: None };
    let mut observed = observed(state, Some(status(0, true, WaitStatus::killed(9).unwrap())));
    (observed.deaths, observed.policy) = (vec![killed], policy(RestartPhase::Backoff, Some(cause)));
    assert_eq!(report(&observed, "running").reason.as_deref(), Some(cause));
}

#[test]
fn a_permanent_failure_is_told_by_the_supervisor_or_by_the_exit_code() {
    let failed = StateName::Failed { reason: Some("exit code 78".to_owned()) };
    let ours = report(&observed(failed, Some(status(0, false, WaitStatus::exited(78)))), "running");
    let s6 = report(&observed(StateName::Down, Some(status(0, false, WaitStatus::exited(78)))), "running");
    for report in [ours, s6] {
        assert_eq!(report.state, ServiceState::Failed);
        assert_eq!(report.reason.as_deref(), Some("exit 78: configuration error, will not be retried"));
    }
    let stopped =
        report(&observed(StateName::Down, Some(status(0, false, WaitStatus::exited(78)))), "stopped");
    assert_eq!((stopped.state, stopped.reason), (ServiceState::Down, None));
    let given_up = StateName::Failed { reason: Some("5 failures in a row".to_owned()) };
    let report = report(&observed(given_up, Some(status(0, false, WaitStatus::exited(1)))), "running");
    assert_eq!(report.reason.as_deref(), Some("5 failures in a row"));
}

#[test]
fn the_last_status_of_a_supervisor_that_is_gone_is_not_reported_as_the_present_one() {
    let report = report(
        &observed(StateName::NotSupervised, Some(status(4711, true, WaitStatus::exited(0)))),
        "running",
    );
    assert_eq!(
        (report.up, report.pid, report.wantedup, report.updownfor),
        (Some(false), None, Some(false), Some(0))
    );
    assert_eq!(report.desired_state.as_deref(), Some("running"));
}

#[test]
fn a_broken_state_file_is_a_problem_and_not_a_desired_state() {
    let agent = AgentDefinition::built_in().unwrap();
    let observed = observed(StateName::Down, None);
    let report = ServiceReport::new(&agent, &observed, Some(Err("it is a list".to_owned())), None, at(0));
    assert_eq!((&report.desired_state, report.problem.as_deref()), (&None, Some("it is a list")));
    assert_eq!(report.desired_problem.as_deref(), Some("it is a list"));
    assert_eq!(report.origin.desired_unknown.as_deref(), Some("it is a list"));
}

#[test]
fn a_value_that_nobody_may_look_at_is_null_and_neither_false_nor_0() {
    let mut observed = observed(StateName::Unknown, None);
    observed.normally_up = None;
    let report = serde_json::to_value(report(&observed, "running")).unwrap();
    for field in ["up", "ready", "wantedup", "normallyup", "updownfor", "deaths", "pid", "restarts"] {
        assert_eq!(report[field], serde_json::Value::Null, "{field}");
    }
}

#[test]
fn a_gateway_that_was_never_started_has_no_age_and_no_exit_code() {
    let never = Status { paused: true, ..status(0, false, WaitStatus::default()) };
    let report = report(&observed(StateName::Down, Some(never)), "stopped");
    assert_eq!((report.updownfor, report.exitcode, &report.signal), (Some(0), None, &None));
}

#[test]
fn a_gateway_whose_process_is_seen_to_do_nothing_is_not_live_whatever_its_watcher_said_last() {
    let up = observed(StateName::Up, Some(status(41, true, WaitStatus::exited(0))));
    let mut report = report(&up, "running");
    assert_eq!(report.is_live(), None, "nobody looks");
    let live = |state| LiveReport {
        state: LiveState::Said(state),
        since: None,
        evidence: None,
        misses: 0,
        reason: None,
        policy: "warn",
        status: None,
        start_deadline_ms: 1,
    };
    for (said, expected) in [
        (Liveness::Starting, None),
        (Liveness::Live, Some(true)),
        (Liveness::Draining, Some(true)),
        (Liveness::Unresponsive, Some(false)),
    ] {
        report.live = Some(live(said));
        assert_eq!(report.is_live(), expected, "{said:?}");
    }
    report.live = Some(live(Liveness::Live));
    report.state = ServiceState::Unresponsive;
    assert_eq!(report.is_live(), Some(false));
}

#[test]
fn every_state_is_said_in_the_same_words_to_people_and_programs() {
    let all = [
        StateName::Up,
        StateName::Ready,
        StateName::Starting,
        StateName::BackingOff { until_unix_ms: None },
        StateName::Stopping,
        StateName::Finishing,
        StateName::Down,
        StateName::Failed { reason: None },
        StateName::FailedToStart { reason: None, until_unix_ms: None },
        StateName::NotSupervised,
        StateName::Paused,
        StateName::Waiting { reason: None },
        StateName::Asking { reason: None, until_unix_ms: None },
    ];
    for name in all {
        let state = ServiceState::from(&name);
        assert_eq!(state.words(), name.word());
        assert_eq!(serde_json::to_value(state).unwrap(), name.word().replace(' ', "-"));
    }
}
