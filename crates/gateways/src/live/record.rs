//! *Lives here:* what the watcher writes for others, as bytes: its own line, a record a service, and why it ended one.
//!
//! *Does not live here:* where that is, and writing it.

use serde::{Deserialize, Serialize};

/// Bytes of any of these files at the most.
pub(super) const MAX_BYTES: usize = 8 << 10;

/// The watcher's own line: which watcher it is, and when it was at work last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatcherPulse {
    /// A number that no other watcher of this scandir has had.
    pub epoch: u64,
    /// Its process.
    pub pid: i32,
    /// Milliseconds of the monotonic clock.
    pub beat_ms: u64,
}

impl WatcherPulse {
    /// Returns the line, which always has the same length, so that it can be rewritten in place.
    pub(super) fn encode(&self) -> String {
        format!("{:016x} {:010} {:020}\n", self.epoch, self.pid, self.beat_ms)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut words = str::from_utf8(bytes).ok()?.split_ascii_whitespace();
        let epoch = u64::from_str_radix(words.next()?, 16).ok()?;
        let (pid, beat_ms) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then_some(Self { epoch, pid, beat_ms })
    }
}

/// What is known of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRecord {
    /// The watcher that says it, in hexadecimal digits.
    pub epoch: String,
    /// The process that it is about.
    pub pid: i32,
    /// Field 22 of that one's `/proc/PID/stat`.
    pub start_ticks: u64,
    /// A word of `gatevisor_liveness::Liveness`.
    pub state: String,
    /// Since when, in RFC 3339.
    pub since: String,
    /// What showed so, or was looked for last.
    pub evidence: Option<String>,
    /// Looks in a row that found nothing.
    pub misses: u32,
    /// Why, for people.
    pub reason: Option<String>,
    /// What follows.
    pub policy: String,
    /// Whether any life of the service has shown that it works.
    pub proven: bool,
}

/// Why the watcher ended a process of a service, in `data/live-restart`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRestart {
    /// When, in RFC 3339.
    pub at: String,
    /// The process.
    pub pid: i32,
    /// Why, for people.
    pub reason: String,
    /// What was looked for last.
    pub evidence: Option<String>,
    /// Looks in a row that found nothing.
    pub misses: u32,
    /// The directory with what could be found out.
    pub incident: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_line_of_a_watcher_is_read_as_it_was_written_and_has_the_same_length(
            epoch: u64, pid in 0..i32::MAX, beat_ms: u64,
        ) {
            let pulse = WatcherPulse { epoch, pid, beat_ms };
            prop_assert_eq!(WatcherPulse::decode(pulse.encode().as_bytes()), Some(pulse));
            prop_assert_eq!(pulse.encode().len(), 49);
        }

        #[test]
        fn what_is_no_line_of_a_watcher_is_none(bytes: Vec<u8>) {
            let _ = WatcherPulse::decode(&bytes);
        }
    }
}
