//! *Lives here:* why a gateway's request for its own restart is refused.
//!
//! *Does not live here:* how an accepted request has ended.

use std::io;
use std::path::PathBuf;

use gatevisor_wire::exit::{Exit, ExitError};

use crate::manager::ListServicesError;
use crate::profile::ProfileName;

/// Why a gateway's request for its own restart is refused. Nothing was done.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum TicketError {
    /// The process runs in no gateway.
    #[error(
        "cannot tell which gateway asks: this process neither descends from a gateway of `{}` nor has the \
         variable GATEVISOR_SERVICE of one; name its home with --home, or restart a gateway by its name: \
         `gatevisor gateway restart NAME`",
        scandir.display()
    )]
    InNoGateway {
        /// The directory whose gateways were looked at.
        scandir: PathBuf,
    },
    /// The variable names one gateway, and the process descends from another one.
    #[error(
        "cannot tell which gateway asks: the variable GATEVISOR_SERVICE names `{named}`, and this process \
         descends from the gateway of `{ancestor}`"
    )]
    InTwo {
        /// The profile that the variable names.
        named: ProfileName,
        /// The profile of the gateway from which the process descends.
        ancestor: ProfileName,
    },
    /// The command names another gateway.
    #[error(
        "this process runs in the gateway of `{own}`, and --self restarts no other; \
         `gatevisor gateway restart {other}` does"
    )]
    Another {
        /// The profile of the gateway that asks.
        own: ProfileName,
        /// The profile that the command names.
        other: ProfileName,
    },
    /// The gateway has just ended.
    #[error("the gateway of `{name}`, in which this process runs, is not up any more")]
    NotUp { name: ProfileName },
    /// The process began before the gateway was last started.
    #[error(
        "this process began before the gateway of `{name}` was last started, so that is not the gateway in \
         which it runs"
    )]
    OfAnEarlierLife { name: ProfileName },
    /// The definition does not tell how to find out when the turn is over.
    #[error(
        "cannot wait for the turn of the gateway of `{name}`: the agent definition of {agent} does not say how a \
         gateway is drained; leave --after-turn out, or see docs/guides/drain.md"
    )]
    NoTurns {
        name: ProfileName,
        /// The name in the agent definition.
        agent: String,
    },
    /// There is no watcher that would carry it out.
    #[error(
        "nobody would carry the restart of `{name}` out: no watcher of gateways runs on `{}`; \
         `gatevisor up` and a container's boot start one",
        scandir.display()
    )]
    NoWatcher {
        name: ProfileName,
        /// The directory that nobody watches.
        scandir: PathBuf,
    },
    /// The services cannot be listed.
    #[error(transparent)]
    List(#[from] ListServicesError),
    /// The ticket cannot be written.
    #[error("cannot keep the request for the restart of `{name}` in `{}`", directory.display())]
    Keep {
        name: ProfileName,
        /// The directory of tickets.
        directory: PathBuf,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
}

impl ExitError for TicketError {
    fn exit(&self) -> Exit {
        match self {
            Self::Keep { .. } => Exit::System,
            Self::List(error) => error.exit(),
            Self::NoWatcher { .. } => Exit::NotSupervised,
            _ => Exit::No,
        }
    }
}
