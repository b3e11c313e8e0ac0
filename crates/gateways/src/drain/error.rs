//! *Lives here:* the errors of a gateway that cannot be drained.
//!
//! *Does not live here:* how a drain has ended that did begin (`gatevisor_liveness::DrainEnd`).

use std::path::PathBuf;

use gatevisor_slot::home_lock::Standing;
use gatevisor_wire::exit::{Exit, ExitError};
use rustix::io::Errno;

use crate::manager::ControlError;
use crate::profile::ProfileName;

/// Why a gateway was not asked to take no new work. Nothing was done to it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum DrainError {
    /// There is no such gateway.
    #[error(transparent)]
    Gateway(#[from] ControlError),
    /// The definition does not say how to ask a gateway.
    #[error(
        "cannot drain the gateway of `{name}`: the agent definition of {agent} does not say how; \
         `[gateway.drain]` would, see docs/guides/drain.md"
    )]
    NoDialect {
        name: ProfileName,
        /// The name in the agent definition.
        agent: String,
    },
    /// The gateway has no process that could be asked.
    #[error("the gateway of `{name}` is not up, so there is nothing to drain")]
    NotUp { name: ProfileName },
    /// Another profile's gateway serves it.
    #[error("the gateway of `{by}` serves `{name}`, and can only be drained as a whole; drain `{by}`")]
    Served {
        name: ProfileName,
        /// The profile whose gateway serves it.
        by: ProfileName,
    },
    /// It is paused.
    #[error(
        "the gateway of `{name}` is paused and cannot end any work; \
         `s6-svc -c {}` lets it go on", slot.display()
    )]
    Paused { name: ProfileName, slot: PathBuf },
    /// Another container runs it.
    #[error("cannot drain the gateway of `{name}` here: {standing}")]
    Elsewhere {
        name: ProfileName,
        /// How this container stands to the lock of the home.
        standing: Standing,
    },
    /// Somebody else drains it.
    #[error(
        "the gateway of `{name}` is being drained already: {holder}; \
         `gatevisor gateway drain {name} --cancel` ends that"
    )]
    Held {
        name: ProfileName,
        /// By whom, and until when.
        holder: String,
    },
    /// Another program has asked for it.
    #[error(
        "another program has asked the gateway of `{name}` to drain, with `{}`; \
         `gatevisor gateway drain {name} --cancel` removes that file", file.display()
    )]
    AskedByAnother {
        name: ProfileName,
        /// The file with which the other program asks.
        file: PathBuf,
    },
    /// It cannot be recorded.
    #[error("cannot record in `{}` that the gateway of `{name}` drains, so it was not asked to", directory.display())]
    Record {
        name: ProfileName,
        /// Where the records of drains are.
        directory: PathBuf,
        /// The underlying error.
        #[source]
        source: Errno,
    },
    /// The process cannot be followed.
    #[error("cannot follow process {pid} of the gateway of `{name}`")]
    Follow {
        name: ProfileName,
        pid: i32,
        /// The underlying error.
        #[source]
        source: Errno,
    },
    /// Nobody drains it.
    #[error("nobody drains the gateway of `{name}`")]
    NotDraining { name: ProfileName },
    /// The request cannot be taken back.
    #[error("cannot take back that the gateway of `{name}` drains: {why}")]
    Undo { name: ProfileName, why: String },
}

impl ExitError for DrainError {
    fn exit(&self) -> Exit {
        match self {
            Self::Gateway(error) => error.exit(),
            Self::Record { .. } | Self::Follow { .. } | Self::Undo { .. } => Exit::System,
            Self::NoDialect { .. }
            | Self::NotUp { .. }
            | Self::Served { .. }
            | Self::Paused { .. }
            | Self::Elsewhere { .. }
            | Self::Held { .. }
            | Self::AskedByAnother { .. }
            | Self::NotDraining { .. } => Exit::No,
        }
    }
}
