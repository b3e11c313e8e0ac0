//! The present time, read once for everything in one batch.
//!
//! *Lives here:* the clocks.
//! *Does not live here:* the meaning of the time.

use gatevisor_sys::clock::{monotonic_ms, timespec};
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

    /// Returns the wall-clock time as a stamp for archives.
    pub fn tai(self) -> Tai64n {
        Tai64n::from_unix(self.seconds, self.nanos)
    }
}

/// Returns the time from now until a moment in monotonic milliseconds, for waiting.
pub(crate) fn until(at_ms: u64) -> Timespec {
    timespec(at_ms.saturating_sub(monotonic_ms()))
}
