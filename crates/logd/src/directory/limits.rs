//! The limits on the files of a log directory.
//!
//! *Lives here:* the numbers.
//! *Does not live here:* their effects (`rotation`).

use gatevisor_slot::Compress;

/// The limits on the size and the number of a directory's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Size in bytes that `current` does not exceed, except by one line.
    pub size: u64,
    /// Archives kept beside `current`.
    pub keep: u32,
    /// Bytes of all archives together.
    pub total: u64,
    /// Seconds after which `current` is archived when the next line comes.
    pub period_s: Option<u64>,
    /// How archives are compressed.
    pub compress: Compress,
}

impl Default for LogLimits {
    /// Returns the default limits.
    fn default() -> Self {
        Self {
            size: gatevisor_slot::log::DEFAULT_SIZE,
            keep: gatevisor_slot::log::DEFAULT_KEEP,
            total: u64::MAX,
            period_s: None,
            compress: Compress::None,
        }
    }
}
