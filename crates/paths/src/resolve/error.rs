//! Why a path was not opened.
//!
//! *Lives here:* the refused component, the reason, and the errno for it.
//! *Does not live here:* what to do about it.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Which component of a path was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}`: {reason}", path.display())]
pub struct ResolveError {
    /// The path up to the refused component.
    pub path: PathBuf,
    /// Why it was refused.
    pub reason: RefusalReason,
}

/// Why a component was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefusalReason {
    /// It is a symbolic link that this user made and that may not be followed here.
    #[error("a symbolic link of uid {0}")]
    Link(u32),
    /// It is a link of `/proc`.
    #[error("a link of /proc, which leads where no path leads")]
    MagicLink,
    /// The path has too many symbolic links.
    #[error("too many symbolic links")]
    TooManyLinks,
    /// It is on another mount.
    #[error("another file system is mounted there")]
    OtherMount,
    /// A step of the path is a file or something else that holds no entries.
    #[error("not a directory")]
    NotADirectory,
    /// The path is absolute, empty, or holds `..`.
    #[error("a path that does not lead below its directory")]
    Outside,
    /// The mount that it is on cannot be found out: the kernel does not tell, and there is no
    /// `/proc`.
    #[error("cannot tell which mount it is on, because there is no /proc")]
    UnknownMount,
    /// The kernel refused it.
    #[error(transparent)]
    Errno(Errno),
}

impl ResolveError {
    pub(crate) fn new(path: &Path, reason: RefusalReason) -> Self {
        Self { path: path.to_owned(), reason }
    }

    /// Returns the errno that the kernel uses for such a reason.
    pub const fn errno(&self) -> Errno {
        match self.reason {
            RefusalReason::Link(_) | RefusalReason::MagicLink | RefusalReason::TooManyLinks => Errno::LOOP,
            RefusalReason::OtherMount | RefusalReason::Outside | RefusalReason::UnknownMount => Errno::XDEV,
            RefusalReason::NotADirectory => Errno::NOTDIR,
            RefusalReason::Errno(errno) => errno,
        }
    }

    /// Returns whether there is no such file.
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
