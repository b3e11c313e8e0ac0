//! Which service's process is started next, and how many are started at one time.
//!
//! *Lives here:* the queue of starts, and the numbers of processes between fork and exec.
//! *Does not live here:* forking.

use crate::fair::{Counts, FairQueue};

/// Processes between fork and exec at one time; more wait in the queue.
const MAX_IN_FLIGHT: usize = 32;
/// Those of one user at one time.
const MAX_OF_ONE_OWNER: usize = 24;
/// Those that a user can have there however many of others are.
const ALWAYS_IN_FLIGHT: usize = 4;

/// The starts that wait, and the processes that have not reached their program.
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
    /// Adds a start of an owner's behind that owner's other ones.
    pub fn push(&mut self, owner: u32, start: K) {
        self.waiting.push(owner, start);
    }

    /// Returns the next start that may be made now. An owner whose programs take for ever to be
    /// executed keeps nobody else waiting.
    pub fn pop(&mut self) -> Option<K> {
        let (in_flight, all) = (&self.in_flight, self.in_flight.all());
        let may = |owner: u32| {
            let own = in_flight.of(owner);
            own < ALWAYS_IN_FLIGHT || (all < MAX_IN_FLIGHT && own < MAX_OF_ONE_OWNER)
        };
        self.waiting.pop(may).map(|(_, start)| start)
    }

    /// Takes in that a process of an owner's was forked.
    pub fn forked(&mut self, owner: u32) {
        self.in_flight.add(owner);
    }

    /// Takes in that a process of an owner's has reached its program, or never will; returns
    /// whether no other one is between fork and exec.
    pub fn arrived(&mut self, owner: u32) -> bool {
        self.in_flight.remove(owner);
        self.in_flight.all() == 0
    }

    /// Returns whether no start waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
