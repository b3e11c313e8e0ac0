//! What runs of a service.
//!
//! *Lives here:* the phases of its life. *Does not live here:* what leads from one to another.

use gatevisor_wire::Pid;

use crate::effect::Leftover;
use crate::time::Tick;

/// Milliseconds between two attempts to kill what should have been dead.
pub(super) const KILL_AGAIN_MS: u64 = 5000;

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServicePhase {
    /// Nothing; a start may be due.
    Down { start_at: Option<Tick> },
    /// A process that has not reached its program; the pid is unknown until the fork is done.
    Starting { pid: Option<Pid>, kill_at: Option<Tick> },
    /// A process that waits until an earlier one lets go of the lock. To others the service is
    /// down.
    Waiting { pid: Pid },
    /// The service.
    Up { pid: Pid, since: Tick, kill_at: Option<Tick> },
    /// The finish script; the pid is unknown until the fork is done.
    Finishing { pid: Option<Pid>, kill_at: Option<Tick> },
    /// What ends the processes that an earlier life of the service has left behind; nothing of it
    /// is left after that.
    Clearing(Cleanup),
    /// Nothing, ever again.
    Ended,
}

/// The process that ends what was left behind, starting or at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cleanup {
    pub(super) whose: Leftover,
    /// The process that does it; unknown until the fork is done.
    pub(super) pid: Option<Pid>,
    /// When it is told to kill at once, or is killed itself.
    pub(super) due: Option<Tick>,
    /// It was told to kill at once.
    pub(super) advanced: bool,
    /// The death before it is not announced yet.
    pub(super) unannounced: bool,
}

impl Cleanup {
    pub(super) fn of(whose: Leftover, unannounced: bool) -> Self {
        Self { whose, pid: None, due: None, advanced: false, unannounced }
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        self.pid
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        // What was forked is about to be told.
        self.pid.and(self.due)
    }

    /// Gives it no more time than until then.
    pub(super) fn end_by(&mut self, cap: Tick) {
        self.due = Some(self.due.map_or(cap, |due| due.min(cap)));
    }
}
