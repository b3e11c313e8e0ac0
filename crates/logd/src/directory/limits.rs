//! How large and how many the files of a log directory may be.
//!
//! *Lives here:* the numbers. *Does not live here:* what follows from them (`rotation`).

use gatevisor_slot::Compress;

/// How large and how many the files of a directory may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Size in bytes that `current` does not exceed, except by one line.
    pub size: u64,
    /// Archives kept beside `current`.
    pub keep: u32,
    /// Bytes of all archives together.
    pub total: u64,
    /// Seconds after which `current` is put away when the next line comes.
    pub period_s: Option<u64>,
    /// How archives are compressed.
    pub compress: Compress,
}

impl Default for LogLimits {
    /// Returns the limits that count where `log/run` names none.
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
