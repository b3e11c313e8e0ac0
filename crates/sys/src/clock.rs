//! The two clocks: monotonic for decisions, wall for the record.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Returns milliseconds of the monotonic clock; only differences mean anything.
pub fn monotonic_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let millis = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000;
    seconds.saturating_mul(1000).saturating_add(millis)
}

/// Returns the wall clock as seconds since 1970 and nanoseconds.
pub fn wall() -> (i64, u32) {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
        Err(_) => (0, 0),
    }
}

/// Converts milliseconds to a time to wait for; a value that does not fit is longer than any
/// machine runs.
pub fn timespec(ms: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ms % 1000).unwrap_or(0).saturating_mul(1_000_000),
    }
}

/// Returns the time left until a moment, or `None` if there is no end.
pub fn remaining(until: Option<Instant>) -> Option<Timespec> {
    let left = until?.saturating_duration_since(Instant::now());
    // A value that does not fit is longer than any machine runs.
    Timespec::try_from(left).ok()
}
