//! Publishes that a log daemon cannot work, for clients that ask.
//!
//! *Lives here:* the notes in `.s6-svscan/logging/UID`.
//! *Does not live here:* when a daemon counts as unable to work (`gatevisor-core`), and the output
//! of its services (`logging`).

use std::os::fd::{AsFd, OwnedFd};

use gatevisor_sys::{Errno, file};
use gatevisor_wire::files::{self, LOGGING};
use gatevisor_wire::log_error::LogError;
use rustix::fs::{AtFlags, Mode, mkdirat, unlinkat};

use crate::refusals;

/// The name of a note that is not complete yet.
const UNFINISHED: &str = ".new";
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// Opens the directory of notes. Only we may write to its parent, so nobody can redirect it.
fn open(scandir: impl AsFd) -> Result<OwnedFd, Errno> {
    let svscan = file::open_directory(scandir, files::SVSCAN)?;
    match mkdirat(&svscan, LOGGING, DIRECTORY_MODE) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    file::open_directory(&svscan, LOGGING)
}

pub(crate) fn publish(scandir: impl AsFd, uid: u32, log_error: &LogError) -> Result<(), Errno> {
    let directory = open(scandir)?;
    file::publish(&directory, uid.to_string().as_bytes(), UNFINISHED, &log_error.encode(), FILE_MODE)
}

/// Removes the notes of an earlier supervisor in this `.s6-svscan`.
pub(crate) fn forget_all(svscan: &OwnedFd) {
    if let Ok(directory) = file::open_directory(svscan, LOGGING) {
        let _ = refusals::empty(&directory);
    }
}

pub(crate) fn withdraw(scandir: impl AsFd, uid: u32) {
    if let Ok(directory) = open(scandir) {
        let _ = unlinkat(&directory, uid.to_string(), AtFlags::empty());
    }
}
