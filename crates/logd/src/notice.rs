//! The notice in a service directory that its lines cannot be kept, for `gatevisor status`.
//!
//! *Lives here:* putting it up and taking it down. It lies beside the service's settings, which are rarely on the disk
//! that is full. *Does not live here:* its bytes (`gatevisor-wire`), and when there is log error (`sink`, `settings`).

use std::os::fd::AsFd;

use gatevisor_wire::log_error::LogError;
use gatevisor_wire::tai::Tai64n;
use rustix::fs::{AtFlags, Mode, unlinkat};

const NAME: &str = "trouble";
const TEMPORARY: &str = ".trouble.new";
const MODE: Mode = Mode::from_raw_mode(0o644);

/// Puts up the notice in the `log` directory of a service, best effort: a warning says the same.
pub(crate) fn put(log: impl AsFd, since: Tai64n, reason: String) {
    let _ = gatevisor_sys::file::replace(log, NAME, TEMPORARY, &LogError { since, reason }.encode(), MODE);
}

/// Takes the notice down, if there is one.
pub(crate) fn remove(log: impl AsFd) {
    let _ = unlinkat(log, NAME, AtFlags::empty());
}
