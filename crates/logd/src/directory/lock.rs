//! The lock on a log directory.
//!
//! *Lives here:* s6's lock, and excluding a second writer in this process.
//! *Does not live here:* the writing.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::fstat;

use super::error::{DirError, DirStep};

/// The directories that this process writes, by device and inode.
///
/// An fcntl lock does not exclude its own process, and is lost when any descriptor of the file is
/// closed. So a second service with the same directory must be found out before it opens the lock
/// file.
static OURS: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

fn ours() -> MutexGuard<'static, BTreeSet<(u64, u64)>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Permits writing to a directory, until dropped.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    // Closing it releases the lock.
    file: Option<OwnedFd>,
    /// Its key among our directories, if this process may open it only once.
    key: Option<(u64, u64)>,
}

impl DirectoryLock {
    /// Locks a directory. `is_alone` tells whether this process may open it only once.
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
