//! The note in a service directory that tells `gatevisor status` why lines cannot be kept.
//!
//! *Lives here:* writing and removing the note. It is beside the service's settings, which are
//! rarely on the disk that is full.
//! *Does not live here:* its bytes (`gatevisor-wire`), and when there is an error (`sink`,
//! `settings`).

use std::os::fd::AsFd;

use gatevisor_wire::log_error::{FILE, LogError, OLD_FILE};
use gatevisor_wire::tai::Tai64n;
use rustix::fs::{AtFlags, Mode, unlinkat};

const TEMPORARY: &str = ".error.new";
const MODE: Mode = Mode::from_raw_mode(0o644);

/// Writes the note into the `log` directory of a service, best effort: there is also a warning.
pub(crate) fn write(log: impl AsFd, since: Tai64n, reason: String) {
    let _ = gatevisor_sys::file::replace(log, FILE, TEMPORARY, &LogError { since, reason }.encode(), MODE);
}

/// Removes the note, including that of an earlier version of the daemon.
pub(crate) fn remove(log: impl AsFd) {
    for name in [FILE, OLD_FILE] {
        let _ = unlinkat(&log, name, AtFlags::empty());
    }
}
