//! *Lives here:* the watcher's clocks: reading them, and writing a moment for people.
//!
//! *Does not live here:* which time counts (`gatevisor-liveness`, *attended time*).

use std::time::{Duration, SystemTime};

use gatevisor_liveness::{Attended, ClockReading};
use gatevisor_sys::clock::monotonic_ms;
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Returns a moment in attended time as the wall clock has it, in RFC 3339.
pub(super) fn moment(at: Attended, now: Attended) -> String {
    let ago = Duration::from_millis(now.since(at));
    let then = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    Timestamp::try_from(then).unwrap_or_default().to_string()
}

/// Returns what the clocks say now.
pub(super) fn reading() -> ClockReading {
    let boot = clock_gettime(ClockId::Boottime);
    let ms = boot.tv_sec.saturating_mul(1000).saturating_add(boot.tv_nsec / 1_000_000);
    ClockReading { monotonic_ms: monotonic_ms(), boottime_ms: u64::try_from(ms).unwrap_or(0) }
}
