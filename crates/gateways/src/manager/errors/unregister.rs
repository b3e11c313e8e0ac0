//! *Lives here:* the errors of a gateway that was not unregistered, or not completely.
//!
//! *Does not live here:* why it was not registered (`control`).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use gatevisor_wire::exit::{Exit, ExitError};

use super::pid_suffix::PidSuffix;
use crate::profile::ProfileName;

/// Why a gateway was not unregistered.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum UnregisterError {
    /// The slot could not be moved out of the way; it is as it was.
    #[error("cannot withdraw the slot of `{name}`; it is as it was")]
    Withdraw {
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
    /// The gateway's events cannot be followed; the slot is as it was.
    #[error("cannot follow the gateway of `{name}`; its slot is as it was")]
    Follow {
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: gatevisor_client::WaitError,
    },
    /// A signal has stopped the supervisor. Nothing was done.
    #[error(
        "the gateway of `{name}` is not unregistered, because a signal has stopped the supervisor (process {pid}): `kill -CONT \
         {pid}` continues it"
    )]
    SupervisorStopped { name: ProfileName, pid: gatevisor_wire::Pid },
    /// The process did not end.
    #[error("the gateway of `{name}` is unregistered, but has not ended after {} s{}; its slot is `{}` now", after.as_secs(), PidSuffix(*pid), left.display())]
    StillRunning {
        name: ProfileName,
        /// How long was waited.
        after: Duration,
        /// The process, if it is known.
        pid: Option<gatevisor_wire::Pid>,
        /// Where the slot is now.
        left: PathBuf,
    },
    /// Files of the slot are left.
    #[error("the gateway of `{name}` is unregistered, but files of its slot are left; remove `{}` by hand", left.display())]
    Remove {
        name: ProfileName,
        left: PathBuf,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
}

impl ExitError for UnregisterError {
    fn exit(&self) -> Exit {
        match self {
            Self::Withdraw { .. } | Self::Follow { .. } | Self::Remove { .. } => Exit::System,
            Self::StillRunning { .. } | Self::SupervisorStopped { .. } => Exit::TimedOut,
        }
    }
}
