//! *Lives here:* what a watcher reports to people and to collectors of evidence, and why it ends.
//!
//! *Does not live here:* watching.

use std::fmt;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::manager::ScandirManager;
use crate::profile::ProfileName;

/// Tells people what the watcher found and did.
pub type LiveNoticeSink = fn(LiveNotice);
/// Collects evidence about a gateway that does not respond, in a process of its own. Returns the
/// directory.
pub type Collect = fn(&ScandirManager, &Silent<'_>) -> Option<PathBuf>;

/// A gateway that does not respond.
#[derive(Debug, Clone, Copy)]
pub struct Silent<'a> {
    /// The profile that it serves.
    pub name: &'a ProfileName,
    /// The process that does not respond, by its number and its start.
    pub life: gatevisor_liveness::Life,
    /// Why it counts as not responding.
    pub reason: &'a str,
    /// The results of the last looks, the oldest first, one line each.
    pub history: &'a [String],
    /// A command that prints evidence.
    pub command: &'a [String],
}

/// What the watcher found or did, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveNotice {
    /// A gateway does not respond.
    Unresponsive(String, String),
    /// A gateway that did not respond works again by itself.
    Again(String),
    /// A gateway that does not respond is being ended. The directory has the evidence.
    Ending(String, String, Option<PathBuf>),
    /// A gateway that was asked to end has not ended, and was killed.
    Killed(String),
    /// A gateway that does not respond is left alone.
    LeftAlone(String, String),
    /// A gateway has asked for its own restart; what is done about that.
    AskedRestart(String, String),
    /// A paused gateway was continued behind its supervisor's back, and the supervisor was told.
    Continued(String),
    /// A drain that its owner did not end was undone, for this reason.
    DrainUndone(String, String),
    /// The first number of gateways is silent at the same time, of the second number.
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
            Self::AskedRestart(name, what) => write!(f, "the restart of the gateway of {name}: {what}"),
            Self::Continued(name) => write!(
                f,
                "the gateway of {name} was paused through its supervisor and goes on all the same, so its supervisor \
                 counts it as continued now"
            ),
            Self::DrainUndone(name, why) => write!(f, "the drain of the gateway of {name}: {why}"),
            Self::Machine(missing, followed) => write!(
                f,
                "warning: {missing} of {followed} gateways are silent together, so it is the machine: none is ended for it"
            ),
        }
    }
}

/// Why the watcher ended.
#[derive(Debug, thiserror::Error)]
pub enum LiveWatchError {
    /// The results cannot be published.
    #[error("cannot publish in `{}` whether gateways work", scandir.display())]
    Publish {
        /// Where the results would be read.
        scandir: PathBuf,
        /// The underlying error.
        #[source]
        source: Errno,
    },
    /// The lock that shows that there is one watcher was removed or replaced.
    #[error(
        "another process may watch the gateways of `{}` now: its lock was removed or replaced, so this one ends",
        directory.display()
    )]
    LockLost {
        /// The directory of the lock.
        directory: PathBuf,
    },
    /// Another watcher watches this scandir.
    #[error("another process watches the gateways of `{}` already", scandir.display())]
    Taken {
        /// The directory whose gateways are watched.
        scandir: PathBuf,
    },
}
