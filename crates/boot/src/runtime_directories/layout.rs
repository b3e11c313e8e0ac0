//! The run-time directories, and taking their places if somebody else may have them.
//!
//! *Lives here:* their names, and one directory: opened where it is ours, made, or put aside.
//! *Does not live here:* what is in them, and the order in which they are made.
//!
//! *May depend on it:* the other modules of run-time directories.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use gatevisor_paths::{Errno, OpenHome, Resolver, look};
use gatevisor_sys::clock;
use gatevisor_sys::user::User;
use rustix::fs::{Mode, mkdirat, renameat};
use rustix::process::geteuid;

/// The directory of the container's environment, below the run-time directory.
pub(super) const ENVIRONMENT: &str = "s6/container_environment";
/// The scandir, below the run-time directory.
pub(super) const SERVICES: &str = "service";
/// The parent of the scandir if its usual place cannot be emptied.
pub(super) const ELSEWHERE: &str = "gatevisor";
/// The mode of a directory that everybody may look into.
pub(super) const OPEN_MODE: Mode = Mode::from_raw_mode(0o755);
/// How often something else is put aside before the place is given up.
const TRIES: u32 = 16;

/// The paths of the run-time directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeDirectories {
    /// The directory of all of them.
    pub root: PathBuf,
    /// The container's environment.
    pub environment: PathBuf,
    /// The directory that the supervisor supervises.
    pub scandir: PathBuf,
}

impl RuntimeDirectories {
    /// Returns the paths below a directory.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), environment: root.join(ENVIRONMENT), scandir: root.join(SERVICES) }
    }

    /// Opens the directory of all of them, and makes it where there is none.
    pub(super) fn root(&self) -> io::Result<OpenHome> {
        OpenHome::open_or_make(&self.root, OPEN_MODE).map_err(io::Error::other)
    }

    /// Opens the scandir, which is the agent's or ours.
    pub(super) fn open_scandir(&self, agent: Option<&User>) -> io::Result<OwnedFd> {
        let owners: Vec<u32> = agent.map(|agent| agent.uid).into_iter().chain(trusted()).collect();
        let parent = self.scandir.parent().unwrap_or(&self.root);
        let name = self.scandir.file_name().and_then(|name| name.to_str()).unwrap_or(SERVICES);
        let parent = OpenHome::open(parent).map_err(io::Error::other)?;
        own_directory(&parent, name, &owners)
    }
}

/// The users whose directories are trusted: root, because an image may leave directories to
/// everybody for a start as another user, and this user.
pub(super) fn trusted() -> [u32; 2] {
    [0, geteuid().as_raw()]
}

/// Opens the directory `name` of one of `owners`, and makes it where there is none.
///
/// What is there instead is renamed. It may be a mount of the operator's.
pub(super) fn own_directory(parent: impl AsFd, name: &str, owners: &[u32]) -> io::Result<OwnedFd> {
    let parent = parent.as_fd();
    for _ in 0..TRIES {
        match mkdirat(parent, name, OPEN_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        match Resolver::READING.directory(parent, name) {
            Ok(found) if owners.contains(&look(&found)?.uid) => return Ok(found),
            Err(error) if !matches!(error.errno(), Errno::NOTDIR | Errno::LOOP) => return Err(error.into()),
            Ok(_) | Err(_) => put_aside(parent, name)?,
        }
    }
    Err(Errno::EXIST.into())
}

/// Renames what is in a place, unless the new name is taken.
fn put_aside(parent: impl AsFd, name: &str) -> io::Result<()> {
    match renameat(&parent, name, &parent, fresh_name(name, "not-ours")) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::ISDIR | Errno::NOTDIR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns a name that no earlier process could know and take.
pub(super) fn fresh_name(name: &str, why: &str) -> String {
    let (seconds, nanos) = clock::wall();
    format!(".{name}.{seconds:x}{nanos:08x}.{why}")
}
