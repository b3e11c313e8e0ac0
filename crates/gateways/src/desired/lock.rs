//! *Lives here:* the lock beside a state file, which our own writers take in turn.
//!
//! *Does not live here:* what is written under it.
//!
//! **Source:** flock(2).

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use std::{io, thread};

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, flock, futimens, openat,
    statat,
};
use rustix::io::Errno;

use super::write::RecordError;

/// How long one other writer may hold the lock.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How many times this is waited for while other writers come and go: a minute.
const LOCK_TURNS: u32 = 12;

/// Returns the name of the lock beside a state file.
pub(crate) fn lock_name(file: &Path) -> String {
    format!(".{}.lock", file.file_name().unwrap_or_default().to_string_lossy())
}

/// Takes the lock beside the file, waiting for its turn but not for ever; not at all unless it `may_wait`.
pub(super) fn lock(parent: BorrowedFd<'_>, path: &Path, may_wait: bool) -> Result<OwnedFd, RecordError> {
    let failed = |source: io::Error| RecordError::Write { path: path.to_owned(), source };
    let write = |errno: Errno| failed(errno.into());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(parent, lock_name(path), flags, Mode::RUSR | Mode::WUSR).map_err(write)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(taken(file)),
        Err(Errno::WOULDBLOCK) if may_wait => {}
        Err(Errno::WOULDBLOCK) => return Err(RecordError::Locked { path: path.to_owned() }),
        Err(errno) => return Err(write(errno)),
    }
    let taken_at =
        || statat(parent, lock_name(path), AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| changed(&stat));
    let mut last = taken_at();
    let locked = wait_apart(file, FlockOperation::LockExclusive, taken).map_err(failed)?;
    for _ in 0..LOCK_TURNS {
        if let Ok(result) = locked.recv_timeout(LOCK_TIMEOUT) {
            return result.map_err(write);
        }
        // Many writers on a slow disk are no writer that hangs.
        let now = taken_at();
        if std::mem::replace(&mut last, now) == now {
            break;
        }
    }
    Err(RecordError::Locked { path: path.to_owned() })
}

/// Waits for a lock and tells what `then` makes of it.
///
/// The kernel knows no deadline for this lock, so the wait gets a thread of its own, left behind if it is in vain.
pub(crate) fn wait_apart<T: Send + 'static>(
    file: OwnedFd,
    how: FlockOperation,
    then: fn(OwnedFd) -> T,
) -> io::Result<Receiver<Result<T, Errno>>> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("lock".to_owned()).spawn(move || {
        let result = loop {
            match flock(&file, how) {
                Err(Errno::INTR) => {}
                other => break other,
            }
        };
        let _ = sender.send(result.map(|()| then(file)));
    })?;
    Ok(receiver)
}

/// Tells those who wait that the lock has another holder now.
fn taken(lock: OwnedFd) -> OwnedFd {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    // Somebody else's lock that we may not touch: they give up a little early.
    let _ = futimens(&lock, &Timestamps { last_access: now, last_modification: now });
    lock
}

/// Returns when a lock was taken last.
pub(crate) fn changed(lock: &Stat) -> (i64, u64) {
    (lock.st_mtime, lock.st_mtime_nsec)
}
