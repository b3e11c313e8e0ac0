//! Why a log directory cannot be used, or not everything was written to it.
//!
//! *Lives here:* the errors, and what they say about trying again. *Does not live here:* trying again (`pipeline::sink`).

use rustix::io::Errno;

/// Why a log directory cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirError {
    /// Another writer has it.
    #[error("it is locked by another writer")]
    Locked,
    /// It, or its `current`, was removed while we wrote.
    #[error("it was removed")]
    Gone,
    /// The system refused a step.
    #[error("{step} (errno {})", source.raw_os_error())]
    System {
        /// What was tried.
        step: DirStep,
        /// Why the system refused it.
        #[source]
        source: Errno,
    },
}

/// A step that the system may refuse; its text says that it was tried in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirStep {
    /// Making the directory.
    #[error("cannot make the directory")]
    Make,
    /// Opening it.
    #[error("cannot open the directory")]
    Open,
    /// Locking it.
    #[error("cannot lock the directory")]
    Lock,
    /// Putting away what a crash left.
    #[error("cannot put away what a crash left")]
    Recover,
    /// Opening `current`.
    #[error("cannot open `current`")]
    OpenCurrent,
    /// Reading `current`.
    #[error("cannot read `current`")]
    Read,
    /// Writing `current`.
    #[error("cannot write `current`")]
    Write,
    /// Syncing `current`.
    #[error("cannot sync `current`")]
    Sync,
    /// Marking `current` as closed.
    #[error("cannot mark `current` as closed")]
    Seal,
    /// Giving `current` the name of an archive.
    #[error("cannot rename `current` to an archive")]
    PutAway,
}

impl DirError {
    pub(super) fn at(step: DirStep) -> impl Fn(Errno) -> Self {
        move |source| Self::System { step, source }
    }

    /// Returns whether a file may be no longer than it is.
    pub(super) fn is_of_a_full_file(self) -> bool {
        matches!(self, Self::System { source: Errno::FBIG, .. })
    }

    /// Returns whether the disk, and not the directory's name or rights, is in the way; it may pass by itself.
    pub fn is_refusal_of_the_disk(self) -> bool {
        match self {
            Self::Locked | Self::Gone => false,
            Self::System { source, .. } => matches!(
                source,
                Errno::NOSPC
                    | Errno::DQUOT
                    | Errno::IO
                    | Errno::FBIG
                    | Errno::NOMEM
                    | Errno::NFILE
                    | Errno::MFILE
                    | Errno::NOBUFS
                    | Errno::STALE
                    | Errno::TIMEDOUT
            ),
        }
    }
}

/// A write that did not get everything into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwritten {
    /// Bytes that did get there.
    pub written: usize,
    /// Why the rest did not.
    pub error: DirError,
}
