//! *Lives here:* walks over a whole tree through directory descriptors: giving it to its owner, opening it up for
//! removal.
//!
//! *Does not live here:* the decision whose tree it is.
//!
//! No symbolic link is ever followed, and nothing is changed that is right already.
//!
//! **Source:** L-20, STG-8 to STG-14.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, openat, statat};

/// Levels of directories that a walk descends at the most; each costs one descriptor.
const MAX_DEPTH: u32 = 200;

/// What a walk over a tree did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Walked {
    /// Entries looked at, the top included.
    pub seen: u64,
    /// Entries changed.
    pub changed: u64,
    /// Entries that could not be changed or looked into, and are as they were.
    pub failed: u64,
}

/// Gives `path` and everything below it to a user and a group.
///
/// An entry that is theirs already is not touched, and neither is the target of any link. A part of the tree that
/// cannot be changed is counted, and the walk goes on.
///
/// # Errors
/// The top itself does not exist or cannot be looked at.
pub fn give_to(path: &Path, uid: u32, gid: u32) -> io::Result<Walked> {
    let mut walked = Walked::default();
    let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    let mut visit = |parent: BorrowedFd<'_>, name: &Path, stat: &Stat| {
        if stat.st_uid == uid && stat.st_gid == gid {
            return Ok(false);
        }
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map(|()| true)
    };
    walk(CWD, path, &stat, 0, &mut visit, &mut walked);
    Ok(walked)
}

/// Lets the owner write into every directory of a tree, as far as it can be reached.
pub(crate) fn make_writable(path: &Path) {
    let Ok(stat) = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) else { return };
    let mut visit = |parent: BorrowedFd<'_>, name: &Path, stat: &Stat| {
        let mode = Mode::from_raw_mode(stat.st_mode);
        if !FileType::from_raw_mode(stat.st_mode).is_dir() || mode.contains(Mode::RWXU) {
            return Ok(false);
        }
        // An unreadable directory can be opened as a path only, and its mode be changed through that.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(parent, name, flags, Mode::empty())?;
        let through = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&directory));
        rustix::fs::chmod(through, mode | Mode::RWXU).map(|()| true)
    };
    walk(CWD, path, &stat, 0, &mut visit, &mut Walked::default());
}

type Visit<'a> = &'a mut dyn FnMut(BorrowedFd<'_>, &Path, &Stat) -> Result<bool, rustix::io::Errno>;

fn walk(parent: BorrowedFd<'_>, name: &Path, stat: &Stat, depth: u32, visit: Visit<'_>, walked: &mut Walked) {
    walked.seen = walked.seen.saturating_add(1);
    match visit(parent, name, stat) {
        Ok(true) => walked.changed = walked.changed.saturating_add(1),
        Ok(false) => {}
        Err(_) => walked.failed = walked.failed.saturating_add(1),
    }
    if !FileType::from_raw_mode(stat.st_mode).is_dir() {
        return;
    }
    let below = (depth < MAX_DEPTH).then(|| open_below(parent, name)).and_then(Result::ok);
    let Some((directory, entries)) = below else {
        walked.failed = walked.failed.saturating_add(1);
        return;
    };
    for entry in entries {
        let Ok(entry) = entry else {
            walked.failed = walked.failed.saturating_add(1);
            return;
        };
        let bytes = entry.file_name().to_bytes();
        if matches!(bytes, b"." | b"..") {
            continue;
        }
        let name = Path::new(OsStr::from_bytes(bytes));
        // An entry that vanished meanwhile needs nothing.
        if let Ok(stat) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            walk(directory.as_fd(), name, &stat, depth.saturating_add(1), visit, walked);
        }
    }
}

fn open_below(parent: BorrowedFd<'_>, name: &Path) -> Result<(OwnedFd, Dir), rustix::io::Errno> {
    let directory = gatevisor_sys::file::open_directory(parent, name)?;
    let entries = Dir::read_from(&directory)?;
    Ok((directory, entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn a_tree_that_is_its_owners_already_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let meta = fs::metadata(dir.path()).unwrap();
        let walked = give_to(dir.path(), meta.uid(), meta.gid()).unwrap();
        assert_eq!(walked, Walked { seen: 3, changed: 0, failed: 0 });
        assert!(give_to(&dir.path().join("missing"), 0, 0).is_err());
    }

    #[test]
    fn a_nested_entry_of_another_owner_is_found_and_a_links_target_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(dir.path().join("outside"), "x").unwrap();
        symlink(dir.path().join("outside"), tree.join("a/link")).unwrap();
        let owner = fs::metadata(&tree).unwrap().uid();
        let walked = give_to(&tree, 10_000, 10_000).unwrap();
        if rustix::process::geteuid().is_root() {
            assert_eq!(walked, Walked { seen: 4, changed: 4, failed: 0 });
            assert_eq!(fs::symlink_metadata(tree.join("a/link")).unwrap().uid(), 10_000);
            std::os::unix::fs::chown(tree.join("a/b"), Some(owner), None).unwrap();
            assert_eq!(give_to(&tree, 10_000, 10_000).unwrap().changed, 1);
        } else {
            assert_eq!(walked, Walked { seen: 4, changed: 0, failed: 4 });
        }
        assert_eq!(fs::metadata(dir.path().join("outside")).unwrap().uid(), owner);
    }
}
