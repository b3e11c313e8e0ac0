//! *Lives here:* what the kernel reports about a gateway without evidence: stopped, held by a
//! debugger, or hindered.
//!
//! *Does not live here:* the decision that follows.
//!
//! **Source:** proc(5); Documentation/scheduler/sched-stats.rst.

use std::collections::BTreeMap;
use std::fs;

use gatevisor_liveness::{EvidenceKind, Hindrance, LiveFinding};
use gatevisor_sys::proc::{Process, StatLine};
use rustix::process::Signal;

/// The most threads of a process that are looked at.
const THREADS: usize = 512;
/// The most parents that are followed from a process to its ancestor.
const GENERATIONS: usize = 16;

/// What the kernel reports about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ProcessSeen {
    /// Whether a signal has stopped it.
    pub stopped: bool,
    /// Whether a debugger holds it.
    pub traced: bool,
    /// What outside of the process hinders it.
    pub hindered: Option<Hindrance>,
}

impl ProcessSeen {
    /// Returns the finding if there is no evidence that a gateway works; `why` says what was tried.
    pub(super) fn finding(self, kind: EvidenceKind, why: &[String]) -> LiveFinding {
        if self.traced {
            return LiveFinding::Traced;
        }
        let mut why = why.join(", ");
        if self.stopped {
            why.push_str(", stopped by a signal");
        }
        // A process that a signal has stopped waits for nothing.
        let hindered = self.hindered.filter(|_| !self.stopped);
        LiveFinding::Missing { kind, why, hindered, stopped: self.stopped }
    }
}

/// How long each thread of a process has waited for a processor up to one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Waits {
    at_ms: u64,
    by_thread: BTreeMap<i32, u64>,
}

/// Looks at a process; `waits` is the result of the last look.
pub(super) fn look(pid: i32, waits: &mut Waits, now_ms: u64) -> ProcessSeen {
    let status = status_of(pid);
    let value = |key: &str| value(&status, key);
    let traced = !matches!(value("TracerPid:"), "" | "0") || value("State:").starts_with('t');
    let threads = threads(pid);
    let on_disk = threads.iter().any(|thread| thread.state == Some('D'));
    let now = Waits {
        at_ms: now_ms,
        by_thread: threads.iter().filter_map(|thread| Some((thread.number, thread.waited_ns?))).collect(),
    };
    let starved = is_starved(waits, &now);
    *waits = now;
    let hindered = match (on_disk, starved) {
        (true, _) => Some(Hindrance::Disk),
        (false, true) => Some(Hindrance::Processor),
        (false, false) => None,
    };
    ProcessSeen { stopped: value("State:").starts_with('T'), traced, hindered }
}

/// Returns whether a process runs, nobody holds it, and nothing is about to stop it.
pub(super) fn goes_on(pid: i32) -> bool {
    is_going_on(&status_of(pid))
}

/// Returns whether a process with this `/proc/PID/status` goes on. A process that waits for a disk
/// may stop after that.
fn is_going_on(status: &str) -> bool {
    let pending = |key: &str| u64::from_str_radix(value(status, key), 16);
    let stop = u32::try_from(Signal::STOP.as_raw() - 1).ok().and_then(|shift| 1_u64.checked_shl(shift));
    let is_to_stop = |key: &str| pending(key).is_ok_and(|signals| signals & stop.unwrap_or(0) != 0);
    value(status, "State:").starts_with(['R', 'S'])
        && value(status, "TracerPid:") == "0"
        && !["SigPnd:", "ShdPnd:"].into_iter().any(is_to_stop)
}

fn status_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

fn value<'a>(status: &'a str, key: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).unwrap_or_default()
}

/// Returns whether a thread has waited for a processor for more than a quarter of the time between
/// two looks.
fn is_starved(before: &Waits, now: &Waits) -> bool {
    let passed_ns = now.at_ms.saturating_sub(before.at_ms).saturating_mul(1_000_000);
    passed_ns > 0
        && now.by_thread.iter().any(|(thread, waited)| {
            let earlier = before.by_thread.get(thread);
            earlier.is_some_and(|earlier| waited.saturating_sub(*earlier) > passed_ns / 4)
        })
}

struct Thread {
    number: i32,
    state: Option<char>,
    waited_ns: Option<u64>,
}

fn threads(pid: i32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().take(THREADS);
    let numbers = tasks.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.map(|number| thread(pid, number)).collect()
}

fn thread(pid: i32, number: i32) -> Thread {
    let stat = fs::read(format!("/proc/{pid}/task/{number}/stat")).unwrap_or_default();
    let state = StatLine::parse(&stat).and_then(|line| line.state());
    let schedule = fs::read_to_string(format!("/proc/{pid}/task/{number}/schedstat")).unwrap_or_default();
    let waited_ns = schedule.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
    Thread { number, state, waited_ns }
}

/// Returns whether a process is `from`, or descends from it.
pub(super) fn descends(pid: i32, from: i32) -> bool {
    let mut at = pid;
    for _ in 0..GENERATIONS {
        if at == from {
            return true;
        }
        match Process::of(at) {
            Some(process) if process.parent > 1 => at = process.parent,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_neither_stopped_nor_held_and_descends_from_its_parent() {
        let pid = std::process::id().cast_signed();
        let seen = look(pid, &mut Waits::default(), 0);
        assert!(!seen.stopped);
        let parent = Process::of(pid).unwrap().parent;
        assert!(descends(pid, pid) && descends(pid, parent) && !descends(parent, pid));
    }

    #[test]
    fn a_process_goes_on_unless_it_is_stopped_or_held_or_a_signal_that_stops_it_is_on_its_way() {
        let status = |state: &str, tracer: i32, own: u64, shared: u64| {
            format!(
                "Name:\ta\nState:\t{state}\nTracerPid:\t{tracer}\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\n"
            )
        };
        let stop = 1 << (Signal::STOP.as_raw() - 1);
        assert!(is_going_on(&status("S (sleeping)", 0, 0, 0)));
        assert!(is_going_on(&status("R (running)", 0, 0, 1)), "another signal");
        for (state, tracer, own, shared) in [
            ("T (stopped)", 0, 0, 0),
            ("t (tracing stop)", 7, 0, 0),
            ("D (disk sleep)", 0, 0, 0),
            ("Z (zombie)", 0, 0, 0),
            ("S (sleeping)", 7, 0, 0),
            ("R (running)", 0, stop, 0),
            ("R (running)", 0, 0, stop | 1),
        ] {
            assert!(!is_going_on(&status(state, tracer, own, shared)), "{state} {tracer} {own} {shared}");
        }
        assert!(!is_going_on(""), "it cannot be seen");
        assert!(goes_on(std::process::id().cast_signed()));
    }

    #[test]
    fn a_thread_that_waits_for_more_than_a_quarter_of_the_time_is_starved() {
        let waits = |at_ms, ns: u64| Waits { at_ms, by_thread: [(7, ns)].into() };
        let second = 1_000_000_000;
        assert!(is_starved(&waits(0, 0), &waits(10_000, 3 * second)));
        assert!(!is_starved(&waits(0, 0), &waits(10_000, 2 * second)));
        assert!(!is_starved(&Waits::default(), &waits(10_000, 9 * second)), "nothing is known of before");
    }
}
