//! Chooses the next process to start, and limits how many start at the same time.
//!
//! *Lives here:* the queue of starts, and the limits on processes between fork and exec.
//! *Does not live here:* forking.

use crate::fair::{Counts, FairQueue};

/// The most processes between fork and exec at the same time. Further starts wait in the queue.
const MAX_IN_FLIGHT: usize = 32;
/// The most of them that belong to one user.
const MAX_OF_ONE_OWNER: usize = 24;
/// The number of them that every user can have, however many others have.
const ALWAYS_IN_FLIGHT: usize = 4;

/// The waiting starts, and the processes that have not reached their program.
#[derive(Debug)]
pub struct StartQueue<K> {
    waiting: FairQueue<K>,
    in_flight: Counts,
}

impl<K> Default for StartQueue<K> {
    fn default() -> Self {
        Self { waiting: FairQueue::default(), in_flight: Counts::default() }
    }
}

impl<K> StartQueue<K> {
    /// Adds an owner's start after the owner's other ones.
    pub fn push(&mut self, owner: u32, start: K) {
        self.waiting.push(owner, start);
    }

    /// Returns the next start that may be made now. An owner whose programs take for ever to be
    /// executed makes nobody else wait.
    pub fn pop(&mut self) -> Option<K> {
        let (in_flight, all) = (&self.in_flight, self.in_flight.all());
        let may = |owner: u32| {
            let own = in_flight.of(owner);
            own < ALWAYS_IN_FLIGHT || (all < MAX_IN_FLIGHT && own < MAX_OF_ONE_OWNER)
        };
        self.waiting.pop(may).map(|(_, start)| start)
    }

    /// Notes that a process of an owner was forked.
    pub fn forked(&mut self, owner: u32) {
        self.in_flight.add(owner);
    }

    /// Notes that a process of an owner has reached its program, or never will; returns whether no
    /// other process is between fork and exec.
    pub fn arrived(&mut self, owner: u32) -> bool {
        self.in_flight.remove(owner);
        self.in_flight.all() == 0
    }

    /// Returns whether no start is waiting.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
