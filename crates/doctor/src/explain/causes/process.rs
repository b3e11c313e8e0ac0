//! *Lives here:* causes in the present process, and in the waits of its supervisor.
//!
//! *Does not live here:* how earlier processes ended (`ends`).

use gatevisor_client::status_view::StateName;
use gatevisor_wire::policy::{ASKS_TOO_OFTEN, RestartPhase};

use crate::explain::cause::Cause;
use crate::explain::kind::CauseKind;
use crate::explain::subject::Subject;
use crate::problem::{self, ServiceProblem};
use gatevisor_gateways::inspect::{self, ServiceReport, ServiceState};
use gatevisor_gateways::live::{LiveReport, LiveState};
use gatevisor_sys::proc;

/// The kernel's letters for a process that was stopped by a signal, and by a debugger.
///
/// **Source:** proc(5), `/proc/pid/stat`, field 3.
const STOPPED: char = 'T';
const TRACED: char = 't';

pub(super) fn of(subject: &Subject) -> Vec<Cause> {
    let Some(report) = subject.report() else { return Vec::new() };
    if let Some(cause) = ended_unseen(subject, report) {
        return vec![cause];
    }
    let cause = match subject.state() {
        Some(StateName::Paused) => {
            let what = "it is paused: somebody had its supervisor send it SIGSTOP";
            let paused = Cause::new(CauseKind::Paused, what, "its status says so");
            return [paused].into_iter().chain(not_watched(report)).collect();
        }
        Some(StateName::Up | StateName::Ready | StateName::Starting | StateName::Stopping) => {
            return running(subject, report);
        }
        Some(StateName::Finishing) => {
            let status = subject.service().and_then(|service| service.observed.status);
            let is_noticed = status.is_none_or(|status| status.finishing);
            let what = if is_noticed {
                format!("its finish script has been running for {} s", report.updownfor.unwrap_or(0))
            } else {
                "its process has ended, which its supervisor has not noticed yet".to_owned()
            };
            let evidence = format!("process {}; the next start comes after it", pid(report));
            Cause::new(CauseKind::FinishRuns, what, evidence)
        }
        Some(StateName::Waiting { reason }) => ending_leftovers(subject, reason.as_deref()),
        Some(StateName::Asking { reason, .. }) => {
            let what = "it ended, and is being asked whether it wants to be started again";
            Cause::new(CauseKind::AskedForHandoff, what, reason.clone().unwrap_or_default())
        }
        _ => return Vec::new(),
    };
    vec![cause]
}

/// Returns the cause that its process has ended and its supervisor, which a signal has stopped,
/// does not know that.
fn ended_unseen(subject: &Subject, report: &ServiceReport) -> Option<Cause> {
    let supervisor = subject.facts.supervision.stopped?;
    report.pid?;
    if subject.process.is_some_and(|state| !proc::is_ended(state)) {
        return None;
    }
    let what = format!(
        "its process has ended, and its supervisor (process {supervisor}), which would start it again or say \
         how it ended, is stopped by a signal"
    );
    let evidence = format!("the kernel says so of both, and the status names process {}", pid(report));
    Some(Cause::new(CauseKind::SupervisorStopped, what, evidence))
}

/// Returns the cause that leftovers are being ended. It mentions leftovers only if some were found.
fn ending_leftovers(subject: &Subject, reason: Option<&str>) -> Cause {
    if subject.leftovers.is_empty() {
        let what = "it is looked for processes that an earlier run of it may have left, and none is known";
        return Cause::new(CauseKind::EndingLeftovers, what, reason.unwrap_or_default());
    }
    let named = subject.leftovers.iter().map(|(pid, words)| format!("process {pid} ({words})"));
    let what = "processes that an earlier run of it left are being ended first";
    Cause::new(CauseKind::EndingLeftovers, what, named.collect::<Vec<_>>().join(", "))
}

fn running(subject: &Subject, report: &ServiceReport) -> Vec<Cause> {
    let evidence = |state: &str| format!("the kernel says of process {} that it is {state}", pid(report));
    let held = match subject.process {
        Some(STOPPED) => {
            let what = "it is frozen: its process is stopped by a signal that its supervisor did not send";
            Some(Cause::new(CauseKind::Frozen, what, evidence("stopped")))
        }
        Some(TRACED) => {
            let what = "it is frozen: a debugger holds its process";
            Some(Cause::new(CauseKind::Traced, what, evidence("traced")))
        }
        _ => None,
    };
    let phase = match subject.state() {
        Some(StateName::Stopping) => {
            let what = "it was told to stop, and has not ended yet";
            Some(Cause::new(CauseKind::Stopping, what, format!("process {} is still there", pid(report))))
        }
        _ if report.live.as_ref().is_some_and(LiveReport::is_unresponsive) => unresponsive(report),
        // One that takes no work, because somebody drains it, may say that it cannot be used.
        _ if report.drain.is_none() && report.live.as_ref().is_some_and(LiveReport::is_degraded) => {
            degraded(report)
        }
        // A gateway that keeps dying is in the state `starting` most of the time, so this state
        // explains nothing then.
        Some(StateName::Starting) if !keeps_dying(subject) => Some(starting(subject, report)),
        // What is tried again is explained by the attempt that failed.
        _ if report.state == ServiceState::Starting
            && report.tried_again.is_none()
            && !keeps_dying(subject) =>
        {
            Some(silent_start(report))
        }
        _ => draining(report),
    };
    held.into_iter().chain(port(report)).chain(phase).chain(not_watched(report)).collect()
}

/// Returns the cause that another process listens on one of its ports.
fn port(report: &ServiceReport) -> Option<Cause> {
    let held = report.port_held.as_ref()?;
    let what = format!("it is up without its port: {held}, so what answers there is not this gateway");
    Some(Cause::new(CauseKind::PortNotOwn, what, "the kernel's list of listening sockets says so"))
}

/// Returns the cause that it does not respond, as the watcher reports.
fn unresponsive(report: &ServiceReport) -> Option<Cause> {
    let live = report.live.as_ref()?;
    let what = "it is up and does not work: nothing has shown that it lives for a while";
    let reason = live.reason.clone().unwrap_or_else(|| "its watcher says so".to_owned());
    let since = live.since.as_deref().unwrap_or("an unknown time");
    Some(Cause::new(CauseKind::Unresponsive, what, format!("{reason}; since {since}")))
}

/// Returns the cause that it reports a problem of its own.
fn degraded(report: &ServiceReport) -> Option<Cause> {
    let live = report.live.as_ref()?;
    let what = "it works, and says itself that something is wrong";
    let reason = live.reason.clone().unwrap_or_else(|| "it does not say what".to_owned());
    let since = live.since.as_deref().unwrap_or("an unknown time");
    Some(Cause::new(CauseKind::Degraded, what, format!("{reason}; since {since}")))
}

/// Returns the cause that nobody knows whether it works, because no watcher reports.
fn not_watched(report: &ServiceReport) -> Option<Cause> {
    let live = report.live.as_ref().filter(|live| live.state == LiveState::Unknown)?;
    let why = live.reason.clone().unwrap_or_else(|| "nobody says why".to_owned());
    let what = "it is up, and nobody watches whether it works";
    Some(Cause::new(CauseKind::NotWatched, what, why))
}

/// Returns the cause that somebody drains it.
fn draining(report: &ServiceReport) -> Option<Cause> {
    let drain = report.drain.as_ref()?;
    let turns = match drain.turns {
        None => String::new(),
        Some(1) => "1 turn is under way; ".to_owned(),
        Some(turns) => format!("{turns} turns are under way; "),
    };
    let until = drain.until.as_ref().map_or_else(
        || "nothing ends that by itself".to_owned(),
        |until| format!("until {until} at the most, then {}", drain.then),
    );
    let what = "it takes no new work, because somebody drains it";
    Some(Cause::new(CauseKind::Draining, what, format!("{turns}{}, {until}", drain.by)))
}

fn keeps_dying(subject: &Subject) -> bool {
    let condition = subject.service().and_then(|service| problem::of(&subject.facts, service));
    matches!(condition, Some(ServiceProblem::KeepsDying(_)))
}

fn starting(subject: &Subject, report: &ServiceReport) -> Cause {
    if let Some(before) = report.queued {
        let what = "its start waits for its turn: others are being started";
        return Cause::new(CauseKind::Queued, what, format!("{before} wait before it (`start-parallel`)"));
    }
    if let Some(service) = &report.starts_after {
        let what = "it starts after another gateway, whose start is not over";
        return Cause::new(CauseKind::Queued, what, format!("it waits for {service} (`after`)"));
    }
    let executed = subject.service().is_some_and(|service| service.observed.executed);
    let told = subject.service().and_then(|service| service.observed.not_ready.clone());
    let evidence = if let Some(why) = told.filter(|_| executed) {
        why
    } else if executed {
        format!(
            "process {} is there for {} s, and nothing has said that it is ready",
            pid(report),
            report.updownfor.unwrap_or(0)
        )
    } else {
        format!("process {} has not executed the command yet", pid(report))
    };
    Cause::new(CauseKind::NotReadyYet, "it has been started, and is not ready yet", evidence)
}

/// Returns the cause that nothing has shown yet that its start is over. Only a watcher can find
/// that out for this gateway.
fn silent_start(report: &ServiceReport) -> Cause {
    let may_be_silent = report.live.as_ref().map_or(0, |live| live.start_deadline_ms.div_ceil(1000));
    let evidence = format!(
        "process {} is there for {} s, and may show nothing for {may_be_silent} s",
        pid(report),
        report.updownfor.unwrap_or(0)
    );
    Cause::new(CauseKind::NotReadyYet, "it has been started, and has not shown yet that it works", evidence)
}

/// Returns the causes that delay its next start.
pub(super) fn waits(subject: &Subject) -> Vec<Cause> {
    let Some(service) = subject.service().filter(|service| !service.report.is_up()) else {
        return Vec::new();
    };
    let Some(left_ms) = service.report.next_start_in_ms else { return Vec::new() };
    let policy = service.observed.policy.as_ref();
    if policy
        .is_none_or(|policy| !matches!(policy.phase, RestartPhase::Backoff | RestartPhase::FailedToStart))
    {
        return Vec::new();
    }
    let times = policy.map_or(0, |policy| policy.failures);
    let what = format!("its supervisor starts it again in {} s", left_ms.div_ceil(1000));
    if inspect::asks_too_often(&service.observed) {
        return vec![Cause::new(CauseKind::BackOff, what, ASKS_TOO_OFTEN.to_owned())];
    }
    let times = if times == 1 { "once".to_owned() } else { format!("{times} times in a row") };
    let evidence = format!("it failed {times}, and each pause is longer than the one before");
    vec![Cause::new(CauseKind::BackOff, what, evidence)]
}

fn pid(report: &ServiceReport) -> String {
    report.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
}
