//! *Lives here:* the desired state of a gateway, as its profile keeps it: who asked for what, why
//! and when.
//!
//! *Does not live here:* the current state, which the supervisor keeps; carrying out a desired
//! state.
//!
//! The file is the agent's own: it writes its state there too. We change our keys only, and leave
//! everything else as it is, the order of keys and the spelling of numbers included.
//!
//! **Source:** REC-7 to REC-11, SM-8, GW-1.

mod lock;
mod origin;
mod read;
mod write;

use std::ffi::OsStr;
use std::fmt;

use gatevisor_sys::user;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use lock::lock as lock_beside;
pub use lock::stuck_locks;
pub(crate) use read::is_later;
pub use read::{Prior, ReadStateError, Recorded, is_stopped, read, read_commanded};
pub use write::{
    RecordError, Recording, forget, migrate, overwritten, record, record_for_another, record_if_none,
    record_now, record_unless_newer,
};

/// The most bytes that a state file may have.
pub const MAX_BYTES: usize = 1 << 20;
/// The most bytes of a text that comes with a desired state.
pub const MAX_TEXT: usize = 500;
/// The variable in which sudo names the user who called it.
const SUDO_UID: &str = "SUDO_UID";

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
    /// Returns the word in the file.
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

/// The variable by which a server that calls this program says which server it is.
pub const THROUGH_VARIABLE: &str = "GATEVISOR_THROUGH";

/// Who set a desired state, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The number of the user who called it, also if it has become the owner of the home since.
    pub uid: u32,
    /// The user's name, or the number if there is no name.
    pub user: String,
    /// What was called, as somebody would type it.
    pub command: String,
    /// The process that ran the command.
    pub pid: u32,
    /// The number of the user who had logged in, if that is known and another: who called it with
    /// sudo, for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
}

impl Provenance {
    /// Returns the provenance of what this process does; `command` names it. If a server called it,
    /// that is said before the command.
    pub fn here(command: &str) -> Self {
        let through = std::env::var(THROUGH_VARIABLE).ok().filter(|through| is_word(through));
        let command = through.map_or_else(|| command.to_owned(), |through| format!("{through}: {command}"));
        let uid = user::caller();
        let login_uid = login_uid(uid, user::login(), std::env::var_os(SUDO_UID).as_deref());
        let user = user::lookup_uid(uid)
            .map_or_else(|_| uid.to_string(), |user| String::from_utf8_lossy(&user.name).into_owned());
        Self { uid, user, command: bounded(&command), pid: std::process::id(), login_uid }
    }
}

impl fmt::Display for Provenance {
    /// Writes it as words after "said by".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (uid {}", self.user, self.uid)?;
        if let Some(login) = self.login_uid {
            write!(f, ", logged in as uid {login}")?;
        }
        write!(f, ") with `{}`", self.command)
    }
}

/// Returns the other user who had logged in. What sudo says is believed of root only, because
/// everybody may set that variable.
fn login_uid(uid: u32, kernels: Option<u32>, sudos: Option<&OsStr>) -> Option<u32> {
    let sudos = || sudos.filter(|_| uid == 0)?.to_str()?.parse().ok();
    kernels.or_else(sudos).filter(|login| *login != uid)
}

/// A desired state: what is desired, who asked for it, why, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredState {
    /// Whether the gateway shall run.
    pub desired: Desired,
    /// Who asked for it.
    pub by: Provenance,
    /// Why, in the requester's words.
    pub reason: Option<String>,
    /// When somebody asked for it.
    pub at: Timestamp,
}

/// Who set a desired state, when and why. It is displayed as words after the state, or as nothing
/// if there is no desired state.
///
/// It says what is known, and never a guess: exactly one of `desired_by`, `desired_by_another` and
/// `desired_unknown` tells who set a desired state ([`DesiredOrigin::said`] and its siblings).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DesiredOrigin {
    /// Who set it, if one of our commands did.
    pub desired_by: Option<Provenance>,
    /// The reason that was given, in the requester's words.
    pub desired_reason: Option<String>,
    /// When it was set, in RFC 3339, if that is known.
    pub desired_at: Option<String>,
    /// Whether another program is known to have written it, so that nobody knows who requested it
    /// and why.
    pub desired_by_another: bool,
    /// The name that the profile had when it was set, if it was renamed since.
    pub desired_as: Option<String>,
    /// Why nothing tells who set it.
    pub desired_unknown: Option<String>,
}

impl DesiredOrigin {
    /// Returns the origin of what somebody requested with one of our commands.
    pub fn said(by: Provenance, reason: Option<String>, at: Option<String>) -> Self {
        Self { desired_by: Some(by), desired_reason: reason, desired_at: at, ..Self::default() }
    }

    /// Returns the origin of what another program is known to have written.
    pub fn another(at: Option<String>) -> Self {
        Self { desired_by_another: true, desired_at: at, ..Self::default() }
    }

    /// Returns the origin of a desired state of which nothing tells who set it, and why that is so.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self { desired_unknown: Some(why.into()), ..Self::default() }
    }
}

impl fmt::Display for DesiredOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.desired_by, &self.desired_unknown) {
            (Some(by), _) => write!(f, ", said by {by}")?,
            (None, _) if self.desired_by_another => f.write_str(", set by another program")?,
            (None, Some(why)) => write!(f, ", and it cannot be told who said so: {why}")?,
            (None, None) => {}
        }
        if let Some(at) = &self.desired_at {
            write!(f, " at {at}")?;
        }
        if let Some(name) = &self.desired_as {
            write!(f, ", when the profile was called {name}")?;
        }
        self.desired_reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

/// Returns whether a text is a short plain word.
fn is_word(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// Returns the text, cut to [`MAX_TEXT`] bytes.
fn bounded(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_had_logged_in_is_said_of_another_user_and_taken_from_a_variable_of_roots_only() {
        let sudos = |text: &'static str| Some(OsStr::new(text));
        for (uid, kernels, sudos, expected) in [
            (0, Some(7), None, Some(7)),
            (0, Some(7), sudos("8"), Some(7)),
            (0, None, sudos("8"), Some(8)),
            (0, None, sudos("x"), None),
            (0, Some(0), sudos("8"), None),
            (9, Some(7), None, Some(7)),
            (9, Some(9), None, None),
            (9, None, sudos("8"), None),
            (0, None, None, None),
        ] {
            assert_eq!(login_uid(uid, kernels, sudos), expected, "{uid} {kernels:?} {sudos:?}");
        }
    }

    #[test]
    fn the_words_name_the_user_and_who_had_logged_in() {
        let by = |login_uid| Provenance {
            uid: 0,
            user: "root".to_owned(),
            command: "gateway stop".to_owned(),
            pid: 1,
            login_uid,
        };
        assert_eq!(by(None).to_string(), "root (uid 0) with `gateway stop`");
        assert_eq!(by(Some(7)).to_string(), "root (uid 0, logged in as uid 7) with `gateway stop`");
    }
}
