//! *Lives here:* how often drains of a gateway have ended, and how.
//!
//! *Does not live here:* when a drain ends (`gatevisor_liveness::drain`), and the file of counts
//! (`record`).

use gatevisor_liveness::DrainEnd;
use serde::{Deserialize, Serialize};

/// How often drains of a gateway have ended in each way since its supervisor began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DrainCounts {
    /// The gateway had no work left.
    pub idle: u64,
    /// The limit was reached, and work was under way.
    pub limit: u64,
    /// The gateway's process ended by itself.
    pub ended: u64,
    /// Somebody cancelled it.
    pub cancelled: u64,
    /// The gateway could not be asked.
    pub failed: u64,
}

impl DrainCounts {
    /// Counts one more.
    pub(super) const fn add(&mut self, end: &DrainEnd) {
        let count = match end {
            DrainEnd::Idle => &mut self.idle,
            DrainEnd::Limit(..) => &mut self.limit,
            DrainEnd::Ended => &mut self.ended,
            DrainEnd::Cancelled => &mut self.cancelled,
            DrainEnd::Failed(_) => &mut self.failed,
        };
        *count = count.saturating_add(1);
    }

    /// Returns each way in which a drain ends, in a word, and how often that has happened.
    pub const fn by_outcome(&self) -> [(&'static str, u64); 5] {
        [
            ("idle", self.idle),
            ("limit", self.limit),
            ("ended", self.ended),
            ("cancelled", self.cancelled),
            ("failed", self.failed),
        ]
    }
}
