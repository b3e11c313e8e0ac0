//! The present, read once for everything that one batch needs of it.
//!
//! *Lives here:* the clocks. *Does not live here:* what the time means.

use gatevisor_sys::clock::monotonic_ms;
use gatevisor_wire::tai::Tai64n;
use rustix::event::Timespec;

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchTime {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
    /// Milliseconds of the monotonic clock.
    pub tick_ms: u64,
}

impl BatchTime {
    /// Reads the clocks.
    pub fn now() -> Self {
        let (seconds, nanos) = gatevisor_sys::clock::wall();
        Self { seconds, nanos, tick_ms: monotonic_ms() }
    }

    /// Returns the wall clock's part as a stamp for archives.
    pub fn tai(self) -> Tai64n {
        Tai64n::from_unix(self.seconds, self.nanos)
    }
}

/// Returns the time from now until a monotonic moment in milliseconds, to wait for.
pub(crate) fn until(at_ms: u64) -> Timespec {
    let ms = at_ms.saturating_sub(monotonic_ms());
    Timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ms % 1000).unwrap_or(0).saturating_mul(1_000_000),
    }
}
