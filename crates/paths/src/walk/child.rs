//! Opening a subdirectory of a tree.
//!
//! *Lives here:* opening it, also if its owner has closed it to everybody.
//! *Does not live here:* what the walk does there.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, chmod, fchmod};
use rustix::io::Errno;

use crate::look::{FileInfo, look, pinned};
use crate::resolve::{RefusalReason, Resolver};

/// Opens the directory `name` of `parent`, unless it is on another mount. With `opens_up`, its
/// owner gets all rights in it.
pub fn open(
    resolver: Resolver,
    parent: BorrowedFd<'_>,
    name: &CStr,
    opens_up: bool,
) -> Result<(OwnedFd, FileInfo), RefusalReason> {
    let path = OsStr::from_bytes(name.to_bytes());
    let opened = match resolver.directory(parent, path) {
        Err(error) if error.errno() == Errno::ACCESS && opens_up => {
            open_up(parent, name).map_err(RefusalReason::Errno)?;
            resolver.directory(parent, path)
        }
        other => other,
    };
    let directory = opened.map_err(|error| error.reason)?;
    let seen = look(&directory).map_err(RefusalReason::Errno)?;
    if opens_up && !Mode::from_raw_mode(seen.mode).contains(Mode::RWXU) {
        // If this fails, the work in the directory fails as well, and that is reported.
        let _ = fchmod(&directory, with_owners_rights(&seen));
    }
    Ok((directory, seen))
}

/// Gives the owner all rights in a directory.
fn open_up(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let fd = pinned(parent, name)?;
    let seen = look(&fd)?;
    if !seen.is_directory() || !look(parent)?.is_on_mount_of(&seen) {
        return Err(Errno::ACCESS);
    }
    // A file opened with `O_PATH` can be changed only by this name, which leads to nothing else.
    chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), with_owners_rights(&seen))
}

fn with_owners_rights(seen: &FileInfo) -> Mode {
    Mode::from_raw_mode(seen.mode & 0o7777) | Mode::RWXU
}
