//! *Lives here:* reading what the watcher has published about a gateway.
//!
//! *Does not live here:* finding it out (see `watcher`).

use std::io;
use std::path::Path;

use gatevisor_client::ServiceDir;
use gatevisor_liveness::{LivePolicy, Liveness};
use gatevisor_paths::by_path;
use gatevisor_slot::live::{self, Live};
use gatevisor_slot::notify::{self, Said};
use gatevisor_slot::start_permits::StartSeen;
use serde::{Serialize, Serializer};

use super::publish::{beat_of, directory, last_restarted, record_of, seen_beat, seen_record};
use super::record::{LiveRecord, LiveRestart, WatcherPulse};
use crate::files::read_bounded;

/// Milliseconds after which the records of a silent watcher no longer count.
const STALE_MS: u64 = 30_000;
/// The file in a service directory that says how the process of the service is followed.
pub const DATA_LIVE: &str = "data/live";
/// Why no record counts where there has been no watcher.
const NO_WATCHER: &str = "no watcher of gateways runs";
/// How many seconds after its start a gateway may be without a record.
const UNSEEN_S: u64 = 10;

/// The state of a gateway that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LiveState {
    /// The watcher reports this.
    Said(Liveness),
    /// There is no report that counts.
    Unknown,
}

impl LiveState {
    /// Returns all states.
    pub fn all() -> impl Iterator<Item = Self> {
        Liveness::ALL.into_iter().map(Self::Said).chain([Self::Unknown])
    }

    /// Returns the word for the state.
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
    /// Whether it works, as its evidence shows.
    pub state: LiveState,
    /// Since when it is in that state, in RFC 3339.
    pub since: Option<String>,
    /// The kind of evidence that was found, or was looked for last.
    pub evidence: Option<String>,
    /// The number of looks in a row that found no evidence.
    pub misses: u32,
    /// The reason for the state, for people.
    pub reason: Option<String>,
    /// What is done if it does not respond: `warn` or `restart`.
    pub policy: &'static str,
    /// What it reports by `sd_notify` that it is doing.
    pub status: Option<String>,
    /// For how many milliseconds it may show nothing after its start.
    #[serde(skip)]
    pub start_deadline_ms: u64,
}

impl LiveReport {
    /// Returns whether a gateway in this state counts as not well.
    pub const fn is_bad(&self) -> bool {
        self.is_unresponsive() || self.is_unknown()
    }

    /// Returns whether no report counts, so that nobody knows whether it works.
    pub const fn is_unknown(&self) -> bool {
        matches!(self.state, LiveState::Unknown)
    }

    /// Returns whether the watcher has found that it does not work.
    pub const fn is_unresponsive(&self) -> bool {
        matches!(self.state, LiveState::Said(Liveness::Unresponsive))
    }

    /// Returns whether it works and reports itself that something is wrong.
    pub const fn is_degraded(&self) -> bool {
        matches!(self.state, LiveState::Said(Liveness::Degraded))
    }

    /// Returns whether it has shown that it works, and still does.
    pub const fn has_shown(&self) -> bool {
        matches!(self.state, LiveState::Said(Liveness::Live | Liveness::Degraded | Liveness::Draining))
    }

    /// Returns what the last look at it missed, if it does not count as unwell because of that yet.
    pub fn missed(&self) -> Option<String> {
        let reason = self.reason.as_deref().filter(|_| self.misses > 0 && !self.is_bad())?;
        let looks = if self.misses == 1 { "look" } else { "looks in a row" };
        Some(format!("{} {looks} found nothing that shows that it works: {reason}", self.misses))
    }

    /// Returns whether its evidence says something about its state. If it has never shown any,
    /// evidence was only looked for.
    pub const fn is_by_evidence(&self) -> bool {
        !matches!(self.state, LiveState::Unknown | LiveState::Said(Liveness::Starting | Liveness::Up))
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
            start_deadline_ms: 0,
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
            start_deadline_ms: 0,
        })
    }
}

/// Returns what the process of a service has reported about itself by `sd_notify`.
pub(super) fn said_of(service: &Path, pid: i32) -> Option<Said> {
    let bytes = read_bounded(&service.join(notify::SAID), notify::SAID_BYTES).ok()??;
    Said::decode(str::from_utf8(&bytes).ok()?, pid)
}

/// Returns how the process of a service is followed, as its interpreter has written at its start.
pub fn of_service(service: &Path, pid: i32) -> Option<Live> {
    let bytes = read_bounded(&service.join(DATA_LIVE), live::MAX_BYTES).ok()??;
    let (of, live) = Live::decode(str::from_utf8(&bytes).ok()?)?;
    (of == pid).then_some(live)
}

/// Returns what is known of a service that has been up for `up_s` seconds; `None` if it is not
/// followed.
pub fn look(scandir: &Path, service: &str, pid: i32, up_s: u64) -> Option<LiveReport> {
    let directory = scandir.join(service);
    let live = of_service(&directory, pid)?;
    let settings = live.settings()?;
    let (policy, start_deadline_ms) = (settings.policy, settings.start_deadline_ms);
    if policy == LivePolicy::Off {
        return None;
    }
    let status = live.notify.then(|| said_of(&directory, pid)?.status).flatten();
    let mut report = judged(scandir, service, pid, up_s, policy);
    if report.state == LiveState::Said(Liveness::Starting) && !live.looks() {
        // There is nothing that could show that its start is over.
        report.state = LiveState::Said(Liveness::Up);
    }
    Some(LiveReport { status, start_deadline_ms, ..report })
}

/// Returns what the watcher reports about a service, if that counts.
fn judged(scandir: &Path, service: &str, pid: i32, up_s: u64, policy: LivePolicy) -> LiveReport {
    let is_new = up_s < UNSEEN_S;
    let starting = || LiveReport {
        state: LiveState::Said(Liveness::Starting),
        reason: None,
        ..LiveReport::unknown(policy, String::new())
    };
    let unseen = |why: &io::Error| {
        LiveReport::unknown(policy, format!("what the watcher of gateways reports cannot be read: {why}"))
    };
    let pulse = match seen_beat(scandir) {
        Ok(Some(pulse)) => pulse,
        Ok(None) if is_new => return starting(),
        Ok(None) => return LiveReport::unknown(policy, NO_WATCHER.to_owned()),
        Err(refused) => return unseen(&refused),
    };
    let record = match seen_record(scandir, service) {
        Ok(record) => record.filter(|record| record.is_of(pulse, pid)),
        Err(refused) => return unseen(&refused),
    };
    if let Some(silent) = silent(pulse) {
        return LiveReport::unknown(policy, silent);
    }
    let said = record.and_then(|record| LiveReport::said(policy, record));
    let not_yet = || {
        LiveReport::unknown(policy, "the watcher of gateways has not looked at this process yet".to_owned())
    };
    said.unwrap_or_else(|| if is_new { starting() } else { not_yet() })
}

/// Returns the reason that the watcher is silent; `None` if it is not.
fn silent(pulse: WatcherPulse) -> Option<String> {
    let since = match pulse.silent_ms() {
        ms if ms <= STALE_MS => return None,
        u64::MAX => "since the machine was started".to_owned(),
        ms => format!("for {} s", ms / 1000),
    };
    Some(format!("the watcher of gateways has been silent {since}"))
}

/// Returns why nobody watches the gateways of a scandir; `None` if a watcher reports, or if this
/// process may not look.
pub fn unwatched(scandir: &Path) -> Option<String> {
    match seen_beat(scandir) {
        Ok(Some(pulse)) => silent(pulse),
        Ok(None) => Some(NO_WATCHER.to_owned()),
        Err(_) => None,
    }
}

/// Returns why nobody watches the gateways of a scandir, if somebody should: a watcher did once.
pub fn missing(scandir: &Path) -> Option<String> {
    unwatched(scandir).filter(|_| was_watched(scandir))
}

/// Returns whether a scandir ever had a watcher of gateways, so that it should have one.
pub fn was_watched(scandir: &Path) -> bool {
    by_path::is_directory(directory(scandir))
}

/// Returns the last state that a watcher has published for a service, whether or not the watcher
/// still reports.
pub fn said(scandir: &Path, service: &str) -> Option<Liveness> {
    Liveness::of_word(&record_of(scandir, service)?.state)
}

/// Returns what is known of the start of this process of a service: whether it has shown that it
/// works.
pub fn start_seen(service: &Path, pid: i32) -> StartSeen {
    let status = ServiceDir::new(service.to_owned()).status().ok();
    let is_ready = status.is_some_and(|status| status.ready);
    // Its supervisor may not have said yet that it has started it.
    if is_ready && status.and_then(|status| status.pid).map(gatevisor_wire::Pid::get) == Some(pid) {
        return StartSeen::Over;
    }
    let Some((scandir, name)) = service.parent().zip(service.file_name()) else {
        return StartSeen::Unwatched;
    };
    let Some(pulse) = beat_of(scandir).filter(|pulse| pulse.silent_ms() <= STALE_MS) else {
        return StartSeen::Unwatched;
    };
    let record = record_of(scandir, &name.to_string_lossy()).filter(|record| record.is_of(pulse, pid));
    let state = record.and_then(|record| Liveness::of_word(&record.state));
    if state.is_none_or(|state| state == Liveness::Starting) { StartSeen::NotYet } else { StartSeen::Over }
}

/// Returns why the watcher last ended a process of a service.
pub fn restarted(service: &Path) -> Option<LiveRestart> {
    last_restarted(service)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use gatevisor_sys::clock::monotonic_ms;
    use gatevisor_sys::proc::Process;

    use super::super::publish::{BeatError, Publisher};
    use super::super::record::WatcherPulse;
    use super::*;
    use crate::inspect;

    /// Returns the words in the first column of a document's table.
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
        let text = include_str!("../../../../docs/reference/live.md");
        let states = inspect::ServiceState::ALL.into_iter().map(inspect::ServiceState::words);
        let all: BTreeSet<String> =
            states.chain(LiveState::all().map(LiveState::word)).map(str::to_owned).collect();
        assert_eq!(first_column(text, "## What each state means"), all);
    }

    fn record(epoch: u64, pid: i32) -> LiveRecord {
        LiveRecord {
            epoch: format!("{epoch:016x}"),
            pid,
            start_ticks: Process::of(pid).map_or(1, |process| process.began),
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
    fn what_a_watcher_reports_counts_while_it_beats_and_for_this_process_alone() {
        let place = tempfile::tempdir().unwrap();
        let scandir = place.path();
        let data = scandir.join("a/data");
        fs::create_dir_all(&data).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let settings = |pid: i32, more: &str| fs::write(data.join("live"), format!("# pid {pid}\n{more}"));
        let beats_file = "heartbeat = { file = \"beat\" }\n";
        let word = |up_s| look(scandir, "a", pid, up_s).map(|report| report.state.word());
        assert_eq!(word(100), None, "nobody follows it");
        settings(pid, beats_file).unwrap();
        assert_eq!((word(1), word(100)), (Some("starting"), Some("unknown")), "there is no watcher");
        settings(pid, "").unwrap();
        assert_eq!(word(1), Some("up"), "nothing could show that its start is over");
        settings(pid, beats_file).unwrap();
        let mut publisher = Publisher::new(scandir).unwrap().unwrap();
        publisher.beat().unwrap();
        assert_eq!(word(100), Some("unknown"), "it has not looked yet");
        let epoch = publisher.epoch();
        let good = record(epoch, pid);
        for (record, expected) in [
            (good.clone(), "live"),
            (record(epoch, pid + 1), "unknown"),
            (record(epoch ^ 1, pid), "unknown"),
            (LiveRecord { state: "well".to_owned(), ..good.clone() }, "unknown"),
            // An earlier process had the same number.
            (LiveRecord { start_ticks: good.start_ticks - 1, ..good.clone() }, "unknown"),
        ] {
            publisher.record("a", &record).unwrap();
            assert_eq!(word(100), Some(expected), "{record:?}");
        }
        publisher.record("a", &good).unwrap();
        settings(pid + 1, beats_file).unwrap();
        assert_eq!(word(100), None, "that was of another life");
        settings(pid, "policy = \"off\"\n").unwrap();
        assert_eq!(word(100), None, "nobody is to follow it");
        settings(pid, beats_file).unwrap();
        let beats = |ms: u64| {
            let pulse = WatcherPulse { epoch, pid: 7, beat_ms: ms };
            fs::write(scandir.join(".live/.watcher"), pulse.encode()).unwrap();
        };
        beats(monotonic_ms());
        assert_eq!(word(100), Some("live"));
        beats(monotonic_ms() + 3_600_000);
        assert_eq!(word(100), Some("unknown"), "the machine was started again");
        if monotonic_ms() > STALE_MS {
            beats(0);
            assert_eq!(word(100), Some("unknown"), "the watcher is silent");
            assert_eq!(word(1), Some("unknown"), "even of one that has just come up");
        }
    }

    #[test]
    fn there_is_one_watcher_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        assert!(Publisher::new(place.path()).unwrap().is_some());
        // A process can lock its own lock again, so only another process would be refused.
        let mut publisher = Publisher::new(place.path()).unwrap().unwrap();
        publisher.beat().unwrap();
        fs::remove_file(place.path().join(".live/.lock")).unwrap();
        let lost = Err(BeatError::LockLost);
        assert_eq!(publisher.beat(), lost, "another watcher could lock a new file of that name");
        let mut next = Publisher::new(place.path()).unwrap().unwrap();
        next.beat().unwrap();
        assert_eq!(publisher.beat(), lost, "there is another watcher");
        fs::rename(place.path().join(".live"), place.path().join(".old")).unwrap();
        assert_eq!(next.beat(), lost);
        assert!(Publisher::new(&place.path().join("gone")).is_err());
    }
}
