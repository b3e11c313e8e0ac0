//! The user's terminal, as the relay uses it.
//!
//! *Lives here:* finding it, its modes, and restoring them.
//! *Does not live here:* the copying.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use gatevisor_sys::process::own_group;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::termios::{
    OptionalActions, QueueSelector, Termios, Winsize, isatty, tcflush, tcgetattr, tcgetpgrp, tcgetwinsize,
    tcsetattr,
};

/// A terminal that belongs to a user other than the command's.
pub(super) struct UserTerminal {
    /// It is opened once more so that neither reading nor writing blocks; the flag for that is not
    /// shared then.
    fd: OwnedFd,
    modes: Option<Termios>,
    /// Whether standard input and standard output both are terminals.
    whole: bool,
    raw: bool,
}

impl UserTerminal {
    /// Opens the terminal behind the standard descriptors, or the controlling terminal of this
    /// process; `None` without one.
    pub fn open() -> Option<Self> {
        let standard = standard();
        let whole = standard.get(..2).is_some_and(|two| two.iter().all(isatty));
        let fd = standard.into_iter().find(|fd| isatty(fd)).map_or_else(controlling, again)?;
        let modes = tcgetattr(&fd).ok();
        Some(Self { fd, modes, whole, raw: false })
    }

    /// Returns whether only the command reads what is typed there.
    ///
    /// Beside a pipe, another program may read the terminal, as `less` does.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Returns the modes that it had at first.
    pub fn modes(&self) -> Option<&Termios> {
        self.modes.as_ref()
    }

    /// Returns its size.
    pub fn size(&self) -> Option<Winsize> {
        tcgetwinsize(&self.fd).ok()
    }

    /// Returns whether we are in its foreground; always true if it controls no session.
    pub fn is_foreground(&self) -> bool {
        tcgetpgrp(&self.fd).map_or(true, |group| Some(group) == own_group())
    }

    /// Returns whether it delivers each key at once.
    pub fn is_raw(&self) -> bool {
        self.raw
    }

    /// Makes it deliver each key at once. The pty does all other processing, except that beside a
    /// pipe the output is still this terminal's concern.
    pub fn make_raw(&mut self) {
        if let Some(modes) = self.modes.as_ref().filter(|_| !self.raw) {
            let mut raw = modes.clone();
            raw.make_raw();
            if !self.whole {
                raw.output_modes = modes.output_modes;
            }
            self.raw = tcsetattr(&self.fd, OptionalActions::Now, &raw).is_ok();
        }
    }

    /// Restores its modes.
    ///
    /// Input that was typed and not read was meant for the command, and is discarded. Above all
    /// this is input that a terminal types by itself as an answer to a query.
    pub fn restore(&mut self) {
        if let Some(modes) = self.modes.as_ref().filter(|_| self.raw) {
            let _ = tcflush(&self.fd, QueueSelector::IFlush);
            let _ = tcsetattr(&self.fd, OptionalActions::Now, modes);
            self.raw = false;
        }
    }

    /// Makes its present modes the ones to restore, because a shell may have changed them while we
    /// were stopped.
    pub fn look_again(&mut self) {
        if !self.raw
            && let Ok(modes) = tcgetattr(&self.fd)
        {
            self.modes = Some(modes);
        }
    }
}

impl AsFd for UserTerminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for UserTerminal {
    fn drop(&mut self) {
        self.restore();
    }
}

#[expect(clippy::disallowed_methods, reason = "the relay's own door to the terminal")]
fn standard() -> [BorrowedFd<'static>; 3] {
    [rustix::stdio::stdin(), crate::stream::stdout_fd(), crate::stream::stderr_fd()]
}

const FLAGS: OFlags = OFlags::RDWR.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

fn controlling() -> Option<OwnedFd> {
    openat(CWD, c"/dev/tty", FLAGS, Mode::empty()).ok()
}

/// Opens a terminal once more; if that is refused, uses the descriptor that there is.
fn again(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    openat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), FLAGS, Mode::empty())
        .or_else(|_| rustix::io::fcntl_dupfd_cloexec(fd, 3))
        .ok()
}

/// Replaces each standard descriptor that is a terminal by the pty.
pub(super) fn replace_terminals(slave: &OwnedFd) -> Result<(), Errno> {
    let [stdin, stdout, stderr] = standard().map(isatty);
    if stdin {
        rustix::stdio::dup2_stdin(slave)?;
    }
    if stdout {
        rustix::stdio::dup2_stdout(slave)?;
    }
    if stderr {
        rustix::stdio::dup2_stderr(slave)?;
    }
    Ok(())
}
