//! *Lives here:* a service directory as a client sees it: is it supervised, tell it, read what it says.
//!
//! *Does not live here:* waiting for it (`waiting`), and what its state is called (`status_view`).

use crate::{asked, open};
use gatevisor_wire::{
    Pid,
    control::Control,
    files,
    policy::{self, Policy},
    status::{self, Status},
    tally::{self, Death},
};
use rustix::io::Errno;
use std::{
    io,
    path::{Path, PathBuf},
};

/// Room for a status and one byte more than any version of s6 writes.
const STATUS_ROOM: usize = 64;
const POLICY_ROOM: usize = policy::MAX + 1;
const TALLY_ROOM: usize = tally::MAX * tally::SIZE + 1;
const LINE_ROOM: usize = 4096;

/// Holds the path of a service directory; the directory need not exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceDir {
    path: PathBuf,
}

/// Why a command was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nobody reads the control FIFO.
    #[error("no supervisor is reading `{}`", fifo.display())]
    NotSupervised {
        /// The control FIFO.
        fifo: PathBuf,
    },
    /// There is no such directory.
    #[error("there is no service directory `{}`", dir.display())]
    Missing {
        /// The service directory.
        dir: PathBuf,
    },
    /// Opening or writing failed.
    #[error("cannot write to control FIFO `{}`", fifo.display())]
    Write {
        /// The control FIFO.
        fifo: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl SendError {
    /// Returns what to look at next, where there is something.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotSupervised { .. } => Some("is the scandir running, and is this service in it?"),
            Self::Missing { .. } => Some("is the name right, and is the service registered?"),
            Self::Write { .. } => None,
        }
    }
}

/// Why the status is not known.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// There is no status file.
    #[error("`{}` has never been supervised", dir.display())]
    NeverSupervised {
        /// The service directory.
        dir: PathBuf,
    },
    /// There is no such directory.
    #[error("there is no service directory `{}`", dir.display())]
    Missing {
        /// The service directory.
        dir: PathBuf,
    },
    /// Reading failed.
    #[error("cannot read status file `{}`", file.display())]
    Read {
        /// The status file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is longer than any version of s6 writes it.
    #[error("status file `{}` is too long to be one", file.display())]
    TooLong {
        /// The status file.
        file: PathBuf,
    },
    /// The file is not a status.
    #[error("status file `{}` holds something else", file.display())]
    Decode {
        /// The status file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: status::DecodeError,
    },
}

impl StatusError {
    /// Returns what to look at next, where there is something.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NeverSupervised { .. } => Some("is the scandir running, and is this service in it?"),
            Self::Missing { .. } => Some("is the name right, and is the service registered?"),
            Self::Read { .. } | Self::TooLong { .. } | Self::Decode { .. } => None,
        }
    }
}

impl ServiceDir {
    /// Returns the service directory at `path`; nothing is looked at yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the control FIFO.
    pub fn control_path(&self) -> PathBuf {
        self.path.join(files::CONTROL)
    }

    /// Returns the path of the event fifodir.
    pub fn event_path(&self) -> PathBuf {
        self.path.join(files::EVENT)
    }

    /// Returns whether a supervisor holds the service: whether anybody reads its control FIFO.
    ///
    /// A missing directory is not supervised. Permission denied is an error, for then it is not known.
    pub fn supervised(&self) -> io::Result<bool> {
        Ok(open::control(&self.control_path())?.is_some())
    }

    /// Writes commands to the control FIFO, in one piece and without waiting.
    ///
    /// The supervisor has them when this returns, but need not have obeyed yet; see `act`.
    pub fn send(&self, commands: &[Control]) -> Result<(), SendError> {
        let fifo = self.control_path();
        let bytes: Vec<u8> = commands.iter().map(|command| command.byte()).collect();
        asked::note(&self.path, || self.status().ok().and_then(|status| status.pid).map(Pid::get));
        match open::control(&fifo).and_then(|control| control.map(|c| open::send(&c, &bytes)).transpose()) {
            Ok(Some(())) => Ok(()),
            Ok(None) if !self.path.is_dir() => Err(SendError::Missing { dir: self.path.clone() }),
            Ok(None) => Err(SendError::NotSupervised { fifo }),
            // The reader went away between opening and writing.
            Err(source) if source.kind() == io::ErrorKind::BrokenPipe => {
                Err(SendError::NotSupervised { fifo })
            }
            Err(source) => Err(SendError::Write { fifo, source }),
        }
    }

    /// Returns what the status file says, whether or not a supervisor still holds the service.
    pub fn status(&self) -> Result<Status, StatusError> {
        let file = self.path.join(files::STATUS);
        match open::small::<STATUS_ROOM>(&file) {
            Ok(Some(bytes)) => Status::decode(&bytes).map_err(|source| StatusError::Decode { file, source }),
            Ok(None) => Err(StatusError::TooLong { file }),
            Err(Errno::NOENT) if self.path.is_dir() => {
                Err(StatusError::NeverSupervised { dir: self.path.clone() })
            }
            Err(Errno::NOENT) => Err(StatusError::Missing { dir: self.path.clone() }),
            Err(errno) => Err(StatusError::Read { file, source: errno.into() }),
        }
    }

    /// Returns what the policy file says, or `None` where there is none to be understood, as under s6.
    pub fn policy(&self) -> Option<Policy> {
        let bytes = open::small::<POLICY_ROOM>(&self.path.join(files::POLICY)).ok().flatten()?;
        Policy::decode(&bytes).ok()
    }

    /// Returns the deaths that the supervisor remembers, oldest first; none where the tally is missing or unreadable.
    pub fn deaths(&self) -> Vec<Death> {
        let bytes = open::small::<TALLY_ROOM>(&self.path.join(files::DEATH_TALLY)).ok().flatten();
        bytes.and_then(|bytes| tally::decode_all(&bytes).ok()).unwrap_or_default()
    }

    /// Returns whether the service is up by default: whether there is no `down` file.
    pub fn normally_up(&self) -> bool {
        // A dangling link counts as a file, as it does for the user who made it.
        self.path.join(files::DOWN).symlink_metadata().is_err()
    }

    /// Returns whether the service says itself when it is ready: whether it has a `notification-fd`.
    pub fn has_readiness(&self) -> bool {
        self.path.join(files::NOTIFICATION_FD).exists()
    }

    /// Returns why a service that is probed is not ready, where its prober says so, on one line.
    pub fn not_ready(&self) -> Option<String> {
        self.line(files::NOT_READY)
    }

    /// Returns why the last start failed before the service's own command was reached, on one line.
    pub fn start_error(&self) -> Option<String> {
        self.line(files::START_ERROR)
    }

    fn line(&self, file: &str) -> Option<String> {
        let bytes = open::small::<LINE_ROOM>(&self.path.join(file)).ok().flatten()?;
        let text = policy::one_line(String::from_utf8_lossy(&bytes).trim_end());
        (!text.is_empty()).then_some(text)
    }
}
