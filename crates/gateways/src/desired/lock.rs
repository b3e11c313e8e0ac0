//! *Lives here:* the lock beside a state file, which our own writers take in turn.
//!
//! *Does not live here:* what is written under it.
//!
//! **Source:** flock(2).

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, flock, fstat, futimens,
    openat, statat,
};
use rustix::io::Errno;

use crate::files::{is_locked, open_lock};

/// How long another writer may hold the lock without a break.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many times the timeout is waited for while other writers take and release the lock: a minute
/// in all.
const TIMEOUTS: u32 = 12;

/// Returns the name of the lock beside a state file.
fn lock_name(file: &Path) -> String {
    format!(".{}.lock", file.file_name().unwrap_or_default().to_string_lossy())
}

/// Takes the lock beside the file at `path`.
///
/// Returns `None` if one writer holds the lock for too long. Without `may_wait`, returns `None` if
/// anybody holds it.
pub(crate) fn lock(parent: BorrowedFd<'_>, path: &Path, may_wait: bool) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(parent, lock_name(path), flags, Mode::RUSR | Mode::WUSR)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(Some(taken(file))),
        Err(Errno::WOULDBLOCK) if may_wait => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    let taken_at =
        || statat(parent, lock_name(path), AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| changed(&stat));
    let mut last = taken_at();
    let locked = wait_in_thread(file, FlockOperation::LockExclusive, taken)?;
    for _ in 0..TIMEOUTS {
        if let Ok(result) = locked.recv_timeout(TIMEOUT) {
            return Ok(Some(result?));
        }
        // Many writers on a slow disk must not be taken for one writer that hangs.
        let now = taken_at();
        if std::mem::replace(&mut last, now) == now {
            break;
        }
    }
    Ok(None)
}

/// Returns the locks of state files that one writer holds for as long as our own commands would
/// wait.
///
/// Looking disturbs nobody: it waits for all locks at once, and takes them shared, so it holds up
/// nobody who waits behind it.
pub fn stuck_locks<T>(state_files: impl IntoIterator<Item = (T, PathBuf)>) -> Vec<(T, PathBuf)> {
    let mut waited_for = Vec::new();
    for (whose, state_file) in state_files {
        let path = state_file.with_file_name(lock_name(&state_file));
        let Some(file) = open_lock(&path).filter(is_locked) else { continue };
        let Ok(stat) = fstat(&file) else { continue };
        if let Ok(free) = wait_in_thread(file, FlockOperation::LockShared, drop) {
            waited_for.push((whose, path, changed(&stat), free));
        }
    }
    let now = Instant::now();
    let deadline = now.checked_add(TIMEOUT).unwrap_or(now);
    let stuck = waited_for.into_iter().filter_map(|(whose, path, taken, free)| {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let is_free = free.recv_timeout(left).is_ok();
        let now = open_lock(&path).and_then(|file| fstat(file).ok());
        let is_same = now.is_some_and(|stat| changed(&stat) == taken);
        (!is_free && is_same).then_some((whose, path))
    });
    stuck.collect()
}

/// Waits for a lock in a thread of its own, and sends what `then` makes of the file.
///
/// The kernel offers no deadline for this lock, so a thread that never gets it is left behind.
fn wait_in_thread<T: Send + 'static>(
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

/// Shows other waiters, by the file's times, that the lock has a new holder.
fn taken(lock: OwnedFd) -> OwnedFd {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    // The file may belong to another user, so that we may not set its times. Then other waiters
    // give up a little early.
    let _ = futimens(&lock, &Timestamps { last_access: now, last_modification: now });
    lock
}

/// Returns when a lock was last taken.
fn changed(lock: &Stat) -> (i64, u64) {
    (lock.st_mtime, lock.st_mtime_nsec)
}
