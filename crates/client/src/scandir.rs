//! *Lives here:* a scandir as a client sees it: is it running, tell it, what services it has.
//!
//! *Does not live here:* making one, and making services in it.

use crate::{ServiceDir, open};
use gatevisor_wire::{Pid, files, name::ServiceName, scan::ScanCommand};
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    process::{Flock, FlockType, fcntl_getlk, test_kill_process},
};
use std::{
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Instant,
};

/// Room for the name of a program, of which the kernel keeps 15 bytes.
const COMM_ROOM: usize = 64;

/// Room for the reason of a refusal.
const REASON_ROOM: usize = 1024;

/// What our own supervisor is called here, whatever its process is.
pub const OURS: &str = "gatevisor";

/// Holds the path of a scandir; the directory need not exist.
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
        /// The control FIFO.
        fifo: PathBuf,
    },
    /// There is no such directory.
    #[error("there is no scandir `{}`", dir.display())]
    Missing {
        /// The scandir.
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

impl ScanSendError {
    /// Returns what to look at next, where there is something.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotRunning { .. } => Some("is the supervisor of this scandir running?"),
            Self::Missing { .. } => Some("is the path right, and has its supervisor ever been started?"),
            Self::Write { .. } => None,
        }
    }
}

impl ScanDir {
    /// Returns the scandir at `path`; nothing is looked at yet.
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

    /// Writes commands to the control FIFO, in one piece and without waiting.
    pub fn send(&self, commands: &[ScanCommand]) -> Result<(), ScanSendError> {
        let fifo = self.control_path();
        let bytes: Vec<u8> = commands.iter().map(|command| command.byte()).collect();
        match open::control(&fifo).and_then(|control| control.map(|c| open::send(&c, &bytes)).transpose()) {
            Ok(Some(())) => Ok(()),
            Ok(None) if !self.path.is_dir() => Err(ScanSendError::Missing { dir: self.path.clone() }),
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
    /// It cannot be told: permission denied, and no lock that everybody may look at is held.
    pub fn running(&self) -> io::Result<bool> {
        match open::control(&self.control_path()) {
            Ok(control) => Ok(control.is_some()),
            // Ours holds a lock that everybody may look at.
            Err(_) if self.holder().is_some() => Ok(true),
            // What is in its place, or on the way to it, is no supervisor's: a file, a link, something else than a FIFO.
            Err(error) if is_something_else(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until nothing holds any more what a supervisor held that was killed; at once where one runs, or none did.
    ///
    /// A process that was on its way to its program when its supervisor was killed holds the FIFO and the locks for a
    /// moment longer.
    pub fn outlive(&self, deadline: Option<Instant>) {
        let Ok(Some(control)) = open::control(&self.control_path()) else { return };
        let is_there = |pid: Pid| {
            let found = rustix::process::Pid::from_raw(pid.get()).map(test_kill_process);
            found.is_some_and(|found| found != Err(Errno::SRCH))
        };
        if !self.holder().is_some_and(is_there) {
            open::until_unread(&control, deadline);
        }
    }

    /// Returns the process that holds the scandir's lock, or `None` if none does or it cannot be told.
    ///
    /// The caller must not hold that lock itself: looking would release it.
    ///
    /// **Source:** `fcntl(2)`, `F_GETLK`.
    pub fn holder(&self) -> Option<Pid> {
        // Ours has a second lock, which others may look at.
        let held = self.held(files::SVSCAN_LOCK).or_else(|| self.held(files::SVSCAN_OURS))?;
        Pid::new(held.pid?.as_raw_nonzero().get())
    }

    fn held(&self, lock: &str) -> Option<Flock> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = openat(CWD, self.path.join(lock), flags, Mode::empty()).ok()?;
        fcntl_getlk(&lock, &Flock::from(FlockType::WriteLock)).ok()?
    }

    /// Returns whether the supervisor of the scandir is ours, whatever its process is called.
    ///
    /// Its lock tells, for in a container it has the name of s6-svscan, and what it leaves behind may be found by one.
    /// Who may only read can hold no such lock.
    pub fn is_ours(&self) -> bool {
        self.held(files::SVSCAN_OURS).is_some_and(|held| held.typ == FlockType::WriteLock)
    }

    /// Returns the name of the program that supervises the scandir, such as `s6-svscan`, where it can be told; ours is
    /// always [`OURS`].
    pub fn program(&self) -> Option<String> {
        if self.is_ours() {
            return Some(OURS.to_owned());
        }
        let comm = PathBuf::from(format!("/proc/{}/comm", self.holder()?));
        let bytes = open::small::<COMM_ROOM>(&comm).ok().flatten()?;
        Some(String::from_utf8_lossy(&bytes).trim_end().into())
    }

    /// Returns the path of the directory in which our supervisor publishes whom it refuses.
    pub fn refused_path(&self) -> PathBuf {
        self.path.join(files::SVSCAN_REFUSED)
    }

    /// Returns why the supervisor refuses to supervise an entry, where it says so; s6-svscan never does.
    pub fn refusal(&self, name: &ServiceName) -> Option<String> {
        let bytes = open::small::<REASON_ROOM>(&self.refused_path().join(name)).ok().flatten()?;
        Some(String::from_utf8_lossy(&bytes).trim_end().escape_debug().to_string())
    }

    /// Returns the services of the scandir and their directories, by name in the order of bytes.
    ///
    /// Entries that a supervisor skips are left out: names that begin with a dot, names that are too long, and what
    /// is no directory. Loggers are not entries of their own.
    pub fn services(&self) -> io::Result<Vec<(ServiceName, PathBuf)>> {
        let mut services = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = ServiceName::new(entry.file_name().as_bytes()) else { continue };
            let path = entry.path();
            // Follows links, as s6-svscan does. What has just gone is no service any more.
            if path.is_dir() {
                services.push((name, path));
            }
        }
        services.sort();
        Ok(services)
    }
}

/// Returns whether something else than a control FIFO was found, rather than that nobody may look.
fn is_something_else(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput)
        || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}
