//! *Lives here:* what the watcher does to a gateway: it signals the one process that was looked at,
//! and has evidence collected.
//!
//! *Does not live here:* the decision to do it.

use std::os::fd::{AsFd, OwnedFd};

use gatevisor_client::ServiceDir;
use gatevisor_liveness::Life;
use gatevisor_sys::proc::Process;
use gatevisor_sys::process::fork_beside;
use gatevisor_wire::control::{Control, ControlSignal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};

/// The longest time that collecting evidence may take, in milliseconds.
const COLLECT_MS: u64 = 10_000;
/// The most bytes that a child may report. A pipe takes that many in one piece.
const SAID: usize = 4096;

/// Signals the process of a service that was looked at.
///
/// Its supervisor is told to send SIGTERM, so that it knows that the death was asked for. The
/// process gets any other signal from here, and SIGTERM too if no supervisor reads what it is told.
pub(super) fn signal(dir: &ServiceDir, life: Life, signal: Signal) -> Result<(), Errno> {
    let is_told = signal == Signal::TERM
        && is_same(life)
        && dir.send(&[Control::Signal(ControlSignal::Terminate)]).is_ok();
    if is_told { Ok(()) } else { send(life, signal) }
}

fn is_same(life: Life) -> bool {
    Process::of(life.pid).is_some_and(|process| process.began == life.start_ticks)
}

/// Sends a signal to the process that was looked at, and to no later process with its number.
fn send(life: Life, signal: Signal) -> Result<(), Errno> {
    let pid = Pid::from_raw(life.pid).ok_or(Errno::SRCH)?;
    let fd = pidfd_open(pid, PidfdFlags::empty())?;
    // The descriptor belongs to the process that has the number now. If that began when expected,
    // it is the right one.
    if !is_same(life) {
        return Err(Errno::SRCH);
    }
    pidfd_send_signal(&fd, signal)
}

/// A child that does something that may take a while.
#[derive(Debug)]
pub(super) struct EvidenceJob {
    pid: Pid,
    fd: OwnedFd,
    said: OwnedFd,
    until_ms: u64,
}

impl EvidenceJob {
    /// Has a child do something. The child may report a few bytes.
    pub fn new(job: impl FnOnce() -> Option<Vec<u8>>, now_ms: u64) -> Result<Self, Errno> {
        let (said, saying) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let pid = fork_beside(|| {
            let is_said = job().is_some_and(|bytes| write(&saying, &bytes).is_ok());
            i32::from(!is_said)
        })?;
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, fd, said, until_ms: now_ms.saturating_add(COLLECT_MS) })
    }

    /// Returns what the child has reported.
    pub fn said(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; SAID];
        let length = read(&self.said, &mut buffer).ok().filter(|length| *length > 0)?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// Returns the descriptor to poll.
    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::IN)
    }

    /// Returns when the child is given up.
    pub const fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Returns whether the child has ended or takes too long.
    pub fn is_over(&self, now_ms: u64) -> bool {
        if now_ms >= self.until_ms {
            let _ = pidfd_send_signal(&self.fd, Signal::KILL);
        } else if !is_readable(&self.fd) {
            return false;
        }
        // A child that was killed and cannot end yet is left behind. It is reaped when the watcher
        // ends.
        let _ = waitpid(Some(self.pid), WaitOptions::NOHANG);
        true
    }
}

fn is_readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
