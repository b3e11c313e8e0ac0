//! *Lives here:* a process in a message, if it is known.

use std::fmt;

use gatevisor_wire::Pid;

/// Displays as ` (pid 42)`, or as nothing.
pub(super) struct PidSuffix(pub(super) Option<Pid>);

impl fmt::Display for PidSuffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, " (pid {pid})"))
    }
}
