//! *Lives here:* what is wrong with the keeping of a service's lines, as its log daemon notes it.
//!
//! *Does not live here:* the bytes of the note (`gatevisor-wire`).

use std::path::Path;

use gatevisor_wire::trouble::{MAX_BYTES, Trouble};
use rustix::fs::{CWD, Mode, OFlags, openat};

const LOG: &str = gatevisor_wire::files::LOG;
const NOTE: &str = "trouble";

/// Returns the note in a service directory, or `None` where there is none that can be understood.
///
/// Whatever the owner of the directory puts there, no link is followed and nothing is waited for.
pub(super) fn trouble(slot: &Path) -> Option<Trouble> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let slot = openat(CWD, slot, flags, Mode::empty()).ok()?;
    let log = gatevisor_sys::file::open_directory(slot, LOG).ok()?;
    // One more byte than a note may have, so that a longer file is told from it.
    let mut room = [0; MAX_BYTES + 1];
    let bytes = gatevisor_sys::file::read_small(log, NOTE, &mut room).ok()?;
    if bytes.len() > MAX_BYTES { None } else { Trouble::decode(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatevisor_wire::tai::Tai64n;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_small_file_of_the_slot_itself_is_a_note() {
        let temp = tempfile::tempdir().unwrap();
        let (slot, log) = (temp.path().join("slot"), temp.path().join("slot/log"));
        assert_eq!(trouble(&slot), None);
        fs::create_dir_all(&log).unwrap();
        assert_eq!(trouble(&slot), None);
        let written = Trouble { since: Tai64n::from_unix(5, 6), reason: "the disk is full".to_owned() };
        fs::write(log.join(NOTE), written.encode()).unwrap();
        assert_eq!(trouble(&slot), Some(written.clone()));
        fs::write(log.join(NOTE), [written.encode(), vec![b'x'; MAX_BYTES]].concat()).unwrap();
        assert_eq!(trouble(&slot), None);
        // Neither the note nor its directory may be a link.
        fs::rename(log.join(NOTE), temp.path().join(NOTE)).unwrap();
        fs::write(temp.path().join(NOTE), written.encode()).unwrap();
        symlink(temp.path().join(NOTE), log.join(NOTE)).unwrap();
        assert_eq!(trouble(&slot), None);
        fs::remove_dir_all(&log).unwrap();
        symlink(temp.path(), &log).unwrap();
        assert_eq!(trouble(&slot), None);
    }
}
