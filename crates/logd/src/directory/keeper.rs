//! The rules by which a log directory is kept.
//!
//! *Lives here:* all differences between our log daemon and s6-log in keeping a directory of the
//! same form.
//! *Does not live here:* applying them.

use rustix::process::{Resource, getrlimit};

use super::rotation::Full;

/// Whose rules apply to a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// The log daemon's.
    Daemon,
    /// s6-log's.
    S6Log {
        /// How many bytes below the size a file is full.
        tolerance: u64,
        /// Whether a full file is called `previous` until a processor has made an archive of it.
        has_processor: bool,
    },
}

impl Keeper {
    /// Returns when a file with the limit `size` is full.
    pub(super) fn full(self, size: u64) -> Full {
        match self {
            Self::Daemon => Full::BeforeALineThatExceeds(possible_size(size)),
            Self::S6Log { tolerance, .. } => {
                Full::AfterALineThatReaches { size, enough: size.saturating_sub(tolerance) }
            }
        }
    }

    /// Returns whether lines stay whole across restarts of the process: a last line without a
    /// newline gets one, and our lines do not continue somebody else's.
    pub(super) const fn completes_lines(self) -> bool {
        matches!(self, Self::Daemon)
    }

    /// Returns whether a process may open a directory only once. s6-log accepts a script that names
    /// one twice.
    pub(super) const fn is_alone(self) -> bool {
        matches!(self, Self::Daemon)
    }

    /// Returns whether an empty file becomes an archive.
    pub(super) const fn keeps_empty_files(self) -> bool {
        matches!(self, Self::S6Log { .. })
    }

    /// Returns whether compressed archives are counted and deleted. s6-log does not know them.
    pub(super) const fn counts_compressed(self) -> bool {
        matches!(self, Self::Daemon)
    }

    /// Returns whether a full file waits for a processor.
    pub(super) const fn has_processor(self) -> bool {
        matches!(self, Self::S6Log { has_processor: true, .. })
    }
}

/// Returns the size that the system's limit of file sizes permits, at most `size`. Lines are not
/// cut unless one is longer than the permitted size.
fn possible_size(size: u64) -> u64 {
    let limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
    size.min(limit.saturating_sub(limit / 8))
}
