//! Opening a path below a directory that somebody else owns.
//!
//! *Lives here:* which links and mounts are followed, and the quick way: one call of the kernel
//! that refuses everything else.
//! *Does not live here:* the way step by step (`steps`), whose a mount is (`mount`), why a step was
//! refused (`error`).
//!
//! The kernel resolves a path without links and without leaving the mount, or not at all. If it
//! does not, each component is opened by itself. That finds out which component was refused, and
//! goes on if the caller allows it. The answers are the same if the kernel has no such call, or a
//! filter hides it.
//!
//! **Source:** openat2(2), `path_resolution(7)`, symlink(7).

mod error;
mod mount;
mod steps;

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use gatevisor_sys::refused;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::trusted::root_of_a_process;
pub use error::{RefusalReason, ResolveError};
pub(crate) use mount::is_operators;
pub use mount::mounts_within;
pub(crate) use steps::{Guide, Steps};

/// The restrictions that the kernel itself enforces.
const STRICTLY: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Which symbolic links are followed. Links of `/proc` never are, whoever owns them: they lead to
/// places that no path reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// No links.
    Refused,
    /// Links that root made and that have no other name: anybody could have made a further name.
    Roots,
    /// Also links of the user who owns the end of the whole path, if they lead through directories
    /// of root and that user only.
    RootsOrOwnersOfTarget,
    /// All links: for a process that has only its own user's rights to lose.
    All,
}

/// Which mounts are crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounts {
    /// No mounts. Everything that changes something goes this way.
    None,
    /// Mounts that the operator of the machine or the container made, as opposed to file systems
    /// that a user's program serves. For reading only.
    Operators,
    /// The operator's mounts, but only after a link was followed, because the link says where to
    /// go. Not before: an agent that replaces the directory above a mount point could choose what
    /// is mounted where.
    BehindLinks,
    /// All mounts: for the way to a home that an operator names in the mount namespace of another
    /// process, whose table of mounts we do not see.
    All,
}

/// Opens paths below directories of others.
///
/// Every file is opened without waiting, closed on exec, and never becomes the terminal of this
/// process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolver {
    links: Links,
    mounts: Mounts,
    by_steps: bool,
}

impl Resolver {
    /// Follows nothing and stays on the mount: for everything that changes something.
    pub const STRICT: Self = Self { links: Links::Refused, mounts: Mounts::None, by_steps: false };
    /// Follows no links and crosses the operator's mounts: for reading.
    pub const READING: Self = Self { mounts: Mounts::Operators, ..Self::STRICT };

    /// Returns this resolver with other rules for links.
    #[must_use]
    pub const fn following(self, links: Links) -> Self {
        Self { links, ..self }
    }

    /// Returns this resolver with other rules for mounts.
    #[must_use]
    pub const fn crossing(self, mounts: Mounts) -> Self {
        Self { mounts, ..self }
    }

    /// Returns a resolver that does not use openat2, as if the kernel or a filter did not have it.
    #[must_use]
    pub const fn by_steps(self) -> Self {
        Self { by_steps: true, ..self }
    }

    /// Opens the file at `path` below `below`. `flags` must not create it.
    ///
    /// With `O_PATH` and `O_NOFOLLOW`, a link in the last component is itself opened.
    ///
    /// # Errors
    /// Names the refused component and the reason. `path` must be relative and may not hold `..`.
    pub fn open(
        self,
        below: impl AsFd,
        path: impl AsRef<Path>,
        flags: OFlags,
    ) -> Result<OwnedFd, ResolveError> {
        self.open_with(below.as_fd(), path.as_ref(), flags, Mode::empty())
    }

    /// Opens the file at an absolute path, which may hold `..`, as a client names a place. `flags`
    /// must not create it.
    ///
    /// # Errors
    /// Those of [`Self::open`]. `path` must be absolute.
    pub fn from_root(self, path: &Path, flags: OFlags) -> Result<OwnedFd, ResolveError> {
        if let Some((root, rest)) = root_of_a_process(path) {
            return self.crossing(Mounts::All).below_root(&root, rest, flags);
        }
        // In `/proc` only the kernel makes entries, and everybody may look them up.
        let begin = Path::new(if path.starts_with("/proc") { "/proc" } else { "/" });
        let root = openat(CWD, begin, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| ResolveError::new(begin, RefusalReason::Errno(errno)))?;
        let below = path.strip_prefix(begin).map_err(|_| ResolveError::new(path, RefusalReason::Outside))?;
        self.below_root(&root, below, flags)
    }

    fn below_root(self, root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, ResolveError> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        self.from(root.as_fd(), path, flags)
    }

    /// Opens the file at a relative path from a directory; the path may hold `..`. `flags` must not
    /// create it.
    pub(crate) fn from(
        self,
        base: BorrowedFd<'_>,
        path: &Path,
        flags: OFlags,
    ) -> Result<OwnedFd, ResolveError> {
        if path.components().any(|part| matches!(part, Component::ParentDir)) {
            // The kernel resolves such a path only if no links are followed at all.
            return self.step_by_step(base, path, flags, Mode::empty());
        }
        self.open(base, path, flags)
    }

    /// Opens the file at `path` below `below`, and makes it with this mode if it is missing.
    ///
    /// # Errors
    /// Those of [`Self::open`]; `EEXIST` if `flags` hold `O_EXCL` and the file exists.
    pub fn create(
        self,
        below: impl AsFd,
        path: impl AsRef<Path>,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, ResolveError> {
        self.open_with(below.as_fd(), path.as_ref(), flags | OFlags::CREATE, mode)
    }

    /// Opens the directory at `path` below `below`, so that it can be read. `.` is `below` itself.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn directory(self, below: impl AsFd, path: impl AsRef<Path>) -> Result<OwnedFd, ResolveError> {
        self.open(below, path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens the directory that holds the last component of `path`, and returns it with that
    /// component. Callers make, remove and rename entries by one component below a descriptor.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn parent(
        self,
        below: impl AsFd,
        path: &(impl AsRef<Path> + ?Sized),
    ) -> Result<(OwnedFd, &OsStr), ResolveError> {
        let path = path.as_ref();
        refuse_ways_out(path)?;
        let name = path.file_name().ok_or_else(|| ResolveError::new(path, RefusalReason::Outside))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok((self.directory(below, parent.unwrap_or(Path::new(".")))?, name))
    }

    fn open_with(
        self,
        below: BorrowedFd<'_>,
        path: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, ResolveError> {
        refuse_ways_out(path)?;
        let flags = without_waiting(flags);
        if !self.by_steps {
            match openat2(below, path, flags, mode, STRICTLY) {
                Ok(fd) => return Ok(fd),
                Err(errno) if is_refused_by_kernel(errno) => {}
                Err(errno) => return Err(ResolveError::new(path, RefusalReason::Errno(errno))),
            }
        }
        self.step_by_step(below, path, flags, mode)
    }

    /// Opens each component by itself, and keeps a refusal.
    fn step_by_step(
        self,
        below: BorrowedFd<'_>,
        path: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, ResolveError> {
        let opened = Steps::below(below, self).and_then(|steps| steps.walk(path, flags, mode, &mut Unguided));
        opened.inspect_err(|error| {
            let _ = refused::below::<()>(Err(error.errno()), below, &error.path);
        })
    }
}

/// A guide that accepts every step.
struct Unguided;

impl Guide for Unguided {
    fn needs_every_step(&self) -> bool {
        false
    }
}

/// Returns whether openat2 refused a component, so that the steps have to tell which one and
/// whether it is allowed; or whether there is no such call, or a filter hides it.
const fn is_refused_by_kernel(errno: Errno) -> bool {
    matches!(errno, Errno::LOOP | Errno::XDEV | Errno::NOTDIR | Errno::ACCESS | Errno::NOSYS | Errno::PERM)
}

/// Refuses a path that is not below a directory.
fn refuse_ways_out(path: &Path) -> Result<(), ResolveError> {
    let leads_out = |part: Component<'_>| {
        matches!(part, Component::RootDir | Component::ParentDir | Component::Prefix(_))
    };
    if path.as_os_str().is_empty() || path.components().any(leads_out) {
        return Err(ResolveError::new(path, RefusalReason::Outside));
    }
    Ok(())
}

/// Returns flags with which opening does not wait. `O_PATH` never waits, and allows no such flags.
pub(crate) fn without_waiting(flags: OFlags) -> OFlags {
    if flags.contains(OFlags::PATH) {
        return flags & (OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW) | OFlags::CLOEXEC;
    }
    flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY
}
