//! Why a log directory cannot be used, or why not everything was written to it.
//!
//! *Lives here:* the errors, and whether another attempt may succeed.
//! *Does not live here:* the attempts (`pipeline::sink`).

use rustix::io::Errno;

/// Why a log directory cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum DirError {
    /// Another writer has locked it.
    #[error("it is locked by another writer")]
    Locked,
    /// It, or its `current`, was removed during the write.
    #[error("it was removed")]
    Gone,
    /// The system refused a step.
    #[error("{step} (errno {})", source.raw_os_error())]
    System {
        step: DirStep,
        /// The system's error.
        #[source]
        source: Errno,
    },
}

/// A step that the system may refuse. Its text says that it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirStep {
    /// Making the directory.
    #[error("cannot make the directory")]
    Make,
    /// Opening the directory.
    #[error("cannot open the directory")]
    Open,
    /// Locking the directory.
    #[error("cannot lock the directory")]
    Lock,
    /// Archiving the leftovers of a crash.
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
    /// Renaming `current` to an archive.
    #[error("cannot rename `current` to an archive")]
    PutAway,
}

impl DirError {
    pub(super) fn at(step: DirStep) -> impl Fn(Errno) -> Self {
        move |source| Self::System { step, source }
    }

    /// Returns whether the reason is that a file may not become longer.
    pub(super) fn is_of_a_full_file(self) -> bool {
        matches!(self, Self::System { source: Errno::FBIG, .. })
    }

    /// Returns whether the disk is the obstacle, and not the directory's name or permissions; then
    /// a later attempt may succeed.
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

/// A write that failed after some of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwritten {
    /// How many bytes are in the file.
    pub written: usize,
    /// Why the rest is not.
    pub error: DirError,
}
