//! *Lives here:* what is known of a gateway that is followed, for whoever asks.
//!
//! *Does not live here:* finding it out (see `watcher`).

use std::path::Path;

use gatevisor_liveness::{LivePolicy, Liveness};
use gatevisor_slot::live::{self, Live};
use gatevisor_slot::notify::{self, Said};
use gatevisor_sys::clock::monotonic_ms;
use serde::{Serialize, Serializer};

use super::publish::{beat_of, last_restarted, record_of};
use super::record::{LiveRecord, LiveRestart};
use crate::files::read_bounded;

/// Milliseconds after which a watcher that did not report says nothing any more.
const STALE_MS: u64 = 30_000;
/// Seconds for which a gateway that has just come up need not have been looked at.
const UNSEEN_S: u64 = 10;

/// How a gateway that is followed is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LiveState {
    /// A watcher that is at work says so.
    Said(Liveness),
    /// Nobody says anything that counts.
    Unknown,
}

impl LiveState {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Liveness::ALL.into_iter().map(Self::Said).chain([Self::Unknown])
    }

    /// Returns the word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Said(state) => state.word(),
            Self::Unknown => "unknown",
        }
    }
}

impl Serialize for LiveState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// What is known of a gateway that is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LiveReport {
    /// How it is.
    pub state: LiveState,
    /// Since when, in RFC 3339.
    pub since: Option<String>,
    /// What showed so, or was looked for last.
    pub evidence: Option<String>,
    /// Looks in a row that found nothing.
    pub misses: u32,
    /// Why, for people.
    pub reason: Option<String>,
    /// What follows when it does not respond: `warn` or `restart`.
    pub policy: &'static str,
    /// What it does, in its own words, where it says so by `sd_notify`.
    pub status: Option<String>,
}

impl LiveReport {
    /// Returns whether this is a reason not to call the gateway well.
    pub const fn is_bad(&self) -> bool {
        matches!(self.state, LiveState::Unknown | LiveState::Said(Liveness::Unresponsive))
    }

    fn unknown(policy: LivePolicy, reason: String) -> Self {
        let state = LiveState::Unknown;
        Self {
            state,
            since: None,
            evidence: None,
            misses: 0,
            reason: Some(reason),
            policy: policy.word(),
            status: None,
        }
    }

    fn said(policy: LivePolicy, record: LiveRecord) -> Option<Self> {
        Some(Self {
            state: LiveState::Said(Liveness::of_word(&record.state)?),
            since: Some(record.since),
            evidence: record.evidence,
            misses: record.misses,
            reason: record.reason,
            policy: policy.word(),
            status: None,
        })
    }
}

/// Returns what a service's process has said of itself by `sd_notify`.
pub(super) fn said_of(service: &Path, pid: i32) -> Option<Said> {
    let bytes = read_bounded(&service.join(notify::SAID), notify::SAID_BYTES).ok()??;
    Said::decode(str::from_utf8(&bytes).ok()?, pid)
}

/// Returns how a service's process is followed, as its interpreter has said at its start.
pub fn of_service(service: &Path, pid: i32) -> Option<Live> {
    let bytes = read_bounded(&service.join("data/live"), live::MAX_BYTES).ok()??;
    let (of, live) = Live::decode(str::from_utf8(&bytes).ok()?)?;
    (of == pid).then_some(live)
}

/// Returns what is known of a service that has been up for so long; nothing where it is not followed.
pub fn look(scandir: &Path, service: &str, pid: i32, up_s: u64) -> Option<LiveReport> {
    let directory = scandir.join(service);
    let live = of_service(&directory, pid)?;
    let policy = live.settings()?.policy;
    if policy == LivePolicy::Off {
        return None;
    }
    let status = live.notify.then(|| said_of(&directory, pid)?.status).flatten();
    Some(LiveReport { status, ..judged(scandir, service, pid, up_s, policy) })
}

/// Returns what the watcher says of a service, as far as that counts.
fn judged(scandir: &Path, service: &str, pid: i32, up_s: u64, policy: LivePolicy) -> LiveReport {
    let is_new = up_s < UNSEEN_S;
    let starting = || LiveReport {
        state: LiveState::Said(Liveness::Starting),
        reason: None,
        ..LiveReport::unknown(policy, String::new())
    };
    let Some(pulse) = beat_of(scandir) else {
        let none = || LiveReport::unknown(policy, "no watcher of gateways runs".to_owned());
        return if is_new { starting() } else { none() };
    };
    let record = record_of(scandir, service)
        .filter(|record| record.pid == pid && record.epoch == format!("{:016x}", pulse.epoch));
    let silent_ms = monotonic_ms().saturating_sub(pulse.beat_ms);
    if silent_ms > STALE_MS {
        let silent = silent_ms / 1000;
        return LiveReport::unknown(
            policy,
            format!("the watcher of gateways has been silent for {silent} s"),
        );
    }
    let said = record.and_then(|record| LiveReport::said(policy, record));
    let unseen =
        || LiveReport::unknown(policy, "the watcher of gateways has not looked at it yet".to_owned());
    said.unwrap_or_else(|| if is_new { starting() } else { unseen() })
}

/// Returns what a watcher has said last of a service, whether or not it still reports.
pub fn said(scandir: &Path, service: &str) -> Option<Liveness> {
    Liveness::of_word(&record_of(scandir, service)?.state)
}

/// Returns why the watcher ended a process of a service last.
pub fn restarted(service: &Path) -> Option<LiveRestart> {
    last_restarted(service)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::super::publish::Publisher;
    use super::*;
    use crate::inspect;

    /// Returns the words that a table of a document has in its first column.
    fn first_column(text: &str, heading: &str) -> BTreeSet<String> {
        let table = text.split(heading).nth(1).unwrap().lines();
        let rows = table
            .skip_while(|line| !line.starts_with("|---"))
            .skip(1)
            .take_while(|line| line.starts_with("| "));
        rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
    }

    #[test]
    fn the_table_of_states_has_every_state_and_no_other() {
        let text = include_str!("../../../../docs/live.md");
        let states = inspect::ServiceState::ALL.into_iter().map(inspect::ServiceState::words);
        let all: BTreeSet<String> =
            states.chain(LiveState::all().map(LiveState::word)).map(str::to_owned).collect();
        assert_eq!(first_column(text, "## What each state means"), all);
    }

    fn record(epoch: u64, pid: i32) -> LiveRecord {
        LiveRecord {
            epoch: format!("{epoch:016x}"),
            pid,
            start_ticks: 1,
            state: "live".to_owned(),
            since: "2026-01-01T00:00:00Z".to_owned(),
            evidence: Some("heartbeat".to_owned()),
            misses: 0,
            reason: None,
            policy: "warn".to_owned(),
            proven: true,
        }
    }

    #[test]
    fn what_a_watcher_says_counts_while_it_is_heard_and_of_this_process_alone() {
        let place = tempfile::tempdir().unwrap();
        let scandir = place.path();
        let data = scandir.join("a/data");
        fs::create_dir_all(&data).unwrap();
        let word = |up_s| look(scandir, "a", 42, up_s).map(|report| report.state.word());
        assert_eq!(word(100), None, "nobody follows it");
        fs::write(data.join("live"), "# pid 42\n").unwrap();
        assert_eq!((word(1), word(100)), (Some("starting"), Some("unknown")), "there is no watcher");
        let mut publisher = Publisher::new(scandir).unwrap().unwrap();
        publisher.beat().unwrap();
        assert_eq!(word(100), Some("unknown"), "it has not looked yet");
        let epoch = publisher.epoch();
        for (record, expected) in [
            (record(epoch, 42), "live"),
            (record(epoch, 43), "unknown"),
            (record(epoch ^ 1, 42), "unknown"),
            (LiveRecord { state: "well".to_owned(), ..record(epoch, 42) }, "unknown"),
        ] {
            publisher.record("a", &record).unwrap();
            assert_eq!(word(100), Some(expected), "{record:?}");
        }
        publisher.record("a", &record(epoch, 42)).unwrap();
        fs::write(data.join("live"), "# pid 43\n").unwrap();
        assert_eq!(word(100), None, "that was of another life");
        fs::write(data.join("live"), "# pid 42\npolicy = \"off\"\n").unwrap();
        assert_eq!(word(100), None, "nobody is to follow it");
        fs::write(data.join("live"), "# pid 42\n").unwrap();
        fs::write(scandir.join(".live/.watcher"), format!("{epoch:016x} {:010} {:020}\n", 7, 0)).unwrap();
        if monotonic_ms() > STALE_MS {
            assert_eq!(word(100), Some("unknown"), "the watcher is silent");
            assert_eq!(word(1), Some("unknown"), "even of one that has just come up");
        }
    }

    #[test]
    fn there_is_one_watcher_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        assert!(Publisher::new(place.path()).unwrap().is_some());
        // The lock is of a process, so only another one would be refused.
        assert!(Publisher::new(&place.path().join("gone")).is_err());
    }
}
