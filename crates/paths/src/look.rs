//! What an open file is, who owns it, and which mount it is on.
//!
//! *Lives here:* statx, and its replacement if a kernel or a filter does not allow it.
//! *Does not live here:* what follows from the answers.
//!
//! A bind mount has the device of the tree that it shows, so only the mount's number tells two
//! mounts apart.
//!
//! **Source:** statx(2), `proc_pid_fdinfo(5)`, inode(7).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, fstat, makedev, openat, statx};
use rustix::io::{Errno, read};

/// The most bytes read of a file in `/proc/self/fdinfo`; the mount's number is in the third line.
const FDINFO_BYTES: usize = 512;

/// What a file is, found through a descriptor of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileInfo {
    /// The user who owns it.
    pub uid: u32,
    /// The group that owns it.
    pub gid: u32,
    /// Its kind and its permissions.
    pub mode: u32,
    /// Whether it has several names; every directory has.
    pub has_other_names: bool,
    /// The device that it is on.
    pub device: u64,
    /// Its inode number on the device.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Bytes that it occupies.
    pub allocated: u64,
    /// The number of the mount through which it was opened; `None` if that is unknown.
    pub mount: Option<u64>,
}

impl FileInfo {
    /// A file that we may not look at: of no owner and of no kind.
    const CLOSED: Self = Self {
        uid: u32::MAX,
        gid: u32::MAX,
        mode: 0,
        has_other_names: true,
        device: 0,
        inode: 0,
        size: 0,
        allocated: 0,
        mount: None,
    };

    /// Returns the kind of the file.
    pub const fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Returns whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind().is_dir()
    }

    /// Returns whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.kind().is_symlink()
    }

    /// Returns whether both are on one mount. If that is unknown, they are not.
    pub fn is_on_mount_of(&self, other: &Self) -> bool {
        self.mount.is_some() && self.mount == other.mount
    }

    /// Returns whether both are the same file on the same mount.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode) && self.mount == other.mount
    }
}

/// Looks at the file of a descriptor, also of one that allows nothing else (`O_PATH`).
///
/// A file system that would have to ask another machine or process is not asked: what the kernel
/// knows is enough.
pub fn look(fd: impl AsFd) -> Result<FileInfo, Errno> {
    let fd = fd.as_fd();
    match by_statx(fd, "", AtFlags::EMPTY_PATH) {
        // A kernel before 4.11, or a container that forbids the call.
        Err(Errno::NOSYS | Errno::PERM) => by_fstat(fd),
        // A user's own file system, into which not even root may look.
        Err(Errno::ACCESS) => Ok(FileInfo { mount: mount_by_fdinfo(fd), ..FileInfo::CLOSED }),
        Ok(seen) if seen.mount.is_none() => Ok(FileInfo { mount: mount_by_fdinfo(fd), ..seen }),
        other => other,
    }
}

/// Looks at the entry `name` of a directory. It may be another file a moment later, so use this
/// only to decide whether the entry is worth opening.
pub fn glance(parent: impl AsFd, name: impl rustix::path::Arg + Copy) -> Result<FileInfo, Errno> {
    match by_statx(parent.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(seen) if seen.mount.is_some() => Ok(seen),
        Ok(_) | Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => look(pinned(parent, name)?),
        Err(errno) => Err(errno),
    }
}

/// Opens an entry of a directory, also a link itself, so that it can be looked at and stays the
/// same file.
pub fn pinned(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<std::os::fd::OwnedFd, Errno> {
    openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn by_statx(fd: BorrowedFd<'_>, name: impl rustix::path::Arg, flags: AtFlags) -> Result<FileInfo, Errno> {
    let flags = flags | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let seen = statx(fd, name, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
    Ok(FileInfo {
        uid: seen.stx_uid,
        gid: seen.stx_gid,
        mode: u32::from(seen.stx_mode),
        has_other_names: seen.stx_nlink > 1,
        device: makedev(seen.stx_dev_major, seen.stx_dev_minor),
        inode: seen.stx_ino,
        size: seen.stx_size,
        allocated: seen.stx_blocks.saturating_mul(512),
        mount: (seen.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(seen.stx_mnt_id),
    })
}

/// Does the same as [`look`] for a kernel without statx.
pub(crate) fn by_fstat(fd: BorrowedFd<'_>) -> Result<FileInfo, Errno> {
    let seen = fstat(fd)?;
    Ok(FileInfo {
        uid: seen.st_uid,
        gid: seen.st_gid,
        mode: seen.st_mode,
        has_other_names: seen.st_nlink > 1,
        device: seen.st_dev,
        inode: seen.st_ino,
        size: u64::try_from(seen.st_size).unwrap_or(0),
        allocated: u64::try_from(seen.st_blocks).unwrap_or(0).saturating_mul(512),
        mount: mount_by_fdinfo(fd),
    })
}

/// Returns the number of the mount, from `/proc`.
fn mount_by_fdinfo(fd: BorrowedFd<'_>) -> Option<u64> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut buffer = [0; FDINFO_BYTES];
    let filled = read(&file, &mut buffer).ok()?;
    let text = std::str::from_utf8(buffer.get(..filled)?).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{by_fstat, glance, look, pinned};
    use rustix::fs::{CWD, Mode, OFlags, openat};
    use std::os::fd::AsFd;

    #[test]
    fn a_kernel_without_statx_tells_the_same() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "1234").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        for path in [dir.path().to_owned(), dir.path().join("file"), dir.path().join("link"), "/proc".into()]
        {
            let fd = pinned(CWD, &path).unwrap();
            let seen = look(&fd).unwrap();
            assert!(seen.mount.is_some());
            assert_eq!(seen, by_fstat(fd.as_fd()).unwrap(), "{}", path.display());
            assert_eq!(seen, glance(CWD, &path).unwrap());
        }
    }

    #[test]
    fn mounts_of_one_device_differ_from_mounts_of_another_at_least() {
        let at = |path: &str| {
            look(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()).unwrap()
        };
        assert!(at("/").is_on_mount_of(&at("/")));
        assert!(!at("/").is_on_mount_of(&at("/proc")));
        assert!(at("/proc").is_same(&at("/proc")) && !at("/").is_same(&at("/proc")));
    }
}
