//! Running work in a child, and reaping other processes meanwhile.
//!
//! *Lives here:* waiting for the child. A signal that asks for the end, or a limit, cuts that
//! short. *Does not live here:* what the child does.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use gatevisor_sys::clock::remaining;
use gatevisor_sys::signal::{self, SignalFd};
use gatevisor_sys::{Errno, process};
use gatevisor_wire::wait::WaitStatus;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

/// Signals that ask for the end.
const ENDING: [i32; 3] = [signal::SIGTERM, signal::SIGINT, signal::SIGQUIT];

/// How long a child that was asked to end may take before it is killed.
const KILL_AFTER: Duration = Duration::from_secs(5);

/// Why the work has no result.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// No process could be made, or waiting for it failed.
    #[error("cannot run it in a process of its own: {0}")]
    System(#[from] Errno),
    /// It took longer than this, and was ended.
    #[error("took more than {} s and was ended", .0.as_secs_f64())]
    TooLong(Duration),
    /// This signal asked this process to end.
    #[error("stopped by signal {0}")]
    Stopped(i32),
}

/// Waits for children, with all signals blocked.
#[derive(Debug)]
pub struct ChildRunner {
    signals: SignalFd,
    asked: Option<i32>,
}

impl ChildRunner {
    /// Blocks all signals of this process, which must have one thread, and
    /// returns what receives them.
    pub fn new() -> Result<Self, Errno> {
        signal::block_all(&[signal::SIGCHLD])?;
        let [a, b, c] = ENDING;
        Ok(Self { signals: SignalFd::new(&[signal::SIGCHLD, a, b, c])?, asked: None })
    }

    /// Runs `job` in a child with no signal blocked, and returns how the child ended.
    ///
    /// Orphans that end meanwhile are reaped too.
    ///
    /// # Errors
    /// [`ChildError::Stopped`] if a signal asked for the end, [`ChildError::TooLong`] if the work
    /// took longer than `limit`. The child was asked to end, or killed, and has ended.
    pub fn run(
        &mut self,
        limit: Option<Duration>,
        job: impl FnOnce() -> i32,
    ) -> Result<WaitStatus, ChildError> {
        self.listen();
        if let Some(number) = self.asked {
            return Err(ChildError::Stopped(number));
        }
        let child = process::fork_child(|| {
            signal::unblock_all();
            job()
        })?;
        let mut next = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut told = None;
        loop {
            if let Some(status) = collect(child)? {
                return match (self.asked, told) {
                    (Some(number), _) => Err(ChildError::Stopped(number)),
                    (None, Some(limit)) => Err(ChildError::TooLong(limit)),
                    (None, None) => Ok(status),
                };
            }
            poll(&mut [PollFd::new(&self.signals.as_fd(), PollFlags::IN)], remaining(next).as_ref())
                .or_else(|errno| if errno == Errno::INTR { Ok(0) } else { Err(errno) })?;
            self.listen();
            let is_due = next.is_some_and(|at| at <= Instant::now());
            if told.is_none() && (is_due || self.asked.is_some()) {
                told = Some(limit.unwrap_or_default());
                next = Instant::now().checked_add(KILL_AFTER);
                // Root without the capability may not signal it. Then the work ends by itself.
                let _ = kill_process(child, Signal::TERM);
            } else if is_due {
                next = None;
                let _ = kill_process(child, Signal::KILL);
            }
        }
    }

    fn listen(&mut self) {
        while let Ok(Some(number)) = self.signals.next() {
            if ENDING.contains(&number) {
                self.asked.get_or_insert(number);
            }
        }
    }
}

/// Reaps every process that has ended, and returns how `child` did, if it was among them.
fn collect(child: Pid) -> Result<Option<WaitStatus>, Errno> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => {
                return Ok(Some(WaitStatus::from_raw(status.as_raw())));
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}
