//! Processes below us that belong to no service.
//!
//! *Lives here:* finding them, and killing whole lines of descent. *Does not live here:* when that is done (`shutdown`).
//!
//! **Source:** `proc_pid_stat(5)`, `pidfd_open(2)`.

use std::collections::{BTreeMap, BTreeSet};

use gatevisor_wire::Pid as Known;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open};

use crate::kill::{kill, kill_held};

/// Looks at all processes for what was forked while others were killed.
const LOOKS: usize = 16;

/// A process, as far as it tells its line of descent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    parent: i32,
    /// Tells it from a later one of the same number.
    began: u64,
}

impl Process {
    fn of(pid: Pid) -> Option<Self> {
        Self::parse(&std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)
    }

    /// Reads a line of `/proc/PID/stat`.
    fn parse(stat: &[u8]) -> Option<Self> {
        // What it is called may be any bytes; what follows its last parenthesis is numbers.
        let end = stat.iter().rposition(|&byte| byte == b')')?;
        let mut words = str::from_utf8(stat.get(end..)?).ok()?.split_ascii_whitespace().skip(2);
        Some(Self { parent: words.next()?.parse().ok()?, began: words.nth(17)?.parse().ok()? })
    }
}

/// Returns all processes.
fn all() -> BTreeMap<i32, Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(|number| Some((number, Process::of(Pid::from_raw(number)?)?))).collect()
}

/// Returns those of our children for which `wanted` holds. Each is a child until we collect it.
pub(crate) fn children(wanted: impl Fn(Known) -> bool) -> Vec<Pid> {
    let ours = getpid().as_raw_nonzero().get();
    let all = all();
    let own = all.iter().filter(|(_, process)| process.parent == ours).map(|(&number, _)| number);
    own.filter(|&number| Known::new(number).is_some_and(&wanted)).filter_map(Pid::from_raw).collect()
}

/// Kills those of our children for which `wanted` holds, and everything that descends from them, until nothing new is found.
pub(crate) fn kill_descendants(wanted: impl Fn(Known) -> bool) {
    let ours = getpid().as_raw_nonzero().get();
    let mut killed = BTreeSet::new();
    for _ in 0..LOOKS {
        let all = all();
        let mut found_new = false;
        let descents = descents(&all, ours);
        for (&number, process) in &all {
            let Some(&Some(child)) = descents.get(&number) else { continue };
            if Known::new(child).is_some_and(&wanted) && killed.insert((number, process.began)) {
                found_new = true;
                kill_one(number, *process, ours);
            }
        }
        if !found_new {
            return;
        }
    }
}

/// Returns the child of `ours` that each process descends from, which may be the process itself; `None` for strangers.
///
/// Every process is looked at once, however long the lines are.
fn descents(all: &BTreeMap<i32, Process>, ours: i32) -> BTreeMap<i32, Option<i32>> {
    let mut known = BTreeMap::new();
    for &number in all.keys() {
        let mut line = Vec::new();
        let mut at = number;
        let child = loop {
            if let Some(&found) = known.get(&at) {
                break found;
            }
            let Some(process) = all.get(&at) else { break None };
            // The list is not of one instant, so it may hold a circle, which leads nowhere.
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

fn kill_one(number: i32, process: Process, ours: i32) {
    let Some(pid) = Pid::from_raw(number) else { return };
    if process.parent == ours {
        return kill(pid, Signal::KILL, false);
    }
    // Its parent may have collected it by now, and the number may be somebody else's. One that cannot be held is killed
    // when it has become our child.
    if let Ok(held) = pidfd_open(pid, PidfdFlags::empty())
        && Process::of(pid).is_some_and(|now| now.began == process.began)
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
            assert_eq!(Process::parse(&stat), Some(Process { parent: 7, began: 4711 }), "{stat:?}");
        }
        for wrong in [&b""[..], b"12 (x", b"12 (x) S", b"12 (x) S y", b"12 (x) S 7 1"] {
            assert_eq!(Process::parse(wrong), None);
        }
        let own = Process::of(getpid()).unwrap();
        assert_eq!(Some(own.parent), rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()));
    }

    #[test]
    fn a_line_of_descent_leads_to_a_child_of_ours_or_nowhere() {
        let process = |parent| Process { parent, began: 0 };
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
        let all = (2..100_000).rev().map(|pid| (pid, Process { parent: pid + 1, began: 0 })).collect();
        assert!(descents(&all, 100_000).values().all(|&child| child == Some(99_999)));
    }
}
