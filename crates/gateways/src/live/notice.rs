//! *Lives here:* what a watcher says, to people and to those who collect evidence for it, and why it ends.
//!
//! *Does not live here:* watching.

use std::fmt;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::manager::ScandirManager;
use crate::profile::ProfileName;

/// Tells people what the watcher found and did.
pub type Tell = fn(LiveNotice);
/// Collects evidence about a gateway that does not respond, in a process of its own; returns where.
pub type Collect = fn(&ScandirManager, &Silent<'_>) -> Option<PathBuf>;

/// A gateway that does not respond.
#[derive(Debug, Clone, Copy)]
pub struct Silent<'a> {
    /// Its profile.
    pub name: &'a ProfileName,
    /// Its process.
    pub life: gatevisor_liveness::Life,
    /// Why it is said not to respond.
    pub reason: &'a str,
    /// What the last looks found, the oldest first, a line each.
    pub history: &'a [String],
    /// A command that prints what is worth keeping.
    pub command: &'a [String],
}

/// What the watcher found or did, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveNotice {
    /// A gateway does not respond.
    Unresponsive(String, String),
    /// One that did not respond does again, by itself.
    Again(String),
    /// One that does not respond is ended; the directory has what could be found out.
    Ending(String, String, Option<PathBuf>),
    /// One that was asked to end has not, and was killed.
    Killed(String),
    /// One that does not respond is left alone.
    LeftAlone(String, String),
    /// So many of so many are silent together.
    Machine(usize, usize),
}

impl fmt::Display for LiveNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresponsive(name, why) => {
                write!(f, "warning: the gateway of {name} does not respond: {why}")
            }
            Self::Again(name) => write!(f, "the gateway of {name} responds again"),
            Self::Ending(name, why, Some(incident)) => write!(
                f,
                "ending the gateway of {name}, which does not respond ({why}), so that it is started again; `{}` has what was found out",
                incident.display()
            ),
            Self::Ending(name, why, None) => {
                write!(
                    f,
                    "ending the gateway of {name}, which does not respond ({why}), so that it is started again"
                )
            }
            Self::Killed(name) => {
                write!(f, "the gateway of {name} did not end when it was asked to, and was killed")
            }
            Self::LeftAlone(name, why) => {
                write!(f, "warning: the gateway of {name} does not respond and is left alone: {why}")
            }
            Self::Machine(missing, followed) => write!(
                f,
                "warning: {missing} of {followed} gateways are silent together, so it is the machine: none is ended for it"
            ),
        }
    }
}

/// Why nothing is watched any longer.
#[derive(Debug, thiserror::Error)]
pub enum LiveWatchError {
    /// What is found out cannot be published.
    #[error("cannot publish in `{}` whether gateways work", scandir.display())]
    Publish {
        /// The scandir.
        scandir: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// Another watcher does the same.
    #[error("another process watches the gateways of `{}` already", scandir.display())]
    Taken {
        /// The scandir.
        scandir: PathBuf,
    },
}
