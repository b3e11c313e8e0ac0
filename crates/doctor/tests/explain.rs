//! Explanations by tables: a gateway that is well, one thing wrong with it, and the causes that are
//! named, first to last.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use gatevisor_client::status_view::StateName;
use gatevisor_slot::home_lock::Standing;
use gatevisor_wire::policy::{PublishedPolicy, RestartPhase};
use gatevisor_wire::tally::Death;
use gatevisor_wire::wait::WaitStatus;
use insta::assert_snapshot;

use common::{disk, moment, profile, service, well};
use gatevisor_doctor::explain::subject::{EndedByWatcher, Subject};
use gatevisor_doctor::explain::{CauseKind, Explanation, of};
use gatevisor_doctor::facts::{HeldLock, LockKind, LogDirectory, NamedProcess, PidFile, Presence};
use gatevisor_gateways::desired::{DesiredOrigin, Prior, Provenance, Recorded};
use gatevisor_gateways::live::{LiveReport, LiveState};
use gatevisor_gateways::manager::Observed;

fn desired(word: &str) -> Recorded {
    let by = Provenance {
        uid: 7,
        user: "ann".to_owned(),
        command: "gateway start".to_owned(),
        pid: 9,
        login_uid: None,
    };
    let at = "2026-11-18T11:00:00.000Z".to_owned();
    let origin = DesiredOrigin::said(by, Some("because".to_owned()), Some(at));
    Recorded {
        origin,
        desired_state: Some(word.to_owned()),
        prior: Prior::State(word.to_owned()),
        ..Recorded::default()
    }
}

fn subject() -> Subject {
    Subject {
        name: "coder".parse().unwrap(),
        facts: well(),
        recorded: Ok(desired("running")),
        process: Some('S'),
        orphans: Vec::new(),
        leftovers: Vec::new(),
        served_by: None,
        ended_by_watcher: None,
        incidents: Vec::new(),
        reconciled: None,
        printed: Vec::new(),
    }
}

fn explained(wrong: impl FnOnce(&mut Subject)) -> Explanation {
    let mut subject = subject();
    wrong(&mut subject);
    of(&subject)
}

#[test]
fn without_a_supervisor_the_remedy_is_to_start_one_unless_something_else_is_about_to_or_runs_the_gateway() {
    let remedies = |presence: Presence, unit: Option<&str>| {
        explained(|subject: &mut Subject| {
            subject.facts.supervision.presence = presence;
            subject.facts.services.clear();
            let found = NamedProcess {
                name: "python3".to_owned(),
                uid: Some(7),
                is_dated: true,
                is_the_same: true,
                session: Some(9),
                unit: unit.map(str::to_owned),
            };
            let profile = "coder".parse().unwrap();
            let file = PidFile { path: "/h/gateway.pid".into(), profile, pid: 9, found: Some(found) };
            subject.facts.pid_files = vec![file];
        })
    };
    let first = |explanation: Explanation| explanation.commands.first().cloned().unwrap_or_default();
    assert_eq!(first(remedies(Presence::Unsupervised, None)), "gatevisor up");
    assert_eq!(
        first(remedies(Presence::Unsupervised, Some("hermes-gateway-coder.service"))),
        "gatevisor install --take-over"
    );
    assert_eq!(first(remedies(Presence::Booting, None)), "");
}

/// Returns the words of the causes.
fn causes(wrong: impl FnOnce(&mut Subject)) -> String {
    let explanation = explained(wrong);
    explanation.causes.iter().map(|cause| cause.cause.word()).collect::<Vec<_>>().join(", ")
}

/// Puts the gateway into this state.
fn seen(subject: &mut Subject, state: StateName, change: impl FnOnce(&mut Observed)) {
    subject.facts.services = vec![service("gateway-coder", state, change)];
}

fn death(seconds_ago: i64, how: WaitStatus) -> Death {
    Death::new(moment(seconds_ago), how)
}

fn killed(signal: u8) -> WaitStatus {
    WaitStatus::killed(signal).unwrap()
}

/// A gateway that died like this and is started again later.
fn backing_off(how: WaitStatus, reason: Option<&str>) -> impl FnOnce(&mut Subject) {
    let reason = reason.map(str::to_owned);
    move |subject| {
        let policy = PublishedPolicy {
            phase: RestartPhase::Backoff,
            failures: 1,
            ran_ms: Some(5000),
            until: Some(moment(-10)),
            reason,
            ..PublishedPolicy::default()
        };
        seen(subject, StateName::BackingOff { until_unix_ms: Some(moment(-10).to_unix_ms()) }, |observed| {
            observed.policy = Some(policy);
            observed.deaths = vec![death(2, how)];
            if let Some(status) = &mut observed.status {
                status.want_up = true;
                status.last = how;
            }
        });
    }
}

#[test]
fn a_gateway_that_is_as_it_should_be_is_well() {
    let explanation = explained(|_| {});
    assert_eq!(causes(|_| {}), "well");
    assert_eq!((explanation.commands, explanation.findings), (Vec::new(), Vec::new()));
}

#[test]
fn causes_outside_of_a_gateway_come_before_what_it_did_itself() {
    assert_eq!(causes(|s| s.facts.supervision.elsewhere = true), "runs-elsewhere");
    let on_another_scandir = |s: &mut Subject| {
        s.facts.supervision.presence = Presence::Unsupervised;
        let lock = HeldLock { path: "/h/lock".into(), profile: None, kind: LockKind::Home, holder: None };
        s.facts.locks = vec![lock];
    };
    assert_eq!(causes(on_another_scandir), "runs-elsewhere");
    assert!(explained(on_another_scandir).commands.is_empty());
    let replaced = Standing::Replaced { file: "/h/.gatevisor.lock".into() };
    assert_eq!(causes(|s| s.facts.supervision.standing = replaced), "lock-lost");
    let never = Standing::NeverHeld { file: "/h/.gatevisor.lock".into() };
    assert_eq!(causes(|s| s.facts.supervision.standing = never), "runs-elsewhere");
    assert_eq!(causes(|s| s.facts.supervision.without_gateways = true), "no-gateways-here");
    let absent = |s: &mut Subject| {
        s.facts.supervision.presence = Presence::Unsupervised;
        seen(s, StateName::NotSupervised, |_| {});
    };
    assert_eq!(causes(absent), "no-supervisor");
    let orphan = |s: &mut Subject| {
        absent(s);
        s.orphans = vec![(70, "agent".to_owned())];
    };
    assert_eq!(causes(orphan), "orphan, no-supervisor");
    let served = |s: &mut Subject| {
        backing_off(WaitStatus::exited(78), None)(s);
        s.served_by = Some("default".parse().unwrap());
    };
    assert!(causes(served).starts_with("served-by-another, "), "{}", causes(served));
    let vanished = |s: &mut Subject| s.facts.profiles.clear();
    assert_eq!(causes(vanished), "profile-gone");
    let closed = |s: &mut Subject| s.facts.supervision.presence = Presence::Unknown("no".to_owned());
    assert!(causes(closed).starts_with("not-allowed-to-look"), "{}", causes(closed));
}

#[test]
fn an_earlier_run_is_said_to_have_left_processes_only_where_some_are_found() {
    let waiting = |leftovers: Vec<(i32, String)>| {
        move |s: &mut Subject| {
            let reason = Some("an earlier supervisor was killed: if it left".to_owned());
            seen(s, StateName::Waiting { reason }, |_| {});
            s.leftovers = leftovers;
        }
    };
    let first = |leftovers| explained(waiting(leftovers)).causes[0].clone();
    let (none, one) = (first(Vec::new()), first(vec![(70, "agent".to_owned())]));
    assert_eq!((none.cause.word(), one.cause.word()), ("ending-leftovers", "ending-leftovers"));
    assert_eq!(
        none.what,
        "it is looked for processes that an earlier run of it may have left, and none is known"
    );
    assert_eq!(one.what, "processes that an earlier run of it left are being ended first");
    assert_eq!(one.evidence, "process 70 (agent)");
}

#[test]
fn a_gateway_that_is_down_on_purpose_is_not_explained_by_its_last_death() {
    let down = |recorded: Recorded| {
        move |s: &mut Subject| {
            seen(s, StateName::Down, |observed| observed.deaths = vec![death(9, killed(15))]);
            s.recorded = Ok(recorded);
        }
    };
    assert_eq!(causes(down(desired("stopped"))), "stopped-on-purpose");
    let unsigned = |recorded: Recorded| Recorded {
        origin: DesiredOrigin { desired_by: None, ..recorded.origin.clone() },
        ..recorded
    };
    let of = |origin: DesiredOrigin| Recorded { origin, ..desired("stopped") };
    assert_eq!(causes(down(of(DesiredOrigin::another(None)))), "stopped-by-another-program");
    let untold = of(DesiredOrigin::unknown("its record is lost"));
    assert_eq!(causes(down(untold.clone())), "stopped-by-unknown");
    let page = explained(down(untold));
    assert_eq!(page.unknown[0], "who set its desired state: its record is lost");
    assert!(!format!("{page:?}").contains("another program"), "{page:?}");
    assert_eq!(causes(down(Recorded::default())), "never-asked-for");
    // What a gateway writes about itself is no desired state.
    let own = Recorded { desired_state: None, ..unsigned(desired("startup_failed")) };
    assert_eq!(causes(down(own)), "never-asked-for");
    assert_eq!(causes(|s| s.recorded = Ok(desired("stopped"))), "runs-though-stopped");
    assert_eq!(causes(|s| s.recorded = Err("state.json is not JSON".to_owned())), "desired-state-unreadable");
}

#[test]
fn of_a_copied_profile_the_evidence_is_that_it_was_copied() {
    let explanation = explained(|s| {
        seen(s, StateName::Down, |_| {});
        let origin = DesiredOrigin::unknown("its state file is a copy of that of the profile writer");
        s.recorded = Ok(Recorded { origin, ..desired("stopped") });
    });
    let (first, unknown) = (&explanation.causes[0], &explanation.unknown);
    assert_eq!(first.cause.word(), "stopped-by-unknown");
    assert!(
        first.evidence.ends_with("says stopped, and its state file is a copy of that of the profile writer"),
        "{first:?}"
    );
    let said = "who set its desired state: its state file is a copy of that of the profile writer";
    assert_eq!(*unknown, [said]);
}

#[test]
fn a_full_disk_comes_before_what_rests_on_a_record_that_is_missing() {
    let full = |s: &mut Subject| s.facts.disks = vec![disk(1000, 0)];
    let down = |s: &mut Subject| seen(s, StateName::Down, |_| {});
    let behind = |s: &mut Subject| s.recorded = Ok(desired("stopped"));
    let never = |s: &mut Subject| {
        down(s);
        s.recorded = Ok(Recorded::default());
    };
    let stopped = |s: &mut Subject| {
        down(s);
        s.recorded = Ok(desired("stopped"));
    };
    let both = |wrong: &dyn Fn(&mut Subject)| {
        let with = causes(|s| {
            wrong(s);
            full(s);
        });
        (causes(wrong), with)
    };
    let said = |without: &str, with: &str| (without.to_owned(), with.to_owned());
    assert_eq!(both(&down), said("told-down", "disk-full, told-down"));
    assert_eq!(both(&behind), said("runs-though-stopped", "disk-full, runs-though-stopped"));
    assert_eq!(both(&never), said("never-asked-for", "disk-full, never-asked-for"));
    assert_eq!(both(&stopped), said("stopped-on-purpose", "stopped-on-purpose, disk-full"));
    let first = explained(|s| {
        down(s);
        full(s);
    });
    assert!(first.causes[0].what.ends_with("is full, so no desired state can be recorded"), "{first:?}");
}

#[test]
fn what_the_last_looks_missed_is_told_beside_any_cause() {
    let missed = |s: &mut Subject| {
        s.facts.services[0].report.live = Some(LiveReport {
            state: LiveState::all().find(|state| state.word() == "live").unwrap(),
            since: None,
            evidence: None,
            misses: 2,
            reason: Some("no answer".to_owned()),
            policy: "restart",
            status: None,
            start_deadline_ms: 120_000,
        });
    };
    let words = "2 looks in a row found nothing that shows that it works: no answer";
    let well = explained(missed);
    assert!(well.causes[0].evidence.ends_with(words) && well.unknown.is_empty(), "{well:?}");
    let older = explained(|s| {
        missed(s);
        s.facts.services[0].report.older_than_definition = Some(true);
    });
    assert_eq!(older.causes[0].cause.word(), "older-than-definition");
    assert_eq!(older.unknown, [format!("whether it works: {words}")]);
}

#[test]
fn that_nobody_watches_a_gateway_is_told_in_every_state_in_which_it_is_up() {
    for (state, expected) in [
        (StateName::Ready, "not-watched"),
        (StateName::Up, "not-watched"),
        (StateName::Starting, "not-ready-yet, not-watched"),
        (StateName::Stopping, "stopping, not-watched"),
        (StateName::Paused, "paused, not-watched"),
    ] {
        let unwatched = |s: &mut Subject| {
            seen(s, state.clone(), |_| {});
            s.facts.services[0].report.live = Some(LiveReport {
                state: LiveState::Unknown,
                since: None,
                evidence: None,
                misses: 0,
                reason: Some("no watcher of gateways runs".to_owned()),
                policy: "restart",
                status: None,
                start_deadline_ms: 120_000,
            });
        };
        assert_eq!(causes(unwatched), expected, "{state:?}");
    }
}

#[test]
fn what_a_gateway_says_of_itself_is_the_cause_although_it_works_also_before_it_is_ready() {
    let degraded = |state: StateName| {
        explained(move |s| {
            seen(s, state.clone(), |_| {});
            s.facts.services[0].report.live = Some(LiveReport {
                state: LiveState::all().find(|state| state.word() == "degraded").unwrap(),
                since: Some("2026-11-29T12:00:00Z".to_owned()),
                evidence: Some("http".to_owned()),
                misses: 0,
                reason: Some("failing: telegram".to_owned()),
                policy: "restart",
                status: None,
                start_deadline_ms: 120_000,
            });
        })
    };
    for state in [StateName::Up, StateName::Ready, StateName::Starting] {
        let found = degraded(state.clone());
        let first = &found.causes[0];
        let said = (first.cause.word(), first.evidence.as_str());
        assert_eq!(said, ("degraded", "failing: telegram; since 2026-11-29T12:00:00Z"), "{state:?}");
    }
}

#[test]
fn only_what_is_a_gateways_own_keeps_it_from_being_explained() {
    let unseen = |name: &str, path: &str| {
        let (name, path) = (name.parse().unwrap(), path.into());
        let explanation = explained(|s| {
            s.name = name;
            s.facts.services.push(service("gateway-default", StateName::Ready, |_| {}));
            let mut writer = profile("writer");
            let log = "/h/logs/gateways/writer".into();
            writer.log = Some(LogDirectory { path: log, is_open: Some(true), is_directory: true });
            s.facts.profiles.push(writer);
            s.facts.unread = vec![("/elsewhere".into(), "no".to_owned()); 20];
            s.facts.unread.push((path, "no".to_owned()));
        });
        explanation.causes[0].cause == CauseKind::NotAllowedToLook
    };
    assert!(unseen("default", "/h/state.json") && unseen("default", "/h") && unseen("default", "/"));
    assert!(unseen("default", "/s/gateway-default/data") && unseen("default", "/h/logs"));
    assert!(!unseen("default", "/h/profiles/writer/.env") && !unseen("default", "/h/profiles"));
    assert!(!unseen("default", "/h/logs/gateways/writer") && !unseen("default", "/s/gateway-writer"));
    assert!(unseen("coder", "/h/profiles/coder/.env") && unseen("coder", "/h/profiles"));
    assert!(!unseen("coder", "/h/profiles/writer/.env") && !unseen("coder", "/h/state.json"));
    // What is elsewhere hides no profile.
    let gone = |s: &mut Subject| {
        s.facts.profiles.clear();
        s.facts.unread = vec![("/elsewhere".into(), "no".to_owned())];
    };
    assert_eq!(causes(gone), "profile-gone");
}

#[test]
fn a_kill_by_the_kernel_for_memory_is_told_from_any_other_kill() {
    let memory = "out of memory: the kernel killed it";
    assert_eq!(causes(backing_off(killed(9), Some(memory))), "out-of-memory, back-off");
    assert_eq!(causes(backing_off(killed(9), None)), "killed, back-off");
    assert_eq!(causes(backing_off(killed(11), None)), "crashed, back-off");
    // The reason of another death explains no signal.
    assert_eq!(causes(backing_off(killed(15), Some(memory))), "killed, back-off");
}

#[test]
fn whether_a_kill_was_asked_for_is_said_only_where_it_is_known() {
    let up = |restarts, commanded| {
        move |s: &mut Subject| {
            let policy = PublishedPolicy { restarts, commanded, ..PublishedPolicy::default() };
            seen(s, StateName::Up, |observed| {
                observed.policy = Some(policy);
                observed.deaths = vec![death(200, killed(9))];
            });
        }
    };
    let first = |restarts, commanded| explained(up(restarts, commanded)).causes[0].clone();
    assert!(first(1, 0).what.contains("its supervisor did not send it"), "{:?}", first(1, 0));
    assert_eq!(first(0, 1).cause.word(), "commanded");
    assert!(first(1, 1).what.contains("it is not recorded whether"), "{:?}", first(1, 1));
    let mut both = PublishedPolicy { restarts: 1, commanded: 1, ..PublishedPolicy::default() };
    for (is_asked_for, word) in [(true, "commanded"), (false, "killed")] {
        both.asked.push(is_asked_for);
        let (both, is_first) = (both.clone(), is_asked_for);
        let explanation = explained(|s| {
            seen(s, StateName::Up, |observed| {
                observed.policy = Some(both);
                observed.deaths = vec![death(200, killed(9)), death(100, killed(9))];
                observed.deaths.drain(..usize::from(is_first));
            });
        });
        assert_eq!(explanation.causes[0].cause.word(), word, "{explanation:?}");
        let told =
            explanation.events.iter().filter(|event| event.what.contains("its supervisor had been told"));
        assert_eq!(told.count(), 1, "{explanation:?}");
    }
    // A death of long ago explains nothing about a gateway that works.
    let long_ago = |s: &mut Subject| {
        up(1, 0)(s);
        s.facts.services[0].observed.deaths = vec![death(7200, killed(9))];
    };
    assert_eq!(causes(long_ago), "well");
}

#[test]
fn the_last_printed_line_comes_before_the_exit_code() {
    let printed = |line: &str| {
        let line = line.to_owned();
        move |s: &mut Subject| {
            backing_off(WaitStatus::exited(1), None)(s);
            s.printed = vec!["starting".to_owned(), line, "Traceback".to_owned()];
        }
    };
    for (line, expected) in [
        ("OSError: [Errno 98] Address already in use", "port-taken, died, back-off"),
        ("Error: listen EADDRINUSE: address already in use :::8642", "port-taken, died, back-off"),
        ("telegram.error.InvalidToken: 401 Unauthorized", "key-refused, died, back-off"),
        ("write: No space left on device", "disk-full, died, back-off"),
        ("profile coder does not get a gateway of its own", "served-by-another, died, back-off"),
        ("all is fine", "died, back-off"),
    ] {
        assert_eq!(causes(printed(line)), expected, "{line}");
    }
    let held = explained(|s| {
        printed("Address already in use")(s);
        s.facts.services[0].report.port_held = Some("port 8642 is held by process 9 (nginx)".to_owned());
    });
    assert_eq!(held.causes[0].what, "port 8642 is held by process 9 (nginx)");
}

#[test]
fn a_gateway_that_is_up_for_another_attempt_is_explained_by_the_one_that_failed() {
    let tried = |ran_ms: u64, up_s: i64, how: WaitStatus| {
        move |s: &mut Subject| {
            let policy = PublishedPolicy {
                failures: 1,
                restarts: 1,
                ran_ms: Some(ran_ms),
                ..PublishedPolicy::default()
            };
            seen(s, StateName::Up, |observed| {
                observed.policy = Some(policy);
                observed.deaths = vec![death(1, how)];
                observed.status.as_mut().unwrap().changed = moment(up_s);
            });
        }
    };
    let exit = WaitStatus::exited(1);
    assert_eq!(causes(tried(500, 0, exit)), "ended-at-once");
    for (ran_ms, up_s, how, expected) in
        [(5000, 0, exit, "died"), (500, 1, exit, "died"), (500, 0, killed(9), "killed")]
    {
        assert_eq!(causes(tried(ran_ms, up_s, how)), expected, "{ran_ms} {up_s}");
    }
    let found = explained(tried(500, 0, exit)).findings;
    assert_eq!(found, [], "the cause says it");
}

#[test]
fn a_process_that_exists_and_does_not_run_is_frozen() {
    assert_eq!(causes(|s| s.process = Some('T')), "frozen");
    assert_eq!(causes(|s| s.process = Some('t')), "traced");
    // If its supervisor has paused it, that is the cause.
    let paused = |s: &mut Subject| {
        seen(s, StateName::Paused, |_| {});
        s.process = Some('T');
    };
    assert!(causes(paused).starts_with("paused"), "{}", causes(paused));
}

#[test]
fn what_the_watcher_of_gateways_ended_is_told_from_other_kills_by_when_it_said_so() {
    let ended = |seconds_ago: i64| {
        move |s: &mut Subject| {
            backing_off(killed(9), None)(s);
            let at = jiff::Timestamp::from_millisecond(moment(seconds_ago).to_unix_ms()).unwrap();
            s.ended_by_watcher = Some(EndedByWatcher {
                at: at.to_string(),
                reason: "heartbeat 93 s old (3 misses)".to_owned(),
                incident: Some("/h/logs/incidents/1".to_owned()),
            });
        }
    };
    // It died two seconds ago.
    assert_eq!(causes(ended(12)), "ended-as-unresponsive, back-off");
    assert_eq!(causes(ended(1000)), "killed, back-off");
    assert_eq!(causes(ended(1)), "killed, back-off");
    let events = explained(ended(12)).events;
    assert!(events.iter().any(|event| event.what.contains("heartbeat 93 s old")), "{events:?}");
}

#[test]
fn a_full_disk_comes_before_a_death_and_after_the_desired_state() {
    let full = |s: &mut Subject| s.facts.disks = vec![disk(1000, 0)];
    assert_eq!(causes(full), "disk-full");
    let dying = |s: &mut Subject| {
        backing_off(WaitStatus::exited(1), None)(s);
        full(s);
    };
    assert_eq!(causes(dying), "disk-full, died, back-off");
    let stopped = |s: &mut Subject| {
        seen(s, StateName::Down, |_| {});
        s.recorded = Ok(desired("stopped"));
        full(s);
    };
    assert_eq!(causes(stopped), "stopped-on-purpose, disk-full");
}

#[test]
fn the_page_of_a_gateway_that_failed_for_good_says_why_since_when_and_what_to_do() {
    let explanation = explained(|s| {
        seen(s, StateName::Failed { reason: None }, |observed| {
            observed.deaths = vec![death(60, WaitStatus::exited(1)), death(50, WaitStatus::exited(78))];
            if let Some(status) = &mut observed.status {
                status.last = WaitStatus::exited(78);
            }
        });
        s.reconciled = Some(("2026-11-18T10:00:00Z".to_owned(), "profile=coder action=started".to_owned()));
    });
    let causes = explanation
        .causes
        .iter()
        .map(|cause| format!("{}: {} | {}", cause.cause.word(), cause.what, cause.evidence));
    let events = explanation.events.iter().map(|event| format!("{} {}", event.at, event.what));
    let lines: Vec<String> = causes.chain(events).chain(explanation.commands.clone()).collect();
    assert_snapshot!(lines.join("\n"), @"
    failed-for-good: it failed for good, and is not started again | exit 78: will not be retried
    2026-11-18T11:05:50.000Z it ended with exit 78: will not be retried
    2026-11-18T11:05:40.000Z it ended with exit 1
    2026-11-18T11:00:00.000Z running was desired, said by ann (uid 7) with `gateway start`: because
    2026-11-18T10:00:00.000Z `up` or a boot found it and did this: profile=coder action=started
    gatevisor logs -n 50 coder
    gatevisor gateway start coder
    ");
}

#[test]
fn no_text_of_an_explanation_commands_a_terminal() {
    let explanation = explained(|s| {
        backing_off(WaitStatus::exited(127), None)(s);
        s.facts.services[0].observed.start_error = Some("executing: `\u{1b}[31m`".to_owned());
    });
    let texts = explanation.causes.iter().flat_map(|cause| [&cause.what, &cause.evidence]);
    assert!(texts.into_iter().all(|text| !text.contains('\u{1b}')), "{:?}", explanation.causes);
}
