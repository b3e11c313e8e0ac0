//! Whose rules a log directory is kept by.
//!
//! *Lives here:* everything that our log daemon and s6-log do otherwise with a directory of the same form.
//! *Does not live here:* doing it.

use rustix::process::{Resource, getrlimit};

use super::rotation::Full;

/// Whose rules a directory is kept by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// The log daemon's.
    Daemon,
    /// s6-log's.
    S6Log {
        /// Bytes below the size at which a file is full.
        tolerance: u64,
        /// A file is called `previous` until a processor has made an archive of it.
        has_processor: bool,
    },
}

impl Keeper {
    /// Returns when a file is full that may have `size` bytes.
    pub(super) fn full(self, size: u64) -> Full {
        match self {
            Self::Daemon => Full::BeforeALineThatExceeds(possible_size(size)),
            Self::S6Log { tolerance, .. } => {
                Full::AfterALineThatReaches { size, enough: size.saturating_sub(tolerance) }
            }
        }
    }

    /// Returns whether lines are kept whole at both ends of a process: a last line that lacks its newline gets one, and
    /// ours does not continue somebody else's.
    pub(super) const fn completes_lines(self) -> bool {
        matches!(self, Self::Daemon)
    }

    /// Returns whether two directories of one process are told apart. s6-log takes a script that names one twice.
    pub(super) const fn is_alone(self) -> bool {
        matches!(self, Self::Daemon)
    }

    /// Returns whether an empty file is worth an archive.
    pub(super) const fn keeps_empty_files(self) -> bool {
        matches!(self, Self::S6Log { .. })
    }

    /// Returns whether compressed archives count, and are deleted. s6-log does not know them.
    pub(super) const fn counts_compressed(self) -> bool {
        matches!(self, Self::Daemon)
    }

    /// Returns whether a full file waits for a processor.
    pub(super) const fn has_processor(self) -> bool {
        matches!(self, Self::S6Log { has_processor: true, .. })
    }
}

/// Returns the size that the system's limit of the size of files leaves room for, `size` at the most. Lines are not cut
/// as long as one is no longer than the room.
fn possible_size(size: u64) -> u64 {
    let limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
    size.min(limit.saturating_sub(limit / 8))
}
