//! In which order the end comes.
//!
//! *Lives here:* whose turn to stop it is: there is an order within a user, and users stop side by
//! side, so that nobody's stubborn service uses up the time that another user's services have for
//! their end.
//! *Does not live here:* signals, and how long anybody waits.

use std::collections::{BTreeMap, BTreeSet};

/// When something is told to stop, among what the same user has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Before the command.
    First,
    /// The command itself.
    Command,
    /// When everything else of that user's has stopped.
    Last,
}

/// Whom the end has reached so far.
#[derive(Debug, Default)]
pub struct StopOrder {
    /// The last rank of each user that was told.
    told: BTreeMap<u32, Rank>,
    is_advanced: bool,
}

impl StopOrder {
    /// Takes in that nobody waits for those before them any longer.
    pub fn advance(&mut self) {
        self.is_advanced = true;
    }

    /// Takes in which users have something running, of which rank, and returns who is told to stop
    /// now; everybody once.
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

    /// What a user has, by rank.
    type Those = &'static [(u32, Rank)];

    /// Tells what runs at each step and who is told then.
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
    fn what_is_missing_is_not_waited_for() {
        check(&[(&[(1, Last), (2, Command)], &[(1, Last), (2, Command)])]);
    }

    #[test]
    fn once_nobody_is_waited_for_everybody_else_is_told() {
        let mut order = StopOrder::default();
        let running = [(1, First), (1, Command), (1, Last), (2, Last)].into();
        assert_eq!(order.due(&running), [(1, First), (2, Last)]);
        order.advance();
        assert_eq!(order.due(&running), [(1, Command), (1, Last)]);
        assert_eq!(order.due(&running), []);
    }
}
