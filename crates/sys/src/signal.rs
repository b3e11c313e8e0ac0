//! Signals as a descriptor, and the masks around it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::raw;

pub use libc::{
    SIGABRT, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGPWR, SIGQUIT, SIGSTOP, SIGTERM,
    SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};

/// A set of blocked signals that can be read one by one.
///
/// **Source:** signalfd(2).
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks `signals` in this thread and returns the descriptor that delivers them.
    pub fn new(signals: &[i32]) -> Result<Self, Errno> {
        raw::signalfd(signals).map(Self)
    }

    /// Returns the next pending signal, or `None`.
    pub fn next(&self) -> Result<Option<i32>, Errno> {
        raw::read_signal(&self.0)
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns the numbers of all signals.
pub fn all() -> Vec<i32> {
    /// **Source:** signal(7); `_NSIG` of Linux.
    const LAST: i32 = 64;
    (1..=LAST).collect()
}

/// Blocks every signal in this thread and resets those listed to their default action.
///
/// With all signals blocked, `SIGPIPE` need not be ignored, so children inherit clean dispositions.
pub fn block_all(defaults: &[i32]) -> Result<(), Errno> {
    raw::block_all(defaults)
}

/// Unblocks every signal in this thread.
pub fn unblock_all() {
    raw::unblock_all();
}

/// Blocks these signals in this thread. The others stay as they are.
pub fn block(signals: &[i32]) -> Result<(), Errno> {
    raw::change_mask(signals, true)
}

/// Unblocks these signals in this thread. The others stay as they are.
pub fn unblock(signals: &[i32]) -> Result<(), Errno> {
    raw::change_mask(signals, false)
}

/// Makes this process ignore `signal`.
pub fn ignore(signal: i32) {
    raw::set_ignored(signal, true);
}

/// Resets `signal` to its default action.
pub fn restore(signal: i32) {
    raw::set_ignored(signal, false);
}
