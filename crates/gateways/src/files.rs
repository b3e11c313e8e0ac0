//! *Lives here:* what this crate does with files: bounded reads, durable replacement, staging
//! directories that are published by one rename, and the removal of trees.
//!
//! *Does not live here:* the meaning of any of these files.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gatevisor_paths::walk::{Problem, Wrong};
use gatevisor_paths::{Walker, by_path};
use rustix::event::{Timespec, poll};
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, fchmod, flock, fstat, fsync, mkdirat,
    openat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// What the name of a directory that is being made begins with.
pub const NEW_PREFIX: &str = ".new-";
/// What the name of a directory that is being removed begins with.
pub const GONE_PREFIX: &str = ".gone-";
/// The bytes for which there is room at least when a file is read, so that a small one is read at
/// once.
const SMALL_BYTES: usize = 256;
/// How many random names are tried before we give up.
const ATTEMPTS: u32 = 16;

/// Why a whole file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadFileError {
    /// It is not a regular file.
    #[error("it is {0}, not a file")]
    NotAFile(&'static str),
    /// It is longer than this limit.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    /// The kernel refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Returns the content of a regular file of at most `limit` bytes; `None` if it does not exist.
///
/// The file is opened without waiting, so a FIFO of that name cannot block us.
pub fn read_bounded(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, ReadFileError> {
    let file = match by_path::open(path, OFlags::RDONLY) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::NXIO) => return Err(ReadFileError::NotAFile("a socket")),
        Err(errno) => return Err(io::Error::from(errno).into()),
    };
    read_opened(file, limit).map(Some)
}

/// Returns the content of a regular file of at most `limit` bytes that was opened without waiting.
pub fn read_opened(file: OwnedFd, limit: usize) -> Result<Vec<u8>, ReadFileError> {
    let file = File::from(file);
    let stat = fstat(&file).map_err(io::Error::from)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !kind.is_file() {
        return Err(ReadFileError::NotAFile(kind_name(kind)));
    }
    let most = limit.saturating_add(1);
    // What is added after this look comes too late anyway. A file of the kernel's has no size and
    // is read to its end.
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    let (room, most) = if size == 0 { (0, most) } else { (size.min(most), size.min(most)) };
    let mut bytes = Vec::with_capacity(room.max(SMALL_BYTES));
    file.take(u64::try_from(most).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    if bytes.len() > limit { Err(ReadFileError::TooLong(limit)) } else { Ok(bytes) }
}

const fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "something unknown",
    }
}

/// Returns 16 random lower-case hexadecimal digits.
///
/// They need not be secret: a name that exists makes its use fail, and another one is drawn.
pub fn random_suffix() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Opens an existing directory.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(by_path::open(path, OFlags::RDONLY | OFlags::DIRECTORY)?)
}

/// Returns a new file in a directory that has no name. If the file system has no such files, the
/// name is removed at once.
pub fn nameless_file(directory: &Path) -> io::Result<OwnedFd> {
    let directory = open_directory(directory)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match openat(&directory, ".", flags | OFlags::TMPFILE, mode) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {}
        other => return Ok(other?),
    }
    // If this process is killed before it removes the name, later commands recognize the file as a
    // leftover.
    let name = format!("{GONE_PREFIX}{}", random_suffix());
    let file = openat(&directory, &*name, flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW, mode)?;
    unlinkat(&directory, &*name, AtFlags::empty())?;
    Ok(file)
}

/// Opens the file of a lock; `None` if there is no regular file.
pub fn open_lock(path: &Path) -> Option<OwnedFd> {
    let file = by_path::open(path, OFlags::RDONLY | OFlags::NOFOLLOW).ok()?;
    FileType::from_raw_mode(fstat(&file).ok()?.st_mode).is_file().then_some(file)
}

/// Returns whether another process holds the lock of a file (flock(2)). A free lock is released at
/// once.
pub fn is_locked(file: &OwnedFd) -> bool {
    flock(file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// Takes what others hold only for moments: tries at most `attempts` + 1 times, with 20 ms between
/// two attempts. Returns `None` if it was never free.
pub fn take_with_retries<T>(
    attempts: u32,
    mut take: impl FnMut() -> Result<Option<T>, Errno>,
) -> Result<Option<T>, Errno> {
    for _ in 0..attempts {
        if let Some(taken) = take()? {
            return Ok(Some(taken));
        }
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 }));
    }
    take()
}

/// How often the lock of a directory is tried that others hold only while they write a small file:
/// for two seconds.
pub const LOCK_ATTEMPTS: u32 = 100;

/// Takes the lock of a directory, for as long as the result lives. No file in it is made for that.
///
/// # Errors
/// `WouldBlock` if it was never free: a directory does not tell whether others hold it in turn, or
/// one hangs. Otherwise it cannot be locked.
pub fn lock_directory(directory: OwnedFd, attempts: u32) -> io::Result<OwnedFd> {
    let try_once = || match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(())),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno),
    };
    let locked = take_with_retries(attempts, try_once)?;
    locked.map(|()| directory).ok_or_else(|| io::ErrorKind::WouldBlock.into())
}

/// Returns the directory that holds a file of a service directory, and the file's name in it. The
/// directory is the service directory itself or one directly below it.
pub fn place<'a>(directory: BorrowedFd<'_>, path: &'a str) -> Result<(OwnedFd, &'a str), Errno> {
    let (folder, name) = path.split_once('/').unwrap_or((".", path));
    Ok((gatevisor_sys::file::open_directory(directory, folder)?, name))
}

/// Makes a new file below `parent` with exactly this mode, whatever the umask is.
pub fn write_new(parent: BorrowedFd<'_>, name: &Path, bytes: &[u8], mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?;
    gatevisor_sys::file::write_all(&file, bytes)?;
    fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(file)
}

/// Makes a directory below `parent` with exactly this mode, whatever the umask is.
pub fn make_directory(parent: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<OwnedFd> {
    mkdirat(parent, name, Mode::RWXU)?;
    let directory = gatevisor_sys::file::open_directory(parent, name)?;
    fchmod(&directory, Mode::from_raw_mode(mode))?;
    Ok(directory)
}

/// Writes `bytes` into a new file beside `name`, syncs it, and returns its temporary name.
///
/// If that fails, for example because the disk is full, nothing remains.
pub fn write_beside(parent: BorrowedFd<'_>, name: &str, bytes: &[u8], mode: u32) -> io::Result<String> {
    let mut last = Errno::EXIST;
    for _ in 0..ATTEMPTS {
        let temporary = format!(".{name}.{}", random_suffix());
        match write_new(parent, Path::new(&temporary), bytes, mode) {
            Ok(file) => match fsync(&file) {
                Ok(()) => return Ok(temporary),
                Err(errno) => {
                    let _ = unlinkat(parent, &*temporary, AtFlags::empty());
                    return Err(errno.into());
                }
            },
            Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => last = Errno::EXIST,
            Err(error) => {
                let _ = unlinkat(parent, &*temporary, AtFlags::empty());
                return Err(error);
            }
        }
    }
    Err(last.into())
}

/// Renames the file `temporary` to `name`, in the place of any other, and syncs the directory. On
/// failure, `temporary` is removed.
pub fn commit(parent: BorrowedFd<'_>, temporary: &str, name: &str) -> io::Result<()> {
    if let Err(errno) = renameat(parent, temporary, parent, name) {
        let _ = unlinkat(parent, temporary, AtFlags::empty());
        return Err(errno.into());
    }
    Ok(fsync(parent)?)
}

/// Renames without replacing anything; `EEXIST` if the new name is taken.
///
/// Some network file systems do not support the flag. On those, we first look whether the name is
/// taken. The plain rename that follows still replaces no directory that has entries.
///
/// **Source:** renameat2(2).
pub fn rename_new(
    parent: BorrowedFd<'_>,
    from: impl rustix::path::Arg + Copy,
    to: impl rustix::path::Arg + Copy,
) -> Result<(), Errno> {
    match renameat_with(parent, from, parent, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_plainly(parent, from, to),
        other => other,
    }
}

fn rename_plainly(
    parent: BorrowedFd<'_>,
    from: impl rustix::path::Arg,
    to: impl rustix::path::Arg + Copy,
) -> Result<(), Errno> {
    match statat(parent, to, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => return Err(Errno::EXIST),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    match renameat(parent, from, parent, to) {
        Err(Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => Err(Errno::EXIST),
        other => other,
    }
}

/// A directory that is made under a name with a dot, and then published by one rename.
///
/// It is locked while it is made, so that [`sweep`] can tell it from the leftover of a killed
/// process. If it is dropped before it is published, it is removed.
#[derive(Debug)]
pub struct Staging {
    parent: OwnedFd,
    parent_path: PathBuf,
    name: String,
    directory: OwnedFd,
    published: bool,
}

impl Staging {
    /// Makes an empty directory of this mode below `parent`.
    pub fn new(parent_path: &Path, mode: u32) -> io::Result<Self> {
        let parent = open_directory(parent_path)?;
        for _ in 0..ATTEMPTS {
            let name = format!("{NEW_PREFIX}{}", random_suffix());
            let directory = match make_directory(parent.as_fd(), Path::new(&name), mode) {
                Ok(directory) => directory,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => {
                    let _ = unlinkat(&parent, &*name, AtFlags::REMOVEDIR);
                    return Err(error);
                }
            };
            // Between the two calls, a sweep may take the directory for a leftover. If locks do not
            // work at all, sweeps leave everything alone.
            let swept = match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => true,
                _ => fstat(&directory)?.st_nlink == 0,
            };
            if !swept {
                let parent_path = parent_path.to_owned();
                return Ok(Self { parent, parent_path, name, directory, published: false });
            }
        }
        Err(io::Error::from(Errno::EXIST))
    }

    /// Returns the open directory.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Returns where the directory is until it is published.
    pub fn path(&self) -> PathBuf {
        self.parent_path.join(&self.name)
    }

    /// Gives the directory its name; `EEXIST` if something has that name.
    pub fn publish(mut self, name: &str) -> Result<OwnedFd, Errno> {
        rename_new(self.parent.as_fd(), &*self.name, name)?;
        self.published = true;
        self.directory.try_clone().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
    }

    /// Syncs what was written so far and, after publishing, the name.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.directory)?)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            let _ = remove_tree(&self.path());
        }
    }
}

/// Renames the entry `name` to a name with a dot, and returns that name.
///
/// For every reader, the whole entry vanishes at once.
pub fn retire(parent: BorrowedFd<'_>, name: &str) -> Result<String, Errno> {
    let mut last = Errno::EXIST;
    for _ in 0..ATTEMPTS {
        let gone = format!("{GONE_PREFIX}{}", random_suffix());
        match rename_new(parent, name, &*gone) {
            Ok(()) => return Ok(gone),
            Err(Errno::EXIST) => last = Errno::EXIST,
            Err(errno) => return Err(errno),
        }
    }
    Err(last)
}

/// Removes a tree, or a file or link in its place. Follows no link. It is no error if nothing is
/// there.
///
/// Directories that their owner has made unwritable are made writable first; checkouts and package
/// caches have such directories.
///
/// # Errors
/// The first entry that could not be removed, or the place where another file system is mounted.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    let name = CString::new(name.as_bytes())?;
    let parent = match open_directory(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let report = Walker::new(&mut |_| true).remove(parent, &name)?;
    match (report.problems.into_iter().next(), report.mounts.first()) {
        (Some(problem), _) => Err(io::Error::new(kind_of(&problem), problem)),
        (None, Some(mount)) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("another file system is mounted at `{}`", path.join(mount).display()),
        )),
        (None, None) => Ok(()),
    }
}

fn kind_of(problem: &Problem) -> io::ErrorKind {
    match problem.why {
        Wrong::Errno(errno) => errno.kind(),
        _ => io::ErrorKind::Other,
    }
}

/// Returns whether a directory entry has a name that we give, so that a killed process may have
/// left it.
pub fn is_leftover(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(NEW_PREFIX.as_bytes()) || name.starts_with(GONE_PREFIX.as_bytes())
}

/// Removes a leftover unless the process that makes it is alive. Returns whether it did.
pub fn sweep(path: &Path) -> io::Result<bool> {
    if by_path::look_itself(path)?.is_directory() {
        let directory = open_directory(path)?;
        if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        // The lock is held until the tree is gone. A process that makes the same name now notices
        // that, and draws another name.
        remove_tree(path)?;
    } else {
        remove_tree(path)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_is_locked_by_one_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let open = || open_directory(place.path()).unwrap();
        let first = lock_directory(open(), 0).unwrap();
        let refused = lock_directory(open(), 1).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| lock_directory(open(), LOCK_ATTEMPTS));
            drop(first);
            assert!(waits.join().unwrap().is_ok());
        });
    }

    #[test]
    fn a_read_is_bounded_and_refuses_what_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert!(read_bounded(&path, 3).unwrap().is_none());
        fs::write(&path, "abc").unwrap();
        assert_eq!(read_bounded(&path, 3).unwrap().unwrap(), b"abc");
        assert_eq!(read_bounded(&path, 2).unwrap_err().to_string(), "it is longer than 2 bytes");
        assert_eq!(read_bounded(dir.path(), 2).unwrap_err().to_string(), "it is a directory, not a file");
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(read_bounded(&fifo, 2).unwrap_err().to_string(), "it is a FIFO, not a file");
    }

    #[test]
    fn a_staging_directory_that_is_not_published_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let staging = Staging::new(dir.path(), 0o755).unwrap();
        write_new(staging.directory(), Path::new("run"), b"x", 0o755).unwrap();
        assert!(staging.path().join("run").exists());
        drop(staging);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn publishing_replaces_nothing_not_even_an_empty_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        let staging = Staging::new(dir.path(), 0o755).unwrap();
        assert_eq!(staging.publish("a").unwrap_err(), Errno::EXIST);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        Staging::new(dir.path(), 0o755).unwrap().publish("b").unwrap();
        assert!(dir.path().join("b").is_dir());
    }

    #[test]
    fn where_the_flag_is_not_known_what_is_there_is_not_replaced_either() {
        let dir = tempfile::tempdir().unwrap();
        let parent = open_directory(dir.path()).unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        assert_eq!(rename_plainly(parent.as_fd(), "a", "b"), Err(Errno::EXIST));
        assert_eq!(rename_plainly(parent.as_fd(), "a", "c"), Ok(()));
        assert_eq!(rename_plainly(parent.as_fd(), "missing", "d"), Err(Errno::NOENT));
    }

    #[test]
    fn a_sweep_spares_what_is_still_being_made() {
        let dir = tempfile::tempdir().unwrap();
        let staging = Staging::new(dir.path(), 0o755).unwrap();
        assert!(is_leftover(OsStr::new(&staging.name)));
        assert!(!sweep(&staging.path()).unwrap());
        let stale = dir.path().join(".gone-1");
        fs::create_dir_all(stale.join("a/b")).unwrap();
        assert!(sweep(&stale).unwrap());
        assert!(!stale.exists() && staging.path().exists());
    }

    #[test]
    fn modes_do_not_depend_on_the_umask() {
        let dir = tempfile::tempdir().unwrap();
        let parent = open_directory(dir.path()).unwrap();
        make_directory(parent.as_fd(), Path::new("event"), 0o3730).unwrap();
        write_new(parent.as_fd(), Path::new("run"), b"", 0o777).unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("event"), mode("run")), (0o3730, 0o777));
    }

    #[test]
    fn a_tree_is_removed_and_its_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(dir.path().join("kept"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path(), tree.join("a/link")).unwrap();
        fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o500)).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && dir.path().join("kept").exists());
        remove_tree(&tree).unwrap();
    }
}
