//! *Lives here:* the record of a drain, its lock, and their paths.
//!
//! *Does not live here:* deciding when they are written.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gatevisor_liveness::DrainEnd;
use gatevisor_paths::by_path;
use gatevisor_sys::file;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::over::DrainCounts;
use crate::files::{is_locked, random_suffix, read_bounded, take_with_retries};

/// The directory of drains in a scandir. Supervisors skip names that begin with a dot.
const DIRECTORY: &str = ".drain";
/// Bytes of a record at the most.
const MAX_BYTES: usize = 16 << 10;
/// How often taking a lock is tried.
const ATTEMPTS: u32 = 10;
const MODE: Mode = Mode::from_raw_mode(0o644);

/// The next step after a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainThen {
    /// It is stopped.
    Stop,
    /// It is restarted.
    Restart,
    /// It is removed with its profile.
    Delete,
    /// Nothing. It takes no new work until the limit.
    Nothing,
}

impl DrainThen {
    /// Returns the word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Delete => "delete",
            Self::Nothing => "nothing",
        }
    }
}

/// The record of a drain, as it is in its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DrainRecord {
    /// The process that waits for the drain.
    pub owner: i32,
    /// The start of that process, in ticks since boot.
    pub owner_ticks: u64,
    /// Who asked for it, for people.
    pub by: String,
    /// The gateway's process.
    pub pid: i32,
    /// The file that asks the gateway to drain, if it is asked by a file.
    #[serde(default)]
    pub marker: Option<String>,
    /// The word of the next step, from [`DrainThen::word`].
    pub then: String,
    /// How far it is, from [`DrainStage::word`](gatevisor_liveness::DrainStage::word).
    pub stage: String,
    /// The turns that are under way, if the gateway counts them.
    pub turns: Option<u32>,
    /// Why it is unknown what work the gateway has.
    pub reason: Option<String>,
    /// When it began, in RFC 3339.
    pub since: String,
    /// Its limit, in RFC 3339.
    pub until: String,
    /// Its limit, in milliseconds of the monotonic clock.
    pub until_ms: u64,
}

/// Returns the directory in which the drains of a scandir are recorded.
pub fn directory(scandir: &Path) -> PathBuf {
    scandir.join(DIRECTORY)
}

/// Returns how often drains of a service have ended. What cannot be read counts as none.
pub fn counts(scandir: &Path, service: &str) -> DrainCounts {
    DrainRecords::open(scandir).map(|records| records.counts(service)).unwrap_or_default()
}

/// The records and locks of a scandir.
#[derive(Debug)]
pub(super) struct DrainRecords {
    directory: OwnedFd,
    path: PathBuf,
}

impl DrainRecords {
    /// Returns the records of a scandir. Makes their directory if there is none.
    pub fn make(scandir: &Path) -> Result<Self, Errno> {
        let parent = by_path::open(scandir, OFlags::RDONLY | OFlags::DIRECTORY)?;
        match mkdirat(&parent, DIRECTORY, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        Ok(Self { directory: file::open_directory(&parent, DIRECTORY)?, path: directory(scandir) })
    }

    /// Returns the records of a scandir, if their directory exists.
    pub fn open(scandir: &Path) -> Option<Self> {
        let parent = by_path::open(scandir, OFlags::RDONLY | OFlags::DIRECTORY).ok()?;
        let directory = file::open_directory(&parent, DIRECTORY).ok()?;
        Some(Self { directory, path: self::directory(scandir) })
    }

    /// Takes the lock of a service's drain; `None` if another process holds it.
    pub fn lock(&self, service: &str) -> Result<Option<OwnedFd>, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let lock = openat(&self.directory, lock_name(service), flags, MODE)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(lock)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Takes the lock of a service's drain. It is tried several times, because a process that only
    /// checks the lock holds it for a moment.
    pub fn lock_soon(&self, service: &str) -> Result<Option<OwnedFd>, Errno> {
        take_with_retries(ATTEMPTS, || self.lock(service))
    }

    /// Returns whether a process holds the lock of a service's drain.
    pub fn is_held(&self, service: &str) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let lock = openat(&self.directory, lock_name(service), flags, Mode::empty());
        lock.is_ok_and(|lock| is_locked(&lock))
    }

    pub fn write(&self, service: &str, record: &DrainRecord) -> Result<(), Errno> {
        let Ok(bytes) = serde_json::to_vec(record) else { return Err(Errno::INVAL) };
        let temporary = format!(".new.{}", random_suffix());
        file::replace(&self.directory, service, &temporary, &bytes, MODE)
    }

    pub fn read(&self, service: &str) -> Option<DrainRecord> {
        let bytes = read_bounded(&self.path.join(service), MAX_BYTES).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    pub fn remove(&self, service: &str) {
        let _ = unlinkat(&self.directory, service, AtFlags::empty());
    }

    /// Counts that a drain has ended. The caller holds the lock. A count that cannot be written is
    /// lost, because the drain matters more.
    pub fn count(&self, service: &str, end: &DrainEnd) {
        let mut counts = self.counts(service);
        counts.add(end);
        let Ok(bytes) = serde_json::to_vec(&counts) else { return };
        let temporary = format!(".new.{}", random_suffix());
        let _ = file::publish(&self.directory, &*counts_name(service), &temporary, &bytes, MODE);
    }

    /// Returns how often drains of a service have ended.
    pub fn counts(&self, service: &str) -> DrainCounts {
        let bytes = read_bounded(&self.path.join(counts_name(service)), MAX_BYTES).ok().flatten();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Returns the services that have a record.
    pub fn services(&self) -> Vec<String> {
        let names = by_path::names(&self.path).unwrap_or_default().into_iter();
        names.filter_map(|(name, _)| name.into_string().ok()).filter(|name| !name.starts_with('.')).collect()
    }

    /// Removes all records and locks. No process may hold a lock.
    pub fn clear(&self) {
        for (name, _) in by_path::names(&self.path).unwrap_or_default() {
            let _ = unlinkat(&self.directory, name, AtFlags::empty());
        }
    }
}

fn lock_name(service: &str) -> String {
    format!(".{service}")
}

/// Returns the name of a service's counts, which is no lock's: the name of a gateway's service
/// begins with `gateway-`.
fn counts_name(service: &str) -> String {
    format!(".over.{service}")
}

#[cfg(test)]
mod tests {
    use gatevisor_liveness::DrainStage;

    use super::*;

    #[test]
    fn one_drain_at_a_time_has_the_lock_and_it_is_free_when_that_one_is_gone() {
        let scandir = tempfile::tempdir().unwrap();
        assert!(DrainRecords::open(scandir.path()).is_none());
        let records = DrainRecords::make(scandir.path()).unwrap();
        assert!(!records.is_held("a"));
        let lock = records.lock("a").unwrap().unwrap();
        assert!(records.is_held("a") && records.lock("a").unwrap().is_none());
        assert!(!records.is_held("b") && records.lock("b").unwrap().is_some());
        drop(lock);
        assert!(!records.is_held("a") && records.lock("a").unwrap().is_some());
        assert_eq!(records.services(), Vec::<String>::new());
    }

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
        std::fs::write(directory(scandir.path()).join(".over.gateway-a"), "{\"idle\":").unwrap();
        assert_eq!(counts(scandir.path(), "gateway-a"), DrainCounts::default());
        records.count("gateway-a", &DrainEnd::Idle);
        assert_eq!(counts(scandir.path(), "gateway-a").idle, 1);
    }
}
