//! Why a path was not opened.
//!
//! *Lives here:* the component, the reason, and the number that a caller knows the reason by.
//! *Does not live here:* what to do about it.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Why a path was not opened, and at which component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}`: {reason}", path.display())]
pub struct ResolveError {
    /// The part of the path up to what was refused.
    pub path: PathBuf,
    /// Why it was refused.
    pub reason: RefusalReason,
}

/// Why a component was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefusalReason {
    /// It is a symbolic link of this user, which may not be followed here.
    #[error("a symbolic link of uid {0}")]
    Link(u32),
    /// It is a link of `/proc`.
    #[error("a link of /proc, which leads where no path leads")]
    MagicLink,
    /// It is one of more symbolic links than are followed.
    #[error("too many symbolic links")]
    TooManyLinks,
    /// It is on another mount.
    #[error("another file system is mounted there")]
    OtherMount,
    /// It is no directory.
    #[error("not a directory")]
    NotADirectory,
    /// The path is absolute, empty, or holds `..`.
    #[error("a path that does not lead below its directory")]
    Outside,
    /// Nothing tells which mount it is on: the kernel does not, and there is no `/proc`.
    #[error("cannot tell which mount it is on, because there is no /proc")]
    UnknownMount,
    /// The kernel refused.
    #[error(transparent)]
    Errno(Errno),
}

impl ResolveError {
    pub(crate) fn new(path: &Path, reason: RefusalReason) -> Self {
        Self { path: path.to_owned(), reason }
    }

    /// Returns the number by which the kernel tells such a reason.
    pub const fn errno(&self) -> Errno {
        match self.reason {
            RefusalReason::Link(_) | RefusalReason::MagicLink | RefusalReason::TooManyLinks => Errno::LOOP,
            RefusalReason::OtherMount | RefusalReason::Outside | RefusalReason::UnknownMount => Errno::XDEV,
            RefusalReason::NotADirectory => Errno::NOTDIR,
            RefusalReason::Errno(errno) => errno,
        }
    }

    /// Returns whether there is nothing of that name.
    pub fn is_missing(&self) -> bool {
        self.errno() == Errno::NOENT
    }
}

impl From<ResolveError> for Errno {
    fn from(error: ResolveError) -> Self {
        error.errno()
    }
}

impl From<ResolveError> for std::io::Error {
    fn from(error: ResolveError) -> Self {
        let kind = Self::from(error.errno()).kind();
        match error.reason {
            RefusalReason::Errno(errno) => errno.into(),
            _ => Self::new(kind, error),
        }
    }
}
