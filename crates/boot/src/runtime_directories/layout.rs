//! Which run-time directories there are, and taking a place that somebody else may hold.
//!
//! *Lives here:* their names, and one directory: opened where it is ours, made, or put aside.
//! *Does not live here:* what is in them, and the order in which they are made.
//!
//! *May depend on it:* the other modules of run-time directories.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use gatevisor_paths::{Errno, Resolver, look};
use gatevisor_sys::clock;
use rustix::fs::{Mode, mkdirat, renameat};
use rustix::process::geteuid;

/// Where the container's environment is.
pub(super) const ENVIRONMENT: &str = "s6/container_environment";
/// Where the scandir is.
pub(super) const SERVICES: &str = "service";
/// Where the scandir is where that place cannot be emptied.
pub(super) const ELSEWHERE: &str = "gatevisor";
/// How a directory is made that everybody may look into.
pub(super) const OPEN_MODE: Mode = Mode::from_raw_mode(0o755);
/// Times that something else is put aside before a directory's place is given up.
const TRIES: u32 = 16;

/// Where the run-time files are.
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
    /// Returns the places below a directory.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), environment: root.join(ENVIRONMENT), scandir: root.join(SERVICES) }
    }
}

/// Whose directories are no traps: root's, as an image leaves them to everybody for the case that
/// it is not started by root, and ours.
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

/// Gives what is in a place another name, unless that is taken.
fn put_aside(parent: impl AsFd, name: &str) -> io::Result<()> {
    match renameat(&parent, name, &parent, fresh_name(name, "not-ours")) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::ISDIR | Errno::NOTDIR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns a name that nobody who was there before could know, and take all such names.
pub(super) fn fresh_name(name: &str, why: &str) -> String {
    let (seconds, nanos) = clock::wall();
    format!(".{name}.{seconds:x}{nanos:08x}.{why}")
}
