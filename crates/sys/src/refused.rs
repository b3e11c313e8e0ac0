//! The looks at files that the kernel has refused, for commands that report.
//!
//! *Lives here:* the list, and adding to it. *Does not live here:* the consequences of a refusal.
//!
//! A refused look and a missing file are easily taken for each other: an error becomes "there is
//! none" on the way, and the report is untrue. So a command that reports opens this list before its
//! first look. Every door to the file system adds what it is refused, whatever becomes of the error
//! then. In the end, the command knows what it could not see.
//!
//! Nothing is kept as long as nobody opens the list; the supervisor and the daemons never do.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{CWD, readlinkat};
use rustix::io::Errno;

/// The most looks that are kept. The first ones tell enough.
const MOST: usize = 1024;

static LIST: OnceLock<Mutex<Vec<RefusedLook>>> = OnceLock::new();

/// A look that permission was refused for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLook {
    /// What was looked at.
    pub path: PathBuf,
    /// The kernel's error.
    pub errno: Errno,
}

/// Opens the list. From now on, refused looks of this process are kept.
pub fn keep() {
    LIST.get_or_init(Mutex::default);
}

/// Returns whether any look was refused.
pub fn any() -> bool {
    LIST.get().is_some_and(|list| !list.lock().unwrap_or_else(PoisonError::into_inner).is_empty())
}

/// Returns the refused looks that `concerns` is true of, in their order.
pub fn all(concerns: impl Fn(&Path) -> bool) -> Vec<RefusedLook> {
    let Some(list) = LIST.get() else { return Vec::new() };
    let list = list.lock().unwrap_or_else(PoisonError::into_inner);
    list.iter().filter(|look| concerns(&look.path)).cloned().collect()
}

/// Returns whether an error means that permission was refused, so that nobody can tell what is
/// there.
pub const fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::ACCESS | Errno::PERM)
}

/// Passes on the result of a look at a path, and keeps a refusal.
pub fn of_path<T>(looked: Result<T, Errno>, path: &Path) -> Result<T, Errno> {
    looked.inspect_err(|errno| add(*errno, || path.to_owned()))
}

/// Passes on the result of a look at a path below an opened directory, and keeps a refusal.
pub fn below<T>(looked: Result<T, Errno>, directory: impl AsFd, path: &Path) -> Result<T, Errno> {
    looked.inspect_err(|errno| add(*errno, || whole_path(directory, path)))
}

fn add(errno: Errno, path: impl FnOnce() -> PathBuf) {
    let Some(list) = LIST.get().filter(|_| is_refusal(errno)) else { return };
    let look = RefusedLook { path: path(), errno };
    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
    if list.len() < MOST && !list.contains(&look) {
        list.push(look);
    }
}

/// Returns the whole path of something below an opened directory, as far as the kernel tells.
fn whole_path(directory: impl AsFd, path: &Path) -> PathBuf {
    let descriptor = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
    let found = readlinkat(CWD, descriptor, Vec::new());
    found.map_or_else(
        |_| path.to_owned(),
        |found| joined(PathBuf::from(OsString::from_vec(found.into_bytes())), path),
    )
}

/// Returns a path from a directory on, without `.` and `..`, so that it can be compared with the
/// path of a home. Where such a path is resolved, no step before a `..` is a link.
fn joined(directory: PathBuf, path: &Path) -> PathBuf {
    path.components().fold(directory, |mut whole, part| {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                whole.pop();
            }
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => whole.push(part),
        }
        whole
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_is_kept_and_with_its_whole_path() {
        let place = tempfile::tempdir().unwrap();
        let directory = crate::file::open_directory(CWD, place.path()).unwrap();
        let at = |name: &str| place.path().join(name);
        let refused = |name: &str| all(|path| path == at(name)).first().map(|look| look.errno);
        let fails = |errno, name: &str| below::<()>(Err(errno), &directory, Path::new(name)).unwrap_err();
        assert_eq!(fails(Errno::ACCESS, "before"), Errno::ACCESS);
        assert_eq!(refused("before"), None, "nobody has asked for the list");
        keep();
        for errno in [Errno::ACCESS, Errno::NOENT, Errno::NOTDIR, Errno::PERM, Errno::LOOP] {
            let name = errno.raw_os_error().to_string();
            assert_eq!(fails(errno, &name), errno);
            assert_eq!(refused(&name), Some(errno).filter(|errno| is_refusal(*errno)));
        }
        assert_eq!(fails(Errno::ACCESS, "inner/../aside"), Errno::ACCESS);
        assert_eq!(refused("aside"), Some(Errno::ACCESS));
        let whole = of_path::<()>(Err(Errno::ACCESS), &at("whole"));
        assert_eq!((whole, refused("whole")), (Err(Errno::ACCESS), Some(Errno::ACCESS)));
    }
}
