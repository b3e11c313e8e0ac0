//! *Lives here:* a scandir as a client sees it: whether its supervisor runs, sending it commands,
//! listing its services.
//!
//! *Does not live here:* making a scandir, and making services in it.

use crate::{ServiceDir, open};
use gatevisor_paths::by_path;
use gatevisor_sys::file;
use gatevisor_wire::{Pid, files, name::ServiceName, scan::ScanCommand};
use rustix::{
    fs::{CWD, FileType, OFlags},
    io::Errno,
    process::{Flock, FlockType, fcntl_getlk, test_kill_process},
};
use std::{
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    time::Instant,
};

/// Bytes for the name of a program, of which the kernel keeps 15.
const COMM_ROOM: usize = 64;

/// Bytes for the reason of a refusal.
const REASON_ROOM: usize = 1024;

/// The name of our own supervisor here, whatever the name of its process is.
pub const OURS: &str = "gatevisor";

/// Holds the path of a scandir. The directory need not exist.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ScanDir {
    path: PathBuf,
}

/// Why a command was not sent to the supervisor of a scandir.
#[derive(Debug, thiserror::Error)]
pub enum ScanSendError {
    /// Nobody reads the control FIFO.
    #[error("no supervisor is reading `{}`", fifo.display())]
    NotRunning {
        /// The path of the control FIFO.
        fifo: PathBuf,
    },
    /// There is no such directory.
    #[error("there is no scandir `{}`", dir.display())]
    Missing {
        /// The path of the scandir.
        dir: PathBuf,
    },
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

impl ScanSendError {
    /// Returns what to look at next, if there is a suggestion.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotRunning { .. } => Some("is the supervisor of this scandir running?"),
            Self::Missing { .. } => Some("is the path right, and has its supervisor ever been started?"),
            Self::Write { .. } => None,
        }
    }
}

impl ScanDir {
    /// Returns the scandir at `path`, without looking at it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the path of the scandir.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the control FIFO.
    pub fn control_path(&self) -> PathBuf {
        self.path.join(files::SVSCAN_CONTROL)
    }

    /// Returns the directory of the service called `name`, whether or not it exists.
    pub fn service(&self, name: &ServiceName) -> ServiceDir {
        ServiceDir::new(self.path.join(name))
    }

    /// Returns the directory itself, opened with `O_PATH`.
    pub fn directory(&self) -> Result<OwnedFd, Errno> {
        by_path::directory(&self.path)
    }

    fn control(&self) -> io::Result<Option<OwnedFd>> {
        match self.directory() {
            Ok(directory) => open::control(&directory, files::SVSCAN_CONTROL),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes commands to the control FIFO, in one piece and without waiting.
    pub fn send(&self, commands: &[ScanCommand]) -> Result<(), ScanSendError> {
        let fifo = self.control_path();
        let bytes: Vec<u8> = commands.iter().map(|command| command.byte()).collect();
        match self.control().and_then(|control| control.map(|c| open::send(&c, &bytes)).transpose()) {
            Ok(Some(())) => Ok(()),
            Ok(None) if self.directory().is_err() => Err(ScanSendError::Missing { dir: self.path.clone() }),
            Ok(None) => Err(ScanSendError::NotRunning { fifo }),
            Err(source) if source.kind() == io::ErrorKind::BrokenPipe => {
                Err(ScanSendError::NotRunning { fifo })
            }
            Err(source) => Err(ScanSendError::Write { fifo, source }),
        }
    }

    /// Returns whether a supervisor runs on the scandir.
    ///
    /// # Errors
    /// The answer is unknown: permission is denied, and no lock that everybody may look at is held.
    pub fn running(&self) -> io::Result<bool> {
        match self.control() {
            Ok(control) => Ok(control.is_some()),
            // Our supervisor holds a lock that everybody may look at.
            Err(_) if self.holder().is_some() => Ok(true),
            // Something that no supervisor makes is in its place or on the way to it: a file, a
            // link, anything but a FIFO.
            Err(error) if is_something_else(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until nothing holds the FIFO and the locks of a killed supervisor any more; returns at
    /// once if a supervisor runs, or if none was killed.
    ///
    /// A process that was being started when its supervisor was killed holds the FIFO and the locks
    /// for a moment longer.
    pub fn outlive(&self, deadline: Option<Instant>) {
        let Ok(Some(control)) = self.control() else { return };
        let is_there = |pid: Pid| {
            let found = rustix::process::Pid::from_raw(pid.get()).map(test_kill_process);
            found.is_some_and(|found| found != Err(Errno::SRCH))
        };
        if !self.holder().is_some_and(is_there) {
            open::until_unread(&control, deadline);
        }
    }

    /// Returns the process that holds the scandir's lock, or `None` if none does or the answer is
    /// unknown.
    ///
    /// The caller must not hold that lock itself, because looking would release it.
    ///
    /// **Source:** `fcntl(2)`, `F_GETLK`.
    pub fn holder(&self) -> Option<Pid> {
        // Our supervisor has a second lock, which others may look at.
        let held = self.held(files::SVSCAN_LOCK).or_else(|| self.held(files::SVSCAN_OURS))?;
        Pid::new(held.pid?.as_raw_nonzero().get())
    }

    fn held(&self, lock: &'static str) -> Option<Flock> {
        let lock = open::file_in(&self.directory().ok()?, lock, OFlags::RDONLY).ok()?;
        fcntl_getlk(&lock, &Flock::from(FlockType::WriteLock)).ok()?
    }

    /// Returns whether the supervisor of the scandir is ours, whatever its process is called.
    ///
    /// Its lock tells. (In a container its process has the name of s6-svscan, and s6-svscan may
    /// find the files that it left behind.) A process that may only read cannot hold such a lock.
    pub fn is_ours(&self) -> bool {
        self.held(files::SVSCAN_OURS).is_some_and(|held| held.typ == FlockType::WriteLock)
    }

    /// Returns the name of the program that supervises the scandir, such as `s6-svscan`, if it is
    /// known. Our own is always [`OURS`].
    pub fn program(&self) -> Option<String> {
        if self.is_ours() {
            return Some(OURS.to_owned());
        }
        let mut buffer = [0; COMM_ROOM];
        let comm = file::read_small(CWD, format!("/proc/{}/comm", self.holder()?), &mut buffer).ok()?;
        Some(String::from_utf8_lossy(comm).trim_end().into())
    }

    /// Returns the path of the directory in which our supervisor publishes refused entries.
    pub fn refused_path(&self) -> PathBuf {
        self.path.join(files::SVSCAN_REFUSED)
    }

    /// Returns the supervisor's reason for refusing an entry, if it publishes one. s6-svscan never
    /// does.
    pub fn refusal(&self, name: &ServiceName) -> Option<String> {
        let refused = by_path::directory(self.refused_path()).ok()?;
        let bytes =
            open::small_named(&refused, OsStr::from_bytes(name.as_bytes()), REASON_ROOM).ok().flatten()?;
        Some(String::from_utf8_lossy(&bytes).trim_end().escape_debug().to_string())
    }

    /// Returns the services of the scandir and their directories, ordered by the bytes of their
    /// names.
    ///
    /// Entries that a supervisor skips are left out: names that begin with a dot, names that are
    /// too long, and entries that are not directories. Loggers are not separate entries.
    pub fn services(&self) -> io::Result<Vec<(ServiceName, PathBuf)>> {
        let directory = self.directory()?;
        // Links count if a supervisor would follow them. An entry that has just gone is not a
        // service any more.
        let leads_to_one =
            |name: &OsStr| by_path::rules().open(&directory, name, OFlags::PATH | OFlags::DIRECTORY).is_ok();
        let mut services = Vec::new();
        for (entry, kind) in
            by_path::names_in(by_path::rules().directory(&directory, ".").map_err(Errno::from)?)?
        {
            let Ok(name) = ServiceName::new(entry.as_bytes()) else { continue };
            if kind == FileType::Directory || leads_to_one(&entry) {
                services.push((name, self.path.join(&entry)));
            }
        }
        services.sort();
        Ok(services)
    }
}

/// Returns whether the error means that something other than a control FIFO was found, and not that
/// looking was forbidden.
fn is_something_else(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput)
        || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}
