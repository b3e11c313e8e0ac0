//! *Lives here:* the one decision what the matter is with a service that is supervised, which `doctor` and `explain` share.
//!
//! *Does not live here:* words for it; what its states mean (`gatevisor-client`, `gatevisor_gateways::inspect`).

use gatevisor_client::status_view::StateName;

use super::facts::{Facts, ServiceFact};
use gatevisor_gateways::inspect::ServiceState;
use gatevisor_gateways::live::LiveReport;

/// Deaths after which a service counts as one that keeps dying.
const MANY: usize = 3;
/// Milliseconds within which they happen, where the supervisor does not count them in a row itself.
const WITHIN_MS: i64 = 60_000;

/// What is the matter with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceProblem {
    /// A port that it needs is another process's.
    PortTaken,
    /// It is probed, and its prober says why it is not ready.
    NotReady,
    /// It failed for good, and is not started again.
    Failed,
    /// Its command cannot be executed, or ends before there is evidence that it works.
    CannotStart,
    /// It died so many times in a row.
    KeepsDying(usize),
    /// It died, and its next start is due.
    HasDied,
    /// It is paused through its supervisor.
    Paused,
    /// It runs, and does not work, or nobody knows whether it does.
    NotLive,
    /// It is down although it is desired running.
    Missed,
}

/// Returns what is the matter with a service, if anything is.
pub fn of(facts: &Facts, service: &ServiceFact) -> Option<ServiceProblem> {
    let deaths = in_a_row(facts, service);
    match &service.observed.state {
        _ if service.report.port_held.is_some() => Some(ServiceProblem::PortTaken),
        StateName::NotSupervised => None,
        _ if service.report.state == ServiceState::Served => None,
        StateName::Starting if service.observed.not_ready.is_some() => Some(ServiceProblem::NotReady),
        _ if service.report.state == ServiceState::Failed => Some(ServiceProblem::Failed),
        StateName::FailedToStart { .. } => Some(ServiceProblem::CannotStart),
        _ if deaths >= MANY => Some(ServiceProblem::KeepsDying(deaths)),
        _ if service.report.state == ServiceState::FailedToStart => Some(ServiceProblem::CannotStart),
        StateName::BackingOff { .. } => Some(ServiceProblem::HasDied),
        StateName::Paused => Some(ServiceProblem::Paused),
        _ if service.report.live.as_ref().is_some_and(LiveReport::is_bad) => Some(ServiceProblem::NotLive),
        StateName::Down if is_missed(facts, service) => Some(ServiceProblem::Missed),
        _ => None,
    }
}

/// Returns how often the service died in a row, or within a minute where the supervisor does not count.
fn in_a_row(facts: &Facts, service: &ServiceFact) -> usize {
    // The supervisor forgets them at the next death, and not before.
    if service.report.up && service.report.updownfor >= facts.stable_s {
        return 0;
    }
    if let Some(policy) = &service.observed.policy {
        return usize::try_from(policy.failures).unwrap_or(usize::MAX);
    }
    if facts.supervision.is_ours() {
        return 0;
    }
    let now = facts.now.to_unix_ms();
    let is_recent = |ms: i64| (0..=WITHIN_MS).contains(&now.saturating_sub(ms));
    let is_failure = |code: u8| !service.observed.restart_codes.contains(&code);
    let deaths = service.observed.deaths.iter();
    deaths.filter(|death| is_recent(death.at.to_unix_ms()) && is_failure(death.exit_code)).count()
}

fn is_missed(facts: &Facts, service: &ServiceFact) -> bool {
    let name = service.observed.profile.as_ref();
    // The desired state is carried out where the gateways run.
    let is_here = !facts.supervision.elsewhere && !facts.supervision.without_gateways;
    is_here
        && !service.report.wantedup
        && facts.profiles.iter().any(|p| Some(&p.name) == name && p.should_run())
}
