//! Small files in directories that others own: read bounded, replaced atomically, never through a
//! symbolic link, never waiting.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, fstat, openat, renameat, unlinkat};
use rustix::io::{Errno, read, write};

/// Opens a directory below `parent` without following a link in its last component.
pub fn open_directory(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(parent, name, flags, Mode::empty())
}

/// Reads a regular file below `parent` into `buffer` and returns the part that was filled.
///
/// It is opened without waiting, so neither a FIFO nor a lease holder can delay us.
///
/// # Errors
/// `ENOENT` when it is missing, `EINVAL` when it is not a regular file.
pub fn read_small(
    parent: impl AsFd,
    name: impl rustix::path::Arg,
    buffer: &mut [u8],
) -> Result<&[u8], Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = openat(parent, name, flags, Mode::empty())?;
    let kind = rustix::fs::FileType::from_raw_mode(fstat(&fd)?.st_mode);
    if !kind.is_file() {
        return Err(Errno::INVAL);
    }
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..)
        && !rest.is_empty()
    {
        match read(&fd, rest) {
            Ok(0) => break,
            Ok(n) => filled = filled.saturating_add(n),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(buffer.get(..filled).unwrap_or_default())
}

/// Replaces the file `name` below `parent` by one holding `bytes`, atomically.
///
/// `temporary` is the name used meanwhile, in the same directory. A leftover of that name, whatever it is, is
/// unlinked and never written to. The data is not synced: callers that promise durability do that.
pub fn replace(
    parent: impl AsFd,
    name: &str,
    temporary: &str,
    bytes: &[u8],
    mode: Mode,
) -> Result<(), Errno> {
    let parent = parent.as_fd();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match openat(parent, temporary, flags, mode) {
        Err(Errno::EXIST) => {
            unlinkat(parent, temporary, AtFlags::empty())?;
            openat(parent, temporary, flags, mode)?
        }
        other => other?,
    };
    let written = write_all(&fd, bytes);
    drop(fd);
    let result = written.and_then(|()| renameat(parent, temporary, parent, name));
    if result.is_err() {
        let _ = unlinkat(parent, temporary, AtFlags::empty());
    }
    result
}

/// Writes all of `bytes` to a descriptor of a regular file.
pub fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(&fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Takes the s6 lock: a write lock on the whole file, held by this process, without waiting.
///
/// Returns `None` when another process holds it. The lock is lost when *any* descriptor of the file
/// is closed, so the returned one must be the only one.
///
/// **Source:** fcntl(2), advisory record locks.
pub fn lock(parent: impl AsFd, name: &str) -> Result<Option<OwnedFd>, Errno> {
    lock_with_mode(parent, name, Mode::from_raw_mode(0o644))
}

/// Does what [`lock`] does, and gives a file that it makes this mode.
pub fn lock_with_mode(parent: impl AsFd, name: &str, mode: Mode) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = openat(parent, name, flags, mode)?;
    match rustix::fs::fcntl_lock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(fd)),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(None),
        Err(errno) => Err(errno),
    }
}
