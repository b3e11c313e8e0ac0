//! Turns: whose work is done next, and how much of it, so that the many wishes of one user do not keep those of another
//! waiting.
//!
//! *Lives here:* a queue in which owners take turns, and shares of a turn. *Does not live here:* the work.

use std::collections::{HashMap, VecDeque};

/// Holds work in order for each owner; the owners take turns.
#[derive(Debug)]
pub struct FairQueue<T> {
    /// The owners who wait, the next one first.
    turns: VecDeque<u32>,
    waiting: HashMap<u32, VecDeque<T>>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), waiting: HashMap::new() }
    }
}

impl<T> FairQueue<T> {
    /// Adds work of an owner behind that owner's other work.
    pub fn push(&mut self, owner: u32, work: T) {
        let own = self.waiting.entry(owner).or_default();
        if own.is_empty() {
            self.turns.push_back(owner);
        }
        own.push_back(work);
    }

    /// Returns the next work of the next owner who `may` go on now.
    pub fn pop(&mut self, may: impl Fn(u32) -> bool) -> Option<(u32, T)> {
        let at = self.turns.iter().position(|&owner| may(owner))?;
        let owner = self.turns.remove(at)?;
        let own = self.waiting.get_mut(&owner)?;
        let work = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        work.map(|work| (owner, work))
    }

    /// Returns whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

/// What each owner may have of one turn.
#[derive(Debug)]
pub struct Shares {
    most: usize,
    used: HashMap<u32, usize>,
}

impl Shares {
    /// Returns full shares of this size.
    pub fn new(most: usize) -> Self {
        Self { most, used: HashMap::new() }
    }

    /// Returns how much of `wanted` the owner may have, which is then used.
    pub fn take(&mut self, owner: u32, wanted: usize) -> usize {
        let used = self.used.entry(owner).or_default();
        let given = wanted.min(self.most.saturating_sub(*used));
        *used = used.saturating_add(given);
        given
    }

    /// Gives back what was taken and not needed.
    pub fn give_back(&mut self, owner: u32, unused: usize) {
        if let Some(used) = self.used.get_mut(&owner) {
            *used = used.saturating_sub(unused);
        }
    }

    /// Begins the next turn.
    pub fn renew(&mut self) {
        self.used.clear();
    }
}

/// Counts what each owner has under way.
#[derive(Debug, Default)]
pub struct Counts {
    all: usize,
    of_owner: HashMap<u32, usize>,
}

impl Counts {
    /// Returns how many there are in all.
    pub fn all(&self) -> usize {
        self.all
    }

    /// Returns how many an owner has.
    pub fn of(&self, owner: u32) -> usize {
        self.of_owner.get(&owner).copied().unwrap_or(0)
    }

    /// Counts one more of an owner.
    pub fn add(&mut self, owner: u32) {
        self.all = self.all.saturating_add(1);
        let count = self.of_owner.entry(owner).or_default();
        *count = count.saturating_add(1);
    }

    /// Counts one less of an owner.
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
    fn whoever_has_much_to_do_waits_for_whoever_has_little() {
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
    fn whoever_may_not_go_on_keeps_its_place_and_nobody_waiting() {
        let mut queue = FairQueue::default();
        for (owner, work) in [(1, 'a'), (1, 'b'), (2, 'c')] {
            queue.push(owner, work);
        }
        assert_eq!(queue.pop(|owner| owner != 1), Some((2, 'c')));
        assert_eq!(queue.pop(|owner| owner != 1), None);
        assert!(!queue.is_empty());
        assert_eq!(queue.pop(|_| true), Some((1, 'a')));
        assert_eq!(queue.pop(|_| true), Some((1, 'b')));
        assert!(queue.is_empty() && queue.pop(|_| true).is_none());
    }

    #[test]
    fn a_flood_on_any_number_of_fifos_gets_one_share_of_a_turn() {
        let mut shares = Shares::new(64);
        let flooded: usize = (0..4096).map(|_| shares.take(1, 16)).sum();
        assert_eq!((flooded, shares.take(2, 16)), (64, 16));
        shares.give_back(1, 3);
        assert_eq!((shares.take(1, 16), shares.take(1, 16)), (3, 0));
        shares.renew();
        assert_eq!(shares.take(1, 16), 16);
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
