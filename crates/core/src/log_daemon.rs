//! When a log daemon that ended starts again, and when its services can no longer wait for one.
//!
//! *Lives here:* telling a daemon that was ended by others from one that cannot work at all. *Does not live here:* the
//! process, its pipes, and what is done with the bytes that nobody reads.

use gatevisor_wire::wait::WaitStatus;

use crate::restart::{History, RestartDecision, RestartPolicy};
use crate::time::Tick;

/// Ends in a row, each before it worked, after which it is taken to be unable to.
const HOPEFUL: u32 = 3;
/// Milliseconds before it starts again where it worked: its services wait as soon as their pipes are full.
const MAX_PAUSE_MS: u64 = 250;
/// The same where it did not: what could not be a moment ago can hardly be now.
const MAX_FAILING_PAUSE_MS: u64 = 10_000;

/// How the daemons of one log owner have fared.
#[derive(Debug)]
pub struct LogDaemonHistory {
    history: History,
    since: Tick,
    works: bool,
    /// Ends since one worked.
    failures: u32,
}

impl LogDaemonHistory {
    /// Returns a clean history.
    pub fn new(seed: u64) -> Self {
        Self { history: History::new(seed), since: Tick(0), works: false, failures: 0 }
    }

    /// Takes in that a start is tried.
    pub fn begins(&mut self, now: Tick) {
        self.since = now;
        self.works = false;
    }

    /// Takes in that the daemon has said that it works; returns whether it had been taken to be unable to.
    pub fn works(&mut self) -> bool {
        let was_failing = self.is_failing();
        self.works = true;
        self.failures = 0;
        was_failing
    }

    /// Takes in that the daemon has ended or could not be made; returns the milliseconds until the next one is started.
    pub fn ended(&mut self, now: Tick) -> u64 {
        let most = if self.works { MAX_PAUSE_MS } else { MAX_FAILING_PAUSE_MS };
        self.failures = if self.works { 0 } else { self.failures.saturating_add(1) };
        self.works = false;
        let policy = RestartPolicy { backoff_first_ms: 10, backoff_max_ms: most, ..RestartPolicy::default() };
        // No exit code of it is final: somebody must read what the services write.
        match self.history.after_death(&policy, self.since, now, WaitStatus::exited(1)) {
            RestartDecision::After(ms) => ms,
            RestartDecision::Hopeless(_) | RestartDecision::GivenUp(_) => most,
        }
    }

    /// Returns whether no daemon can work, as far as one can tell.
    pub fn is_failing(&self) -> bool {
        self.failures > HOPEFUL
    }

    /// Returns how many daemons have ended since one worked.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::LogDaemonHistory;
    use crate::time::Tick;

    #[test]
    fn one_that_is_killed_all_the_time_is_back_soon_and_never_given_up() {
        let mut history = LogDaemonHistory::new(7);
        for n in 0..100 {
            history.begins(Tick(n * 10));
            assert!(!history.works());
            assert!(history.ended(Tick(n * 10 + 1)) <= 275);
            assert!(!history.is_failing());
        }
    }

    #[test]
    fn one_that_cannot_work_is_tried_less_and_less_often() {
        let mut history = LogDaemonHistory::new(7);
        let pauses: Vec<u64> = (0..14)
            .map(|_| {
                history.begins(Tick(0));
                history.ended(Tick(5))
            })
            .collect();
        assert!(pauses.first() == Some(&0) && pauses.iter().take(4).sum::<u64>() < 100, "{pauses:?}");
        assert!(pauses.last().is_some_and(|last| (9000..=11_000).contains(last)), "{pauses:?}");
    }

    #[test]
    fn one_that_works_after_all_has_its_failures_forgotten() {
        let mut history = LogDaemonHistory::new(7);
        let failing: Vec<bool> = (0..5)
            .map(|_| {
                history.begins(Tick(0));
                history.ended(Tick(5));
                history.is_failing()
            })
            .collect();
        assert_eq!(failing, [false, false, false, true, true]);
        history.begins(Tick(100));
        assert!(history.works());
        assert!(!history.is_failing() && !history.works());
        history.ended(Tick(200));
        assert!(!history.is_failing());
    }
}
