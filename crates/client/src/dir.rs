//! *Lives here:* a service directory as a client sees it: whether it is supervised, sending it
//! commands, reading its files.
//!
//! *Does not live here:* waiting for it (`waiting`), and the words for its state (`status_view`).

use crate::{asking_process, open, open::HeldDir};
use gatevisor_paths::by_path;
use gatevisor_sys::refused;
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

/// Bytes for a status, one more than any version of s6 writes.
const STATUS_ROOM: usize = 64;
const POLICY_ROOM: usize = policy::MAX + 1;
const TALLY_ROOM: usize = tally::MAX * tally::SIZE + 1;
const LINE_ROOM: usize = 4096;

/// A service directory, known by its path; it need not exist.
///
/// Each access resolves the path anew, because a slot can be replaced by another one of the same
/// name. A caller that reads several files at one moment holds the directory ([`Self::held`]),
/// which also saves resolving the path again.
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
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum SendError {
    /// Nobody reads the control FIFO.
    #[error("no supervisor is reading `{}`", fifo.display())]
    NotSupervised {
        /// The path of the control FIFO.
        fifo: PathBuf,
    },
    /// There is no such directory.
    #[error("there is no service directory `{}`", dir.display())]
    Missing { dir: PathBuf },
    /// Opening or writing failed.
    #[error("cannot write to control FIFO `{}`", fifo.display())]
    Write {
        /// The path of the control FIFO.
        fifo: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl SendError {
    /// Returns what to look at next, if there is a suggestion.
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
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum StatusError {
    /// There is no status file.
    #[error("`{}` has never been supervised", dir.display())]
    NeverSupervised { dir: PathBuf },
    /// There is no such directory.
    #[error("there is no service directory `{}`", dir.display())]
    Missing { dir: PathBuf },
    /// Reading failed.
    #[error("cannot read status file `{}`", file.display())]
    Read {
        /// The path of the status file.
        file: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file is longer than in any version of s6.
    #[error("status file `{}` is too long to be one", file.display())]
    TooLong {
        /// The path of the status file.
        file: PathBuf,
    },
    /// The file does not hold a status.
    #[error("status file `{}` holds something else", file.display())]
    Decode {
        /// The path of the status file.
        file: PathBuf,
        /// Why it could not be decoded.
        #[source]
        source: status::StatusDecodeError,
    },
}

impl StatusError {
    /// Returns what to look at next, if there is a suggestion.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NeverSupervised { .. } => Some("is the scandir running, and is this service in it?"),
            Self::Missing { .. } => Some("is the name right, and is the service registered?"),
            Self::Read { .. } | Self::TooLong { .. } | Self::Decode { .. } => None,
        }
    }
}

impl ServiceDir {
    /// Returns the service directory at `path`, without looking at it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), directory: None }
    }

    /// Returns the service directory for an opened directory with this path.
    pub(crate) fn opened(path: PathBuf, directory: OwnedFd) -> Self {
        Self::sharing(path, Arc::new(directory))
    }

    /// Does the same for a directory that somebody else uses, too.
    pub const fn sharing(path: PathBuf, directory: Arc<OwnedFd>) -> Self {
        Self { path, directory: Some(directory) }
    }

    /// Returns the directory that the path leads to now, held by a descriptor: it stays the same
    /// directory, whatever gets its name later.
    pub fn held(&self) -> Result<Self, Errno> {
        match self.directory()? {
            HeldDir::Borrowed(_) => Ok(self.clone()),
            HeldDir::Owned(directory) => Ok(Self::opened(self.path.clone(), directory)),
        }
    }

    /// Returns the directory itself, opened with `O_PATH` or to be listed.
    pub fn directory(&self) -> Result<HeldDir<'_>, Errno> {
        match &self.directory {
            Some(directory) => Ok(HeldDir::Borrowed(directory.as_fd())),
            None => by_path::directory(&self.path).map(HeldDir::Owned),
        }
    }

    /// Returns whether the directory exists.
    pub fn is_there(&self) -> bool {
        self.directory().is_ok()
    }

    /// Opens a file at a path below the directory. Links on the way and at its end are followed if
    /// they may be.
    ///
    /// With `O_PATH`, the file is found but not opened for use.
    pub fn open(&self, path: &'static str, flags: OFlags) -> Result<OwnedFd, Errno> {
        Ok(by_path::rules().open(self.directory()?, path, flags)?)
    }

    /// Opens a file at a path below the directory, without waiting; a link at the path's end is not
    /// followed.
    pub fn open_file(&self, path: &'static str, access: OFlags) -> Result<OwnedFd, Errno> {
        open::file_in(&self.directory()?, path, access)
    }

    /// Returns whether anything exists at a path below the directory; false also if we may not
    /// look, of which the list of refused looks then tells.
    pub(crate) fn has(&self, path: &'static str) -> bool {
        self.open(path, OFlags::PATH).is_ok()
    }

    pub(crate) fn small<const N: usize>(&self, path: &'static str) -> Result<Option<Vec<u8>>, Errno> {
        open::small::<N>(&self.directory()?, path)
    }

    /// Does the same, and returns the opened file with the bytes.
    pub(crate) fn small_with_file<const N: usize>(
        &self,
        path: &'static str,
    ) -> Result<(Option<Vec<u8>>, OwnedFd), Errno> {
        open::small_with_file::<N>(&self.directory()?, path)
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

    /// Returns whether a supervisor has the service, that is, whether anybody reads its control
    /// FIFO.
    ///
    /// A missing directory is not supervised. Permission denied is an error, because then the
    /// answer is unknown.
    pub fn supervised(&self) -> io::Result<bool> {
        Ok(self.control()?.is_some())
    }

    /// Writes commands to the control FIFO, in one piece and without waiting.
    ///
    /// When this returns, the commands are in the supervisor's FIFO, but they need not have been
    /// obeyed yet; see `act`.
    pub fn send(&self, commands: &[Control]) -> Result<(), SendError> {
        let fifo = self.control_path();
        let bytes: Vec<u8> = commands.iter().map(|command| command.byte()).collect();
        let leader = || self.status().ok().and_then(|status| status.pid).map(Pid::get);
        asking_process::note(self.path(), || self.directory(), leader);
        match self.control().and_then(|control| control.map(|c| open::send(&c, &bytes)).transpose()) {
            Ok(Some(())) => Ok(()),
            Ok(None) if !self.is_there() => Err(SendError::Missing { dir: self.path.clone() }),
            Ok(None) => Err(SendError::NotSupervised { fifo }),
            // The reader has closed the FIFO between our opening and our writing.
            Err(source) if source.kind() == io::ErrorKind::BrokenPipe => {
                Err(SendError::NotSupervised { fifo })
            }
            Err(source) => Err(SendError::Write { fifo, source }),
        }
    }

    /// Returns the content of the status file, whether or not a supervisor still has the service.
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

    /// Returns the content of the policy file, or `None` if it is missing, as under s6, or cannot
    /// be read or decoded.
    pub fn policy(&self) -> Option<PublishedPolicy> {
        self.look_at_policy().ok().flatten()
    }

    /// Returns the content of the policy file, or `None` if it is missing, as under s6, or cannot
    /// be decoded.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn look_at_policy(&self) -> Result<Option<PublishedPolicy>, Errno> {
        match self.small::<POLICY_ROOM>(files::POLICY) {
            Ok(bytes) => Ok(bytes.and_then(|bytes| PublishedPolicy::decode(&bytes).ok())),
            Err(errno) if refused::is_refusal(errno) => Err(errno),
            Err(_) => Ok(None),
        }
    }

    /// Returns the deaths that the supervisor remembers, oldest first; none if the tally is missing
    /// or unreadable.
    pub fn deaths(&self) -> Vec<Death> {
        let bytes = self.small::<TALLY_ROOM>(files::DEATH_TALLY).ok().flatten();
        bytes.and_then(|bytes| tally::decode_all(&bytes).ok()).unwrap_or_default()
    }

    /// Returns whether the service is up by default: whether there is no `down` file. `None` if
    /// nobody can tell, because permission is denied.
    pub fn normally_up(&self) -> Option<bool> {
        // A dangling link counts as a file, because it does for the supervisor.
        let look = |directory: HeldDir<'_>| {
            let looked = statat(&directory, files::DOWN, AtFlags::SYMLINK_NOFOLLOW);
            refused::below(looked, &directory, Path::new(files::DOWN))
        };
        match self.directory().and_then(look) {
            Ok(_) => Some(false),
            Err(errno) => (!refused::is_refusal(errno)).then_some(true),
        }
    }

    /// Returns whether the service itself announces its readiness: whether it has a
    /// `notification-fd`.
    pub fn has_readiness(&self) -> bool {
        self.has(files::NOTIFICATION_FD)
    }

    /// Returns the prober's reason, on one line, why a probed service is not ready.
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
