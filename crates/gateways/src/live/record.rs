//! *Lives here:* the formats of the files of the watcher: its own line, the record of a service,
//! and the note about a process that it ended.
//!
//! *Does not live here:* where the files are, and writing them.

use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::proc::Process;
use serde::{Deserialize, Serialize};

/// The most bytes of any of these files.
pub(super) const MAX_BYTES: usize = 8 << 10;

/// The watcher's own line: which watcher it is, and when it last was at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatcherPulse {
    /// A number that no other watcher of this scandir has had.
    pub epoch: u64,
    /// The watcher's process.
    pub pid: i32,
    /// Milliseconds of the monotonic clock.
    pub beat_ms: u64,
}

impl WatcherPulse {
    /// Returns the line, which always has the same length, so that it can be rewritten in place.
    pub(super) fn encode(&self) -> String {
        format!("{:016x} {:010} {:020}\n", self.epoch, self.pid, self.beat_ms)
    }

    /// Returns how many milliseconds ago the watcher has written its line. A time in the future is
    /// of an earlier boot of the machine, and so is its watcher.
    pub(super) fn silent_ms(self) -> u64 {
        monotonic_ms().checked_sub(self.beat_ms).unwrap_or(u64::MAX)
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
    /// The epoch of the watcher that wrote it, in hexadecimal digits.
    pub epoch: String,
    /// The number of the process that was followed.
    pub pid: i32,
    /// Field 22 of the process's `/proc/PID/stat`.
    pub start_ticks: u64,
    /// The state, as a word of `gatevisor_liveness::Liveness`.
    pub state: String,
    /// Since when it is in that state, in RFC 3339.
    pub since: String,
    /// The kind of evidence that was found, or was looked for last.
    pub evidence: Option<String>,
    /// The number of looks in a row that found no evidence.
    pub misses: u32,
    /// The reason for the state, for people.
    pub reason: Option<String>,
    /// What is done if the service does not respond.
    pub policy: String,
    /// Whether any run of the service has shown evidence.
    pub proven: bool,
}

impl LiveRecord {
    /// Returns whether this watcher has written the record, about the process that has this number
    /// now. If the start of that process is unknown, the number decides.
    pub(super) fn is_of(&self, watcher: WatcherPulse, pid: i32) -> bool {
        let is_same = || Process::of(pid).is_none_or(|process| process.began == self.start_ticks);
        self.pid == pid && self.epoch == format!("{:016x}", watcher.epoch) && is_same()
    }
}

/// Why the watcher ended a process of a service, in `data/live-restart`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRestart {
    /// When it was ended, in RFC 3339.
    pub at: String,
    /// The process that was ended.
    pub pid: i32,
    /// The reason, for people.
    pub reason: String,
    /// The kind of evidence that was looked for last.
    pub evidence: Option<String>,
    /// The number of looks in a row that found no evidence.
    pub misses: u32,
    /// The directory with the evidence.
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
        fn a_line_that_no_watcher_wrote_is_ignored(bytes: Vec<u8>) {
            let _ = WatcherPulse::decode(&bytes);
        }
    }
}
