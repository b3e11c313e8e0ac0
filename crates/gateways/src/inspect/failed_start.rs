//! *Lives here:* failed starts that the state of a service alone does not show: while leftovers of
//! the failed process are being ended, and while the service is tried again.
//!
//! *Does not live here:* the words for other states (`report`).

use gatevisor_client::status_view::StateName;
use gatevisor_wire::exit::COMMAND_NOT_REACHED;
use gatevisor_wire::policy::RestartPhase;
use gatevisor_wire::tai::Tai64n;
use gatevisor_wire::tally::Death;

use crate::manager::Observed;

/// Returns how many milliseconds the last process was up, if nobody had asked for its end and its
/// leftovers are being ended now.
pub(super) fn ended_by_itself_ms(observed: &Observed) -> Option<u64> {
    let policy = observed.policy.as_ref().filter(|policy| policy.phase == RestartPhase::Clearing)?;
    let is_by_itself = policy.asked.newest_first().next() == Some(false);
    let is_waiting = matches!(observed.state, StateName::Waiting { .. });
    policy.ran_ms.filter(|_| is_by_itself && is_waiting)
}

/// Returns how many milliseconds the previous process was up, if its end was a failed start and the
/// service is again within its start window of `window_ms`.
pub(super) fn tried_again_ms(observed: &Observed, window_ms: u64, now: Tai64n) -> Option<u64> {
    let status = observed.status.filter(|status| status.is_up() && observed.executed)?;
    let policy = observed.policy.as_ref().filter(|policy| policy.failures > 0)?;
    // If the command was not reached then and is reached now, the present command is not the one
    // that failed.
    let by_exit = |death: &Death| death.signal == 0 && !COMMAND_NOT_REACHED.contains(&death.exit_code);
    let was_exit = observed.deaths.last().is_some_and(by_exit);
    let up = now.since(status.changed).unwrap_or_default();
    let is_within = up.as_millis() < u128::from(window_ms);
    policy.ran_ms.filter(|ran_ms| was_exit && is_within && *ran_ms < window_ms)
}

/// Returns this time in the words of a reason.
pub(super) fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
