//! Notes that a log daemon cannot work, for clients that ask.
//!
//! *Lives here:* the notes in `.s6-svscan/logging/UID`. *Does not live here:* when a daemon counts
//! as unable to work (`gatevisor-core`), and what becomes of its services' output (`logging`).

use std::os::fd::{AsFd, OwnedFd};

use gatevisor_sys::{Errno, file};
use gatevisor_wire::log_error::LogError;
use rustix::fs::{AtFlags, Mode, mkdirat, unlinkat};

use crate::refusals;

/// The directory, in `.s6-svscan`.
const LOGGING: &str = "logging";
/// What a note is called until it is whole.
const UNFINISHED: &str = ".new";
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// Opens the directory of notes; only we may write to the one that it is in, so nobody can have it
/// lead elsewhere.
fn open(scandir: impl AsFd) -> Result<OwnedFd, Errno> {
    let svscan = file::open_directory(scandir, gatevisor_wire::files::SVSCAN)?;
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

/// Removes what an earlier supervisor published in this `.s6-svscan`.
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
