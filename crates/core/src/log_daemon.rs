//! When a log daemon that ended is started again, and when its services can no longer wait for one.
//!
//! *Lives here:* distinguishing a daemon that others ended from one that cannot work at all; the
//! same for the process that runs beside the supervisor, which does not report that it works.
//! *Does not live here:* the process, its pipes, and what happens to unread bytes.

use gatevisor_wire::signal;
use gatevisor_wire::wait::WaitStatus;

use crate::restart::{History, RestartDecision, RestartPolicy};
use crate::time::Tick;

/// After this many ends in a row, each before the daemon worked, it is considered unable to work.
const HOPEFUL: u32 = 3;
/// The longest delay in milliseconds before a daemon that had worked is started again. It is short
/// because services block as soon as their pipes are full.
const MAX_PAUSE_MS: u64 = 250;
/// The longest delay for a daemon that had not worked: what failed a moment ago will probably fail
/// again.
const MAX_FAILING_PAUSE_MS: u64 = 10_000;
/// For this many milliseconds without a daemon that works, one that was killed before it worked
/// counts as ended by others. Later it counts as unable to work, because its services may wait.
const KILLED_BY_OTHERS_MS: u64 = 60_000;

/// Milliseconds after which a process that reports nothing is believed to work.
const SEEMS_TO_WORK_MS: u64 = 30_000;

/// How often a log daemon is started again during a shutdown.
const LAST_CHANCES: u32 = 3;

/// What to do after the end of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogDaemonRestart {
    /// Start none any more.
    Never,
    /// Start the next one at once.
    Now,
    /// Start the next one at this time.
    At(Tick),
}

/// The history of one owner's log daemons.
#[derive(Debug)]
pub struct LogDaemonHistory {
    history: History,
    since: Tick,
    works: bool,
    /// The first start since a daemon last worked.
    without_since: Option<Tick>,
    /// Ends since a daemon last worked.
    failures: u32,
    /// Whether the failure was reported.
    is_reported: bool,
    /// Restarts during the shutdown.
    chances_used: u32,
}

impl LogDaemonHistory {
    /// Returns a clean history.
    pub fn new(seed: u64) -> Self {
        Self {
            history: History::new(seed),
            since: Tick(0),
            works: false,
            without_since: None,
            failures: 0,
            is_reported: false,
            chances_used: 0,
        }
    }

    /// Notes that a start is attempted.
    pub fn begins(&mut self, now: Tick) {
        self.since = now;
        self.works = false;
        self.without_since.get_or_insert(now);
    }

    /// Notes that the daemon has reported that it works; returns whether a failure had been
    /// reported before.
    pub fn works(&mut self) -> bool {
        self.works = true;
        self.without_since = None;
        self.failures = 0;
        std::mem::take(&mut self.is_reported)
    }

    /// Notes that the daemon works if it has run for long, because it does not report that itself.
    pub fn works_if_it_ran_long(&mut self, now: Tick) {
        if now.since(self.since) >= SEEMS_TO_WORK_MS {
            self.works();
        }
    }

    /// Notes that the daemon has ended. If we are `going_down`, the next one only writes the rest.
    pub fn ended(&mut self, now: Tick, how: WaitStatus, going_down: bool) -> LogDaemonRestart {
        if !going_down {
            return LogDaemonRestart::At(self.restart_at(now, self.works || self.was_killed(now, how)));
        }
        if how.success() || self.chances_used >= LAST_CHANCES {
            return LogDaemonRestart::Never;
        }
        self.chances_used = self.chances_used.saturating_add(1);
        LogDaemonRestart::Now
    }

    /// Notes that nobody waits any longer for the rest to be written.
    pub fn give_up(&mut self) {
        self.chances_used = LAST_CHANCES;
    }

    /// Returns whether to report now that no daemon can work: once, until one works again.
    pub fn must_report(&mut self) -> bool {
        self.is_failing() && !std::mem::replace(&mut self.is_reported, true)
    }

    /// Notes that the daemon could not be started; returns when to start the next one.
    pub fn failed(&mut self, now: Tick) -> Tick {
        self.restart_at(now, self.works)
    }

    /// Returns whether the daemon was killed by others. That it had not worked yet says nothing
    /// about the next one then.
    fn was_killed(&self, now: Tick, how: WaitStatus) -> bool {
        let is_soon = self.without_since.is_none_or(|since| now.since(since) < KILLED_BY_OTHERS_MS);
        is_soon && how.signal() == Some(signal::KILL)
    }

    /// Returns when to start the next daemon. It may work if this one `could_work`.
    fn restart_at(&mut self, now: Tick, could_work: bool) -> Tick {
        let most = if could_work { MAX_PAUSE_MS } else { MAX_FAILING_PAUSE_MS };
        if !could_work {
            self.failures = self.failures.saturating_add(1);
        }
        self.works = false;
        let policy = RestartPolicy { backoff_first_ms: 10, backoff_max_ms: most, ..RestartPolicy::default() };
        // No exit code is final, because somebody must read the output of the services.
        now.after(match self.history.after_death(&policy, self.since, now, WaitStatus::exited(1)) {
            RestartDecision::After(ms) => ms,
            RestartDecision::Never(_) | RestartDecision::GivenUp(_) => most,
        })
    }

    /// Returns whether, as far as is known, no daemon can work.
    pub fn is_failing(&self) -> bool {
        self.failures > HOPEFUL
    }

    /// Returns how many daemons have ended since one last worked.
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
    fn a_log_daemon_that_is_killed_all_the_time_is_restarted_soon_and_never_given_up() {
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
    fn a_log_daemon_that_is_killed_before_it_works_is_restarted_soon_and_counts_as_failing_after_a_minute() {
        let mut history = LogDaemonHistory::new(7);
        let killed = WaitStatus::killed(9).unwrap();
        let mut now = 0;
        while now < 59_000 {
            history.begins(Tick(now));
            let At(Tick(at)) = history.ended(Tick(now + 3), killed, false) else { panic!("no restart") };
            assert!(at <= now + 3 + 275 && !history.is_failing(), "at {now}: {at}");
            now = at;
        }
        for now in [61_000, 62_000, 63_000, 64_000] {
            assert!(!history.must_report());
            history.begins(Tick(now));
            history.ended(Tick(now + 3), killed, false);
        }
        assert!(history.must_report());
        history.begins(Tick(70_000));
        history.works();
        assert!(!history.is_failing());
        // A fault of its own counts from the first time on.
        for now in 0..4 {
            history.begins(Tick(80_000 + now));
            history.ended(Tick(80_000 + now), WaitStatus::killed(11).unwrap(), false);
        }
        assert!(history.is_failing());
    }

    #[test]
    fn a_log_daemon_that_cannot_work_is_restarted_less_and_less_often() {
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
    fn the_failures_of_a_log_daemon_that_works_are_forgotten_and_later_ones_are_reported_again() {
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
    fn a_process_that_does_not_report_works_when_it_has_run_for_half_a_minute() {
        let mut history = LogDaemonHistory::new(7);
        let mut ends_after = |ran_ms| {
            history.begins(Tick(0));
            history.works_if_it_ran_long(Tick(ran_ms));
            let pause = history.failed(Tick(ran_ms)).since(Tick(ran_ms));
            (history.must_report(), history.is_failing(), pause <= 275)
        };
        let ends: Vec<_> = (0..20).map(|_| ends_after(29_999)).collect();
        let reported: Vec<usize> = (0..20).filter(|end| ends[*end].0).collect();
        assert_eq!((reported, ends[2].1, ends[3].1, ends[19].2), (vec![3], false, true, false));
        assert_eq!(ends_after(30_000), (false, false, true), "it worked");
        assert_eq!((0..4).map(|_| ends_after(5).0).collect::<Vec<_>>(), [false, false, false, true]);
    }

    #[test]
    fn during_a_shutdown_a_failing_log_daemon_is_restarted_three_times_at_most() {
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
