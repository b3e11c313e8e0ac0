//! When a helper of the supervisor that ended is started again: a log daemon, or the companion.
//!
//! *Lives here:* distinguishing a helper that cannot work at all from one that can, and, of log
//! daemons, from one that others ended; when that is reported.
//! *Does not live here:* the processes, a log daemon's pipes, and what happens to unread bytes.

use gatevisor_wire::signal;
use gatevisor_wire::wait::WaitStatus;

use crate::restart::{History, RestartDecision, RestartPolicy};
use crate::time::Tick;

/// After this many ends in a row, each before the helper worked, it is considered unable to work.
const HOPEFUL: u32 = 3;
/// The longest delay in milliseconds before a helper that had worked is started again. It is short
/// because services block as soon as the pipes to their log daemon are full.
const MAX_PAUSE_MS: u64 = 250;
/// The longest delay for a helper that had not worked: what failed a moment ago will probably fail
/// again.
const MAX_FAILING_PAUSE_MS: u64 = 10_000;
/// For this many milliseconds without a helper that works, one that was killed before it worked
/// counts as ended by others. Later it counts as unable to work, because its services may wait.
const KILLED_BY_OTHERS_MS: u64 = 60_000;

/// Milliseconds after which a helper that reports nothing is believed to work.
const SEEMS_TO_WORK_MS: u64 = 30_000;

/// How often a helper is started again during a shutdown.
const LAST_CHANCES: u32 = 3;

/// What to do after the end of a helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelperRestart {
    /// Start none any more.
    Never,
    /// Start the next one at once.
    Now,
    /// Start the next one at this time.
    At(Tick),
}

/// How the processes of one helper have ended: one owner's log daemons, or the companions.
#[derive(Debug)]
pub struct HelperHistory {
    history: History,
    since: Tick,
    works: bool,
    /// The first start since one last worked.
    without_since: Option<Tick>,
    /// Ends since one last worked.
    failures: u32,
    /// Whether the failure was reported.
    is_reported: bool,
    /// Restarts during the shutdown.
    chances_used: u32,
}

impl HelperHistory {
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

    /// Notes that the helper has reported that it works; returns whether a failure had been
    /// reported before.
    pub fn works(&mut self) -> bool {
        self.works = true;
        self.without_since = None;
        self.failures = 0;
        std::mem::take(&mut self.is_reported)
    }

    /// Notes that the helper works if it has run for long, because it does not report that itself.
    pub fn works_if_it_ran_long(&mut self, now: Tick) {
        if now.since(self.since) >= SEEMS_TO_WORK_MS {
            self.works();
        }
    }

    /// Notes that the helper has ended. If we are `going_down`, the next one only writes the rest.
    pub fn ended(&mut self, now: Tick, how: WaitStatus, going_down: bool) -> HelperRestart {
        if !going_down {
            return HelperRestart::At(self.restart_at(now, self.works || self.was_killed(now, how)));
        }
        if how.success() || self.chances_used >= LAST_CHANCES {
            return HelperRestart::Never;
        }
        self.chances_used = self.chances_used.saturating_add(1);
        HelperRestart::Now
    }

    /// Notes that nobody waits any longer for the rest to be written.
    pub fn give_up(&mut self) {
        self.chances_used = LAST_CHANCES;
    }

    /// Returns whether to report now that no helper can work: once, until one works again.
    pub fn must_report(&mut self) -> bool {
        self.is_failing() && !std::mem::replace(&mut self.is_reported, true)
    }

    /// Notes that the helper could not be started; returns when to start the next one.
    pub fn failed(&mut self, now: Tick) -> Tick {
        self.restart_at(now, self.works)
    }

    /// Returns whether the helper was killed by others. That it had not worked yet says nothing
    /// about the next one then.
    fn was_killed(&self, now: Tick, how: WaitStatus) -> bool {
        let is_soon = self.without_since.is_none_or(|since| now.since(since) < KILLED_BY_OTHERS_MS);
        is_soon && how.signal() == Some(signal::KILL)
    }

    /// Returns when to start the next helper. It may work if this one `could_work`.
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

    /// Returns whether, as far as is known, no helper can work.
    pub fn is_failing(&self) -> bool {
        self.failures > HOPEFUL
    }

    /// Returns how many helpers have ended since one last worked.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}
