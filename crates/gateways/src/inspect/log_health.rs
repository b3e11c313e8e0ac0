//! *Lives here:* why lines of a service cannot be kept. Its log daemon notes that, or the
//! supervisor if no daemon can work.
//!
//! *Does not live here:* the bytes of the note (`gatevisor-wire`).

use std::os::fd::AsFd;
use std::path::Path;

use gatevisor_paths::by_path;
use gatevisor_wire::files;
use gatevisor_wire::log_error::{FILE, LogError, MAX_BYTES, OLD_FILE};
use rustix::fs::{OFlags, fstat};

const LOG: &str = files::LOG;

/// Returns the note in a service directory; `None` if there is none that can be understood.
///
/// No link is followed and nothing is waited for, whatever the owner of the directory has put
/// there.
pub(super) fn log_error(slot: &Path) -> Option<LogError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let directory = by_path::open(slot, flags).ok()?;
    let log = gatevisor_sys::file::open_directory(&directory, LOG).ok()?;
    note(&log, FILE).or_else(|| note(log, OLD_FILE)).or_else(|| {
        let owner = fstat(&directory).ok()?.st_uid.to_string();
        let scandir = by_path::open(slot.parent()?, flags).ok()?;
        let svscan = gatevisor_sys::file::open_directory(scandir, files::SVSCAN).ok()?;
        let notes = gatevisor_sys::file::open_directory(svscan, files::LOGGING).ok()?;
        note(notes, &owner)
    })
}

fn note(directory: impl AsFd, name: &str) -> Option<LogError> {
    // One byte more than a note may have, so that a longer file is recognized.
    let mut room = [0; MAX_BYTES + 1];
    let bytes = gatevisor_sys::file::read_small(directory, name, &mut room).ok()?;
    if bytes.len() > MAX_BYTES { None } else { LogError::decode(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatevisor_wire::tai::Tai64n;
    use std::fs;
    use std::os::unix::fs::symlink;

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
