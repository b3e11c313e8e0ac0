//! Finding a home, or any directory that a path from `/` leads to, and who could have led us there.
//!
//! *Lives here:* the way from `/`, step by step; making what is missing on it; whose word counts in the home.
//! *Does not live here:* the way below it (`resolve`), and giving it to somebody (`walk`).
//!
//! Whoever may write to a directory on the way decides what is at its end: `/opt/data/a/home` is the agent's choice where
//! `/opt/data` is the agent's, and may be `/etc` at the next look. So each directory above is looked at while it is gone
//! through, and the home is held by a descriptor from then on. What a process does there, it does with the rights of the
//! first user on the way who is not root.
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

/// Permissions to write of anybody but the owner; an access list shows in those of the group.
const OTHERS_WRITE: u32 = 0o022;
/// Entries may be renamed and removed by their owners only.
const STICKY: u32 = 0o1000;

/// A home that was found, and is held.
#[derive(Debug)]
pub struct OpenHome {
    directory: OwnedFd,
    path: PathBuf,
    seen: FileInfo,
    above: Option<Untrusted>,
}

/// A directory above a home with which somebody else decides where the path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untrusted {
    /// The directory.
    pub path: PathBuf,
    /// Who decides: its owner, or the owner of what is in it.
    pub uid: u32,
    /// Why it is they.
    pub why: UntrustedReason,
    /// Whether only owners may rename and remove what is in it.
    pub is_sticky: bool,
}

/// Why somebody else decides what is in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UntrustedReason {
    /// It is theirs.
    Owned,
    /// Everybody may make things in it, and what is there is theirs.
    Shared,
    /// Others than its owner may write to it.
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
    /// It is missing, and is not made where somebody else decides what the path leads to.
    #[error("`{}` does not exist and is not made, because {above}", path.display())]
    NotMade {
        /// What is missing.
        path: PathBuf,
        /// Who decides.
        above: Untrusted,
    },
}

impl HomeError {
    /// Returns whether there is no such directory.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Way(error) if error.is_missing())
    }

    /// Returns whether something else than a directory is there, or on the way.
    pub fn is_no_directory(&self) -> bool {
        matches!(self, Self::Way(ResolveError { reason: RefusalReason::NotADirectory, .. }))
    }
}

/// With whose rights to work in a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// Ours: nobody else has a say in where its path leads.
    Ours,
    /// Those of this user, whose directory the way leads through, or whose the home is.
    User(u32),
    /// Nobody's: several users may write to this directory of root's.
    Nobody(Untrusted),
}

impl OpenHome {
    /// Opens the directory at `path`, which must be absolute.
    ///
    /// Root follows links of root's only; any other process has only its own rights to lose, and follows all.
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        Self::go(path, &mut Way::new(None))
    }

    /// Opens the directory at `path`, which must be absolute, and makes what is missing with this mode. Root makes
    /// nothing where anybody else decides what the path leads to.
    pub fn open_or_make(path: &Path, mode: Mode) -> Result<Self, HomeError> {
        Self::go(path, &mut Way::new(Some(mode)))
    }

    /// Returns with whose rights to work in the home at `path`, and in the directories `below` it, also where they are still
    /// to be made.
    ///
    /// # Errors
    /// A step of the way was refused.
    pub fn authority_over(path: &Path, below: &[&str]) -> Result<Authority, HomeError> {
        match Self::open(path) {
            Ok(found) => Ok(found.authority(below)?),
            // Where something else stands in its place, who could replace that decides.
            Err(error) if error.is_missing() || error.is_no_directory() => {
                let Some(parent) = path.parent() else { return Err(error) };
                match Self::authority_over(parent, &[])? {
                    // As /tmp is: what we make there is ours.
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

    /// Returns the path by which it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what it is, as it was found.
    pub const fn seen(&self) -> &FileInfo {
        &self.seen
    }

    /// Returns its user and group now.
    pub fn owner(&self) -> Result<(u32, u32), Errno> {
        look(&self.directory).map(|seen| (seen.uid, seen.gid))
    }

    /// Returns nothing where only root, and this process' user, decide what its path leads to.
    ///
    /// # Errors
    /// The first directory above it with which somebody else does. Root changes no owner there.
    pub fn above(&self) -> Result<(), Untrusted> {
        self.above.clone().map_or(Ok(()), Err)
    }

    /// Returns with whose rights to work in it, and in the directories `below` it that are there.
    ///
    /// It is the first user, from `/` down, who is not trusted.
    ///
    /// # Errors
    /// A directory of `below` is a link that may not be followed, or something else.
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

/// Returns what makes a directory somebody else's to fill, where anything does.
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

/// What is learnt on the way, and what is made.
struct Way {
    make: Option<Mode>,
    above: Option<Untrusted>,
    /// A directory that everybody may write to, and in which only owners may rename: what decides is whose the next is.
    shared: Option<Untrusted>,
    not_made: Option<(PathBuf, Untrusted)>,
}

impl Way {
    const fn new(make: Option<Mode>) -> Self {
        Self { make, above: None, shared: None, not_made: None }
    }

    /// Judges the directory that was shared by what is in it.
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
        // Whatever the mask of this process is. The name is still that of what was made: only we could rename it.
        let directory = Resolver::STRICT.directory(parent, name).map_err(|error| error.reason)?;
        fchmod(&directory, mode).map_err(RefusalReason::Errno)
    }
}
