//! What was in the scandir before this boot, and where it goes.
//!
//! *Lives here:* moving it aside at once, clearing it in place where that cannot be, and removing
//! later what was moved. *Does not live here:* for how long clearing may go on, and who is told.
//!
//! An agent may leave a million entries in its scandir, or directories without a bottom. So the
//! boot renames the directory and makes a new one. overlayfs does not rename a directory of an
//! image's layer, nothing renames a mount, and a mount in the scandir is not for us to move; then
//! the entries are renamed or removed one by one. What was renamed is removed while the container
//! supervises already, by the agent, and then, for what root left in it, by root.
//!
//! **Source:** rename(2), `EXDEV` and `EBUSY`; the kernel's
//! `Documentation/filesystems/overlayfs.rst`, `redirect_dir`.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use gatevisor_paths::walk::{Remover, Visitor, WalkEntry, WalkProgress, WalkReport, WalkStep, Wrong};
use gatevisor_paths::{Errno, OpenHome, Resolver, Walker, mounts_within};
use gatevisor_sys::user::User;
use rustix::fs::{Dir, Gid, Mode, Uid, fchown, mkdirat, renameat};

use super::layout::{ELSEWHERE, RuntimeDirectories, SERVICES, fresh_name, own_directory, trusted};

/// What the name of a scandir of an earlier life ends with; one that is elsewhere is called so from
/// the beginning.
pub(super) const OLD: &str = "old";
/// Scandirs of earlier lives that are removed by one boot.
const MOST: usize = 64;
/// Entries of those that root removes after the agent did.
const MOST_OF_ROOTS: u64 = 100_000;

/// What became of what was in the scandir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldScandir {
    /// There was nothing.
    None,
    /// It has another name now, and is to be removed some time.
    Aside,
    /// It is where it was, because it could not be renamed for this reason.
    Stays(Errno),
}

/// Gives the scandir another name, if one step does that.
pub(super) fn move_aside(root: &OpenHome) -> Result<OldScandir, Errno> {
    match Resolver::READING.directory(root, SERVICES) {
        Err(error) if error.is_missing() => return Ok(OldScandir::None),
        // What the operator mounted in it stays where it is.
        Ok(found) if !mounts_within(&found).is_empty() => return Ok(OldScandir::Stays(Errno::BUSY)),
        // A link is renamed as well as anything else.
        Ok(_) | Err(_) => {}
    }
    match renameat(root, SERVICES, root, fresh_name(SERVICES, OLD)) {
        Ok(()) => Ok(OldScandir::Aside),
        Err(Errno::NOENT) => Ok(OldScandir::None),
        Err(errno @ (Errno::ROFS | Errno::IO)) => Err(errno),
        Err(errno) => Ok(OldScandir::Stays(errno)),
    }
}

impl RuntimeDirectories {
    /// Takes everything out of the scandir, entry by entry, for as long as it takes.
    ///
    /// Mounts in it are in the report; they and the way to them are left.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn clear(&self, agent: Option<&User>) -> io::Result<WalkReport> {
        let root = self.root()?;
        let scandir = self.open_scandir(agent)?;
        let aside = if mounts_within(&scandir).is_empty() { make_aside(&root, agent) } else { None };
        let mut visitor = ScandirClearer { aside, moved: 0, remover: Remover::default() };
        Ok(Walker::new(&mut |_| true).walk(&scandir, &mut visitor)?)
    }

    /// Removes scandirs of earlier lives, but not the one of this, with the rights that this
    /// process has.
    pub fn remove_old(&self, mut going: impl FnMut(&WalkProgress) -> bool) {
        let Ok(root) = self.root() else { return };
        self.remove_old_in(root.as_fd(), &mut going);
        if let Ok(elsewhere) = Resolver::STRICT.directory(&root, ELSEWHERE) {
            self.remove_old_in(elsewhere.as_fd(), &mut going);
        }
    }

    /// Removes what the agent could not remove because root owns it. That should be little, so this
    /// stops after `MOST_OF_ROOTS` entries.
    pub fn remove_old_of_roots(&self) {
        self.remove_old(|progress| progress.entries < MOST_OF_ROOTS);
    }

    fn remove_old_in(&self, parent: BorrowedFd<'_>, going: &mut dyn FnMut(&WalkProgress) -> bool) {
        let ours = self.scandir.file_name().unwrap_or_default();
        for name in old_names(parent).iter().filter(|name| name.to_bytes() != ours.as_bytes()) {
            // What is left is tried again at the next boot.
            let _ = Walker::new(going).remove(parent, name);
        }
    }
}

/// Returns the names of scandirs of earlier lives.
fn old_names(parent: BorrowedFd<'_>) -> Vec<CString> {
    let (start, end) = (format!(".{SERVICES}."), format!(".{OLD}"));
    let is_old = |name: &CStr| {
        let name = name.to_bytes();
        name.starts_with(start.as_bytes()) && name.ends_with(end.as_bytes())
    };
    let entries = Dir::read_from(parent).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_owned()).filter(|name| is_old(name)).take(MOST).collect()
}

/// Makes a directory for what is moved out of the scandir, which the agent may then empty.
fn make_aside(root: &OpenHome, agent: Option<&User>) -> Option<OwnedFd> {
    let name = fresh_name(SERVICES, OLD);
    mkdirat(root, &*name, Mode::RWXU).ok()?;
    let made = own_directory(root, &name, &trusted()).ok()?;
    if let Some(agent) = agent {
        fchown(&made, Some(Uid::from_raw(agent.uid)), Some(Gid::from_raw(agent.gid))).ok()?;
    }
    Some(made)
}

/// Moves directories of the top level aside where that works, and removes the rest.
struct ScandirClearer {
    aside: Option<OwnedFd>,
    moved: u64,
    remover: Remover,
}

impl ScandirClearer {
    fn is_moved(&mut self, entry: &WalkEntry<'_>) -> bool {
        let Some(aside) = &self.aside else { return false };
        self.moved = self.moved.saturating_add(1);
        renameat(entry.parent(), entry.name(), aside, self.moved.to_string()).is_ok()
    }
}

impl Visitor for ScandirClearer {
    fn visit(&mut self, entry: &WalkEntry<'_>) -> Result<WalkStep, Wrong> {
        if entry.depth() == 1 && entry.kind().is_dir() && self.is_moved(entry) {
            return Ok(WalkStep::Gone);
        }
        self.remover.visit(entry)
    }

    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> bool {
        self.remover.leave(parent, name)
    }
}
