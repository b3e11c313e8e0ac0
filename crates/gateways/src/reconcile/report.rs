//! *Lives here:* the settings and the results of a reconciliation: the outcome of each profile, and
//! why there was no reconciliation.
//!
//! *Does not live here:* reconciling (`reconcile`), and the file with the reports (`boot_log`).

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use gatevisor_wire::exit::{Exit, ExitError};
use jiff::Zoned;

use crate::agent::AgentDefinition;
use crate::profile::{Home, ProfileName};
use crate::slots::ForeignScandir;
use crate::topology::ParkChange;

/// The settings of a reconciliation.
pub struct ReconcileSettings<'a> {
    /// How the gateways are run.
    pub agent: &'a AgentDefinition,
    /// Where the profiles are.
    pub home: &'a Home,
    /// The scandir, which is made if it is missing.
    pub scandir: &'a Path,
    /// The absolute path of this program, which interprets the slots.
    pub interpreter: &'a Path,
    /// The command of the container; empty outside of one.
    pub container_argv: &'a [String],
    /// The identifier of the scandir of the home's last supervisor, if no supervisor can have the
    /// home now. Gateways that still run there are ended.
    pub earlier: Option<&'a str>,
    /// Whether another container runs the gateways of this home. Then no gateway is started, and
    /// nothing of theirs is changed.
    pub elsewhere: bool,
    /// Looks up environment variables.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The time, with the local offset that the boot log shows.
    pub now: Zoned,
}

/// What becomes of one profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileAction {
    /// It has a slot that is started.
    Started,
    /// It has a slot that is down.
    Registered,
    /// It has no slot.
    Skipped,
}

impl ProfileAction {
    /// Returns the word in the boot log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Registered => "registered",
            Self::Skipped => "skipped",
        }
    }
}

/// One profile's outcome.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ReconciledProfile {
    /// The name for people. A directory name that no profile can have is escaped.
    pub profile: String,
    /// The name, if a profile can have it.
    #[serde(skip)]
    pub name: Option<ProfileName>,
    /// The state before this boot.
    pub prior_state: Option<String>,
    /// What becomes of it.
    pub action: ProfileAction,
    /// What was wrong, if anything.
    pub reason: Option<String>,
    /// The change of whether another gateway serves it, if there is one.
    #[serde(skip)]
    pub park: Option<ParkChange>,
}

impl fmt::Display for ReconciledProfile {
    /// Writes the facts on one line, as in the boot log.
    ///
    /// **Source:** REC-14.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prior = self.prior_state.as_deref().unwrap_or("None");
        write!(f, "profile={} prior_state={} action={}", self.profile, Word(prior), self.action.word())?;
        match &self.reason {
            Some(reason) => write!(f, " reason={}", OneLine(reason)),
            None => Ok(()),
        }
    }
}

/// A text from a file as one word of a line. It is quoted if it is empty or contains spaces or
/// quotes.
struct Word<'a>(&'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = gatevisor_wire::policy::one_line(self.0);
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '"') {
            write!(f, "\"{}\"", text.replace('"', "\\\""))
        } else {
            f.write_str(&text)
        }
    }
}

/// A text from a file on one line, of bounded length.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&gatevisor_wire::policy::one_line(self.0))
    }
}

/// What a reconciliation did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReconcileReport {
    /// The outcome of each profile, the root profile first; empty in a container without gateways.
    pub actions: Vec<ReconciledProfile>,
    /// Why there is nothing to do, in a container without gateways.
    pub skipped: Option<String>,
    /// Entries of the scandir that were removed, or would be.
    pub swept: Vec<String>,
    /// The processes of an earlier supervisor that were ended, one line each.
    pub ended: Vec<String>,
    /// Whether a process of an earlier supervisor could not be ended.
    pub is_held_back: bool,
    /// What was done first because a file declares it, one line each.
    pub declared: Vec<String>,
    /// Warnings that concern no single profile.
    pub warnings: Vec<String>,
}

impl ReconcileReport {
    /// Returns the lines for standard output, each with its prefix.
    pub fn lines(&self) -> Vec<String> {
        let skipped = self.skipped.iter().map(|why| format!("reconcile: {why}"));
        let actions = self.actions.iter().map(|action| format!("reconcile: {action}"));
        let warnings =
            self.warnings.iter().map(|warning| format!("reconcile: warning: {}", OneLine(warning)));
        let ended = self.ended.iter().map(|line| format!("reconcile: {}", OneLine(line)));
        let declared = self.declared.iter().map(|line| format!("reconcile: {}", OneLine(line)));
        skipped.chain(declared).chain(ended).chain(actions).chain(warnings).collect()
    }
}

/// Why there was no reconciliation.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A supervisor runs on the scandir.
    #[error(
        "a supervisor is running on `{}`; reconciliation is for the time before it starts (--dry-run works at any time)",
        scandir.display()
    )]
    Supervised {
        /// The directory that is supervised.
        scandir: PathBuf,
    },
    /// Root would make slots in a scandir that somebody else controls.
    #[error(transparent)]
    Foreign(#[from] ForeignScandir),
    /// The scandir could not be made or read.
    #[error("cannot prepare the scandir `{}`", scandir.display())]
    Scandir {
        /// The directory that the slots would be in.
        scandir: PathBuf,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
}

impl ExitError for ReconcileError {
    fn exit(&self) -> Exit {
        match self {
            Self::Supervised { .. } => Exit::No,
            Self::Foreign(_) | Self::Scandir { .. } => Exit::System,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    #[test]
    fn each_refusal_says_what_to_do() {
        let scandir = PathBuf::from("/run/service");
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let errors = [
            ReconcileError::Supervised { scandir: scandir.clone() },
            ReconcileError::Scandir { scandir, source },
        ];
        let lines: Vec<String> = errors.iter().map(|e| format!("{} {e}", e.exit_code())).collect();
        assert_snapshot!(lines.join("\n"), @r#"
        1 a supervisor is running on `/run/service`; reconciliation is for the time before it starts (--dry-run works at any time)
        111 cannot prepare the scandir `/run/service`
        "#);
    }

    #[test]
    fn a_line_is_one_line_whatever_the_state_file_said() {
        let action = |prior: &str| ReconciledProfile {
            profile: "coder".to_owned(),
            name: None,
            prior_state: Some(prior.to_owned()),
            action: ProfileAction::Registered,
            reason: None,
            park: None,
        };
        assert_snapshot!(action("run\nprofile=x"), @r"profile=coder prior_state=run\nprofile=x action=registered");
        assert_snapshot!(action("on a walk action=started"), @r#"profile=coder prior_state="on a walk action=started" action=registered"#);
        assert_snapshot!(action(r#"a"b"#), @r#"profile=coder prior_state="a\"b" action=registered"#);
        assert_snapshot!(action(""), @r#"profile=coder prior_state="" action=registered"#);
    }
}
