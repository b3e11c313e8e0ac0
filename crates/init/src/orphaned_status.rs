//! The process of a service that a killed supervisor has left running.
//!
//! *Lives here:* that supervisor's last status.
//! *Does not live here:* ending the process (`spawner`).

use std::os::fd::AsFd;

use gatevisor_sys::file;
use gatevisor_wire::status::{self, Status};

/// The last status that a killed supervisor published of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orphan(Status);

impl Orphan {
    /// Returns the status that the last supervisor of a service published, if there was one.
    pub(crate) fn of(supervise: impl AsFd) -> Option<Self> {
        let mut buffer = [0; status::SIZE_2_13 + 1];
        let bytes = file::read_small(supervise, "status", &mut buffer).ok()?;
        Status::decode(bytes).ok().map(Self)
    }

    /// Returns since when the state has lasted, in milliseconds of Unix time.
    pub(crate) fn since_unix_ms(&self) -> i64 {
        self.0.changed.to_unix_ms()
    }

    /// Returns the service's process, if it had one.
    pub(crate) fn pid(&self) -> Option<gatevisor_wire::Pid> {
        // While a finish script runs, or the process that ends other processes, the number is not
        // the service's.
        self.0.pid.filter(|_| !self.0.finishing)
    }
}
