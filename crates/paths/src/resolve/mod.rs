//! Opening a path below a directory that somebody else owns.
//!
//! *Lives here:* what may be followed and crossed, and the quick way: one call of the kernel that refuses everything else.
//! *Does not live here:* the way step by step (`steps`), what a mount is (`mount`), why a step was refused (`error`).
//!
//! The kernel resolves a path without links and without leaving the mount, or not at all. Where it does not, each
//! component is opened by itself: that finds out which one it was, and goes on where a caller allows it. It gives the same
//! answers where the kernel has no such call, or a filter hides it.
//!
//! **Source:** openat2(2), `path_resolution(7)`, symlink(7).

mod error;
mod mount;
mod steps;

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::trusted::root_of_a_process;
pub use error::{RefusalReason, ResolveError};
pub(crate) use mount::is_operators;
pub use mount::mounts_within;
pub(crate) use steps::{Guide, Steps};

/// What the kernel refuses of its own.
const STRICTLY: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Which symbolic links are followed. Never one of `/proc`, whosever it is: those lead where no path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// None.
    Refused,
    /// Those that root made, while they have no other name: anybody might have made that.
    Roots,
    /// Those too whose owner owns what the whole path leads to, and which lead through nobody else's.
    RootsOrOwnersOfTarget,
    /// All: for a process that has only its own user's rights to lose.
    All,
}

/// Which mounts are crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounts {
    /// None. Whatever changes something goes this way.
    None,
    /// Those that the operator of the machine or the container put there, as against file systems that a user answers
    /// for. For reading only.
    Operators,
    /// Those of the operator's once a link was followed, which says where to go; none before: an agent that replaces the
    /// directory above a mount point has things mounted where it likes.
    BehindLinks,
    /// All: on the way to a home that an operator names in the mount name space of another process, whose table of mounts
    /// is not ours.
    All,
}

/// Opens paths below directories of others.
///
/// Every file is opened without waiting, closed on exec, and never becomes the terminal of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolver {
    links: Links,
    mounts: Mounts,
    by_steps: bool,
}

impl Resolver {
    /// Follows nothing and stays on the mount: for everything that changes something.
    pub const STRICT: Self = Self { links: Links::Refused, mounts: Mounts::None, by_steps: false };
    /// Follows nothing and crosses mounts of the operator's: for reading.
    pub const READING: Self = Self { mounts: Mounts::Operators, ..Self::STRICT };

    /// Returns one that follows these links too.
    #[must_use]
    pub const fn following(self, links: Links) -> Self {
        Self { links, ..self }
    }

    /// Returns one that crosses these mounts.
    #[must_use]
    pub const fn crossing(self, mounts: Mounts) -> Self {
        Self { mounts, ..self }
    }

    /// Returns one that does without openat2, as where the kernel or a filter does not have it.
    #[must_use]
    pub const fn by_steps(self) -> Self {
        Self { by_steps: true, ..self }
    }

    /// Opens the file at `path` below `below`. `flags` must not make one.
    ///
    /// With `O_PATH` and `O_NOFOLLOW` a link in the last component is opened itself.
    ///
    /// # Errors
    /// Which component was refused, and why. `path` must be relative and may not hold `..`.
    pub fn open(
        self,
        below: impl AsFd,
        path: impl AsRef<Path>,
        flags: OFlags,
    ) -> Result<OwnedFd, ResolveError> {
        self.open_with(below.as_fd(), path.as_ref(), flags, Mode::empty())
    }

    /// Opens the file at a path that begins at `/` and may hold `..`, as a client names a place. `flags` must not make one.
    ///
    /// # Errors
    /// As those of [`Self::open`]. `path` must be absolute.
    pub fn from_root(self, path: &Path, flags: OFlags) -> Result<OwnedFd, ResolveError> {
        if let Some((root, rest)) = root_of_a_process(path) {
            return self.crossing(Mounts::All).below_root(&root, rest, flags);
        }
        // Where the kernel tells of itself nobody else puts anything, and everybody knows the way.
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

    /// Opens the file at a relative path, which may hold `..`, from a directory. `flags` must not make one.
    pub(crate) fn from(
        self,
        base: BorrowedFd<'_>,
        path: &Path,
        flags: OFlags,
    ) -> Result<OwnedFd, ResolveError> {
        if path.components().any(|part| matches!(part, Component::ParentDir)) {
            // Which the kernel resolves only where nothing is followed anywhere.
            return Steps::below(base, self)?.walk(path, flags, Mode::empty(), &mut Unguided);
        }
        self.open(base, path, flags)
    }

    /// Opens the file at `path` below `below` and makes it, with this mode, where there is none.
    ///
    /// # Errors
    /// As those of [`Self::open`]; `EEXIST` where `flags` hold `O_EXCL` and there is one.
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
    /// As those of [`Self::open`].
    pub fn directory(self, below: impl AsFd, path: impl AsRef<Path>) -> Result<OwnedFd, ResolveError> {
        self.open(below, path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens the directory that holds the last component of `path`, and returns it with that component: what is made,
    /// removed or renamed there is named by one component below a descriptor.
    ///
    /// # Errors
    /// As those of [`Self::open`].
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
                // Which component, and is it allowed here? Or there is no such call, or a filter hides it.
                Err(
                    Errno::LOOP | Errno::XDEV | Errno::NOTDIR | Errno::ACCESS | Errno::NOSYS | Errno::PERM,
                ) => {}
                Err(errno) => return Err(ResolveError::new(path, RefusalReason::Errno(errno))),
            }
        }
        Steps::below(below, self)?.walk(path, flags, mode, &mut Unguided)
    }
}

/// Goes where the path leads.
struct Unguided;

impl Guide for Unguided {}

/// Refuses what does not lead below a directory.
fn refuse_ways_out(path: &Path) -> Result<(), ResolveError> {
    let leads_out = |part: Component<'_>| {
        matches!(part, Component::RootDir | Component::ParentDir | Component::Prefix(_))
    };
    if path.as_os_str().is_empty() || path.components().any(leads_out) {
        return Err(ResolveError::new(path, RefusalReason::Outside));
    }
    Ok(())
}

/// Returns flags with which nothing is waited for; `O_PATH` waits for nothing and allows no others.
pub(crate) fn without_waiting(flags: OFlags) -> OFlags {
    if flags.contains(OFlags::PATH) {
        return flags & (OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW) | OFlags::CLOEXEC;
    }
    flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY
}
