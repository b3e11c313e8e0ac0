//! Resolves a path component by component.
//!
//! *Lives here:* the algorithm that openat2 performs in the kernel, step by step, and following the
//! links that a caller allows.
//! *Does not live here:* which links those are (the caller decides), whose a mount is (`mount`).
//!
//! Each component is opened with `O_PATH`, without following it, and examined through that
//! descriptor. A link is read through the descriptor, and a directory is entered through it, so
//! nothing is looked up twice by name. Only the last component is opened once more, for its use. It
//! must then be on the same mount, and not a link.
//!
//! The kernel refused the whole path because of a link or a mount. Behind each one that may be
//! passed, it is asked for the rest, which it resolves without links and without leaving the mount,
//! or not at all.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat, openat2, readlinkat};
use rustix::io::Errno;

use super::{
    Links, Mounts, RefusalReason, ResolveError, Resolver, STRICTLY, is_operators, is_refused_by_kernel,
    without_waiting,
};
use crate::look::{FileInfo, look, pinned};

/// The most links that are followed on one way.
const MOST_LINKS: u32 = 16;
/// The most components of one way, including those of its links.
const MOST_STEPS: u32 = 128;
/// The flags for a directory that is only passed through.
const THROUGH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Is told of each step of a resolution.
pub trait Guide {
    /// Returns whether it has to be told of every step, so that the kernel may not take several of
    /// them at once.
    fn needs_every_step(&self) -> bool {
        true
    }

    /// The way leads through this directory.
    fn passes(&mut self, _path: &Path, _directory: &FileInfo) {}

    /// There is no `name` in a directory that the way leads through. Afterwards it is looked up
    /// once more.
    fn misses(&mut self, _parent: &OwnedFd, _path: &Path, _name: &OsStr) -> Result<(), RefusalReason> {
        Ok(())
    }
}

/// The state of a resolution.
pub struct Steps {
    rules: Resolver,
    at: OwnedFd,
    here: FileInfo,
    path: PathBuf,
    links: u32,
    /// The user who must own the end of the path, because a link of that user was followed.
    owner: Option<u32>,
    /// Whether the last step passed what the kernel refuses: a mount or a link.
    has_passed_refused: bool,
}

impl Steps {
    /// Begins at a directory.
    pub fn below(directory: BorrowedFd<'_>, rules: Resolver) -> Result<Self, ResolveError> {
        Self::at(directory, OsStr::new("."), rules, PathBuf::new())
    }

    /// Begins at the root of the file system.
    pub fn from_root(rules: Resolver) -> Result<Self, ResolveError> {
        Self::at(CWD, OsStr::new("/"), rules, PathBuf::from("/"))
    }

    /// Begins at another root directory.
    pub fn below_root(root: &OwnedFd, rules: Resolver) -> Result<Self, ResolveError> {
        Self::at(root.as_fd(), OsStr::new("."), rules, PathBuf::from("/"))
    }

    fn at(from: BorrowedFd<'_>, name: &OsStr, rules: Resolver, path: PathBuf) -> Result<Self, ResolveError> {
        let opened = openat(from, name, THROUGH, Mode::empty());
        match opened.and_then(|at| Ok((look(&at)?, at))) {
            Ok((here, at)) => {
                Ok(Self { rules, at, here, path, links: 0, owner: None, has_passed_refused: false })
            }
            Err(errno) => Err(ResolveError::new(Path::new(name), RefusalReason::Errno(errno))),
        }
    }

    /// Goes along `path` and opens what it leads to.
    pub fn walk(
        mut self,
        path: &Path,
        flags: OFlags,
        mode: Mode,
        guide: &mut dyn Guide,
    ) -> Result<OwnedFd, ResolveError> {
        let mut left = components(path);
        for _ in 0..MOST_STEPS {
            let may_be_quick = std::mem::take(&mut self.has_passed_refused) && !guide.needs_every_step();
            if may_be_quick && let Some(opened) = self.rest_at_once(&left, flags, mode) {
                return opened;
            }
            let Some(name) = left.pop_front() else { break };
            let is_last = left.is_empty();
            if is_last && name != ".." {
                match self.last(&name, flags, mode, guide)? {
                    Last::Opened(fd) => return Ok(fd),
                    Last::Link(link, seen) => left = self.follow(&name, &link, &seen)?,
                }
                continue;
            }
            left = self.through(&name, left, guide)?;
        }
        if !left.is_empty() {
            return Err(ResolveError::new(path, RefusalReason::Errno(Errno::NAMETOOLONG)));
        }
        let name = OsStr::new(".");
        self.judge(name, &self.here)?;
        self.reopen(name, flags, &self.here)
    }

    /// Opens the rest of the way as the kernel alone resolves it; `None` if the kernel refuses
    /// that, so that the steps tell why, or go on.
    fn rest_at_once(
        &self,
        left: &VecDeque<OsString>,
        flags: OFlags,
        mode: Mode,
    ) -> Option<Result<OwnedFd, ResolveError>> {
        // If a user's link was followed, the owner of the end has to be looked at.
        let is_plain = self.owner.is_none() && !left.is_empty() && !left.iter().any(|name| name == "..");
        if !is_plain || self.rules.by_steps {
            return None;
        }
        let rest: PathBuf = left.iter().collect();
        match openat2(&self.at, &rest, without_waiting(flags), mode, STRICTLY) {
            Err(errno) if is_refused_by_kernel(errno) => None,
            opened => Some(
                opened
                    .map_err(|errno| ResolveError::new(&self.path.join(&rest), RefusalReason::Errno(errno))),
            ),
        }
    }

    /// Passes one component, and returns the remaining ones.
    fn through(
        &mut self,
        name: &OsStr,
        mut left: VecDeque<OsString>,
        guide: &mut dyn Guide,
    ) -> Result<VecDeque<OsString>, ResolveError> {
        let (next, seen) = self.find(name, guide)?;
        if seen.is_link() {
            let mut target = self.follow(name, &next, &seen)?;
            target.append(&mut left);
            return Ok(target);
        }
        if !seen.is_directory() {
            return Err(self.refused(name, RefusalReason::NotADirectory));
        }
        self.path.push(name);
        self.has_passed_refused = !self.here.is_on_mount_of(&seen);
        (self.at, self.here) = (next, seen);
        Ok(left)
    }

    /// Opens the last component, or returns the target if it is a link.
    fn last(
        &mut self,
        name: &OsStr,
        flags: OFlags,
        mode: Mode,
        guide: &mut dyn Guide,
    ) -> Result<Last, ResolveError> {
        let (fd, seen) = match self.find(name, guide) {
            Err(error) if error.is_missing() && flags.contains(OFlags::CREATE) => {
                let flags = without_waiting(flags | OFlags::NOFOLLOW);
                let fresh = openat(&self.at, name, flags, mode);
                return fresh
                    .map(Last::Opened)
                    .map_err(|errno| self.refused(name, RefusalReason::Errno(errno)));
            }
            found => found?,
        };
        if flags.contains(OFlags::CREATE | OFlags::EXCL) {
            return Err(self.refused(name, RefusalReason::Errno(Errno::EXIST)));
        }
        let is_path = flags.contains(OFlags::PATH);
        if seen.is_link() && !(is_path && flags.contains(OFlags::NOFOLLOW)) {
            if flags.contains(OFlags::NOFOLLOW) {
                return Err(self.refused(name, RefusalReason::Link(seen.uid)));
            }
            return Ok(Last::Link(fd, seen));
        }
        if flags.contains(OFlags::DIRECTORY) && !seen.is_directory() {
            return Err(self.refused(name, RefusalReason::NotADirectory));
        }
        self.judge(name, &seen)?;
        if is_path {
            return Ok(Last::Opened(fd));
        }
        drop(fd);
        self.reopen(name, flags, &seen).map(Last::Opened)
    }

    /// Opens a component with `O_PATH`, and looks at it.
    fn find(&self, name: &OsStr, guide: &mut dyn Guide) -> Result<(OwnedFd, FileInfo), ResolveError> {
        let refused = |errno| self.refused(name, RefusalReason::Errno(errno));
        guide.passes(&self.path, &self.here);
        let fd = match pinned(&self.at, name) {
            Err(Errno::NOENT) => {
                guide.misses(&self.at, &self.path, name).map_err(|reason| self.refused(name, reason))?;
                pinned(&self.at, name)
            }
            other => other,
        };
        let fd = fd.map_err(refused)?;
        let seen = look(&fd).map_err(refused)?;
        self.cross(name, &seen)?;
        if seen.kind() == FileType::Unknown {
            return Err(refused(Errno::ACCESS));
        }
        Ok((fd, seen))
    }

    /// Reads a link that may be followed, and returns its target.
    fn follow(
        &mut self,
        name: &OsStr,
        link: &OwnedFd,
        seen: &FileInfo,
    ) -> Result<VecDeque<OsString>, ResolveError> {
        self.allow(link, seen).map_err(|reason| self.refused(name, reason))?;
        if seen.uid != 0 && self.rules.links == Links::RootsOrOwnersOfTarget {
            self.owner = Some(seen.uid);
        }
        if self.rules.mounts == Mounts::BehindLinks {
            self.rules.mounts = Mounts::Operators;
        }
        self.links = self.links.saturating_add(1);
        self.has_passed_refused = true;
        let target: CString = readlinkat(link, "", Vec::new())
            .map_err(|errno| self.refused(name, RefusalReason::Errno(errno)))?;
        let target = Path::new(OsStr::from_bytes(target.to_bytes()));
        if target.is_absolute() {
            let root = Self::from_root(self.rules)?;
            self.cross(name, &root.here)?;
            (self.at, self.here, self.path) = (root.at, root.here, root.path);
        }
        Ok(components(target))
    }

    /// Refuses a link that may not be followed.
    fn allow(&self, link: &OwnedFd, seen: &FileInfo) -> Result<(), RefusalReason> {
        if fstatfs(link).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC) {
            return Err(RefusalReason::MagicLink);
        }
        if self.links >= MOST_LINKS {
            return Err(RefusalReason::TooManyLinks);
        }
        // Anybody may have made a further name of root's link.
        let is_roots = seen.uid == 0 && !seen.has_other_names;
        let is_one_users = seen.uid != 0 && self.owner.is_none_or(|owner| owner == seen.uid);
        let is_allowed = match self.rules.links {
            Links::Refused => false,
            Links::Roots => is_roots,
            Links::RootsOrOwnersOfTarget => is_roots || is_one_users,
            Links::All => true,
        };
        if is_allowed { Ok(()) } else { Err(RefusalReason::Link(seen.uid)) }
    }

    /// Refuses another mount, unless it may be crossed.
    fn cross(&self, name: &OsStr, next: &FileInfo) -> Result<(), ResolveError> {
        if self.here.is_on_mount_of(next) {
            return Ok(());
        }
        match (self.rules.mounts, next.mount) {
            (Mounts::All, _) => Ok(()),
            (_, None) => Err(self.refused(name, RefusalReason::UnknownMount)),
            (Mounts::Operators, Some(mount)) if is_operators(mount) => Ok(()),
            _ => Err(self.refused(name, RefusalReason::OtherMount)),
        }
    }

    /// Refuses a file that a link led to unless the link's owner owns it.
    fn judge(&self, name: &OsStr, seen: &FileInfo) -> Result<(), ResolveError> {
        match self.owner {
            Some(owner) if owner != seen.uid => Err(self.refused(name, RefusalReason::Link(owner))),
            _ => Ok(()),
        }
    }

    /// Opens an examined file for its use.
    fn reopen(&self, name: &OsStr, flags: OFlags, seen: &FileInfo) -> Result<OwnedFd, ResolveError> {
        let refused = |errno| self.refused(name, RefusalReason::Errno(errno));
        let flags = without_waiting(flags.difference(OFlags::CREATE) | OFlags::NOFOLLOW);
        let fd = openat(&self.at, name, flags, Mode::empty()).map_err(refused)?;
        let opened = look(&fd).map_err(refused)?;
        if self.rules.mounts != Mounts::All && !opened.is_on_mount_of(seen) {
            return Err(self.refused(name, RefusalReason::OtherMount));
        }
        self.judge(name, &opened)?;
        Ok(fd)
    }

    fn refused(&self, name: &OsStr, reason: RefusalReason) -> ResolveError {
        let path = if name == "." { self.path.clone() } else { self.path.join(name) };
        ResolveError { path, reason }
    }
}

/// The result of resolving the last component.
enum Last {
    Opened(OwnedFd),
    Link(OwnedFd, FileInfo),
}

/// Returns the components of a path, without a leading `/`.
fn components(path: &Path) -> VecDeque<OsString> {
    let named = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(named).collect()
}
