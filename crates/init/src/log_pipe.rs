//! The pipe for a service's log, with everything that belongs to it.
//!
//! *Lives here:* the pipes, and dropping unread bytes.
//! *Does not live here:* their readers (`logging`), and which bytes are dropped
//! (`gatevisor_core::unread`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::unread::UnreadPipe;
use gatevisor_wire::log_protocol::LogCommand;
use rustix::io::ioctl_fionread;
use rustix::pipe::{SpliceFlags, splice};

/// A log pipe that is about to be handed to a daemon.
#[derive(Debug)]
pub(crate) struct NewLogPipe {
    reader: OwnedFd,
    /// The write end. It is kept when the service is gone, so that the daemon never sees an
    /// unannounced end. It is also for the output of a service and its logger that bypasses the
    /// log.
    writer: Option<OwnedFd>,
    /// The service directory; `None` if the output is only shown.
    service_dir: Option<Rc<OwnedFd>>,
    /// Both ends of the pipe of the service's standard error, if that is a stream of its own.
    stderr: Option<(OwnedFd, OwnedFd)>,
}

impl NewLogPipe {
    /// Returns a pipe whose bytes go to the log of a service directory, with the pipe of standard
    /// error.
    pub(crate) fn logged(reader: OwnedFd, dir: Rc<OwnedFd>, stderr: Option<(OwnedFd, OwnedFd)>) -> Self {
        Self { reader, writer: None, service_dir: Some(dir), stderr }
    }

    /// Returns a pipe whose bytes are only shown. Output that bypasses a log is written into it.
    pub(crate) fn shown(reader: OwnedFd, writer: Option<OwnedFd>) -> Self {
        Self { reader, writer, service_dir: None, stderr: None }
    }
}

/// The log pipe of an entry of the scandir.
#[derive(Debug)]
pub(crate) struct LogPipe {
    number: u32,
    daemon: u32,
    ends: NewLogPipe,
    is_releasing: bool,
}

impl LogPipe {
    /// Returns the pipe with this number, which this daemon serves.
    pub(crate) fn new(number: u32, daemon: u32, ends: NewLogPipe) -> Self {
        Self { number, daemon, ends, is_releasing: false }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn daemon(&self) -> u32 {
        self.daemon
    }

    /// Notes that the daemon has to release it.
    pub(crate) fn release(&mut self) {
        self.is_releasing = true;
    }

    /// Returns whether this daemon has to release it.
    pub(crate) fn is_released_by(&self, daemon: u32) -> bool {
        self.is_releasing && self.daemon == daemon
    }

    /// Returns the pipe for the service's standard error, if that is a stream of its own.
    pub(crate) fn stderr(&self) -> Option<BorrowedFd<'_>> {
        self.ends.stderr.as_ref().map(|(_, writer)| writer.as_fd())
    }

    /// Returns the pipe for output that is shown but not logged.
    pub(crate) fn beside(&self) -> Option<BorrowedFd<'_>> {
        self.ends.writer.as_ref().map(AsFd::as_fd)
    }

    /// Keeps the write end of a service that is gone.
    pub(crate) fn keep_writer(&mut self, writer: Option<OwnedFd>) {
        self.ends.writer = self.ends.writer.take().or(writer);
    }

    /// Returns the command that hands the pipe of this name to a daemon, with the accompanying
    /// descriptors.
    pub(crate) fn handover<'a>(&'a self, name: &'a [u8]) -> (LogCommand<'a>, Vec<BorrowedFd<'a>>) {
        let mut fds = vec![self.ends.reader.as_fd()];
        fds.extend(self.ends.service_dir.as_ref().map(|dir| dir.as_fd()));
        fds.extend(self.ends.stderr.as_ref().map(|(reader, _)| reader.as_fd()));
        let command = match self.ends.service_dir {
            Some(_) => LogCommand::Log { id: self.number, name },
            None => LogCommand::Show { id: self.number, name },
        };
        (command, fds)
    }

    /// Drops the bytes in the service's pipes that are due for that, because nobody reads them
    /// ([`UnreadPipe`]); returns how many were dropped.
    pub(crate) fn drop_unread(&self, null: &OwnedFd) -> u64 {
        let pipe = if self.is_releasing { UnreadPipe::Releasing } else { UnreadPipe::InUse };
        let stderr = self.ends.stderr.as_ref().map(|(reader, _)| reader);
        let mut dropped = 0_u64;
        for reader in std::iter::once(&self.ends.reader).chain(stderr) {
            let waiting = ioctl_fionread(reader).unwrap_or(0);
            if pipe.is_emptied(waiting)
                && let Ok(length) = usize::try_from(waiting)
                && let Ok(n) = splice(reader, None, null, None, length, SpliceFlags::NONBLOCK)
            {
                dropped = dropped.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
            }
        }
        dropped
    }
}
