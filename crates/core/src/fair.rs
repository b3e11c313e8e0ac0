//! The order and the amount of work, so that many requests of one user do not delay another user's.
//!
//! *Lives here:* a queue in which owners take turns, and token buckets. *Does not live here:* the
//! work.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Queues the work of each owner in order. The owners take turns.
#[derive(Debug)]
pub struct FairQueue<T> {
    /// The waiting owners, the next one first.
    owners: VecDeque<u32>,
    waiting: HashMap<u32, VecDeque<T>>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { owners: VecDeque::new(), waiting: HashMap::new() }
    }
}

impl<T> FairQueue<T> {
    /// Adds work of an owner after the owner's other work.
    pub fn push(&mut self, owner: u32, work: T) {
        let own = self.waiting.entry(owner).or_default();
        if own.is_empty() {
            self.owners.push_back(owner);
        }
        own.push_back(work);
    }

    /// Returns the next work of the next owner for whom `may` is true.
    pub fn pop(&mut self, may: impl Fn(u32) -> bool) -> Option<(u32, T)> {
        let at = self.owners.iter().position(|&owner| may(owner))?;
        let owner = self.owners.remove(at)?;
        let own = self.waiting.get_mut(&owner)?;
        let work = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&owner);
        } else {
            self.owners.push_back(owner);
        }
        work.map(|work| (owner, work))
    }

    /// Returns whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Returns how much work of an owner is waiting.
    pub fn count_of(&self, owner: u32) -> usize {
        self.waiting.get(&owner).map_or(0, VecDeque::len)
    }

    /// Returns whether any work of this owner is waiting.
    pub fn waits(&self, owner: u32) -> bool {
        self.waiting.contains_key(&owner)
    }
}

/// How much each key has used of a budget that is refilled over time.
#[derive(Debug)]
pub struct TokenBuckets<K> {
    used: HashMap<K, usize>,
}

impl<K> Default for TokenBuckets<K> {
    fn default() -> Self {
        Self { used: HashMap::new() }
    }
}

impl<K: Eq + Hash> TokenBuckets<K> {
    /// Returns the rest of a budget of this size.
    pub fn left(&self, of: &K, size: usize) -> usize {
        size.saturating_sub(self.used.get(of).copied().unwrap_or(0))
    }

    /// Counts what was used, which may be more than the rest.
    pub fn charge(&mut self, whom: K, used: usize) {
        let sum = self.used.entry(whom).or_default();
        *sum = sum.saturating_add(used);
    }

    /// Refills every budget by this amount.
    pub fn renew(&mut self, given: usize) {
        self.used.retain(|_, used| {
            *used = used.saturating_sub(given);
            *used > 0
        });
    }
}

/// Counts the operations that each owner has in flight.
#[derive(Debug, Default)]
pub struct Counts {
    all: usize,
    of_owner: HashMap<u32, usize>,
}

impl Counts {
    /// Returns the count of all owners.
    pub fn all(&self) -> usize {
        self.all
    }

    /// Returns the count of an owner.
    pub fn of(&self, owner: u32) -> usize {
        self.of_owner.get(&owner).copied().unwrap_or(0)
    }

    /// Increments an owner's count.
    pub fn add(&mut self, owner: u32) {
        self.all = self.all.saturating_add(1);
        let count = self.of_owner.entry(owner).or_default();
        *count = count.saturating_add(1);
    }

    /// Decrements an owner's count.
    pub fn remove(&mut self, owner: u32) {
        if let Some(count) = self.of_owner.get_mut(&owner) {
            self.all = self.all.saturating_sub(1);
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_owner.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_with_much_work_waits_for_an_owner_with_little() {
        let mut queue = FairQueue::default();
        for n in 0..20_000 {
            queue.push(1, n);
        }
        queue.push(2, 100);
        queue.push(2, 101);
        queue.push(3, 200);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(|_| true)).take(7).collect();
        assert_eq!(order, [(1, 0), (2, 100), (3, 200), (1, 1), (2, 101), (1, 2), (1, 3)]);
    }

    #[test]
    fn an_owner_who_may_not_go_on_keeps_its_place_and_nobody_waits_for_it() {
        let mut queue = FairQueue::default();
        for (owner, work) in [(1, 'a'), (1, 'b'), (2, 'c')] {
            queue.push(owner, work);
        }
        assert_eq!(queue.pop(|owner| owner != 1), Some((2, 'c')));
        assert_eq!(queue.pop(|owner| owner != 1), None);
        assert!(!queue.is_empty() && queue.waits(1) && !queue.waits(2));
        assert_eq!(queue.pop(|_| true), Some((1, 'a')));
        assert_eq!(queue.pop(|_| true), Some((1, 'b')));
        assert!(queue.is_empty() && queue.pop(|_| true).is_none());
    }

    #[test]
    fn a_bucket_that_is_overdrawn_is_empty_until_it_is_refilled() {
        let mut buckets = TokenBuckets::default();
        buckets.charge('a', 3);
        assert_eq!((buckets.left(&'a', 4), buckets.left(&'a', 1), buckets.left(&'b', 4)), (1, 0, 4));
        buckets.charge('a', 8);
        buckets.charge('b', 5);
        let left = |buckets: &TokenBuckets<char>| {
            (buckets.left(&'a', 4), buckets.left(&'b', 4), buckets.left(&'c', 4))
        };
        assert_eq!(left(&buckets), (0, 0, 4));
        buckets.renew(4);
        assert_eq!(left(&buckets), (0, 3, 4));
        buckets.renew(100);
        assert_eq!(left(&buckets), (4, 4, 4));
    }

    #[test]
    fn counts_are_of_each_and_of_all() {
        let mut counts = Counts::default();
        counts.add(1);
        counts.add(1);
        counts.add(2);
        assert_eq!((counts.of(1), counts.of(2), counts.of(3), counts.all()), (2, 1, 0, 3));
        counts.remove(1);
        counts.remove(3);
        assert_eq!((counts.of(1), counts.all()), (1, 2));
    }
}
