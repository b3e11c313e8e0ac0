//! *Lives here:* making a slot under a name with a dot, with a subscriber in it, and publishing it
//! by one rename.
//!
//! *Does not live here:* telling the supervisor, and waiting for it.
//!
//! **Source:** REC-13, PERM-7, B.5-7.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use gatevisor_client::{ServiceDir, Subscription};
use gatevisor_paths::{Authority, HomeError, OpenHome, Untrusted};
use gatevisor_sys::file;
use gatevisor_wire::files;
use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use super::{SlotFile, SlotFiles};
use crate::files::{Staging, make_directory, open_directory, place, remove_tree, retire, write_new};

/// More bytes than any version of s6 writes into a status.
const STATUS_BYTES: usize = 64;

/// A slot that was just published, with a subscriber that was there before anybody could see the
/// slot.
#[derive(Debug)]
pub struct Published {
    /// Where the slot is.
    pub path: PathBuf,
    /// Receives every event of the slot.
    pub subscription: Subscription,
}

/// Why a slot was not published. Nothing of it remains.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The name is taken.
    #[error("`{}` exists already", path.display())]
    Exists {
        /// The slot.
        path: PathBuf,
    },
    /// Root would make it in a directory that somebody else controls.
    #[error(transparent)]
    Foreign(#[from] ForeignScandir),
    /// A system call failed.
    #[error("cannot make the slot `{}`; nothing of it remains", path.display())]
    Write {
        /// The slot.
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
}

/// Why root makes no slot in a scandir.
///
/// The content of a slot of root's runs as root. If somebody else owns the scandir, or a directory
/// on the way to it, that user decides what has the slot's name.
#[derive(Debug, thiserror::Error)]
pub enum ForeignScandir {
    /// This user controls the scandir.
    #[error(
        "root does not make slots in `{}`: uid {uid} controls it, and a slot's content would run as root; \
         use --home with one of that user's homes, or run this as that user",
        scandir.display()
    )]
    Owned {
        /// Where the slot would be.
        scandir: PathBuf,
        /// The owner.
        uid: u32,
    },
    /// Others may write to it, or to a directory on the way.
    #[error(
        "root does not make slots in `{}`: {step}, and a slot's content would run as root; \
         remove that right with `chmod go-w`",
        scandir.display()
    )]
    Open {
        /// The directory that others may write to.
        scandir: PathBuf,
        /// Where others may write.
        step: Untrusted,
    },
    /// The owners cannot be found out.
    #[error("cannot tell who decides what is in the scandir `{}`", scandir.display())]
    Way {
        /// Where the slot would be.
        scandir: PathBuf,
        /// The underlying error.
        #[source]
        source: HomeError,
    },
}

/// Returns an error if this process is root and somebody else controls the scandir.
///
/// **Source:** SECURITY.md, *Ownership is authority*.
pub fn may_make_slots(scandir: &Path) -> Result<(), ForeignScandir> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let scandir = || scandir.to_owned();
    match OpenHome::authority_over(&scandir(), &[]) {
        Ok(Authority::Ours) => Ok(()),
        Ok(Authority::User(uid)) => Err(ForeignScandir::Owned { scandir: scandir(), uid }),
        Ok(Authority::Nobody(step)) => Err(ForeignScandir::Open { scandir: scandir(), step }),
        Err(source) => Err(ForeignScandir::Way { scandir: scandir(), source }),
    }
}

/// Publishes a slot as the entry `name` of a scandir, and never replaces another.
///
/// If several processes publish the same name at once, exactly one succeeds.
pub fn publish(scandir: &Path, name: &str, files: &SlotFiles) -> Result<Published, PublishError> {
    may_make_slots(scandir)?;
    let path = scandir.join(name);
    let write = |source| PublishError::Write { path: path.clone(), source };
    let staging = stage(scandir, files).map_err(write)?;
    let staged = ServiceDir::new(staging.path());
    let subscription = Subscription::subscribe(&staged).map_err(write)?;
    match staging.publish(name) {
        Ok(_) => Ok(Published { path, subscription }),
        Err(Errno::EXIST) => Err(PublishError::Exists { path }),
        Err(errno) => Err(write(errno.into())),
    }
}

/// Publishes a slot in the place of any other of that name, in a scandir without a supervisor.
///
/// If the old slot could not be removed, for example because it has another owner, returns its
/// path. It has another name then.
pub fn replace(scandir: &Path, name: &str, files: &SlotFiles) -> Result<Option<PathBuf>, PublishError> {
    may_make_slots(scandir)?;
    let path = scandir.join(name);
    let write = |source| PublishError::Write { path: path.clone(), source };
    let staging = stage(scandir, files).map_err(write)?;
    if let Some(status) = orphaned_status(scandir, name) {
        let supervise =
            make_directory(staging.directory(), Path::new(files::SUPERVISE), 0o700).map_err(write)?;
        write_new(supervise.as_fd(), Path::new("status"), &status, 0o644).map_err(write)?;
    }
    let parent = open_directory(scandir).map_err(write)?;
    let old = match retire(parent.as_fd(), name) {
        Ok(gone) => Some(scandir.join(gone)),
        Err(Errno::NOENT) => None,
        Err(errno) => return Err(write(errno.into())),
    };
    match staging.publish(name) {
        Ok(_) => Ok(old.filter(|old| remove_tree(old).is_err())),
        Err(Errno::EXIST) => Err(PublishError::Exists { path }),
        Err(errno) => Err(write(errno.into())),
    }
}

/// Returns the last status of a slot whose supervisor was killed. The next supervisor must know
/// which process it left.
pub(crate) fn orphaned_status(scandir: &Path, name: &str) -> Option<Vec<u8>> {
    if !follows_a_killed_one(scandir) {
        return None;
    }
    let scandir = open_directory(scandir).ok()?;
    let slot = file::open_directory(&scandir, name).ok()?;
    let supervise = file::open_directory(slot, files::SUPERVISE).ok()?;
    let mut buffer = [0; STATUS_BYTES];
    file::read_small(supervise, "status", &mut buffer).ok().map(<[u8]>::to_vec)
}

/// Returns whether the last supervisor of a scandir did not end in order.
pub fn follows_a_killed_one(scandir: &Path) -> bool {
    let is_noted = || {
        let scandir = open_directory(scandir).ok()?;
        let (svscan, unfinished) = place(scandir.as_fd(), files::SVSCAN_UNFINISHED).ok()?;
        statat(&svscan, unfinished, AtFlags::SYMLINK_NOFOLLOW).ok()
    };
    is_noted().is_some()
}

fn stage(scandir: &Path, slot: &SlotFiles) -> io::Result<Staging> {
    let staging = Staging::new(scandir, 0o755)?;
    for SlotFile { path, mode, bytes } in &slot.0 {
        if let Some((folder, _)) = path.split_once('/') {
            match make_directory(staging.directory(), Path::new(folder), 0o755) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let (folder, name) = place(staging.directory(), path)?;
        write_new(folder.as_fd(), Path::new(name), bytes, *mode)?;
    }
    make_directory(staging.directory(), Path::new(files::EVENT), files::EVENT_MODE)?;
    Ok(staging)
}
