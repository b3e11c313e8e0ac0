//! *Lives here:* how often drains of a gateway have ended, and how.
//!
//! *Does not live here:* when a drain ends (`gatevisor_liveness::drain`), and the lock that the
//! writer of a count holds (`record`).

use std::path::Path;

use gatevisor_liveness::DrainEnd;
use serde::{Deserialize, Serialize};

use super::record::DrainRecords;

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

/// Returns how often drains of a service have ended. What cannot be read counts as none.
pub fn counts(scandir: &Path, service: &str) -> DrainCounts {
    DrainRecords::open(scandir).map(|records| records.counts(service)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use gatevisor_liveness::DrainStage;

    use super::*;

    #[test]
    fn each_end_is_counted_under_its_own_word_and_is_no_record_of_a_drain() {
        let scandir = tempfile::tempdir().unwrap();
        assert_eq!(counts(scandir.path(), "gateway-a"), DrainCounts::default());
        let records = DrainRecords::make(scandir.path()).unwrap();
        let ends = [
            DrainEnd::Idle,
            DrainEnd::Limit(Some(2), DrainStage::Draining),
            DrainEnd::Ended,
            DrainEnd::Cancelled,
            DrainEnd::Failed("why".to_owned()),
        ];
        for (times, end) in (1..).zip(&ends) {
            for _ in 0..times {
                records.count("gateway-a", end);
            }
        }
        let expected = [("idle", 1), ("limit", 2), ("ended", 3), ("cancelled", 4), ("failed", 5)];
        assert_eq!(counts(scandir.path(), "gateway-a").by_outcome(), expected);
        assert_eq!(counts(scandir.path(), "gateway-b"), DrainCounts::default());
        assert_eq!(records.services(), Vec::<String>::new());
        assert!(records.lock("gateway-a").unwrap().is_some(), "a count is no lock");
        records.clear();
        assert_eq!(counts(scandir.path(), "gateway-a"), DrainCounts::default());
    }

    #[test]
    fn a_file_that_is_damaged_counts_as_none_and_is_written_anew() {
        let scandir = tempfile::tempdir().unwrap();
        let records = DrainRecords::make(scandir.path()).unwrap();
        records.count("gateway-a", &DrainEnd::Idle);
        std::fs::write(super::super::directory(scandir.path()).join(".over.gateway-a"), "{\"idle\":")
            .unwrap();
        assert_eq!(counts(scandir.path(), "gateway-a"), DrainCounts::default());
        records.count("gateway-a", &DrainEnd::Idle);
        assert_eq!(counts(scandir.path(), "gateway-a").idle, 1);
    }
}
