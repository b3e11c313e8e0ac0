//! *Lives here:* failed starts that the state of a service alone does not show: while leftovers of
//! the failed process are being ended, and while the service is tried again.
//!
//! *Does not live here:* the words for other states (`report`).

use gatevisor_client::status_view::StateName;
use gatevisor_wire::exit::COMMAND_NOT_REACHED;
use gatevisor_wire::policy::RestartPhase;
use gatevisor_wire::signal;
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

/// A start within the start window, after one that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TriedAgain {
    /// How many milliseconds the previous process was up.
    pub ran_ms: u64,
    /// Whether a probe, or the gateway itself, will tell that this start has succeeded.
    pub is_announced: bool,
}

/// Returns how long the previous process was up, if its end was a failed start and the service is
/// again within its start window of `window_ms`. A service that is ready has shown that it works.
pub(super) fn tried_again(observed: &Observed, window_ms: u64, now: Tai64n) -> Option<TriedAgain> {
    let is_announced = match observed.state {
        StateName::Up => false,
        StateName::Starting => true,
        _ => return None,
    };
    let status = observed.status.filter(|status| status.is_up() && observed.executed)?;
    let policy = observed.policy.as_ref().filter(|policy| policy.failures > 0)?;
    // If the command was not reached then and is reached now, the present command is not the one
    // that failed.
    let by_itself = |death: &Death| match death.signal {
        0 => !COMMAND_NOT_REACHED.contains(&death.exit_code),
        signal => signal::FAULTS.contains(&signal),
    };
    let was_by_itself = observed.deaths.last().is_some_and(by_itself);
    // After the clock was set back, nobody knows how long it is up.
    let up = now.since(status.changed)?;
    let is_within = up.as_millis() < u128::from(window_ms);
    let ran_ms = policy.ran_ms.filter(|ran_ms| was_by_itself && is_within && *ran_ms < window_ms)?;
    Some(TriedAgain { ran_ms, is_announced })
}

/// Returns this time in the words of a reason.
pub(super) fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use gatevisor_wire::policy::PublishedPolicy;

    use super::*;
    use crate::inspect::tests::up;

    const WINDOW_MS: u64 = 1_000;

    /// Returns what is observed `up_ms` after the start of a process whose predecessor ran for 500
    /// ms, and the time.
    fn after(up_ms: u64, exit_code: u8, signal: u8) -> (Observed, Tai64n) {
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let changed = Tai64n::now_from(began);
        let observed = Observed {
            policy: Some(PublishedPolicy { failures: 1, ran_ms: Some(500), ..PublishedPolicy::default() }),
            deaths: vec![Death { at: changed, exit_code, signal }],
            ..up(changed)
        };
        (observed, Tai64n::now_from(began + Duration::from_millis(up_ms)))
    }

    fn tried(observed: &Observed, now: Tai64n) -> Option<TriedAgain> {
        tried_again(observed, WINDOW_MS, now)
    }

    #[test]
    fn what_ended_by_itself_at_once_is_tried_again_until_the_start_window_is_over() {
        let again = TriedAgain { ran_ms: 500, is_announced: false };
        for (up_ms, expected) in [(0, Some(again)), (999, Some(again)), (1_000, None)] {
            let (observed, now) = after(up_ms, 3, 0);
            assert_eq!(tried(&observed, now), expected, "{up_ms}");
        }
        let (crashed, now) = after(0, 0, 11);
        assert_eq!(tried(&crashed, now), Some(again));
        let (observed, began) = after(0, 3, 0);
        let earlier = Tai64n::from_unix(began.to_unix_ms() / 1000 - 3_600, 0);
        assert_eq!(tried(&observed, earlier), None, "the clock was set back");
        let (mut probed, now) = after(0, 3, 0);
        probed.state = StateName::Starting;
        assert_eq!(tried(&probed, now), Some(TriedAgain { is_announced: true, ..again }));
    }

    #[test]
    fn a_kill_a_command_that_was_not_reached_and_a_longer_run_are_no_failed_attempt_of_this_command() {
        let (killed, now) = after(0, 0, 9);
        assert_eq!(tried(&killed, now), None, "killed");
        for code in COMMAND_NOT_REACHED {
            let (not_reached, now) = after(0, code, 0);
            assert_eq!(tried(&not_reached, now), None, "exit {code}");
        }
        let change = |change: fn(&mut Observed)| {
            let (mut observed, now) = after(0, 3, 0);
            change(&mut observed);
            tried(&observed, now)
        };
        let policy = |failures, ran_ms| PublishedPolicy { failures, ran_ms, ..PublishedPolicy::default() };
        assert_eq!(change(|observed| observed.state = StateName::Ready), None, "it is ready");
        assert_eq!(change(|observed| observed.executed = false), None, "its command was not executed");
        assert_eq!(change(|observed| observed.policy = None), None, "under s6");
        let with = |policy: PublishedPolicy| {
            let (mut observed, now) = after(0, 3, 0);
            observed.policy = Some(policy);
            tried(&observed, now)
        };
        assert_eq!(with(policy(0, Some(500))), None, "its failures are forgotten");
        assert_eq!(with(policy(1, Some(1_000))), None, "it ran for the whole window");
        assert_eq!(with(policy(1, None)), None, "nobody says how long it ran");
    }
}
