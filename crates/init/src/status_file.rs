//! The status file of a service.
//!
//! *Lives here:* writing it, even on a full disk.
//! *Does not live here:* its content (the machine).

use std::os::fd::AsFd;

use gatevisor_sys::{Errno, file};
use gatevisor_wire::status::Status;
use rustix::fs::Mode;

/// Writes the status below `supervise`. The first one has no other file to change places with.
pub(crate) fn put_status(supervise: impl AsFd, status: &Status, is_first: bool) -> Result<(), Errno> {
    let (name, unfinished) = ("status", "status.new");
    let (bytes, mode) = (status.encode(), Mode::from_raw_mode(0o644));
    if is_first {
        file::replace(supervise, name, unfinished, &bytes, mode)
    } else {
        let supervise = supervise.as_fd();
        match file::publish(supervise, name, unfinished, &bytes, mode) {
            // A client that waits for a stop must learn of it even if the disk is full.
            Err(errno) if file::is_full(errno) => file::overwrite(supervise, name, &bytes).map_err(|_| errno),
            other => other,
        }
    }
}
