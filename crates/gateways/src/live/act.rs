//! *Lives here:* what the watcher does to a gateway: signals to the one process that was looked at, and having evidence collected.
//!
//! *Does not live here:* whether it is done.

use std::os::fd::{AsFd, OwnedFd};

use gatevisor_liveness::Life;
use gatevisor_sys::proc::Process;
use gatevisor_sys::process::fork_beside;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};

/// Milliseconds that collecting evidence may take.
const COLLECT_MS: u64 = 10_000;
/// Bytes that a child may say; a pipe takes so many in one piece.
const SAID: usize = 4096;

/// Sends a signal to a process that was looked at, and to no other that has its number now.
pub(super) fn send(life: Life, signal: Signal) -> Result<(), Errno> {
    let pid = Pid::from_raw(life.pid).ok_or(Errno::SRCH)?;
    let fd = pidfd_open(pid, PidfdFlags::empty())?;
    // The descriptor is of whoever has the number now; if that one began then, it is the one.
    if Process::of(life.pid).is_none_or(|process| process.began != life.start_ticks) {
        return Err(Errno::SRCH);
    }
    pidfd_send_signal(&fd, signal)
}

/// A child that does something which may take a while.
#[derive(Debug)]
pub(super) struct EvidenceJob {
    pid: Pid,
    fd: OwnedFd,
    said: OwnedFd,
    until_ms: u64,
}

impl EvidenceJob {
    /// Has something done by a child, which may say a few bytes about it.
    pub fn new(job: impl FnOnce() -> Option<Vec<u8>>, now_ms: u64) -> Result<Self, Errno> {
        let (said, saying) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let pid = fork_beside(|| {
            let is_said = job().is_some_and(|bytes| write(&saying, &bytes).is_ok());
            i32::from(!is_said)
        })?;
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, fd, said, until_ms: now_ms.saturating_add(COLLECT_MS) })
    }

    /// Returns what it has said.
    pub fn said(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; SAID];
        let length = read(&self.said, &mut buffer).ok().filter(|length| *length > 0)?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// Returns what is to be polled.
    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::IN)
    }

    /// Returns when it is given up.
    pub const fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Returns whether it is over; one that takes too long is.
    pub fn is_over(&self, now_ms: u64) -> bool {
        if now_ms >= self.until_ms {
            let _ = pidfd_send_signal(&self.fd, Signal::KILL);
        } else if !is_readable(&self.fd) {
            return false;
        }
        // One that was killed and cannot end yet stays behind, and is reaped when the watcher ends.
        let _ = waitpid(Some(self.pid), WaitOptions::NOHANG);
        true
    }
}

fn is_readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
