//! *Lives here:* the desired state of a gateway, as its profile keeps it: who asked for what, why and since when.
//!
//! *Does not live here:* the current state, which is the supervisor's; carrying a desired state out.
//!
//! The file is the agent's own: it writes its state there too. We change our keys only, and leave everything else as
//! it is, the order of keys and the spelling of numbers included.
//!
//! **Source:** REC-7 to REC-11, SM-8, GW-1.

mod lock;
mod read;
mod write;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use lock::stuck_locks;
pub use read::{Prior, ReadStateError, Recorded, read};
pub use write::{RecordError, Recording, migrate, overwritten, record, record_at_once, record_for_another};

/// Bytes of a state file at the most.
pub const MAX_BYTES: usize = 1 << 20;
/// Bytes of the texts that come with a desired state.
pub const MAX_TEXT: usize = 500;

/// What an operator wants of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    /// It shall run, now and after every boot.
    Running,
    /// It shall not run.
    Stopped,
}

impl Desired {
    /// Returns the word that stands for it in the file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Who made a desired state, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The user's number.
    pub uid: u32,
    /// The user's name, or the number again where there is none.
    pub user: String,
    /// The command.
    pub command: String,
    /// The process that carried the command out.
    pub pid: u32,
}

impl Provenance {
    /// Returns the provenance of what this process is doing, which `command` names.
    pub fn here(command: &str) -> Self {
        let uid = rustix::process::getuid().as_raw();
        let user = gatevisor_sys::user::lookup_uid(uid)
            .map_or_else(|_| uid.to_string(), |user| String::from_utf8_lossy(&user.name).into_owned());
        Self { uid, user, command: bounded(command), pid: std::process::id() }
    }
}

/// A desired state: what is desired, by whom, why, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredState {
    /// What is desired.
    pub desired: Desired,
    /// Who asked for it.
    pub by: Provenance,
    /// Why, in the requester's words.
    pub reason: Option<String>,
    /// When it was desired.
    pub at: Timestamp,
}

/// Who set a desired state, when and why, in words that follow the state: empty where nothing of it is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// Who, where it was one of our commands.
    pub by: Option<&'a Provenance>,
    /// Whether another program wrote it.
    pub by_another: bool,
    /// When, as far as that is known.
    pub at: Option<&'a str>,
    /// Why.
    pub reason: Option<&'a str>,
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            Some(by) => write!(f, ", said by {} (uid {}) with `{}`", by.user, by.uid, by.command)?,
            None if self.by_another => f.write_str(", set by another program")?,
            None => {}
        }
        if let Some(at) = self.at {
            write!(f, " at {at}")?;
        }
        self.reason.map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

/// Returns at most [`MAX_TEXT`] bytes of a text.
fn bounded(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().to_owned()
}
