//! Time as an argument of the machines.

use gatevisor_wire::tai::Tai64n;

/// A point of the monotonic clock, in milliseconds. Only differences mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// Returns the point that is `ms` milliseconds later.
    #[must_use]
    pub const fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Returns the milliseconds since `earlier`, or 0 if it is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One moment on both clocks: the monotonic clock is for decisions, the wall clock for records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub tick: Tick,
    /// The wall clock.
    pub wall: Tai64n,
}

impl Now {
    /// Returns the wall-clock time `ms` milliseconds later.
    pub fn wall_after(self, ms: u64) -> Tai64n {
        self.wall.checked_add(std::time::Duration::from_millis(ms)).unwrap_or(self.wall)
    }
}
