//! *Lives here:* causes that follow from how the last process ended.
//!
//! *Does not live here:* which exit codes and signals are problems (`crate::problem`).

use gatevisor_client::status_view::StateName;
use gatevisor_wire::signal;
use gatevisor_wire::tally::Death;

use super::{printed, starts};
use crate::explain::cause::Cause;
use crate::explain::kind::CauseKind;
use crate::explain::subject::Subject;
use crate::facts::ServiceFact;
use crate::problem::{self, ServiceProblem};
use gatevisor_gateways::inspect::ServiceState;

/// How many milliseconds after the last death that death still explains something about a gateway
/// that works again.
const RECENT_MS: i64 = 3_600_000;
/// How many milliseconds a gateway may take to end after the watcher of gateways asked it to.
const ENDED_WITHIN_MS: i64 = 120_000;

pub(super) fn of(subject: &Subject) -> Vec<Cause> {
    let Some(service) = subject.service().filter(|_| matters(subject)) else { return Vec::new() };
    let condition = problem::of(&subject.facts, service);
    let of_start = || match &service.observed.state {
        // `run` itself was not executed, so there was no process and no death.
        StateName::FailedToStart { reason: Some(reason), .. }
        | StateName::Failed { reason: Some(reason) }
            if service.observed.deaths.is_empty() =>
        {
            Some(starts::of_run(reason))
        }
        _ => None,
    };
    if let Some(cause) = starts::cause(subject).or_else(of_start) {
        // The command was not executed, so its exit code explains nothing more.
        let again = counted(service, condition).filter(|cause| cause.cause == CauseKind::KeepsDying);
        return [Some(cause), again].into_iter().flatten().collect();
    }
    let first = by_watcher(subject, service)
        .or_else(|| port(service))
        .or_else(|| out_of_memory(service))
        .or_else(|| commanded(service))
        .or_else(|| printed::cause(subject))
        .or_else(|| by_signal(service));
    first.into_iter().chain(counted(service, condition)).collect()
}

/// Returns whether the last death explains something about the present state.
fn matters(subject: &Subject) -> bool {
    let Some(service) = subject.service() else { return false };
    let now = subject.facts.now.to_unix_ms();
    let is_recent = |death: &Death| now.saturating_sub(death.at.to_unix_ms()) < RECENT_MS;
    let counts = [service.report.restarts, service.report.commanded_restarts];
    let was_restarted = counts.into_iter().any(|count| count.is_none_or(|count| count > 0));
    match service.report.state {
        ServiceState::Failed | ServiceState::FailedToStart | ServiceState::BackingOff => true,
        ServiceState::NotSupervised | ServiceState::Down | ServiceState::Unknown => false,
        _ => was_restarted && service.observed.deaths.last().is_some_and(is_recent),
    }
}

fn port(service: &ServiceFact) -> Option<Cause> {
    let held = service.report.port_held.as_ref().filter(|_| !service.report.is_up())?;
    let evidence = "the kernel's list of listening sockets says so";
    Some(Cause::new(CauseKind::PortTaken, held, evidence))
}

fn out_of_memory(service: &ServiceFact) -> Option<Cause> {
    let meaning = service.report.deaths().first()?.meaning.as_ref()?;
    let is_it = meaning.starts_with("out of memory");
    is_it.then(|| Cause::new(CauseKind::OutOfMemory, "the kernel killed it for want of memory", meaning))
}

/// Returns the cause that the watcher of gateways ended it, if its note is about the last death and
/// not about an earlier one.
fn by_watcher(subject: &Subject, service: &ServiceFact) -> Option<Cause> {
    let ended = subject.ended_by_watcher.as_ref()?;
    let at_ms = ended.at.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    let death = service.observed.deaths.last()?;
    let within = 0..=ENDED_WITHIN_MS;
    if !within.contains(&death.at.to_unix_ms().saturating_sub(at_ms)) {
        return None;
    }
    let what = "it was up and did not work, so the watcher of gateways ended it";
    let evidence = match &ended.incident {
        Some(incident) => format!("{}; what could be found out is in `{incident}`", ended.reason),
        None => ended.reason.clone(),
    };
    Some(Cause::new(CauseKind::EndedAsUnresponsive, what, evidence))
}

/// Returns the cause that somebody told its supervisor to end it, if that is known.
fn commanded(service: &ServiceFact) -> Option<Cause> {
    let death = service.report.deaths().first().filter(|_| asked_for(service) == Some(true))?;
    let what = match &death.signal {
        Some(name) => format!("it was ended with {name}, which its supervisor was told to send"),
        None => format!("it ended {}, as its supervisor was told to have it do", death.how("with ", "by ")),
    };
    let evidence = format!("its supervisor was told so before the death at {}", death.at);
    Some(Cause::new(CauseKind::Commanded, what, evidence))
}

fn by_signal(service: &ServiceFact) -> Option<Cause> {
    let death = service.observed.deaths.last().filter(|death| death.signal != 0)?;
    let name = signal::name(death.signal).map_or_else(|| death.signal.to_string(), str::to_owned);
    let at = service.report.deaths().first().map(|death| death.at.clone()).unwrap_or_default();
    if gatevisor_wire::signal::FAULTS.contains(&death.signal) {
        let what = format!("it crashed: the kernel ended it with {name}");
        return Some(Cause::new(CauseKind::Crashed, what, format!("its supervisor saw it die at {at}")));
    }
    let who = match asked_for(service) {
        Some(_) => "by hand or by another program: its supervisor did not send it",
        None => "and it is not recorded whether its supervisor had been told to send it",
    };
    let evidence = format!("its supervisor saw it die at {at}, and nothing says that memory ran out");
    Some(Cause::new(CauseKind::Killed, format!("it was ended with {name}, {who}"), evidence))
}

/// Returns whether somebody told its supervisor to cause the last death; `None` if that is not
/// recorded.
fn asked_for(service: &ServiceFact) -> Option<bool> {
    // A death that was asked for is followed neither by a back-off nor by a failure.
    if matches!(
        service.report.state,
        ServiceState::BackingOff | ServiceState::Failed | ServiceState::FailedToStart
    ) {
        return Some(false);
    }
    let policy = service.observed.policy.as_ref();
    if let Some(asked) = policy.and_then(|policy| policy.asked.newest_first().next()) {
        return Some(asked);
    }
    // Earlier versions of our supervisor only count such deaths.
    match (service.report.restarts?, service.report.commanded_restarts?) {
        (0, _) => Some(true),
        (_, 0) => Some(false),
        _ => None,
    }
}

/// Returns the cause that follows from the exit code and the number of deaths.
fn counted(service: &ServiceFact, condition: Option<ServiceProblem>) -> Option<Cause> {
    let death = service.report.deaths().first()?;
    let how = death.how("with ", "by ");
    let meaning = death.meaning.as_ref().map_or_else(String::new, |meaning| format!(": {meaning}"));
    let evidence = format!("the last time {how}{meaning}, at {}", death.at);
    let reason = service.report.reason.clone().unwrap_or_else(|| evidence.clone());
    let cause = match condition {
        Some(ServiceProblem::Failed) => {
            Cause::new(CauseKind::FailedForGood, "it failed for good, and is not started again", reason)
        }
        Some(ServiceProblem::KeepsDying(times)) => {
            Cause::new(CauseKind::KeepsDying, format!("it keeps dying: {times} times in a row"), evidence)
        }
        Some(ServiceProblem::CannotStart) => {
            Cause::new(CauseKind::EndedAtOnce, "it ended before there was evidence that it works", reason)
        }
        _ if death.signal.is_some() || asked_for(service) == Some(true) => return None,
        _ if asked_for(service).is_none() => Cause::new(
            CauseKind::Died,
            "it ended, and it is not recorded whether that was asked for",
            evidence,
        ),
        _ => Cause::new(CauseKind::Died, "it ended by itself", evidence),
    };
    Some(cause)
}
