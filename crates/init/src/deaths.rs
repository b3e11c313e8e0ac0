//! The ends of our children, as the kernel tells them.
//!
//! *Lives here:* waiting for a child without blocking, and whether more may have ended.
//! *Does not live here:* which part learns of an end (`supervisor/deaths`).

use gatevisor_core::Tick;
use gatevisor_sys::Errno;
use gatevisor_wire::Pid;
use gatevisor_wire::wait::WaitStatus;
use rustix::process::{WaitOptions, wait};

use crate::memory;

/// The most processes that are reaped at the very end.
const LAST_DEATHS: usize = 1 << 20;

/// The children that have ended.
#[derive(Debug)]
pub(crate) struct Deaths {
    /// The kernel's count of kills because memory ran out; `None` if it cannot be read.
    memory: Option<memory::Counter>,
    /// Whether some ended processes may not be reaped yet.
    more: bool,
}

/// What happened to a child.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ChildChange {
    Ended(Pid, WaitStatus),
    /// A signal has stopped it.
    Stopped(Pid),
    /// Nothing that counts.
    Nothing,
    /// All children that are left are running.
    AllRunning,
    NoChildren,
}

impl Deaths {
    pub(crate) fn new(now: Tick) -> Self {
        Self { memory: memory::Counter::find(now), more: false }
    }

    /// Returns the next change of a child. An ended one is reaped.
    pub(crate) fn next() -> ChildChange {
        // The kernel also tells of children that a signal has stopped.
        match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            Ok(Some((pid, status))) => match Pid::new(pid.as_raw_pid()) {
                Some(pid) if status.stopped() => ChildChange::Stopped(pid),
                Some(pid) => ChildChange::Ended(pid, WaitStatus::from_raw(status.as_raw())),
                None => ChildChange::Nothing,
            },
            Ok(None) => ChildChange::AllRunning,
            Err(Errno::INTR) => ChildChange::Nothing,
            Err(_) => ChildChange::NoChildren,
        }
    }

    /// Notes that more children may have ended: the loop must not block before they are reaped,
    /// because no further event may come.
    pub(crate) fn expect_more(&mut self) {
        self.more = true;
    }

    /// Returns whether more children may have ended.
    pub(crate) fn expects_more(&self) -> bool {
        self.more
    }

    /// Returns whether more children may have ended, and forgets that.
    pub(crate) fn take_more(&mut self) -> bool {
        std::mem::take(&mut self.more)
    }

    /// Returns whether memory that ran out explains a death without another explanation.
    pub(crate) fn are_explained_by_memory(&mut self, now: Tick) -> bool {
        self.memory.as_mut().is_some_and(|counter| counter.explains_a_death(now))
    }

    /// Reaps the processes that have ended, so that none are left for our own parent.
    pub(crate) fn reap_last() {
        for _ in 0..LAST_DEATHS {
            if !matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {
                break;
            }
        }
    }
}
