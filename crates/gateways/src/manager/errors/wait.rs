//! *Lives here:* why gateways could not be listed or waited for.
//!
//! *Does not live here:* what becomes of a gateway that is waited for (`manager::follow`).

use std::io;
use std::path::PathBuf;

use gatevisor_wire::exit::{Exit, ExitError};

use crate::manager::look::LookError;
use crate::profile::ProfileName;

/// Why the gateways could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the scandir `{}`", scandir.display())]
pub struct ListServicesError {
    /// The directory that cannot be read.
    pub scandir: PathBuf,
    /// The underlying error.
    #[source]
    pub source: io::Error,
}

impl ExitError for ListServicesError {
    fn exit(&self) -> Exit {
        Exit::System
    }
}

/// Why a gateway cannot be waited for.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum GatewayWaitError {
    /// The place cannot be looked at.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The profile's gateway has no slot.
    #[error("the gateway of `{name}` is not registered in `{}`; `gatevisor -p {name} gateway start` registers and starts it", scandir.display())]
    NotRegistered {
        name: ProfileName,
        /// Where its slot would be.
        scandir: PathBuf,
    },
    /// No supervisor runs, or none any more.
    #[error("no supervisor is running for `{name}` (`{}`); `gatevisor up` starts one", scandir.display())]
    NotSupervised {
        name: ProfileName,
        /// What a supervisor would supervise.
        scandir: PathBuf,
    },
    /// A system call failed.
    #[error("cannot wait for the gateway of `{name}`")]
    System {
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: gatevisor_client::WaitError,
    },
    /// Its events cannot be followed.
    #[error("cannot follow the gateway of `{name}`")]
    Follow {
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
}

impl ExitError for GatewayWaitError {
    fn exit(&self) -> Exit {
        match self {
            Self::Look(error) => error.exit(),
            Self::NotRegistered { .. } => Exit::No,
            Self::NotSupervised { .. } => Exit::NotSupervised,
            Self::System { .. } | Self::Follow { .. } => Exit::System,
        }
    }
}
