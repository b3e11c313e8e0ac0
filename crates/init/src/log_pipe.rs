//! The pipe that a service writes its log to, and what goes with it.
//!
//! *Lives here:* the pipes, and dropping what nobody reads. *Does not live here:* who reads them
//! (`logging`).

use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::ioctl_fionread;
use rustix::pipe::{SpliceFlags, splice};

/// The log pipe of an entry of the scandir.
#[derive(Debug)]
pub(crate) struct LogPipe {
    pub(crate) number: u32,
    pub(crate) daemon: u32,
    pub(crate) reader: OwnedFd,
    /// Kept when the service is gone, so that the daemon never sees an end it was not told of; and
    /// what a service and its logger print beside what they log.
    pub(crate) writer: Option<OwnedFd>,
    /// Its service directory; none for what is only shown.
    pub(crate) service_dir: Option<Rc<OwnedFd>>,
    /// The pipe of the service's standard error, where it is a stream of its own.
    pub(crate) stderr: Option<Pipe>,
    pub(crate) releasing: bool,
}

/// A log pipe that a daemon is to be handed; see [`LogPipe`] for its parts.
#[derive(Debug)]
pub(crate) struct NewLogPipe {
    pub reader: OwnedFd,
    pub service_dir: Option<Rc<OwnedFd>>,
    pub stderr: Option<Pipe>,
    pub writer: Option<OwnedFd>,
}

/// Both ends of a pipe.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub reader: OwnedFd,
    pub writer: OwnedFd,
}

/// Drops what is in those pipes of a service that hold at least `at_least` bytes; returns how much
/// that was.
pub(crate) fn drop_from(pipe: &LogPipe, null: &OwnedFd, at_least: u64) -> u64 {
    let readers = std::iter::once(&pipe.reader).chain(pipe.stderr.as_ref().map(|stderr| &stderr.reader));
    let mut dropped = 0_u64;
    for reader in readers {
        let waiting = ioctl_fionread(reader).unwrap_or(0);
        if waiting >= at_least
            && let Ok(length) = usize::try_from(waiting)
            && let Ok(n) = splice(reader, None, null, None, length, SpliceFlags::NONBLOCK)
        {
            dropped = dropped.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        }
    }
    dropped
}
