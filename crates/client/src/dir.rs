//! *Lives here:* a service directory as a client sees it: is it supervised, tell it, read what it says.
//!
//! *Does not live here:* waiting for it (`waiting`), and what its state is called (`status_view`).

use crate::{asked, open, open::HeldDir};
use gatevisor_paths::by_path;
use gatevisor_wire::{
    Pid,
    control::Control,
    files,
    policy::{self, PublishedPolicy},
    status::{self, Status},
    tally::{self, Death},
};
use rustix::{
    fs::{AtFlags, OFlags, statat},
    io::Errno,
};
use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Room for a status and one byte more than any version of s6 writes.
const STATUS_ROOM: usize = 64;
const POLICY_ROOM: usize = policy::MAX + 1;
const TALLY_ROOM: usize = tally::MAX * tally::SIZE + 1;
const LINE_ROOM: usize = 4096;

/// A service directory, known by its path; it need not exist.
///
/// Each look goes the way to it anew, for a slot can be replaced by another one of its name. Whoever looks at several things
/// at one moment holds it ([`Self::held`]), which is as many ways less.
#[derive(Debug, Clone)]
pub struct ServiceDir {
    path: PathBuf,
    directory: Option<Arc<OwnedFd>>,
}

impl PartialEq for ServiceDir {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for ServiceDir {}

impl PartialOrd for ServiceDir {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ServiceDir {
    fn cmp(&self, other: &Self) -> Ordering {
        self.path.cmp(&other.path)
    }
}

impl Hash for ServiceDir {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.hash(state);
    }
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
        source: status::StatusDecodeError,
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
        Self { path: path.into(), directory: None }
    }

    /// Returns the service directory that an opened directory is, which has this path.
    pub(crate) fn opened(path: PathBuf, directory: OwnedFd) -> Self {
        Self { path, directory: Some(Arc::new(directory)) }
    }

    /// Returns the directory that its path leads to now, held: whatever has its name later, this is what is looked at.
    pub fn held(&self) -> Result<Self, Errno> {
        match self.directory()? {
            HeldDir::Borrowed(_) => Ok(self.clone()),
            HeldDir::Owned(directory) => Ok(Self::opened(self.path.clone(), directory)),
        }
    }

    /// Returns the directory itself, held without being read.
    pub fn directory(&self) -> Result<HeldDir<'_>, Errno> {
        match &self.directory {
            Some(directory) => Ok(HeldDir::Borrowed(directory.as_fd())),
            None => by_path::directory(&self.path).map(HeldDir::Owned),
        }
    }

    /// Returns whether there is such a directory.
    pub fn is_there(&self) -> bool {
        self.directory().is_ok()
    }

    /// Opens what is at a path below the directory, through links on the way and at its end that may be followed there.
    ///
    /// With `O_PATH` it is only found.
    pub fn open(&self, path: &'static str, flags: OFlags) -> Result<OwnedFd, Errno> {
        Ok(by_path::rules().open(self.directory()?, path, flags)?)
    }

    /// Opens a file itself, no link to one, at a path below the directory, without waiting.
    pub fn open_file(&self, path: &'static str, access: OFlags) -> Result<OwnedFd, Errno> {
        open::file_in(&self.directory()?, path, access)
    }

    /// Returns whether there is anything at a path below the directory, and we may know.
    pub(crate) fn has(&self, path: &'static str) -> bool {
        self.open(path, OFlags::PATH).is_ok()
    }

    pub(crate) fn small<const N: usize>(&self, path: &'static str) -> Result<Option<Vec<u8>>, Errno> {
        open::small::<N>(&self.directory()?, path)
    }

    pub(crate) fn control(&self) -> io::Result<Option<OwnedFd>> {
        match self.directory() {
            Ok(directory) => open::control(&directory, files::CONTROL),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
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
        Ok(self.control()?.is_some())
    }

    /// Writes commands to the control FIFO, in one piece and without waiting.
    ///
    /// The supervisor has them when this returns, but need not have obeyed yet; see `act`.
    pub fn send(&self, commands: &[Control]) -> Result<(), SendError> {
        let fifo = self.control_path();
        let bytes: Vec<u8> = commands.iter().map(|command| command.byte()).collect();
        asked::note(self, || self.status().ok().and_then(|status| status.pid).map(Pid::get));
        match self.control().and_then(|control| control.map(|c| open::send(&c, &bytes)).transpose()) {
            Ok(Some(())) => Ok(()),
            Ok(None) if !self.is_there() => Err(SendError::Missing { dir: self.path.clone() }),
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
        match self.small::<STATUS_ROOM>(files::STATUS) {
            Ok(Some(bytes)) => Status::decode(&bytes).map_err(|source| StatusError::Decode { file, source }),
            Ok(None) => Err(StatusError::TooLong { file }),
            Err(Errno::NOENT) if self.is_there() => {
                Err(StatusError::NeverSupervised { dir: self.path.clone() })
            }
            Err(Errno::NOENT) => Err(StatusError::Missing { dir: self.path.clone() }),
            Err(errno) => Err(StatusError::Read { file, source: errno.into() }),
        }
    }

    /// Returns what the policy file says, or `None` where there is none to be understood, as under s6.
    pub fn policy(&self) -> Option<PublishedPolicy> {
        let bytes = self.small::<POLICY_ROOM>(files::POLICY).ok().flatten()?;
        PublishedPolicy::decode(&bytes).ok()
    }

    /// Returns the deaths that the supervisor remembers, oldest first; none where the tally is missing or unreadable.
    pub fn deaths(&self) -> Vec<Death> {
        let bytes = self.small::<TALLY_ROOM>(files::DEATH_TALLY).ok().flatten();
        bytes.and_then(|bytes| tally::decode_all(&bytes).ok()).unwrap_or_default()
    }

    /// Returns whether the service is up by default: whether there is no `down` file.
    pub fn normally_up(&self) -> bool {
        // A dangling link counts as a file, as it does for the user who made it.
        let look = |directory| statat(directory, files::DOWN, AtFlags::SYMLINK_NOFOLLOW);
        self.directory().and_then(look).is_err()
    }

    /// Returns whether the service says itself when it is ready: whether it has a `notification-fd`.
    pub fn has_readiness(&self) -> bool {
        self.has(files::NOTIFICATION_FD)
    }

    /// Returns why a service that is probed is not ready, where its prober says so, on one line.
    pub fn not_ready(&self) -> Option<String> {
        self.line(files::NOT_READY)
    }

    /// Returns why the last start failed before the service's own command was reached, on one line.
    pub fn start_error(&self) -> Option<String> {
        self.line(files::START_ERROR)
    }

    fn line(&self, file: &'static str) -> Option<String> {
        let bytes = self.small::<LINE_ROOM>(file).ok().flatten()?;
        let text = policy::one_line(String::from_utf8_lossy(&bytes).trim_end());
        (!text.is_empty()).then_some(text)
    }
}
