//! The right to write a log directory.
//!
//! *Lives here:* s6's lock, and telling two writers of this one process apart.
//! *Does not live here:* what is done with the right.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::fstat;

use super::error::{DirError, DirStep};

/// The directories that this process writes, by device and inode.
///
/// An fcntl lock does not hold against its own process, and is lost when any descriptor of the file is closed; so
/// two services that name one directory must be told apart before the second opens the lock file.
static OURS: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

fn ours() -> MutexGuard<'static, BTreeSet<(u64, u64)>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to write a directory, until dropped.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    // Closing it releases the lock.
    file: Option<OwnedFd>,
    /// Its place among ours, where two of this process are told apart.
    key: Option<(u64, u64)>,
}

impl DirectoryLock {
    /// Locks a directory; `is_alone` says whether this process may have it only once.
    pub fn take(directory: &OwnedFd, is_alone: bool) -> Result<Self, DirError> {
        let failed = DirError::at(DirStep::Lock);
        let stat = fstat(directory).map_err(&failed)?;
        let mut ours = ours();
        let key = is_alone.then_some((stat.st_dev, stat.st_ino));
        if key.is_some_and(|key| ours.contains(&key)) {
            return Err(DirError::Locked);
        }
        let file = gatevisor_sys::file::lock(directory, "lock").map_err(&failed)?;
        let file = file.ok_or(DirError::Locked)?;
        ours.extend(key);
        Ok(Self { file: Some(file), key })
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        let mut ours = ours();
        drop(self.file.take());
        if let Some(key) = &self.key {
            ours.remove(key);
        }
    }
}
