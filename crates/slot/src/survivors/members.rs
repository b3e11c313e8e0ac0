//! Decides which processes belong to a service.
//!
//! *Lives here:* the rule.
//! *Does not live here:* listing processes (`process`), ending them (`ending`).
//!
//! A process belongs to a service in any of these cases: it is in the service's control group; its
//! environment names the service; it is in the session of the service's process and its environment
//! does not name another service; it descends from such a process and its environment names no
//! service.

use std::collections::{BTreeMap, BTreeSet};

use super::process::{Process, ServiceMark};

/// A process number and when the process began.
pub type Known = (i32, u64);

/// The service, and the processes that are exempt.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// The service's process, which leads its session. If it has died, another process may have its
    /// number.
    pub leader: Option<Known>,
    /// The number of the service's process if it has died: no process with this number is the
    /// service's.
    pub dead_leader: Option<i32>,
    /// Processes that are always exempt. Processes that belong to the service only as their
    /// descendants are exempt, too.
    pub exempt: BTreeSet<Known>,
}

impl Rule {
    /// Returns the members, in the order of `all`.
    pub fn members<'a>(&self, all: &'a [(Process, ServiceMark)]) -> Vec<&'a Process> {
        let session = self.session(all);
        let processes: Vec<&Process> = all.iter().map(|(process, _)| process).collect();
        let whose = allot(&processes, |index| match all.get(index) {
            Some((process, _)) if self.exempt.contains(&(process.pid, process.began)) => Membership::Nobodys,
            Some((_, ServiceMark::This)) => Membership::Of(()),
            Some((process, ServiceMark::None)) if session == Some(process.session) => Membership::Of(()),
            Some((_, ServiceMark::None)) => Membership::Parents,
            Some((_, ServiceMark::Other)) | None => Membership::Nobodys,
        });
        processes.into_iter().zip(whose).filter_map(|(process, own)| own.map(|()| process)).collect()
    }

    /// Returns the session whose processes belong to the service.
    ///
    /// A number stays reserved as long as a session has it. So a living process with the number of
    /// a dead leader shows that nothing of that session is left.
    fn session(&self, all: &[(Process, ServiceMark)]) -> Option<i32> {
        if let Some((pid, _)) = self.leader {
            return Some(pid);
        }
        self.dead_leader.filter(|&pid| !all.iter().any(|(process, _)| process.pid == pid))
    }
}

/// What a process itself shows about its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership<T> {
    /// It belongs to this one.
    Of(T),
    /// It belongs to none of those in question.
    Nobodys,
    /// It shows nothing, so it belongs to its parent's service.
    Parents,
}

/// Returns the service of each process: what the process itself shows, by its place in the list, or
/// else what its parent shows.
pub fn allot<T: Copy>(processes: &[&Process], own: impl Fn(usize) -> Membership<T>) -> Vec<Option<T>> {
    let places: BTreeMap<i32, usize> =
        processes.iter().enumerate().map(|(index, process)| (process.pid, index)).collect();
    let mut decided: Vec<Option<Option<T>>> = vec![None; processes.len()];
    for start in 0..processes.len() {
        let (mut line, mut at) = (Vec::new(), Some(start));
        let answer = loop {
            let Some(index) = at else { break None };
            if let Some(known) = decided.get(index).copied().flatten() {
                break known;
            }
            match own(index) {
                Membership::Of(service) => {
                    line.push(index);
                    break Some(service);
                }
                Membership::Nobodys => {
                    line.push(index);
                    break None;
                }
                Membership::Parents => {}
            }
            // A line of descent has no circle, but a list that was not made at one instant may have
            // one.
            if line.len() > processes.len() {
                break None;
            }
            line.push(index);
            at = processes.get(index).and_then(|process| places.get(&process.parent).copied());
        };
        for index in line {
            if let Some(place) = decided.get_mut(index) {
                *place = Some(answer);
            }
        }
    }
    decided.into_iter().map(Option::flatten).collect()
}

/// Returns the process itself and all its ancestors.
pub fn ancestors<T>(all: &[(Process, T)], pid: i32) -> BTreeSet<Known> {
    let mut line = BTreeSet::new();
    let mut at = pid;
    while let Some((process, _)) = all.iter().find(|(process, _)| process.pid == at)
        && line.insert((process.pid, process.began))
    {
        at = process.parent;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survivors::process::listed;

    /// Each line is `pid parent session mark`.
    fn list(lines: &str) -> Vec<(Process, ServiceMark)> {
        let mark = |word: &str| match word {
            "this" => ServiceMark::This,
            "other" => ServiceMark::Other,
            _ => ServiceMark::None,
        };
        listed(lines).into_iter().map(|(process, word)| (process, mark(word))).collect()
    }

    fn members(rule: &Rule, lines: &str) -> Vec<i32> {
        rule.members(&list(lines)).iter().map(|process| process.pid).collect()
    }

    #[test]
    fn the_mark_the_session_and_the_descent_make_a_member_and_another_mark_unmakes_it() {
        let rule = Rule { dead_leader: Some(70), ..Rule::default() };
        let seen = "
            1  0  1  none
            71 1  70 none
            72 1  72 this
            73 72 73 none
            74 72 74 other
            75 74 74 none
            76 1  70 other
            77 1  77 none
            78 77 77 this
        ";
        assert_eq!(members(&rule, seen), [71, 72, 73, 78]);
    }

    #[test]
    fn the_session_of_a_number_that_somebody_else_has_by_now_says_nothing() {
        let rule = Rule { dead_leader: Some(70), ..Rule::default() };
        assert_eq!(members(&rule, "70 1 70 none\n71 70 70 none\n72 1 70 this"), [72]);
        let alive = Rule { leader: Some((70, 5)), ..Rule::default() };
        assert_eq!(members(&alive, "70 1 70 none\n71 70 70 none"), [70, 71]);
    }

    #[test]
    fn an_exempt_process_is_left_alone_and_so_are_its_descendants() {
        let all =
            list("1 0 1 none\n70 1 70 this\n80 70 80 this\n81 80 80 none\n82 81 80 none\n83 80 83 this");
        let exempt = BTreeSet::from([(80, 5)]);
        let rule = Rule { exempt, ..Rule::default() };
        let found: Vec<i32> = rule.members(&all).iter().map(|process| process.pid).collect();
        assert_eq!(found, [70, 83]);
        assert_eq!(ancestors(&all, 82), BTreeSet::from([(82, 5), (81, 5), (80, 5), (70, 5), (1, 5)]));
    }

    #[test]
    fn of_several_services_each_process_belongs_to_that_of_its_nearest_ancestor_that_says_so() {
        let all = list("1 0 1 none\n5 1 5 none\n6 5 5 none\n7 6 7 none\n8 7 8 none\n9 1 9 none\n4 8 4 none");
        let processes: Vec<&Process> = all.iter().map(|(process, _)| process).collect();
        let whose = allot(&processes, |index| match processes[index].pid {
            5 => Membership::Of('a'),
            7 => Membership::Of('b'),
            8 => Membership::Nobodys,
            _ => Membership::Parents,
        });
        assert_eq!(whose, [None, Some('a'), Some('a'), Some('b'), None, None, None]);
    }

    #[test]
    fn a_list_of_no_single_instant_may_hold_a_circle() {
        assert_eq!(members(&Rule::default(), "6 7 6 none\n7 6 7 none\n8 9 9 none"), [0_i32; 0]);
    }
}
