//! Ends processes: asks them first, and kills them when their time is over, until none are found.
//!
//! *Lives here:* the order, the signals, the waiting.
//! *Does not live here:* which processes are meant (`members`).
//!
//! A process is signalled through a descriptor, which was opened while the process was known to be
//! the right one. So a process that has got the number of an ended one is never signalled.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use gatevisor_sys::signal::{self, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::members::Known;
use super::process::Process;

/// How long killed processes are waited for.
const DEATH: Duration = Duration::from_secs(2);
/// The most looks at all processes. Processes that fork faster than they are ended are left to the
/// next start.
const LOOKS: usize = 500;
/// The looks in a row that must find nothing before it is over.
const EMPTY_LOOKS: u32 = 2;

/// What has become of the processes that were to end.
#[derive(Debug, Default)]
pub(super) struct SurvivorOutcome {
    /// The ended processes, each with its command.
    pub(super) ended: Vec<(Known, String)>,
    /// The processes that could not be ended, each with the reason.
    pub(super) left: Vec<(i32, String)>,
}

/// Ends processes that a caller chooses.
#[derive(Debug)]
pub(super) struct SurvivorEnding {
    held: BTreeMap<Known, OwnedFd>,
    seen: BTreeMap<Known, String>,
    refused: BTreeMap<Known, Errno>,
    /// We were asked to end soon, so everything is killed at once.
    kill_now: Option<SignalFd>,
    is_killing: bool,
}

impl SurvivorEnding {
    /// In a program that does nothing else, `SIGTERM` means that everything is killed at once.
    pub(super) fn of_program() -> Self {
        Self { kill_now: SignalFd::new(&[signal::SIGTERM]).ok(), ..Self::new() }
    }

    /// In a program that goes on afterwards, every signal keeps its meaning.
    pub(super) fn new() -> Self {
        Self {
            held: BTreeMap::new(),
            seen: BTreeMap::new(),
            refused: BTreeMap::new(),
            kill_now: None,
            is_killing: false,
        }
    }

    /// Sends `first` to all processes that `find` finds, waits `grace` for their end, and kills the
    /// remaining ones, until two looks find none.
    pub(super) fn end(
        &mut self,
        first: Option<Signal>,
        grace: Duration,
        find: &mut dyn FnMut() -> Vec<Process>,
    ) {
        let begin = Instant::now();
        let kill_at = begin.checked_add(grace);
        let over_at = kill_at.and_then(|at| at.checked_add(DEATH));
        let mut empty = 0;
        let mut killed = BTreeSet::new();
        for _ in 0..LOOKS {
            let found = find();
            let may_kill = |is_killing: bool| is_killing || kill_at.is_none_or(|at| at <= Instant::now());
            for process in found {
                self.hold(&process, first);
            }
            if self.held.is_empty() {
                empty += 1;
                if empty >= EMPTY_LOOKS {
                    return;
                }
                continue;
            }
            empty = 0;
            if may_kill(self.is_killing) {
                for (known, held) in &self.held {
                    if killed.insert(*known) {
                        let _ = pidfd_send_signal(held, Signal::KILL);
                    }
                }
            }
            let until = if may_kill(self.is_killing) { over_at } else { kill_at };
            self.wait(until);
            if over_at.is_none_or(|at| at <= Instant::now()) && !self.held.is_empty() {
                return;
            }
        }
    }

    /// Opens a process, and asks it to end.
    fn hold(&mut self, process: &Process, first: Option<Signal>) {
        let known = (process.pid, process.began);
        if self.held.contains_key(&known) || self.refused.contains_key(&known) {
            return;
        }
        let Some(held) = Pid::from_raw(process.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        else {
            return;
        };
        // From here on the descriptor refers to the process that has the number now.
        if !process.is_there() {
            return;
        }
        self.seen.insert(known, process.words());
        // A stopped process would not receive the signal.
        let signals = first.into_iter().flat_map(|first| [first, Signal::CONT]);
        for signal in signals {
            if let Err(errno @ Errno::PERM) = pidfd_send_signal(&held, signal) {
                self.refused.insert(known, errno);
                return;
            }
        }
        self.held.insert(known, held);
    }

    /// Waits until one has ended, or the time is over, or somebody asks us to end soon.
    fn wait(&mut self, until: Option<Instant>) {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds: Vec<PollFd<'_>> =
            self.held.values().map(|held| PollFd::new(held, PollFlags::IN)).collect();
        fds.extend(self.kill_now.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
        let _ = poll(&mut fds, timeout.as_ref());
        if self.kill_now.as_ref().is_some_and(|fd| matches!(fd.next(), Ok(Some(_)))) {
            self.is_killing = true;
        }
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.held.retain(|_, held| {
            let ended = poll(&mut [PollFd::new(&*held, PollFlags::IN)], Some(&none));
            !matches!(ended, Ok(1..))
        });
    }

    /// Returns the result.
    pub(super) fn outcome(self) -> SurvivorOutcome {
        let mut outcome = SurvivorOutcome::default();
        for (known, words) in self.seen {
            if self.refused.contains_key(&known) {
                outcome.left.push((known.0, format!("{words}: it belongs to another user")));
            } else if self.held.contains_key(&known) {
                outcome.left.push((known.0, format!("{words}: it has not ended although it was killed")));
            } else {
                outcome.ended.push((known, words));
            }
        }
        outcome
    }
}
