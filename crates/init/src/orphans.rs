//! Descendants of this process that belong to no service.
//!
//! *Lives here:* becoming their parent, finding them, and killing whole lines of descent.
//! *Does not live here:* when that is done (`gatevisor_core::shutdown`).
//!
//! A process that forks and ends is gone before a look at all processes is over. But its child is
//! then our child, and listing our own children takes microseconds. So our children are killed,
//! with their process groups, as long as there are any.
//!
//! **Source:** `PR_SET_CHILD_SUBREAPER(2const)`, `proc_pid_stat(5)`, `proc_tid_children(5)`,
//! `pidfd_open(2)`; kill(2): a group is killed as a whole, and no process in it can fork meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::proc::StatLine;
use gatevisor_sys::process;
use gatevisor_wire::Pid as Known;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, waitpid};

use crate::kill::{kill, kill_held};
use crate::stderr_log::say;

/// Milliseconds after which a hunt is interrupted; the next one continues.
const HUNT_MS: u64 = 100;
/// The same for the part before the look at all processes, because there may be tens of thousands
/// of dead ones that are not reaped.
const FIRST_HUNT_MS: u64 = 20;

/// Has every descendant whose parent ends become our child, as those of the first process of a PID
/// namespace do anyway. Returns whether that is so. Emulators of other processors refuse it.
pub(crate) fn adopt() -> bool {
    match rustix::process::set_child_subreaper(Some(getpid())) {
        Err(errno) if !getpid().is_init() => {
            say!(
                "warning: this system does not give us the orphans of services ({errno}): no shutdown waits for \
                 them or ends them"
            );
            false
        }
        _ => true,
    }
}

/// A process, with what shows its descent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lineage {
    parent: i32,
    group: i32,
    /// When it began, which distinguishes it from a later process of the same number.
    began: u64,
}

impl Lineage {
    fn of(pid: Pid) -> Option<Self> {
        Self::parse(&std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)
    }

    /// Parses a line of `/proc/PID/stat`.
    fn parse(stat: &[u8]) -> Option<Self> {
        let line = StatLine::parse(stat)?;
        Some(Self { parent: line.number(4)?, group: line.number(5)?, began: line.number(22)? })
    }
}

/// Returns all processes.
fn all() -> BTreeMap<i32, Lineage> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(|number| Some((number, Lineage::of(Pid::from_raw(number)?)?))).collect()
}

/// Returns our children, including dead ones that are not reaped.
fn own_children() -> Vec<i32> {
    let ours = getpid().as_raw_nonzero().get();
    if let Ok(list) = std::fs::read_to_string(format!("/proc/self/task/{ours}/children")) {
        return list.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect();
    }
    // The kernel has no such lists.
    let all = all();
    all.iter().filter(|(_, process)| process.parent == ours).map(|(&number, _)| number).collect()
}

/// Returns whether processes can be listed here. Without `/proc`, we find only those that we know.
pub(crate) fn can_be_found() -> bool {
    Lineage::of(getpid()).is_some()
}

/// Returns those of our children for which `wanted` is true. Each stays a child until we reap it.
pub(crate) fn children(wanted: impl Fn(Known) -> bool) -> Vec<Pid> {
    let own = own_children().into_iter();
    own.filter(|&number| Known::new(number).is_some_and(&wanted)).filter_map(Pid::from_raw).collect()
}

/// Kills those of our children for which `wanted` is true, with all their descendants, until none
/// is left or the time is over. The killed children are reaped and reported.
pub(crate) fn kill_descendants(wanted: impl Fn(Known) -> bool, mut collected: impl FnMut(Known)) {
    if !hunt(&wanted, &mut collected, FIRST_HUNT_MS) {
        kill_lines(&wanted);
        hunt(&wanted, &mut collected, HUNT_MS);
    }
}

/// Kills and reaps wanted children; returns true when there are none, and false when the time is
/// over.
fn hunt(wanted: &impl Fn(Known) -> bool, collected: &mut impl FnMut(Known), limit_ms: u64) -> bool {
    let until = monotonic_ms().saturating_add(limit_ms);
    loop {
        let prey = children(wanted);
        if prey.is_empty() {
            return true;
        }
        kill_with_groups(&prey, wanted);
        for &pid in &prey {
            if matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(Some(_)))
                && let Some(pid) = Known::new(pid.as_raw_nonzero().get())
            {
                collected(pid);
            }
        }
        if monotonic_ms() >= until {
            return false;
        }
    }
}

/// Kills children of ours and their process groups, except our group and those of services.
///
/// The numbers of these groups stay reserved until we reap the children, dead or alive.
fn kill_with_groups(prey: &[Pid], wanted: &impl Fn(Known) -> bool) {
    let ours = process::own_group().map_or(0, |group| group.as_raw_nonzero().get());
    let mut groups = BTreeSet::new();
    for &pid in prey {
        kill(pid, Signal::KILL, false);
        groups.extend(Lineage::of(pid).map(|process| process.group));
    }
    for group in groups.into_iter().filter(|&group| group > 1 && group != ours) {
        if Known::new(group).is_some_and(wanted)
            && let Some(group) = Pid::from_raw(group)
        {
            kill(group, Signal::KILL, true);
        }
    }
}

/// Looks at all processes once, and kills the descendants of children for which `wanted` is true.
fn kill_lines(wanted: &impl Fn(Known) -> bool) {
    let ours = getpid().as_raw_nonzero().get();
    let all = all();
    let descents = descents(&all, ours);
    for (&number, process) in &all {
        let Some(&Some(child)) = descents.get(&number) else { continue };
        if Known::new(child).is_some_and(wanted) {
            kill_one(number, *process, ours);
        }
    }
}

/// Returns the child of `ours` from which each process descends, which may be the process itself;
/// `None` for others.
///
/// Every process is looked at once, however long the lines of descent are.
fn descents(all: &BTreeMap<i32, Lineage>, ours: i32) -> BTreeMap<i32, Option<i32>> {
    let mut known = BTreeMap::new();
    for &number in all.keys() {
        let mut line = Vec::new();
        let mut at = number;
        let child = loop {
            if let Some(&found) = known.get(&at) {
                break found;
            }
            let Some(process) = all.get(&at) else { break None };
            // The list was not made at one instant, so it may contain a circle, which leads to no
            // child of ours.
            known.insert(at, None);
            line.push(at);
            if process.parent == ours {
                break Some(at);
            }
            at = process.parent;
        };
        known.extend(line.into_iter().map(|member| (member, child)));
    }
    known
}

fn kill_one(number: i32, process: Lineage, ours: i32) {
    let Some(pid) = Pid::from_raw(number) else { return };
    if process.parent == ours {
        return kill(pid, Signal::KILL, false);
    }
    // Its parent may have reaped it by now, and the number may have been reused. A process that
    // cannot be opened is killed when it has become our child.
    if let Ok(held) = pidfd_open(pid, PidfdFlags::empty())
        && Lineage::of(pid).is_some_and(|now| now.began == process.began)
    {
        kill_held(&held, pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_process_is_called_its_parent_and_its_beginning_are_found() {
        let rest = "S 7 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        for name in [&b"sleep"[..], b"a) S 1 (b", b"\xff) \xfe", b"", b"two\nlines"] {
            let stat = [b"12 (", name, b") ", rest.as_bytes(), b"\n"].concat();
            assert_eq!(Lineage::parse(&stat), Some(Lineage { parent: 7, group: 1, began: 4711 }), "{stat:?}");
        }
        for wrong in [&b""[..], b"12 (x", b"12 (x) S", b"12 (x) S y", b"12 (x) S 7 1"] {
            assert_eq!(Lineage::parse(wrong), None);
        }
        let own = Lineage::of(getpid()).unwrap();
        assert_eq!(Some(own.parent), rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()));
    }

    #[test]
    fn a_line_of_descent_leads_to_a_child_of_ours_or_nowhere() {
        let process = |parent| Lineage { parent, group: 0, began: 0 };
        let all =
            [(2, 1), (3, 2), (4, 3), (5, 0), (6, 7), (7, 6)].map(|(pid, parent)| (pid, process(parent)));
        let all = BTreeMap::from(all);
        let found = descents(&all, 1);
        for (number, expected) in [(2, Some(2)), (3, Some(2)), (4, Some(2)), (5, None), (6, None), (7, None)]
        {
            assert_eq!(found.get(&number), Some(&expected), "{number}");
        }
        assert_eq!(found.get(&9), None);
    }

    #[test]
    fn a_line_of_a_hundred_thousand_is_followed_once() {
        let all =
            (2..100_000).rev().map(|pid| (pid, Lineage { parent: pid + 1, group: 0, began: 0 })).collect();
        assert!(descents(&all, 100_000).values().all(|&child| child == Some(99_999)));
    }
}
