//! The directory of incidents, which contains only complete incidents.
//!
//! *Lives here:* their path, publishing, the number that is kept, and reading. *Does not live
//! here:* the content of an incident.
//!
//! Only this user reads them, and each is published by one rename.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use gatevisor_paths::{OpenHome, Walker};
use jiff::{SignedDuration, Timestamp};
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use crate::files::{self, Staging, read_bounded, retire};

/// Where incidents are, below the logs of a profile's home.
pub const DIRECTORY: &str = "incidents";
/// The file that says what an incident is about.
pub const SUMMARY: &str = "incident.json";
/// How many incidents are kept.
pub const KEPT: usize = 20;
/// The most bytes of a summary.
const SUMMARY_BYTES: usize = 256 << 10;
/// How many later moments are tried if one has an incident already.
const ATTEMPTS: i64 = 100;

/// What an incident is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Its name: the time, and the profile.
    pub id: String,
    /// The profile's name.
    pub name: String,
    /// When it was collected, in UTC.
    pub at: String,
    /// Why it was collected.
    pub reason: String,
    /// The process that the evidence is about.
    pub pid: i32,
    /// When the process began, in ticks since boot.
    pub start_ticks: u64,
    /// What was collected.
    pub parts: Vec<PartSummary>,
    /// Its directory; whoever reads a summary sets it.
    #[serde(skip)]
    pub path: PathBuf,
}

/// One file of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSummary {
    /// Its name in the incident's directory.
    pub file: String,
    /// What is missing of it, and why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub missing: Option<String>,
}

/// Where new incidents are put.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
}

impl Store {
    /// Opens the directory of incidents below `logs`. Makes both if they do not exist.
    pub(super) fn open(logs: &Path) -> Result<Self, String> {
        let path = logs.join(DIRECTORY);
        let made = OpenHome::open_or_make(logs, Mode::from_raw_mode(0o755))
            .and_then(|_| OpenHome::open_or_make(&path, Mode::from_raw_mode(0o700)));
        match made {
            Ok(_) => Ok(Self { path }),
            Err(error) => Err(format!("cannot make `{}`: {error}", path.display())),
        }
    }

    /// Returns a directory to fill.
    pub(super) fn stage(&self) -> io::Result<Staging> {
        Staging::new(&self.path, 0o700)
    }

    /// Gives the collected directory its name, and returns its summary as it was written.
    pub(super) fn publish(
        &self,
        staging: Staging,
        mut incident: Incident,
        at: Timestamp,
    ) -> io::Result<Incident> {
        let at = self.free_moment(at, &incident.name);
        incident.id = id(at, &incident.name);
        incident.at = at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        incident.path = self.path.join(&incident.id);
        let summary = serde_json::to_vec_pretty(&incident)?;
        files::write_new(staging.directory(), Path::new(SUMMARY), &summary, 0o600)?;
        staging.sync()?;
        staging.publish(&incident.id)?;
        self.forget_old();
        Ok(incident)
    }

    /// Returns the first moment at or after `at` that has no incident of this name yet.
    fn free_moment(&self, at: Timestamp, name: &str) -> Timestamp {
        let moments =
            (0..ATTEMPTS).filter_map(|later| at.checked_add(SignedDuration::from_millis(later)).ok());
        let is_free = |at: &Timestamp| by_path::look_itself(self.path.join(id(*at, name))).is_err();
        moments.into_iter().find(is_free).unwrap_or(at)
    }

    /// Removes incidents beyond the number that is kept, and those that were never finished.
    fn forget_old(&self) {
        let Ok(directory) = files::open_directory(&self.path) else { return };
        for (entry, _) in by_path::names(&self.path).unwrap_or_default() {
            if files::is_leftover(&entry) {
                let _ = files::sweep(&self.path.join(entry));
            }
        }
        for id in surplus(ids(&self.path).unwrap_or_default(), KEPT) {
            // Readers see the whole incident or nothing of it.
            let Ok(gone) = retire(directory.as_fd(), &id) else { continue };
            if let Ok(gone) = CString::new(gone) {
                let _ = Walker::new(&mut |_| true).remove(&directory, &gone);
            }
        }
    }
}

/// Returns the name of an incident. Names sort by time, and end with the profile.
fn id(at: Timestamp, name: &str) -> String {
    format!("{}-{name}", at.strftime("%Y%m%dT%H%M%S%.3fZ"))
}

/// Returns the profile of an incident of this name, if it is one.
fn whose(id: &str) -> Option<&str> {
    let (time, name) = id.split_once("Z-")?;
    let is_time = time.len() == 19 && time.bytes().all(|byte| byte.is_ascii_digit() || b"T.".contains(&byte));
    (is_time && !name.is_empty()).then_some(name)
}

/// Returns the incidents to remove so that `kept` are left: the oldest of the profile that has the
/// most. So a gateway with many does not take away those of others.
fn surplus(mut ids: Vec<String>, kept: usize) -> Vec<String> {
    ids.sort_unstable();
    let mut removed = Vec::new();
    while ids.len() > kept {
        let count = |name: &str| ids.iter().filter(|other| whose(other) == Some(name)).count();
        let most = ids.iter().filter_map(|id| whose(id)).map(count).max().unwrap_or_default();
        let oldest = ids.iter().position(|id| whose(id).is_some_and(|name| count(name) == most));
        removed.push(ids.remove(oldest.unwrap_or_default()));
    }
    removed
}

/// Returns the names of incidents in a directory; none if there is no such directory.
fn ids(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match by_path::names(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        entries => entries?,
    };
    let names = entries.into_iter().filter_map(|(name, _)| name.into_string().ok());
    Ok(names.filter(|id| whose(id).is_some()).collect())
}

/// Returns how many incidents are kept below `logs`, without reading any.
///
/// # Errors
/// The directory cannot be read.
pub fn count(logs: &Path) -> io::Result<usize> {
    let directory = logs.join(DIRECTORY);
    let is_whole = |id: &&String| by_path::look(directory.join(id).join(SUMMARY)).is_ok();
    Ok(ids(&directory)?.iter().filter(is_whole).count())
}

/// Returns the incidents below `logs`, the newest first.
///
/// # Errors
/// The directory cannot be read.
pub fn list(logs: &Path) -> io::Result<Vec<Incident>> {
    let directory = logs.join(DIRECTORY);
    let mut ids = ids(&directory)?;
    ids.sort_unstable_by(|a, b| b.cmp(a));
    Ok(ids.into_iter().filter_map(|id| read(&directory, &id)).collect())
}

/// Returns the newest incident of a gateway.
pub fn latest(logs: &Path, name: &str) -> Option<Incident> {
    list(logs).ok()?.into_iter().find(|incident| incident.name == name)
}

/// Returns the incident of this name.
pub fn named(logs: &Path, id: &str) -> Option<Incident> {
    whose(id).filter(|_| !id.as_bytes().contains(&b'/'))?;
    read(&logs.join(DIRECTORY), id)
}

/// Reads a summary. The name is that of the directory, whatever the file says.
fn read(directory: &Path, id: &str) -> Option<Incident> {
    let path = directory.join(id);
    let bytes = read_bounded(&path.join(SUMMARY), SUMMARY_BYTES).ok()??;
    let said: Incident = serde_json::from_slice(&bytes).ok()?;
    let parts = said.parts.into_iter().filter(|part| is_plain(&part.file)).collect();
    Some(Incident { id: id.to_owned(), name: whose(id)?.to_owned(), path, parts, ..said })
}

fn is_plain(file: &str) -> bool {
    !file.is_empty() && !file.starts_with('.') && !Path::new(file).as_os_str().as_bytes().contains(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn incident(name: &str) -> Incident {
        let part = PartSummary { file: "log.txt".to_owned(), missing: None };
        Incident {
            id: String::new(),
            name: name.to_owned(),
            at: String::new(),
            reason: "it did not answer".to_owned(),
            pid: 7,
            start_ticks: 99,
            parts: vec![part],
            path: PathBuf::new(),
        }
    }

    fn publish(home: &Path, name: &str, at: &str) -> Incident {
        let store = Store::open(home).unwrap();
        store.publish(store.stage().unwrap(), incident(name), at.parse().unwrap()).unwrap()
    }

    #[test]
    fn what_is_published_is_listed_newest_first_and_only_its_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        assert_eq!(list(home.path()).unwrap(), []);
        let older = publish(home.path(), "coder", "2026-11-28T10:00:00Z");
        let newer = publish(home.path(), "a-b", "2026-11-28T10:00:01.5Z");
        assert_eq!(
            (older.id.as_str(), newer.id.as_str()),
            ("20261128T100000.000Z-coder", "20261128T100001.500Z-a-b")
        );
        assert_eq!(list(home.path()).unwrap(), [newer, older.clone()]);
        assert_eq!(latest(home.path(), "coder"), Some(older.clone()));
        assert_eq!(named(home.path(), &older.id), Some(older.clone()));
        assert_eq!(named(home.path(), &format!("../incidents/{}", older.id)), None);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&older.path), mode(&older.path.join(SUMMARY))), (0o700, 0o600));
    }

    #[test]
    fn two_incidents_at_the_same_time_have_two_names() {
        let home = tempfile::tempdir().unwrap();
        let ids = [(); 3].map(|()| publish(home.path(), "coder", "2026-11-28T10:00:00Z").id);
        assert_eq!(ids[2], "20261128T100000.002Z-coder");
        assert_eq!((list(home.path()).unwrap().len(), count(home.path()).unwrap()), (3, 3));
    }

    #[test]
    fn so_many_are_kept_and_one_that_has_many_takes_away_none_of_the_others() {
        let home = tempfile::tempdir().unwrap();
        let first = publish(home.path(), "quiet", "2026-11-28T09:00:00Z");
        for minute in 0..KEPT + 5 {
            publish(home.path(), "loud", &format!("2026-11-28T10:{minute:02}:00Z"));
        }
        let all = list(home.path()).unwrap();
        assert_eq!((all.len(), all.last().unwrap()), (KEPT, &first));
        let entries = fs::read_dir(home.path().join(DIRECTORY)).unwrap().count();
        assert_eq!(entries, KEPT);
    }

    #[test]
    fn an_unfinished_directory_and_any_other_file_is_no_incident() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let directory = home.path().join(DIRECTORY);
        fs::create_dir(directory.join(".new-0123456789abcdef")).unwrap();
        fs::create_dir(directory.join("20261128T100000.000Z-empty")).unwrap();
        fs::create_dir(directory.join("notes")).unwrap();
        assert_eq!((list(home.path()).unwrap(), count(home.path()).unwrap()), (Vec::new(), 0));
        let staging = store.stage().unwrap();
        drop(staging);
        publish(home.path(), "coder", "2026-11-28T10:00:00Z");
        assert!(!directory.join(".new-0123456789abcdef").exists());
        assert!(directory.join("notes").exists());
    }
}
