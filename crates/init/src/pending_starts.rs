//! The waiting starts, and the descriptors for them.
//!
//! *Lives here:* the number of open readiness pipes, which need descriptors of ours.
//! *Does not live here:* whose turn it is (`gatevisor_core::start_queue`), whether descriptors can
//! be spared (`gatevisor_core::capacity`), and starting (`spawner`).

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use gatevisor_core::capacity::DescriptorBudget;
use gatevisor_core::start_queue::StartQueue;

use crate::id::Id;
use crate::service::ReadinessPipe;

/// The waiting starts, the processes between fork and exec, and what descriptors are left.
#[derive(Debug)]
pub(crate) struct PendingStarts {
    queue: StartQueue<Id>,
    descriptors: DescriptorBudget,
    readiness_pipes: Rc<Cell<usize>>,
}

impl PendingStarts {
    /// Returns no starts, for a process that may have so many descriptors.
    pub(crate) fn new(limit: Option<u64>) -> Self {
        let descriptors = DescriptorBudget { limit };
        Self { queue: StartQueue::default(), descriptors, readiness_pipes: Rc::default() }
    }

    /// Adds a start of an owner's service.
    pub(crate) fn push(&mut self, owner: u32, id: Id) {
        self.queue.push(owner, id);
    }

    /// Returns the service whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Id> {
        self.queue.pop()
    }

    /// Notes that a process of an owner was forked.
    pub(crate) fn forked(&mut self, owner: u32) {
        self.queue.forked(owner);
    }

    /// Notes that a process of an owner has reached its program, or never will; returns whether no
    /// other process is between fork and exec.
    pub(crate) fn arrived(&mut self, owner: u32) -> bool {
        self.queue.arrived(owner)
    }

    /// Returns whether no start is waiting.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns a readiness pipe that is counted while it is open.
    pub(crate) fn readiness_pipe(&self, reader: OwnedFd) -> ReadinessPipe {
        ReadinessPipe::new(reader, &self.readiness_pipes)
    }

    /// Returns whether there are descriptors for one more service, beside those of `services`. Its
    /// owner has `own` services, and `newest` is the newest descriptor.
    pub(crate) fn can_spare(&self, newest: u64, services: usize, own: usize) -> bool {
        let without_readiness = services.saturating_sub(self.readiness_pipes.get());
        self.descriptors.can_spare(newest, without_readiness, own)
    }
}
