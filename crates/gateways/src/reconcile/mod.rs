//! *Lives here:* making the slots anew from the profiles, at every start of a supervisor and before it looks at them.
//!
//! *Does not live here:* anything that happens while a supervisor runs.
//!
//! Facts are gathered, a plan is made of them without any I/O, and the plan is carried out. A profile that is broken
//! is skipped with its reason and stops no other.
//!
//! **Source:** docs/behaviour.md, *Reconciliation*; L-1, L-21.

mod boot_log;
mod execute;
mod gather;
mod plan;
mod role;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Zoned;

use gatevisor_wire::exit::{Exit, ExitError};

use crate::agent::AgentDefinition;
use crate::profile::{Home, ProfileName};
use crate::slots::ForeignScandir;

pub use gather::gather;
pub use plan::{FoundProfile, PriorFact, ReconcileFacts, ReconcilePlan, ReconcileSteps, plan};
pub use role::{ContainerRole, role};

/// What a reconciliation goes by.
pub struct ReconcileSettings<'a> {
    /// The agent.
    pub agent: &'a AgentDefinition,
    /// The home.
    pub home: &'a Home,
    /// The scandir, which is made if it is missing.
    pub scandir: &'a Path,
    /// The absolute path of this program, which interprets the slots.
    pub interpreter: &'a Path,
    /// The command of the container; empty outside of one.
    pub container_argv: &'a [String],
    /// Whether the gateways of this home run elsewhere, so that none is started and nothing of theirs is touched.
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
    /// The name as shown; a directory's that can be no profile is escaped.
    pub profile: String,
    /// The name, where it is one.
    #[serde(skip)]
    pub name: Option<ProfileName>,
    /// The state before this boot.
    pub prior_state: Option<String>,
    /// What becomes of it.
    pub action: ProfileAction,
    /// What was wrong, if anything was.
    pub reason: Option<String>,
}

impl fmt::Display for ReconciledProfile {
    /// Writes the facts as the boot log has them, on one line.
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

/// A text from a file as one word of a line: in quotes where it has placeholders or quotes itself, or is nothing.
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

/// A text from a file, on one line whatever it holds, and not for ever.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&gatevisor_wire::policy::one_line(self.0))
    }
}

/// What a reconciliation did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReconcileReport {
    /// Each profile's outcome, the root profile's first; none in a container that has no gateways.
    pub actions: Vec<ReconciledProfile>,
    /// Why there is nothing to do, in such a container.
    pub skipped: Option<String>,
    /// Entries of the scandir that were there and shall not be.
    pub swept: Vec<String>,
    /// What was ended of gateways whose slots went away, one line each.
    pub ended: Vec<String>,
    /// What went wrong beside any one profile.
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
        skipped.chain(ended).chain(actions).chain(warnings).collect()
    }
}

/// Why there was no reconciliation.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A supervisor looks at the scandir.
    #[error(
        "a supervisor is running on `{}`; reconciliation is for the time before it starts (--dry-run works at any time)",
        scandir.display()
    )]
    Supervised {
        /// The scandir.
        scandir: PathBuf,
    },
    /// Root would make slots in a scandir in which somebody else decides.
    #[error(transparent)]
    Foreign(#[from] ForeignScandir),
    /// The scandir could not be made or read.
    #[error("cannot prepare the scandir `{}`", scandir.display())]
    Scandir {
        /// The scandir.
        scandir: PathBuf,
        /// Why.
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

/// Makes every slot anew, or with `dry_run` says what would be done and touches nothing.
///
/// # Errors
/// Only where nothing could be done at all. What goes wrong with one profile is in its action.
pub fn reconcile(settings: &ReconcileSettings<'_>, dry_run: bool) -> Result<ReconcileReport, ReconcileError> {
    let (facts, warnings) = gather(settings)?;
    let mut report = match plan(&facts) {
        ReconcilePlan::NoGateways { why } => {
            ReconcileReport { skipped: Some(why), ..ReconcileReport::default() }
        }
        ReconcilePlan::Act(steps) if dry_run => {
            ReconcileReport { actions: steps.actions, swept: steps.sweep, ..ReconcileReport::default() }
        }
        ReconcilePlan::Act(steps) => execute::execute(settings, steps)?,
    };
    report.warnings.splice(0..0, warnings);
    Ok(report)
}

/// Cleans up after gateways that ran elsewhere until now, and returns which are to be started here.
///
/// The slots are there already, and a supervisor looks at them; nothing is sent to it.
pub fn take_over(settings: &ReconcileSettings<'_>) -> Result<ReconcileReport, ReconcileError> {
    let (facts, warnings) = gather(settings)?;
    let mut report = match plan(&facts) {
        ReconcilePlan::NoGateways { why } => {
            ReconcileReport { skipped: Some(why), ..ReconcileReport::default() }
        }
        ReconcilePlan::Act(steps) => execute::take_over(settings, steps),
    };
    report.warnings.splice(0..0, warnings);
    Ok(report)
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
        };
        assert_snapshot!(action("run\nprofile=x"), @r"profile=coder prior_state=run\nprofile=x action=registered");
        assert_snapshot!(action("on a walk action=started"), @r#"profile=coder prior_state="on a walk action=started" action=registered"#);
        assert_snapshot!(action(r#"a"b"#), @r#"profile=coder prior_state="a\"b" action=registered"#);
        assert_snapshot!(action(""), @r#"profile=coder prior_state="" action=registered"#);
    }
}
