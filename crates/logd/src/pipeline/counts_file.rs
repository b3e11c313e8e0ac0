//! The file in a service directory that tells how many lines the log has received.
//!
//! *Lives here:* reading and writing the file. It is beside the service's settings.
//! *Does not live here:* its bytes (`gatevisor-wire`), counting (`sink`), and when to write it (the
//! loop decides).

use std::os::fd::AsFd;

use gatevisor_wire::log_counts::{FILE, LogCounts, MAX_BYTES};
use rustix::fs::Mode;
use rustix::io::Errno;

const TEMPORARY: &str = ".counts.new";
const MODE: Mode = Mode::from_raw_mode(0o644);

/// Writes the file into the `log` directory of a service.
pub(crate) fn write(log: impl AsFd, counts: LogCounts) -> Result<(), Errno> {
    gatevisor_sys::file::publish(log, FILE, TEMPORARY, &counts.encode(), MODE)
}

/// Returns the counts of the file; those of a new one if there is none that can be understood.
pub(crate) fn read(log: impl AsFd) -> LogCounts {
    let mut buffer = [0; MAX_BYTES];
    let read = gatevisor_sys::file::read_small(log, FILE, &mut buffer).ok();
    read.and_then(LogCounts::decode).unwrap_or_default()
}
