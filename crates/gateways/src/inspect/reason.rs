//! *Lives here:* the state of a service in the words of a report, and the reason for it.
//!
//! *Does not live here:* what a watcher, a drain or another profile's gateway adds (`report`).

use gatevisor_wire::exit::COMMAND_NOT_REACHED;
use gatevisor_wire::policy::{ASKS_TOO_OFTEN, PublishedPolicy};

use super::deaths::{cause, meaning};
use super::delay::delay_words;
use super::failed_start::{TriedAgain, ended_by_itself_ms, seconds};
use super::state::ServiceState;
use crate::agent::AgentDefinition;
use crate::manager::Observed;

/// Returns the state, and the reason for it.
///
/// A genuine s6 does not report that a service failed for good. It then looks like one that was
/// stopped. If its desired state is running, and its last exit code means a permanent failure, it
/// failed.
pub(super) fn state_and_reason(
    agent: &AgentDefinition,
    observed: &Observed,
    desired: Option<&str>,
    tried_again: Option<TriedAgain>,
) -> (ServiceState, Option<String>) {
    let state = ServiceState::from(&observed.state);
    let code =
        observed.status.filter(|status| !status.never_started()).and_then(|status| status.last.exit_code());
    let fatal = code.filter(|code| {
        let is_said = state == ServiceState::Failed;
        observed.fail_codes.iter().any(|one| one.code == *code && (is_said || one.is_at_once()))
    });
    let explained = |code: u8| match meaning(agent, observed, code) {
        Some(meaning) => format!("exit {code}: {meaning}"),
        None => format!("exit {code}"),
    };
    let window_ms = agent.gateway.start_window_ms;
    let last = observed.status.map(|status| match status.last.exit_code() {
        Some(code) => explained(code),
        None => cause(observed).unwrap_or_else(|| status.last.to_string()),
    });
    let ended = |ran_ms: u64| {
        let not_reached = code.filter(|code| COMMAND_NOT_REACHED.contains(code));
        let how = not_reached.and(observed.start_error.as_deref()).or(last.as_deref());
        format!("ended {} after its start: {}", seconds(ran_ms), how.unwrap_or("nobody says how"))
    };
    if let Some(TriedAgain { ran_ms, is_announced: false }) = tried_again {
        return (ServiceState::Starting, Some(format!("{}; it is tried again", ended(ran_ms))));
    }
    match (state, fatal) {
        (ServiceState::Down, Some(code)) if desired == Some("running") => {
            (ServiceState::Failed, Some(explained(code)))
        }
        (ServiceState::Failed, Some(code)) => (ServiceState::Failed, Some(explained(code))),
        (ServiceState::BackingOff, _) if asks_too_often(observed) => (state, Some(ASKS_TOO_OFTEN.to_owned())),
        (ServiceState::BackingOff, _) => match observed.policy.as_ref().and_then(|policy| policy.ran_ms) {
            Some(ran_ms) if ran_ms < window_ms => (ServiceState::FailedToStart, Some(ended(ran_ms))),
            _ => (state, last),
        },
        (ServiceState::Waiting, _) => {
            let first = observed.state.reason().map(str::to_owned);
            let with_end = |ran_ms| format!("{}; it {}", first.as_deref().unwrap_or_default(), ended(ran_ms));
            (state, ended_by_itself_ms(observed).map(with_end).or_else(|| first.clone()))
        }
        (ServiceState::Starting, _) => {
            (state, observed.delay.as_ref().map(delay_words).or_else(|| observed.not_ready.clone()))
        }
        _ => (state, observed.state.reason().map(str::to_owned)),
    }
}

/// Returns whether it waits because it has asked for a restart again and again.
pub fn asks_too_often(observed: &Observed) -> bool {
    observed.policy.as_ref().is_some_and(PublishedPolicy::asks_too_often)
}
