//! *Lives here:* the decision what the problem of a supervised service is, which `doctor` and
//! `explain` share.
//!
//! *Does not live here:* the words for it; the meaning of its states (`gatevisor-client`,
//! `gatevisor_gateways::inspect`).

use gatevisor_client::status_view::StateName;

use super::facts::{Facts, ServiceFact};
use gatevisor_gateways::agent::ServedFrom;
use gatevisor_gateways::inspect::{self, ServiceState};
use gatevisor_gateways::live::LiveReport;
use gatevisor_gateways::profile::ProfileName;

/// Why a service is down of which [`is_kept_by_down_file`].
pub const DOWN_FILE: &str = "a `down` file keeps it down, and nobody has told its supervisor to start it";

/// The number of deaths from which on a service counts as one that keeps dying.
const MANY: usize = 3;
/// The milliseconds within which they must happen, if the supervisor does not count consecutive
/// ones itself.
const WITHIN_MS: i64 = 60_000;

/// Seconds in which the gateway that serves others may begin to serve a profile.
const SERVING_WITHIN_S: u64 = 60;

/// What is wrong with a service that is supervised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceProblem {
    /// Another process has a port that it needs.
    PortTaken,
    /// It is probed, and its prober reports why it is not ready.
    NotReady,
    /// It failed for good, and is not started again.
    Failed,
    /// Its command cannot be executed, or ends before there is evidence that it works.
    CannotStart,
    /// It died this many times in a row.
    KeepsDying(usize),
    /// It died, and its next start is due.
    HasDied,
    /// It has asked for a restart again and again, so that each one waits longer.
    AsksTooOften,
    /// An operator has paused it through its supervisor.
    Paused,
    /// It runs, but does not work, or it is unknown whether it works.
    NotLive,
    /// A signal has stopped its process, and its supervisor does not know that.
    Stopped,
    /// It works, and reports itself that something is wrong.
    Degraded,
    /// It runs, and has not said for too long that it is ready.
    NeverReady,
    /// It runs, and the last look at it found nothing that shows that it works.
    MayNotWork,
    /// It is down although its desired state is running.
    Missed,
    /// The gateway of another profile should serve its profile, which shall run, and does not.
    Unserved,
}

impl ServiceProblem {
    /// Returns whether it is about runs that have ended, also if the service is up again.
    pub const fn is_of_the_past(self) -> bool {
        match self {
            Self::Failed
            | Self::CannotStart
            | Self::KeepsDying(_)
            | Self::HasDied
            | Self::AsksTooOften
            | Self::Missed
            | Self::Unserved => true,
            Self::PortTaken
            | Self::NotReady
            | Self::Paused
            | Self::NotLive
            | Self::Stopped
            | Self::Degraded
            | Self::NeverReady
            | Self::MayNotWork => false,
        }
    }
}

/// Returns the problem of a service, if it has one.
pub fn of(facts: &Facts, service: &ServiceFact) -> Option<ServiceProblem> {
    let deaths = in_a_row(facts, service);
    // What the watcher has found is worse than that a probe gets no answer so far.
    let is_unresponsive = service.report.live.as_ref().is_some_and(LiveReport::is_unresponsive);
    match &service.observed.state {
        StateName::Starting if service.observed.not_ready.is_some() && !is_unresponsive => {
            Some(ServiceProblem::NotReady)
        }
        _ if service.report.port_held.is_some() => Some(ServiceProblem::PortTaken),
        StateName::NotSupervised => None,
        _ if service.report.state == ServiceState::Served => None,
        _ if service.report.state == ServiceState::Failed => Some(ServiceProblem::Failed),
        StateName::FailedToStart { .. } => Some(ServiceProblem::CannotStart),
        _ if deaths >= MANY => Some(ServiceProblem::KeepsDying(deaths)),
        _ if service.report.state == ServiceState::FailedToStart => Some(ServiceProblem::CannotStart),
        _ if service.report.tried_again.is_some() => Some(ServiceProblem::CannotStart),
        _ if inspect::asks_too_often(&service.observed) && !is_stable(facts, service) => {
            Some(ServiceProblem::AsksTooOften)
        }
        // Before its first start, its status looks so, too.
        StateName::BackingOff { .. } if !never_ran(service) => Some(ServiceProblem::HasDied),
        StateName::Waiting { .. } => service.report.ended_by_itself_ms.map(|ran_ms| match ran_ms {
            ran_ms if ran_ms < facts.start_window_ms => ServiceProblem::CannotStart,
            _ => ServiceProblem::HasDied,
        }),
        StateName::Paused => Some(ServiceProblem::Paused),
        _ if service.report.live.as_ref().is_some_and(LiveReport::is_bad) => Some(ServiceProblem::NotLive),
        _ if service.report.state == ServiceState::Unresponsive => Some(ServiceProblem::Stopped),
        _ if service.report.state == ServiceState::Degraded => Some(ServiceProblem::Degraded),
        StateName::Starting if is_late(service) => Some(ServiceProblem::NeverReady),
        _ if service.report.live.as_ref().is_some_and(|live| live.missed().is_some()) => {
            Some(ServiceProblem::MayNotWork)
        }
        StateName::Down if is_missed(facts, service) && service.report.served_from == ServedFrom::Server => {
            (!is_starting(facts)).then_some(ServiceProblem::Unserved)
        }
        StateName::Down if is_missed(facts, service) => Some(ServiceProblem::Missed),
        _ => None,
    }
}

/// Returns whether a service that is down was never started because of its `down` file, so that
/// nobody has told its supervisor anything.
pub fn is_kept_by_down_file(service: &ServiceFact) -> bool {
    never_ran(service) && service.observed.normally_up == Some(false)
}

/// Returns whether its present supervisor has not started it yet.
fn never_ran(service: &ServiceFact) -> bool {
    service.observed.status.is_some_and(|status| status.never_started())
}

/// Returns how often the service died in a row, or within a minute if the supervisor does not
/// count.
fn in_a_row(facts: &Facts, service: &ServiceFact) -> usize {
    // The supervisor forgets them at the next death, and not before.
    if is_stable(facts, service) {
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

/// Returns whether the service has been up for long enough that earlier deaths do not count.
fn is_stable(facts: &Facts, service: &ServiceFact) -> bool {
    service.report.is_up() && service.report.updownfor >= Some(facts.stable_s)
}

/// Returns whether a service whose command runs should have said by now that it is ready.
fn is_late(service: &ServiceFact) -> bool {
    service.report.is_up() && service.report.updownfor > Some(service.start_deadline_s)
}

/// Returns whether the gateway that serves others has begun so recently that it may not serve all.
fn is_starting(facts: &Facts) -> bool {
    let mut services = facts.services.iter();
    let server = services.find(|service| service.observed.profile.as_ref().is_some_and(ProfileName::is_root));
    server.is_some_and(|server| server.report.is_up() && server.report.updownfor < Some(SERVING_WITHIN_S))
}

fn is_missed(facts: &Facts, service: &ServiceFact) -> bool {
    let name = service.observed.profile.as_ref();
    // The desired state is carried out in the container where the gateways run.
    let is_here = !facts.supervision.elsewhere && !facts.supervision.without_gateways;
    is_here
        && service.report.wantedup != Some(true)
        && facts.profiles.iter().any(|p| Some(&p.name) == name && p.should_run())
}
