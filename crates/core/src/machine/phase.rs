//! The phases of a service.
//!
//! *Lives here:* the phases.
//! *Does not live here:* the transitions between them.

use gatevisor_wire::Pid;

use crate::effect::Leftover;
use crate::time::Tick;

/// Milliseconds between two attempts to kill a process that should be dead.
pub(super) const KILL_AGAIN_MS: u64 = 5000;

/// A phase: what runs for the service now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServicePhase {
    /// Nothing runs. A start may be due.
    Down { start_at: Option<Tick> },
    /// A process that has not reached its program; the pid is unknown until the fork is done.
    Starting { pid: Option<Pid>, kill_at: Option<Tick> },
    /// A process that waits until an earlier one releases the lock. For others, the service is
    /// down.
    Waiting { pid: Pid },
    /// `run`, or the command that it became.
    Up { pid: Pid, since: Tick, kill_at: Option<Tick> },
    /// The finish script; the pid is unknown until the fork is done.
    Finishing { pid: Option<Pid>, kill_at: Option<Tick> },
    /// The process that ends the leftovers of an earlier run.
    Clearing(Cleanup),
    /// The process that asks the service, which has ended, whether it wants to be started again.
    Asking(HandoffInquiry),
    /// Nothing, and nothing will be started any more.
    Ended,
}

/// The asking process, from its start on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HandoffInquiry {
    /// Its pid, unknown until the fork is done.
    pub(super) pid: Option<Pid>,
    /// When to kill it.
    pub(super) kill_at: Option<Tick>,
    /// Whether the death before it has not been announced yet.
    pub(super) unannounced: bool,
}

impl HandoffInquiry {
    /// Makes it end by this time at the latest.
    pub(super) fn end_by(&mut self, cap: Tick) {
        self.kill_at = Some(self.kill_at.map_or(cap, |at| at.min(cap)));
    }
}

/// The process that ends leftovers, from its start on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cleanup {
    pub(super) whose: Leftover,
    /// Its pid, unknown until the fork is done.
    pub(super) pid: Option<Pid>,
    /// When to tell it to kill at once, or when to kill it.
    pub(super) due: Option<Tick>,
    /// Whether it was told to kill at once.
    pub(super) advanced: bool,
    /// Whether the death before it has not been announced yet.
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
        // Without a pid, the answer to the fork is about to come, and nothing is due.
        self.pid.and(self.due)
    }

    /// Makes it end by this time at the latest.
    pub(super) fn end_by(&mut self, cap: Tick) {
        self.due = Some(self.due.map_or(cap, |due| due.min(cap)));
    }
}

/// The open question about a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HandoffQuestion {
    /// The process of `run` whose exit code has led to the question.
    pub(super) died: Pid,
    /// Its exit code.
    pub(super) code: u8,
    /// How long it had run.
    pub(super) ran_ms: u64,
    /// What went wrong when it was last asked.
    pub(super) problem: Option<&'static str>,
}
