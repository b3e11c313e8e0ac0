//! The process that a supervisor which was killed has left running.
//!
//! *Lives here:* what that supervisor said of it last. *Does not live here:* ending it (`spawner`).

use std::os::fd::AsFd;

use gatevisor_sys::file;
use gatevisor_wire::status::{self, Status};

/// The process that a killed supervisor had for a service, and since when, as it published both
/// last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orphan(Status);

impl Orphan {
    /// Returns what the last supervisor of a service said, unless there was none.
    pub(crate) fn of(supervise: impl AsFd) -> Option<Self> {
        let mut buffer = [0; status::SIZE_2_13 + 1];
        let bytes = file::read_small(supervise, "status", &mut buffer).ok()?;
        Status::decode(bytes).ok().map(Self)
    }

    /// Returns since when it is as it is, in milliseconds of Unix time.
    pub(crate) fn since_unix_ms(&self) -> i64 {
        self.0.changed.to_unix_ms()
    }

    /// Returns the service's process, if it had one.
    pub(crate) fn pid(&self) -> Option<gatevisor_wire::Pid> {
        // While a finish script runs, or what ends other processes, the number is not the
        // service's.
        self.0.pid.filter(|_| !self.0.finishing)
    }
}
