//! Finding a home, or any directory at the end of an absolute path, and finding out who controls
//! the way to it.
//!
//! *Lives here:* the way from `/`, step by step; making missing directories on it; who has
//! authority in the home.
//! *Does not live here:* the way below the home (`resolve`), and giving the home to somebody
//! (`walk`).
//!
//! A user who may write to a directory on the way controls its end: if `/opt/data` is the agent's,
//! then `/opt/data/a/home` is the agent's choice, and may be `/etc` at the next look. So each
//! directory above is examined while it is passed, and the home is held by a descriptor from then
//! on. A process works there with the rights of the first user on the way who is not root.
//!
//! **Source:** `path_resolution(7)`, sticky bit in inode(7).

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fchmod, mkdirat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::look::{FileInfo, look};
use crate::resolve::{Guide, Links, Mounts, RefusalReason, ResolveError, Resolver, Steps};
use crate::trusted::{is_trusted, root_of_a_process};

/// Write permission of the group and of others. An access list shows in the permission of the
/// group.
const OTHERS_WRITE: u32 = 0o022;
/// The sticky bit: only owners may rename and remove entries.
const STICKY: u32 = 0o1000;

/// A home that was found, held by a descriptor.
#[derive(Debug)]
pub struct OpenHome {
    directory: OwnedFd,
    path: PathBuf,
    seen: FileInfo,
    above: Option<Untrusted>,
}

/// A directory above a home through which another user controls where the path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untrusted {
    /// The component that is not trusted, as a whole path.
    pub path: PathBuf,
    /// The user in control: the owner of the directory, or of its entry.
    pub uid: u32,
    /// Why this user is in control.
    pub why: UntrustedReason,
    /// Whether only owners may rename and remove its entries.
    pub is_sticky: bool,
}

/// Why another user controls the entries of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UntrustedReason {
    /// The directory is theirs.
    Owned,
    /// Everybody may make entries in it, and this entry is theirs.
    Shared,
    /// Users besides the owner may write to it.
    Open,
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, uid) = (self.path.display(), self.uid);
        match self.why {
            UntrustedReason::Owned => write!(f, "`{path}` belongs to uid {uid}"),
            UntrustedReason::Shared => {
                write!(f, "everybody may write to `{path}`, and what is there belongs to uid {uid}")
            }
            UntrustedReason::Open => write!(f, "others than its owner may write to `{path}`"),
        }
    }
}

/// Why there is no home to work in.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The path leads nowhere, or a step of it was refused.
    #[error(transparent)]
    Way(#[from] ResolveError),
    /// It is missing, and is not made because another user controls where the path leads.
    #[error("`{}` does not exist and is not made, because {above}", path.display())]
    NotMade {
        /// The path of the missing directory.
        path: PathBuf,
        /// The directory above, and the user in control.
        above: Untrusted,
    },
}

impl HomeError {
    /// Returns whether the directory does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Way(error) if error.is_missing())
    }

    /// Returns whether there is a symbolic link on the way that another user could change.
    pub fn is_link_of_another(&self) -> bool {
        matches!(self, Self::Way(ResolveError { reason: RefusalReason::Link(_), .. }))
    }

    /// Returns whether something other than a directory is there or on the way.
    pub fn is_no_directory(&self) -> bool {
        matches!(self, Self::Way(ResolveError { reason: RefusalReason::NotADirectory, .. }))
    }
}

/// The rights with which to work in a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// Our own: nobody else controls where its path leads.
    Ours,
    /// Those of this user, who owns the home or a directory on the way.
    User(u32),
    /// Nobody's: several users may write to this directory of root's.
    Nobody(Untrusted),
}

impl OpenHome {
    /// Opens the directory at `path`, which must be absolute.
    ///
    /// Root follows only links that are root's. Any other process has only its own rights to lose,
    /// and follows all.
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        Self::go(path, &mut Way::new(None))
    }

    /// Opens the directory at `path`, which must be absolute, and makes missing directories with
    /// this mode. Root makes nothing if anybody else controls where the path leads.
    pub fn open_or_make(path: &Path, mode: Mode) -> Result<Self, HomeError> {
        Self::go(path, &mut Way::new(Some(mode)))
    }

    /// Returns the rights with which to work in the home at `path` and in the directories `below`
    /// it. They need not exist yet.
    ///
    /// # Errors
    /// A step of the way was refused.
    pub fn authority_over(path: &Path, below: &[&str]) -> Result<Authority, HomeError> {
        match Self::open(path) {
            Ok(found) => Ok(found.authority(below)?),
            // If something else has the place, the user who could replace it decides.
            Err(error) if error.is_missing() || error.is_no_directory() => {
                let Some(parent) = path.parent() else { return Err(error) };
                match Self::authority_over(parent, &[])? {
                    // A directory such as /tmp: what we make there is ours.
                    Authority::Nobody(step) if step.is_sticky => Ok(Authority::Ours),
                    other => Ok(other),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn go(path: &Path, way: &mut Way) -> Result<Self, HomeError> {
        if !path.is_absolute() {
            return Err(ResolveError::new(path, RefusalReason::Outside).into());
        }
        let links = if geteuid().is_root() { Links::Roots } else { Links::All };
        let rules = Resolver::READING.following(links).crossing(Mounts::Operators);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let begin = match root_of_a_process(path) {
            Some((root, rest)) => {
                Steps::below_root(&root, rules.crossing(Mounts::All)).map(|steps| (steps, rest))
            }
            None => Steps::from_root(rules).map(|steps| (steps, path)),
        };
        let found = begin.and_then(|(steps, rest)| steps.walk(rest, flags, Mode::empty(), way));
        let directory = match (found, way.not_made.take()) {
            (Ok(directory), _) => directory,
            (Err(_), Some((path, above))) => return Err(HomeError::NotMade { path, above }),
            (Err(error), None) => return Err(error.into()),
        };
        let seen = look(&directory).map_err(|errno| ResolveError::new(path, RefusalReason::Errno(errno)))?;
        way.settle(&seen);
        Ok(Self { directory, path: path.to_owned(), seen, above: way.above.take() })
    }

    /// Returns the path by which the home was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what was found, at that moment.
    pub const fn seen(&self) -> &FileInfo {
        &self.seen
    }

    /// Returns its present user and group.
    pub fn owner(&self) -> Result<(u32, u32), Errno> {
        look(&self.directory).map(|seen| (seen.uid, seen.gid))
    }

    /// Returns nothing if only root and this process's user control where its path leads.
    ///
    /// # Errors
    /// The first directory above it that another user controls. Root changes no owner there.
    pub fn above(&self) -> Result<(), Untrusted> {
        self.above.clone().map_or(Ok(()), Err)
    }

    /// Returns the rights with which to work in it, and in those of the directories `below` it that
    /// exist.
    ///
    /// They are those of the first user, from `/` down, who is not trusted.
    ///
    /// # Errors
    /// A directory of `below` is a link that may not be followed, or no directory.
    pub fn authority(&self, below: &[&str]) -> Result<Authority, ResolveError> {
        if let Some(above) = &self.above {
            return Ok(Authority::of(above));
        }
        if let Some(own) = judged(&self.path, &self.seen) {
            return Ok(Authority::of(&own));
        }
        for name in below {
            let resolver = Resolver::READING.following(Links::Roots);
            let opened = resolver.open(self, name, OFlags::PATH | OFlags::DIRECTORY);
            let seen = match opened.map(look) {
                Ok(Ok(seen)) => seen,
                Ok(Err(errno)) => {
                    return Err(ResolveError::new(Path::new(name), RefusalReason::Errno(errno)));
                }
                Err(error) if error.is_missing() => continue,
                Err(error) => return Err(error),
            };
            if let Some(theirs) = judged(&self.path.join(name), &seen) {
                return Ok(Authority::of(&theirs));
            }
        }
        Ok(Authority::Ours)
    }
}

impl AsFd for OpenHome {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Authority {
    fn of(found: &Untrusted) -> Self {
        if found.why == UntrustedReason::Open { Self::Nobody(found.clone()) } else { Self::User(found.uid) }
    }
}

/// Returns why another user controls the entries of a directory, if one does.
fn judged(path: &Path, seen: &FileInfo) -> Option<Untrusted> {
    let why = if !is_trusted(seen.uid) {
        UntrustedReason::Owned
    } else if seen.mode & OTHERS_WRITE != 0 {
        UntrustedReason::Open
    } else {
        return None;
    };
    Some(Untrusted { path: path.to_owned(), uid: seen.uid, why, is_sticky: seen.mode & STICKY != 0 })
}

/// What is found on the way, and how missing directories are made.
struct Way {
    make: Option<Mode>,
    above: Option<Untrusted>,
    /// A directory above that everybody may write to and in which only owners may rename. The owner
    /// of the next step decides.
    shared: Option<Untrusted>,
    not_made: Option<(PathBuf, Untrusted)>,
}

impl Way {
    const fn new(make: Option<Mode>) -> Self {
        Self { make, above: None, shared: None, not_made: None }
    }

    /// Judges the shared directory above by the owner of this entry.
    fn settle(&mut self, next: &FileInfo) {
        if let Some(shared) = self.shared.take()
            && !is_trusted(next.uid)
        {
            self.above.get_or_insert(Untrusted { uid: next.uid, why: UntrustedReason::Shared, ..shared });
        }
    }
}

impl Guide for Way {
    fn passes(&mut self, path: &Path, directory: &FileInfo) {
        self.settle(directory);
        if let Some(found) = judged(path, directory) {
            if found.why == UntrustedReason::Open && found.is_sticky {
                self.shared = Some(found);
            } else {
                self.above.get_or_insert(found);
            }
        }
    }

    fn misses(&mut self, parent: &OwnedFd, path: &Path, name: &OsStr) -> Result<(), RefusalReason> {
        let Some(mode) = self.make else { return Ok(()) };
        if geteuid().is_root()
            && let Some(above) = &self.above
        {
            self.not_made = Some((path.join(name), above.clone()));
            return Ok(());
        }
        match mkdirat(parent, name, mode) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(()),
            Err(errno) => return Err(RefusalReason::Errno(errno)),
        }
        // The mode holds regardless of this process's umask. The name still belongs to the
        // directory that we made, because only we could rename it.
        let directory = Resolver::STRICT.directory(parent, name).map_err(|error| error.reason)?;
        fchmod(&directory, mode).map_err(RefusalReason::Errno)
    }
}
