//! *Lives here:* why lines of a service cannot be kept, which its log daemon notes, or the
//! supervisor if no daemon can work; and how many lines the log has received.
//!
//! *Does not live here:* the bytes of both files (`gatevisor-wire`).

use std::collections::BTreeMap;
use std::path::Path;

use gatevisor_wire::files;
use gatevisor_wire::log_counts;
pub use gatevisor_wire::log_counts::LogCounts;
use gatevisor_wire::log_error::{FILE, LogError, MAX_BYTES, OLD_FILE};
use rustix::fs::fstat;

use crate::slots::OpenSlot;

/// What the supervisor of a scandir notes of log daemons that cannot work.
#[derive(Debug)]
pub(super) struct LogErrors(Option<OpenSlot>);

impl LogErrors {
    /// Returns the notes of a scandir's supervisor, which are mostly none.
    pub fn of(scandir: &Path) -> Self {
        let svscan = OpenSlot::at(&scandir.join(files::SVSCAN)).ok();
        Self(svscan.filter(|svscan| svscan.has_folder(files::LOGGING)))
    }

    /// Returns the note in a service directory, or that of its owner; `None` if there is none that
    /// can be understood.
    ///
    /// No link is followed and nothing is waited for, whatever the owner of the directory has put
    /// there.
    pub fn note(&self, slot: &OpenSlot) -> Option<LogError> {
        if !slot.has_folder(files::LOG) {
            return None;
        }
        let own = |name: &str| note(slot, files::LOG, name);
        own(FILE).or_else(|| own(OLD_FILE)).or_else(|| {
            let svscan = self.0.as_ref()?;
            note(svscan, files::LOGGING, &fstat(slot).ok()?.st_uid.to_string())
        })
    }
}

/// Returns what the log daemons tell of the lines of these services, by service. What cannot be
/// read is left out.
pub fn log_counts<'a>(
    scandir: &Path,
    services: impl IntoIterator<Item = &'a str>,
) -> BTreeMap<String, LogCounts> {
    let counts_of = |service: &'a str| {
        let slot = OpenSlot::at(&scandir.join(service)).ok()?;
        Some((service.to_owned(), counts(&slot)?))
    };
    services.into_iter().filter_map(counts_of).collect()
}

fn counts(slot: &OpenSlot) -> Option<LogCounts> {
    LogCounts::decode(&whole(slot, files::LOG, log_counts::FILE, log_counts::MAX_BYTES)?)
}

fn note(directory: &OpenSlot, folder: &str, name: &str) -> Option<LogError> {
    LogError::decode(&whole(directory, folder, name, MAX_BYTES)?)
}

/// Returns a file that is not longer than this.
fn whole(directory: &OpenSlot, folder: &str, name: &str, most: usize) -> Option<Vec<u8>> {
    // One byte more, so that a longer file is recognized.
    let bytes = directory.begin(&format!("{folder}/{name}"), most.saturating_add(1)).ok()?;
    (bytes.len() <= most).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatevisor_wire::tai::Tai64n;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn log_error(slot: &Path) -> Option<LogError> {
        LogErrors::of(slot.parent()?).note(&OpenSlot::at(slot).ok()?)
    }

    #[test]
    fn the_counts_of_a_file_that_is_not_ours_are_left_out() {
        let temp = tempfile::tempdir().unwrap();
        let counts = LogCounts { lines: 3, bytes: 90, missing: 2, gaps: 1 };
        let long = [counts.encode(), b"later 1\n".repeat(100)].concat();
        for (service, bytes) in [("ours", counts.encode()), ("strange", b"lines".to_vec()), ("long", long)] {
            fs::create_dir_all(temp.path().join(service).join("log")).unwrap();
            fs::write(temp.path().join(service).join("log/counts"), bytes).unwrap();
        }
        fs::create_dir_all(temp.path().join("linked/log")).unwrap();
        symlink(temp.path().join("ours/log/counts"), temp.path().join("linked/log/counts")).unwrap();
        fs::create_dir(temp.path().join("none")).unwrap();
        let services = ["ours", "strange", "long", "linked", "none", "gone"];
        assert_eq!(log_counts(temp.path(), services), BTreeMap::from([("ours".to_owned(), counts)]));
    }

    #[test]
    fn what_the_supervisor_notes_of_a_users_log_daemon_counts_where_that_notes_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let (slot, svscan) = (temp.path().join("slot"), temp.path().join(files::SVSCAN));
        fs::create_dir_all(slot.join("log")).unwrap();
        fs::create_dir_all(svscan.join(files::LOGGING)).unwrap();
        let note = |reason: &str| LogError { since: Tai64n::from_unix(5, 6), reason: reason.to_owned() };
        let uid = rustix::process::geteuid().as_raw();
        fs::write(svscan.join(files::LOGGING).join((uid + 1).to_string()), note("another's").encode())
            .unwrap();
        assert_eq!(log_error(&slot), None);
        fs::write(svscan.join(files::LOGGING).join(uid.to_string()), note("it cannot work").encode())
            .unwrap();
        assert_eq!(log_error(&slot), Some(note("it cannot work")));
        // A log daemon of an earlier version used another file.
        fs::write(slot.join("log").join(OLD_FILE), note("it is locked").encode()).unwrap();
        assert_eq!(log_error(&slot), Some(note("it is locked")));
        fs::write(slot.join("log").join(FILE), note("the disk is full").encode()).unwrap();
        assert_eq!(log_error(&slot), Some(note("the disk is full")));
    }

    #[test]
    fn only_a_small_file_of_the_slot_itself_is_a_note() {
        let temp = tempfile::tempdir().unwrap();
        let (slot, log) = (temp.path().join("slot"), temp.path().join("slot/log"));
        assert_eq!(log_error(&slot), None);
        fs::create_dir_all(&log).unwrap();
        assert_eq!(log_error(&slot), None);
        let written = LogError { since: Tai64n::from_unix(5, 6), reason: "the disk is full".to_owned() };
        fs::write(log.join(FILE), written.encode()).unwrap();
        assert_eq!(log_error(&slot), Some(written.clone()));
        fs::write(log.join(FILE), [written.encode(), vec![b'x'; MAX_BYTES]].concat()).unwrap();
        assert_eq!(log_error(&slot), None);
        // Neither the note nor its directory may be a link.
        fs::rename(log.join(FILE), temp.path().join(FILE)).unwrap();
        fs::write(temp.path().join(FILE), written.encode()).unwrap();
        symlink(temp.path().join(FILE), log.join(FILE)).unwrap();
        assert_eq!(log_error(&slot), None);
        fs::remove_dir_all(&log).unwrap();
        symlink(temp.path(), &log).unwrap();
        assert_eq!(log_error(&slot), None);
    }
}
