//! *Lives here:* attended time: monotonic time without the times in which the watcher did not run.
//!
//! *Does not live here:* reading a clock.
//!
//! The silence of a gateway proves something only while the watcher runs. While the watcher was
//! starved, stopped, frozen with its container or suspended with its machine, the gateways beside
//! it may have been no better off. So ages and deadlines are counted in attended time only, and
//! findings at a late wake-up are void. The wall clock is not used.

/// Milliseconds by which a wake-up may be late and the sleep still counts as attended.
const SLACK_MS: u64 = 1_000;
/// Milliseconds of lateness from which on findings of the meantime prove nothing.
const LAPSE_MS: u64 = 2_000;

/// Two clocks of the kernel, read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// Milliseconds of `CLOCK_MONOTONIC`, which stands still while the machine is suspended.
    pub monotonic_ms: u64,
    /// Milliseconds of `CLOCK_BOOTTIME`, which goes on while the machine is suspended.
    pub boottime_ms: u64,
}

/// A moment in attended time, in milliseconds since the watcher began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Attended(pub u64);

impl Attended {
    /// Returns the moment that is `ms` milliseconds later.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Returns the milliseconds since an earlier moment, or 0 if it is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What a wake-up shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakeUp {
    /// The time of the wake-up, in attended time.
    pub now: Attended,
    /// Whether the watcher was away before it. If so, what it receives now may be old.
    pub lapse: bool,
}

/// Counts the attended time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attention {
    last: Option<ClockReading>,
    now: Attended,
}

impl Attention {
    /// Handles a wake-up after a sleep that was meant to take at most `planned_ms`.
    pub fn wake(&mut self, at: ClockReading, planned_ms: u64) -> WakeUp {
        let Some(last) = self.last.replace(at) else { return WakeUp { now: self.now, lapse: false } };
        let passed = at.monotonic_ms.saturating_sub(last.monotonic_ms);
        let suspended = at.boottime_ms.saturating_sub(last.boottime_ms).saturating_sub(passed);
        self.now = self.now.plus(passed.min(planned_ms.saturating_add(SLACK_MS)));
        let lapse = passed > planned_ms.saturating_add(LAPSE_MS) || suspended > LAPSE_MS;
        WakeUp { now: self.now, lapse }
    }

    /// Returns the moment of the last wake-up.
    pub const fn now(&self) -> Attended {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns: monotonic time and boot time of a wake-up, planned length of the sleep, attended
    /// time, and whether the watcher had been away.
    fn check(rows: &[(u64, u64, u64, u64, bool)]) {
        let mut attention = Attention::default();
        for (monotonic_ms, boottime_ms, planned, now, lapse) in rows.iter().copied() {
            let wake = attention.wake(ClockReading { monotonic_ms, boottime_ms }, planned);
            assert_eq!((wake.now.0, wake.lapse), (now, lapse), "at {monotonic_ms}");
            assert_eq!(attention.now(), wake.now);
        }
    }

    #[test]
    fn time_in_which_the_watcher_sleeps_as_planned_counts_whole() {
        check(&[
            (500, 500, 0, 0, false),
            (10_500, 10_500, 10_000, 10_000, false),
            (11_000, 11_000, 10_000, 10_500, false),
        ]);
    }

    #[test]
    fn time_in_which_the_watcher_was_starved_or_stopped_does_not_count() {
        check(&[
            (0, 0, 0, 0, false),
            (600_000, 600_000, 10_000, 11_000, true),
            (610_000, 610_000, 10_000, 21_000, false),
        ]);
    }

    #[test]
    fn time_in_which_the_machine_was_suspended_does_not_count() {
        check(&[(0, 0, 0, 0, false), (4_000, 9_000_000, 10_000, 4_000, true)]);
    }

    #[test]
    fn a_clock_that_goes_back_counts_nothing() {
        check(&[
            (5_000, 5_000, 0, 0, false),
            (1_000, 1_000, 10_000, 0, false),
            (2_000, 2_000, 10_000, 1_000, false),
        ]);
    }
}
