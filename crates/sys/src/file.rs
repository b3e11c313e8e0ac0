//! Small files in directories that others own: bounded reads, atomic replacement, no symbolic link
//! followed, no waiting.
//!
//! *Lives here:* functions that stay safe while the owner of a directory replaces its entries by
//! links of either kind.
//! *Does not live here:* who owns the directory.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat, StatxFlags, fstat, openat, renameat,
    renameat_with, unlinkat,
};
use rustix::io::{Errno, read, write};
use rustix::path::Arg;

use crate::refused;

/// Opens a directory below `parent` without following a link in its last component.
pub fn open_directory(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    found(parent, name, flags)
}

/// Opens what is there, and keeps a refusal for commands that report.
fn found(parent: impl AsFd, name: impl Arg, flags: OFlags) -> Result<OwnedFd, Errno> {
    name.into_with_c_str(|name| {
        let opened = openat(&parent, name, flags, Mode::empty());
        refused::below(opened, &parent, Path::new(OsStr::from_bytes(name.to_bytes())))
    })
}

/// Returns what distinguishes a directory from every other one of this machine, also from a later
/// one with the same number: its device, its number, and its birth time if the file system knows
/// it.
pub fn lasting_identity(parent: impl AsFd, name: impl Arg) -> Result<String, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statx(parent, name, flags, StatxFlags::INO | StatxFlags::BTIME)?;
    let made = if stat.stx_mask & StatxFlags::BTIME.bits() == 0 {
        (0, 0)
    } else {
        (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)
    };
    let (major, minor) = (stat.stx_dev_major, stat.stx_dev_minor);
    Ok(format!("{major:x}.{minor:x}.{:x}.{:x}.{:x}", stat.stx_ino, made.0, made.1))
}

/// Returns whether an error means that a file system has no room left, or its user none.
pub const fn is_full(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT)
}

/// Returns what stays the same when a directory is renamed, and is another for every copy of it:
/// its number and its birth time. Returns `None` if its file system does not know the latter.
pub fn creation_mark(parent: impl AsFd, name: impl Arg) -> Option<String> {
    let (inode, seconds, nanoseconds) = creation(parent, name)?;
    Some(format!("{inode:x}.{seconds:x}.{nanoseconds:x}"))
}

/// Returns when a file was made, in seconds since 1970, if its file system knows that.
pub fn born_s(parent: impl AsFd, name: impl Arg) -> Option<i64> {
    creation(parent, name).map(|(_, seconds, _)| seconds)
}

/// Returns when a file was made, if its file system knows that.
pub fn born(parent: impl AsFd, name: impl Arg) -> Option<SystemTime> {
    let (_, seconds, nanoseconds) = creation(parent, name)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(u64::try_from(seconds).ok()?, nanoseconds))
}

/// Returns a file's number, and when it was made, in seconds and nanoseconds since 1970.
fn creation(parent: impl AsFd, name: impl Arg) -> Option<(u64, i64, u32)> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statx(parent, name, flags, StatxFlags::INO | StatxFlags::BTIME).ok()?;
    let is_told = stat.stx_mask & StatxFlags::BTIME.bits() != 0 && stat.stx_btime.tv_sec > 0;
    is_told.then_some((stat.stx_ino, stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec))
}

/// Returns whether a file may be a further name of a file elsewhere to which the owner of `parent`
/// has no right.
///
/// **Source:** link(2); where `fs.protected_hardlinks` is 0, a user can make names for files of
/// others.
pub fn is_borrowed(parent: impl AsFd, stat: &Stat) -> bool {
    stat.st_nlink > 1 && fstat(parent).is_ok_and(|directory| directory.st_uid != stat.st_uid)
}

/// Reads a regular file below `parent` into `buffer` and returns the part that was filled.
///
/// It is opened without waiting, so neither a FIFO nor a lease holder can delay us.
///
/// # Errors
/// `ENOENT` if it is missing, `EINVAL` if it is not a regular file, `EMLINK` if it has several
/// names and belongs to somebody else than the directory does.
pub fn read_small(
    parent: impl AsFd,
    name: impl rustix::path::Arg,
    buffer: &mut [u8],
) -> Result<&[u8], Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = found(&parent, name, flags)?;
    read_opened(&fd, || Ok(parent), buffer)
}

/// Reads a regular file that was opened without waiting, as [`read_small`] does. `parent` is called
/// only if the file has other names.
pub fn read_opened<'a, P: AsFd>(
    fd: &OwnedFd,
    parent: impl FnOnce() -> Result<P, Errno>,
    buffer: &'a mut [u8],
) -> Result<&'a [u8], Errno> {
    let stat = fstat(fd)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Errno::INVAL);
    }
    if stat.st_nlink > 1 && is_borrowed(parent()?, &stat) {
        return Err(Errno::MLINK);
    }
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..)
        && !rest.is_empty()
    {
        match read(fd, rest) {
            Ok(0) => break,
            Ok(n) => {
                filled = filled.saturating_add(n);
                // This is the size at the time of the look; bytes that are added afterwards come
                // too late anyway. Files of /proc and /sys have no size or a meaningless one, and
                // are read to their end.
                if i64::try_from(filled).is_ok_and(|filled| filled == stat.st_size) {
                    break;
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(buffer.get(..filled).unwrap_or_default())
}

/// Replaces the file `name` below `parent` atomically by one that holds `bytes`.
///
/// `temporary` is the name used meanwhile, in the same directory. A leftover of that name, whatever
/// it is, is unlinked and never written to. The data is not synced: callers that promise durability
/// do that.
pub fn replace(
    parent: impl AsFd,
    name: impl Arg + Copy,
    temporary: &str,
    bytes: &[u8],
    mode: Mode,
) -> Result<(), Errno> {
    let parent = parent.as_fd();
    let put = || renameat(parent, temporary, parent, name);
    put_with(parent, temporary, bytes, mode, put)
}

/// Does the same as [`replace`] for a file that matters only until the machine ends, and does not
/// wait for a disk.
///
/// If `rename` replaces a file, ext4 first writes the new file out, so that a crash does not lose
/// both. That takes as long as the disk is busy. If the two files change places, ext4 does not.
///
/// **Source:** ext4(5), `auto_da_alloc`; renameat2(2).
pub fn publish(
    parent: impl AsFd,
    name: impl Arg + Copy,
    temporary: &str,
    bytes: &[u8],
    mode: Mode,
) -> Result<(), Errno> {
    let parent = parent.as_fd();
    let exchange = || renameat_with(parent, temporary, parent, name, RenameFlags::EXCHANGE);
    put_with(parent, temporary, bytes, mode, || {
        // There is no such file yet, or the file system or the kernel cannot exchange two files.
        if exchange().is_err() {
            return renameat(parent, temporary, parent, name);
        }
        match unlinkat(parent, temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // A directory has the name, and no file replaces a directory.
            Err(errno) => exchange().and(Err(errno)),
        }
    })
}

/// Writes a file with the name `temporary` and calls `put` to put it in place. Removes it if that
/// fails.
fn put_with(
    parent: BorrowedFd<'_>,
    temporary: &str,
    bytes: &[u8],
    mode: Mode,
    put: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
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
    let result = written.and_then(|()| put());
    if result.is_err() {
        let _ = unlinkat(parent, temporary, AtFlags::empty());
    }
    result
}

/// Overwrites a small file with the same number of bytes, for use when there is no room for a
/// second file.
///
/// # Errors
/// `EINVAL` if its length differs, or if it is not a regular file with one name.
pub fn overwrite(parent: impl AsFd, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(parent, name, flags, Mode::empty())?;
    let stat = fstat(&file)?;
    let fits = u64::try_from(stat.st_size).ok() == u64::try_from(bytes.len()).ok();
    if !fits || stat.st_nlink != 1 || !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Errno::INVAL);
    }
    // One call, so that a reader sees either all of the old bytes or all of the new ones.
    match rustix::io::pwrite(&file, bytes, 0) {
        Ok(written) if written == bytes.len() => Ok(()),
        Ok(_) => Err(Errno::IO),
        Err(errno) => Err(errno),
    }
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
/// Returns `None` if another process holds it. The lock is lost when *any* descriptor of the file
/// is closed, so the returned one must be the only one.
///
/// # Errors
/// `EMLINK` if the file is a further name of one that belongs to somebody else than the directory
/// does, `EINVAL` if it is not a regular file, `ELOOP` if it is a symbolic link.
///
/// **Source:** fcntl(2), advisory record locks.
pub fn lock(parent: impl AsFd, name: &str) -> Result<Option<OwnedFd>, Errno> {
    lock_with_mode(parent, name, Mode::from_raw_mode(0o644))
}

/// Does the same as [`lock`]; a file that it has to make gets this mode.
pub fn lock_with_mode(parent: impl AsFd, name: &str, mode: Mode) -> Result<Option<OwnedFd>, Errno> {
    let parent = parent.as_fd();
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = match openat(parent, name, flags | OFlags::CREATE | OFlags::EXCL, mode) {
        Err(Errno::EXIST) => open_own(parent, name, flags)?,
        other => other?,
    };
    match rustix::fs::fcntl_lock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(fd)),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens an existing regular file, unless it is a further name of somebody else's file. `flags`
/// must follow no link, must not wait and must not truncate.
///
/// The file is looked at before it is opened: a program cannot be executed while it is open for
/// writing, and closing a file gives up the locks that this process has on it.
///
/// # Errors
/// Those of [`lock`].
pub fn open_own(parent: impl AsFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let parent = parent.as_fd();
    let good = |stat: Stat| {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind.is_symlink() {
            Err(Errno::LOOP)
        } else if !kind.is_file() {
            Err(Errno::INVAL)
        } else if is_borrowed(parent, &stat) {
            Err(Errno::MLINK)
        } else {
            Ok(())
        }
    };
    good(rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?)?;
    let fd = openat(parent, name, flags, Mode::empty())?;
    good(fstat(&fd)?)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{lchown, symlink};

    fn root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            println!("not shown: only root can give files to others");
        }
        root
    }

    fn opened(path: &std::path::Path) -> OwnedFd {
        open_directory(rustix::fs::CWD, path).unwrap()
    }

    fn published(name: &str, bytes: &[u8]) -> (tempfile::TempDir, Result<(), Errno>, Vec<String>) {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("directory")).unwrap();
        fs::write(temp.path().join("file"), "old").unwrap();
        fs::write(temp.path().join("unfinished"), "left over").unwrap();
        symlink("file", temp.path().join("link")).unwrap();
        let result = publish(opened(temp.path()), name, "unfinished", bytes, Mode::RUSR);
        let mut names: Vec<_> = fs::read_dir(&temp)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        (temp, result, names)
    }

    #[test]
    fn what_is_published_takes_the_place_of_whatever_has_the_name_and_leaves_nothing_else() {
        for name in ["file", "link", "none"] {
            let (temp, result, names) = published(name, b"new");
            assert_eq!(result, Ok(()), "{name}");
            assert_eq!(fs::read_to_string(temp.path().join(name)).unwrap(), "new");
            assert!(fs::symlink_metadata(temp.path().join(name)).unwrap().is_file());
            let others: Vec<_> = names.iter().filter(|other| *other != name).collect();
            let expected = ["directory", "file", "link"];
            assert_eq!(others, expected.iter().filter(|other| **other != name).collect::<Vec<_>>());
            if name != "file" {
                assert_eq!(fs::read_to_string(temp.path().join("file")).unwrap(), "old", "through the link");
            }
        }
    }

    #[test]
    fn a_directory_is_not_replaced_by_what_is_published() {
        let (temp, result, names) = published("directory", b"new");
        assert_eq!(result, Err(Errno::ISDIR));
        assert_eq!(names, ["directory", "file", "link"]);
        assert!(temp.path().join("directory").is_dir());
    }

    /// A directory of another user that contains a further name of a file of root's.
    fn borrowed() -> (tempfile::TempDir, OwnedFd) {
        let temp = tempfile::tempdir().unwrap();
        let theirs = temp.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(temp.path().join("secret"), "secret").unwrap();
        fs::hard_link(temp.path().join("secret"), theirs.join("file")).unwrap();
        lchown(&theirs, Some(12_345), Some(12_345)).unwrap();
        let fd = opened(&theirs);
        (temp, fd)
    }

    #[test]
    fn a_further_name_of_somebody_elses_file_is_neither_read_nor_locked() {
        if !root() {
            return;
        }
        let (temp, theirs) = borrowed();
        assert_eq!(read_small(&theirs, "file", &mut [0; 10]), Err(Errno::MLINK));
        assert_eq!(lock(&theirs, "file").unwrap_err(), Errno::MLINK);
        // A file with several names that belongs to the directory's owner is the owner's own.
        lchown(temp.path().join("secret"), Some(12_345), Some(12_345)).unwrap();
        assert_eq!(read_small(&theirs, "file", &mut [0; 10]), Ok(&b"secret"[..]));
        assert!(lock(&theirs, "file").unwrap().is_some());
    }

    #[test]
    fn a_small_file_is_read_to_its_end_also_where_its_size_says_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let dir = opened(temp.path());
        fs::write(temp.path().join("file"), "0123456789").unwrap();
        assert_eq!(read_small(&dir, "file", &mut [0; 20]), Ok(&b"0123456789"[..]));
        assert_eq!(read_small(&dir, "file", &mut [0; 10]), Ok(&b"0123456789"[..]));
        assert_eq!(read_small(&dir, "file", &mut [0; 4]), Ok(&b"0123"[..]));
        fs::write(temp.path().join("empty"), "").unwrap();
        assert_eq!(read_small(&dir, "empty", &mut [0; 4]), Ok(&b""[..]));
        // Files of /proc have no size, so only reading to the end finds their end.
        let proc = opened(&fs::canonicalize("/proc/self").unwrap());
        let whole = fs::read("/proc/self/limits").unwrap();
        let mut buffer = vec![0; whole.len() * 2];
        assert_eq!(read_small(&proc, "limits", &mut buffer), Ok(&whole[..]));
    }

    #[test]
    fn a_lock_is_a_regular_file() {
        let temp = tempfile::tempdir().unwrap();
        let dir = opened(temp.path());
        assert!(lock(&dir, "new").unwrap().is_some());
        assert!(lock(&dir, "new").unwrap().is_some(), "a lock does not hold against its own process");
        fs::create_dir(temp.path().join("directory")).unwrap();
        symlink("new", temp.path().join("link")).unwrap();
        assert_eq!(lock(&dir, "directory").unwrap_err(), Errno::INVAL);
        assert_eq!(lock(&dir, "link").unwrap_err(), Errno::LOOP);
    }
}
