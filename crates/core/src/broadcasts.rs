//! The broadcasts to fifodirs with many subscribers, which take several loop iterations.
//!
//! *Lives here:* how much of a broadcast is sent at once, whose is continued next, and which events
//! are lost: those of a user with too many long broadcasts, and those beyond the limit of one
//! fifodir.
//! *Does not live here:* fifodirs, and writing to a subscriber. The caller's closure does that for
//! a slice of a broadcast.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::fair::FairQueue;

/// The most subscribers that one broadcast reaches.
pub const MAX_SUBSCRIBERS: usize = 1000;
/// The most entries of a fifodir that one broadcast looks at.
pub const MAX_ENTRIES: usize = 16_384;
/// The slices that are done at once: one with entries, and one that shows that there are no more.
const SLICES_AT_ONCE: usize = 2;
/// The slices of long broadcasts that are done in one loop iteration.
const SLICES_AN_ITERATION: usize = 4;
/// The most broadcasts of one service that wait, with the one that is in progress.
const MAX_WAITING: usize = 64;
/// The most services of one user with a long broadcast. Each holds a descriptor.
const MAX_LONG_OF_OWNER: usize = 32;

/// Whether a broadcast reaches every subscriber of a fifodir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Everybody receives it, now or later.
    Everybody,
    /// Some do not, because there are too many subscribers or too many broadcasts.
    CutShort,
}

/// What came of a slice of a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slice {
    /// There are more entries.
    More,
    /// There are no more entries.
    Last,
    /// There may be more entries, but the broadcast has reached its limit.
    AtLimit,
}

/// What one broadcast has looked at and reached.
#[derive(Debug, Default)]
pub struct BroadcastTally {
    entries: usize,
    subscribers: usize,
}

impl BroadcastTally {
    /// Returns whether nothing was looked at yet.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Counts an entry; returns whether the limit is reached.
    pub fn count(&mut self, is_subscriber: bool) -> bool {
        self.entries = self.entries.saturating_add(1);
        self.subscribers = self.subscribers.saturating_add(usize::from(is_subscriber));
        self.subscribers >= MAX_SUBSCRIBERS || self.entries >= MAX_ENTRIES
    }
}

/// The long broadcasts `B` of all services `K`.
#[derive(Debug)]
pub struct BroadcastQueue<K, B> {
    /// The services with a long broadcast.
    queue: FairQueue<K>,
    /// The broadcasts of each of these services, in order.
    waiting: HashMap<K, VecDeque<B>>,
}

impl<K, B> Default for BroadcastQueue<K, B> {
    fn default() -> Self {
        Self { queue: FairQueue::default(), waiting: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash, B> BroadcastQueue<K, B> {
    /// Returns the last broadcast of a service that is not sent completely.
    pub fn last_of(&self, service: K) -> Option<&B> {
        self.waiting.get(&service)?.back()
    }

    /// Begins a broadcast of a service, unless it has to wait for an earlier one. `send` sends a
    /// slice. If that is not enough, the rest is for [`Self::go_on`].
    pub fn begin(&mut self, service: K, owner: u32, mut one: B, send: impl Fn(&mut B) -> Slice) -> Reach {
        if let Some(earlier) = self.waiting.get_mut(&service) {
            if earlier.len() >= MAX_WAITING {
                return Reach::CutShort;
            }
            earlier.push_back(one);
            return Reach::Everybody;
        }
        for _ in 0..SLICES_AT_ONCE {
            match send(&mut one) {
                Slice::More => {}
                Slice::Last => return Reach::Everybody,
                Slice::AtLimit => return Reach::CutShort,
            }
        }
        if self.queue.count_of(owner) >= MAX_LONG_OF_OWNER {
            return Reach::CutShort;
        }
        self.waiting.insert(service, [one].into());
        self.queue.push(owner, service);
        Reach::Everybody
    }

    /// Continues the long broadcasts, those of each owner in turn; returns the services whose
    /// broadcast was cut short.
    pub fn go_on(&mut self, send: impl Fn(&mut B) -> Slice) -> Vec<K> {
        let mut cut_short = Vec::new();
        for _ in 0..SLICES_AN_ITERATION {
            let Some((owner, service)) = self.queue.pop(|_| true) else { break };
            let Some(waiting) = self.waiting.get_mut(&service) else { continue };
            let slice = waiting.front_mut().map_or(Slice::Last, &send);
            if slice == Slice::AtLimit {
                cut_short.push(service);
            }
            if slice != Slice::More {
                waiting.pop_front();
            }
            if waiting.is_empty() {
                self.waiting.remove(&service);
            } else {
                self.queue.push(owner, service);
            }
        }
        cut_short
    }

    /// Returns whether every broadcast is sent.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
