//! The order of stopping.
//!
//! *Lives here:* what is stopped next. There is an order within each user. The users' services are
//! stopped in parallel, so that a stubborn service of one user takes no time from another user's
//! services.
//! *Does not live here:* signals, and how long anybody waits.

use std::collections::{BTreeMap, BTreeSet};

/// The position of a service or the command in its user's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Before the command.
    First,
    /// The container's command itself.
    Command,
    /// After everything else of the user has stopped.
    Last,
}

impl Rank {
    /// Returns the rank of an entry's service. The names of services that stop before a container's
    /// command begin with `first`.
    pub fn of(entry: &[u8], first: Option<&[u8]>) -> Self {
        if first.is_some_and(|first| entry.starts_with(first)) { Self::First } else { Self::Last }
    }
}

/// The progress of stopping.
#[derive(Debug, Default)]
pub struct StopOrder {
    /// The last rank that was stopped, for each user.
    told: BTreeMap<u32, Rank>,
    is_advanced: bool,
}

impl StopOrder {
    /// Notes that later ranks no longer wait for earlier ones.
    pub fn advance(&mut self) {
        self.is_advanced = true;
    }

    /// Returns who must be stopped now, given what is running. Each is returned once.
    pub fn due(&mut self, running: &BTreeSet<(u32, Rank)>) -> Vec<(u32, Rank)> {
        let mut due = Vec::new();
        let mut waited_for = None;
        for &(user, rank) in running {
            if !self.is_advanced && waited_for == Some(user) {
                continue;
            }
            waited_for = Some(user);
            if self.told.get(&user).is_none_or(|told| *told < rank) {
                self.told.insert(user, rank);
                due.push((user, rank));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::{Rank, StopOrder};
    use Rank::{Command, First, Last};

    /// Services of users, by rank.
    type Those = &'static [(u32, Rank)];

    /// Each step has what is running, and who is stopped then.
    fn check(steps: &[(Those, Those)]) {
        let mut order = StopOrder::default();
        for (running, due) in steps {
            assert_eq!(order.due(&running.iter().copied().collect()), *due, "{running:?}");
        }
    }

    #[test]
    fn within_a_user_each_rank_waits_for_the_one_before() {
        check(&[
            (&[(1, First), (1, Command), (1, Last)], &[(1, First)]),
            (&[(1, First), (1, Command), (1, Last)], &[]),
            (&[(1, Command), (1, Last)], &[(1, Command)]),
            (&[(1, Last)], &[(1, Last)]),
            (&[(1, Last)], &[]),
            (&[], &[]),
        ]);
    }

    #[test]
    fn users_stop_side_by_side() {
        check(&[
            (
                &[(0, Last), (1, First), (1, Command), (2, First), (2, Last)],
                &[(0, Last), (1, First), (2, First)],
            ),
            (&[(1, First), (1, Command), (2, Last)], &[(2, Last)]),
            (&[(1, First), (1, Command)], &[]),
        ]);
    }

    #[test]
    fn only_in_a_container_some_services_stop_before_the_others() {
        for (entry, first, expected) in [
            ("gateway-a", Some("gateway-"), First),
            ("web", Some("gateway-"), Last),
            ("gateway-a", None, Last),
        ] {
            assert_eq!(Rank::of(entry.as_bytes(), first.map(str::as_bytes)), expected, "{entry}");
        }
    }

    #[test]
    fn a_rank_without_services_is_not_waited_for() {
        check(&[(&[(1, Last), (2, Command)], &[(1, Last), (2, Command)])]);
    }

    #[test]
    fn once_nobody_is_waited_for_all_other_ranks_are_stopped() {
        let mut order = StopOrder::default();
        let running = [(1, First), (1, Command), (1, Last), (2, Last)].into();
        assert_eq!(order.due(&running), [(1, First), (2, Last)]);
        order.advance();
        assert_eq!(order.due(&running), [(1, Command), (1, Last)]);
        assert_eq!(order.due(&running), []);
    }
}
