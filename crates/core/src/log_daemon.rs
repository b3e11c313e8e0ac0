//! When a log daemon that ended starts again, and when its services can no longer wait for one.
//!
//! *Lives here:* telling a daemon that was ended by others from one that cannot work at all. *Does
//! not live here:* the process, its pipes, and what is done with the bytes that nobody reads.

use gatevisor_wire::wait::WaitStatus;

use crate::restart::{History, RestartDecision, RestartPolicy};
use crate::time::Tick;

/// Ends in a row, each before it worked, after which it is taken to be unable to.
const HOPEFUL: u32 = 3;
/// Milliseconds before it starts again where it worked: its services wait as soon as their pipes
/// are full.
const MAX_PAUSE_MS: u64 = 250;
/// The same where it did not: what could not be a moment ago can hardly be now.
const MAX_FAILING_PAUSE_MS: u64 = 10_000;

/// Times that a log daemon is started again while we are going down.
const LAST_CHANCES: u32 = 3;

/// What follows from the end of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogDaemonRestart {
    /// None is started any more.
    Never,
    /// The next one is started at once.
    Now,
    /// The next one is started then.
    At(Tick),
}

/// How the daemons of one log owner have fared.
#[derive(Debug)]
pub struct LogDaemonHistory {
    history: History,
    since: Tick,
    works: bool,
    /// Ends since one worked.
    failures: u32,
    /// It was reported that none can work.
    is_reported: bool,
    /// Restarts while we are going down.
    chances_used: u32,
}

impl LogDaemonHistory {
    /// Returns a clean history.
    pub fn new(seed: u64) -> Self {
        Self {
            history: History::new(seed),
            since: Tick(0),
            works: false,
            failures: 0,
            is_reported: false,
            chances_used: 0,
        }
    }

    /// Takes in that a start is tried.
    pub fn begins(&mut self, now: Tick) {
        self.since = now;
        self.works = false;
    }

    /// Takes in that the daemon has said that it works; returns whether it had been reported that
    /// none can.
    pub fn works(&mut self) -> bool {
        self.works = true;
        self.failures = 0;
        std::mem::take(&mut self.is_reported)
    }

    /// Takes in that the daemon has ended. When we are `going_down`, the next one is only to write
    /// what is left.
    pub fn ended(&mut self, now: Tick, how: WaitStatus, going_down: bool) -> LogDaemonRestart {
        if !going_down {
            return LogDaemonRestart::At(self.failed(now));
        }
        if how.success() || self.chances_used >= LAST_CHANCES {
            return LogDaemonRestart::Never;
        }
        self.chances_used = self.chances_used.saturating_add(1);
        LogDaemonRestart::Now
    }

    /// Takes in that nobody waits any longer for what is left to be written.
    pub fn give_up(&mut self) {
        self.chances_used = LAST_CHANCES;
    }

    /// Returns whether it is to be reported now that no daemon can work: once, until one does.
    pub fn must_report(&mut self) -> bool {
        self.is_failing() && !std::mem::replace(&mut self.is_reported, true)
    }

    /// Takes in that the daemon has ended or could not be made; returns when the next one is
    /// started.
    pub fn failed(&mut self, now: Tick) -> Tick {
        let most = if self.works { MAX_PAUSE_MS } else { MAX_FAILING_PAUSE_MS };
        self.failures = if self.works { 0 } else { self.failures.saturating_add(1) };
        self.works = false;
        let policy = RestartPolicy { backoff_first_ms: 10, backoff_max_ms: most, ..RestartPolicy::default() };
        // No exit code of it is final: somebody must read what the services write.
        now.after(match self.history.after_death(&policy, self.since, now, WaitStatus::exited(1)) {
            RestartDecision::After(ms) => ms,
            RestartDecision::Hopeless(_) | RestartDecision::GivenUp(_) => most,
        })
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
    use super::{LogDaemonHistory, LogDaemonRestart, LogDaemonRestart::At};
    use crate::time::Tick;
    use gatevisor_wire::wait::WaitStatus;

    #[test]
    fn one_that_is_killed_all_the_time_is_back_soon_and_never_given_up() {
        let mut history = LogDaemonHistory::new(7);
        let killed = WaitStatus::killed(9).unwrap();
        for n in 0..100 {
            history.begins(Tick(n * 10));
            assert!(!history.works());
            let restart = history.ended(Tick(n * 10 + 1), killed, false);
            assert!(matches!(restart, At(Tick(at)) if at <= n * 10 + 1 + 275), "{restart:?}");
            assert!(!history.is_failing() && !history.must_report());
        }
    }

    #[test]
    fn one_that_cannot_work_is_tried_less_and_less_often() {
        let mut history = LogDaemonHistory::new(7);
        let pauses: Vec<u64> = (0..14)
            .map(|_| {
                history.begins(Tick(0));
                history.failed(Tick(5)).since(Tick(5))
            })
            .collect();
        assert!(pauses.first() == Some(&0) && pauses.iter().take(4).sum::<u64>() < 100, "{pauses:?}");
        assert!(pauses.last().is_some_and(|last| (9000..=11_000).contains(last)), "{pauses:?}");
    }

    #[test]
    fn one_that_works_after_all_has_its_failures_forgotten_and_may_be_reported_again() {
        let mut history = LogDaemonHistory::new(7);
        let reports = |count: usize, history: &mut LogDaemonHistory| -> Vec<bool> {
            let one = |_| {
                history.begins(Tick(0));
                history.failed(Tick(5));
                history.must_report()
            };
            (0..count).map(one).collect()
        };
        assert_eq!(reports(6, &mut history), [false, false, false, true, false, false]);
        history.begins(Tick(100));
        assert!(history.works(), "it was reported");
        assert!(!history.is_failing() && !history.works());
        assert_eq!(reports(4, &mut history), [false, false, false, true]);
    }

    #[test]
    fn while_we_go_down_one_that_fails_has_three_more_chances_to_write_what_is_left() {
        let mut history = LogDaemonHistory::new(7);
        let end =
            |code, history: &mut LogDaemonHistory| history.ended(Tick(0), WaitStatus::exited(code), true);
        assert_eq!(end(0, &mut history), LogDaemonRestart::Never, "everything is written");
        let ends: Vec<_> = (0..4).map(|_| end(1, &mut history)).collect();
        assert_eq!(
            ends,
            [LogDaemonRestart::Now, LogDaemonRestart::Now, LogDaemonRestart::Now, LogDaemonRestart::Never]
        );
        let mut history = LogDaemonHistory::new(7);
        history.give_up();
        assert_eq!(end(1, &mut history), LogDaemonRestart::Never);
    }
}
