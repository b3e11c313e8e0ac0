//! Removes the contents of a directory.
//!
//! *Lives here:* removing one entry at a time, by its name below a descriptor.
//! *Does not live here:* whether it may be removed.
//!
//! A mount point stays, and so does everything in another file system.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::child;
use super::{Visitor, WalkEntry, WalkReport, WalkStep, Walker, Wrong};
use crate::resolve::RefusalReason;

/// The visitor that removes every entry.
#[derive(Debug, Clone, Copy, Default)]
pub struct Remover {
    /// Whether directories that their owner has closed are opened up first, which the owner could
    /// do as well.
    opens_up: bool,
}

impl Visitor for Remover {
    fn visit(&mut self, entry: &WalkEntry<'_>) -> Result<WalkStep, Wrong> {
        match unlink(entry.parent(), entry.name()) {
            Ok(()) => Ok(WalkStep::Gone),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(WalkStep::Enter),
            Err(Errno::BUSY) => Ok(WalkStep::Foreign),
            Err(errno) => Err(errno.into()),
        }
    }

    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> bool {
        unlinkat(parent, name, AtFlags::REMOVEDIR).is_ok()
    }

    fn opens_up(&self) -> bool {
        self.opens_up
    }
}

/// Removes a file, a link, or an empty directory.
fn unlink(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let failed = match unlinkat(parent, name, AtFlags::empty()) {
        Err(errno @ (Errno::ISDIR | Errno::PERM)) => errno,
        other => return other,
    };
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTDIR) => Err(failed),
        other => other,
    }
}

impl Walker<'_> {
    /// Removes everything in a directory that is on its mount, through descriptors only.
    ///
    /// # Errors
    /// The directory itself cannot be read.
    pub fn empty(&mut self, directory: impl AsFd) -> Result<WalkReport, Errno> {
        self.walk(directory, &mut Remover { opens_up: false })
    }

    /// Removes the entry `name` of a directory and everything in it, with the rights of its owner:
    /// directories that the owner may not write to are opened up first.
    ///
    /// The report tells what is left.
    ///
    /// # Errors
    /// The entry can neither be removed nor looked into. It is no error if it is gone already.
    pub fn remove(&mut self, parent: impl AsFd, name: &CStr) -> Result<WalkReport, Errno> {
        let parent = parent.as_fd();
        match unlink(parent, name) {
            Ok(()) | Err(Errno::NOENT) => return Ok(WalkReport::default()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let directory = match child::open(self.resolver, parent, name, true) {
            Ok((directory, _)) => directory,
            Err(RefusalReason::Errno(errno)) => return Err(errno),
            Err(_) => return Err(Errno::BUSY),
        };
        let report = self.walk(&directory, &mut Remover { opens_up: true })?;
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            // The report tells what is in the way.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(report),
            Err(errno) => Err(errno),
        }
    }
}
