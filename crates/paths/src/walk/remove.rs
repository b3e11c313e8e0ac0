//! Removing what is in a directory.
//!
//! *Lives here:* one entry at a time, by its name below a descriptor. *Does not live here:* whether it may go.
//!
//! A file that something is mounted on stays, and so does whatever is in another file system.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::child;
use super::{Visitor, WalkEntry, WalkReport, WalkStep, Walker, Wrong};
use crate::resolve::RefusalReason;

/// What removes each entry that it is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Remover {
    /// Whether directories that their owner has closed are opened up first, as their owner can.
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

    /// Removes the entry `name` of a directory and everything in it, as its owner: directories that the owner may not
    /// write to are opened up first.
    ///
    /// What is left, where something is, is in the report.
    ///
    /// # Errors
    /// It can neither be removed nor looked into. One that is gone already is fine.
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
            // What is in the way is in the report.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(report),
            Err(errno) => Err(errno),
        }
    }
}
