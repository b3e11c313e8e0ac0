//! *Lives here:* `explain`: why one gateway is as it is: what is desired and who said so, what is, the causes with what
//! shows each, what happened when, and the one or two commands that lead on.
//!
//! *Does not live here:* printing it; what is wrong with the home as a whole (`crate::doctor`), whose facts and decisions
//! these are.
//!
//! First everything is found out (`gather`), then the explanation is a function of that.

mod causes;
mod chain;
mod gather;
mod kind;
mod remedy;
pub mod subject;

use std::time::SystemTime;

use serde::Serialize;

use crate::finding::plain;
use crate::{DoctorSettings, Finding, Severity, examine};
use gatevisor_gateways::desired::{Provenance, Recorded, Said};
use gatevisor_gateways::inspect::{InspectError, ServiceReport, ServiceState};
use gatevisor_gateways::live::LiveState;
use gatevisor_gateways::profile::ProfileName;
use subject::Subject;

pub use causes::Cause;
pub use chain::Occurrence;
pub use kind::CauseKind;

/// Why a gateway is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The profile.
    pub profile: ProfileName,
    /// Its state in one word, as in `status`.
    pub state: ServiceState,
    /// Its process, if there is one.
    pub pid: Option<i32>,
    /// Seconds since it came up or went down; 0 if that never happened.
    pub updownfor: u64,
    /// What is desired; none if that was never recorded, or cannot be read.
    pub desired_state: Option<String>,
    /// Who said so, with a command of ours; none if that is not recorded.
    pub desired_by: Option<Provenance>,
    /// Whether another program wrote it.
    pub desired_by_another: bool,
    /// Why, in their words.
    pub desired_reason: Option<String>,
    /// When, in RFC 3339.
    pub desired_at: Option<String>,
    /// Why it is as it is: the first is the one to look at first, and there is always one.
    pub causes: Vec<Cause>,
    /// What happened, the newest first.
    pub events: Vec<Occurrence>,
    /// What it printed at the end of its last life, where that was not as it should be.
    pub last_lines: Vec<String>,
    /// What else is wrong with it, as `doctor` finds it.
    pub findings: Vec<Finding>,
    /// What to do, in this order: lines for a shell that harm nothing.
    pub commands: Vec<String>,
    /// What is not known, and why.
    pub unknown: Vec<String>,
}

impl Explanation {
    /// Returns who set the desired state, when and why.
    pub fn said(&self) -> Said<'_> {
        Said {
            by: self.desired_by.as_ref(),
            by_another: self.desired_by_another,
            at: self.desired_at.as_deref(),
            reason: self.desired_reason.as_deref(),
        }
    }

    /// Returns the cause to look at first.
    pub fn first(&self) -> Option<&Cause> {
        self.causes.first()
    }
}

/// Which lines a gateway printed between two moments, where a bound is known.
pub type Lines<'a> = &'a dyn Fn(Option<SystemTime>, Option<SystemTime>) -> Vec<String>;

/// Explains a gateway.
///
/// # Errors
/// There is neither a profile of that name nor a service directory of its gateway.
pub fn explain(
    settings: &DoctorSettings<'_>,
    name: &ProfileName,
    lines: Lines<'_>,
) -> Result<Explanation, InspectError> {
    gather::gather(settings, name, lines).map(|subject| of(&subject))
}

/// Returns the explanation that follows from the facts.
pub fn of(subject: &Subject) -> Explanation {
    let causes: Vec<Cause> = causes::of(subject).iter().map(harmless).collect();
    let recorded = subject.recorded.as_ref().ok().cloned().unwrap_or_default();
    let report = subject.report();
    let findings = findings(subject);
    let commands = remedy::commands(subject, &causes, &findings);
    // What is said as a cause is not said again.
    let is_new = |found: &Finding| !causes.iter().any(|cause| cause.cause.check() == Some(found.check));
    let findings = findings.into_iter().filter(is_new).collect();
    let is_bad = causes.first().is_some_and(|cause| cause.cause != CauseKind::Well);
    Explanation {
        profile: subject.name.clone(),
        state: report.map_or(ServiceState::NotSupervised, |report| report.state),
        pid: report.and_then(|report| report.pid),
        updownfor: report.map_or(0, |report| report.updownfor),
        desired_state: subject.desired().map(str::to_owned),
        desired_by: recorded.desired_by,
        desired_by_another: recorded.desired_by_another,
        desired_reason: recorded.desired_reason,
        desired_at: recorded.desired_at,
        events: chain::of(subject),
        last_lines: if is_bad { subject.printed.clone() } else { Vec::new() },
        findings,
        commands,
        unknown: unknown(subject, report),
        causes,
    }
}

fn harmless(cause: &Cause) -> Cause {
    Cause::new(cause.cause, plain(&cause.what), plain(&cause.evidence))
}

/// Returns what `doctor` finds about this gateway, and what it finds about nobody in particular where that is an error.
fn findings(subject: &Subject) -> Vec<Finding> {
    let is_about = |finding: &Finding| match &finding.profile {
        Some(name) => *name == subject.name,
        None => finding.severity == Severity::Error,
    };
    examine(&subject.facts).into_iter().filter(is_about).collect()
}

fn unknown(subject: &Subject, report: Option<&ServiceReport>) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Ok(recorded) = &subject.recorded
        && recorded.prior.word().is_some()
        && recorded.desired_by.is_none()
    {
        unknown.push("who set its desired state: whoever did left no name".to_owned());
    }
    if report.is_some_and(|report| report.restarts.is_none() && report.state != ServiceState::NotSupervised) {
        unknown.push("which of its deaths were asked for: its supervisor does not keep that".to_owned());
    }
    if let Some(live) = report.and_then(|report| report.live.as_ref())
        && live.state == LiveState::Unknown
    {
        let why = live.reason.as_deref().unwrap_or("nobody says why");
        unknown.push(plain(&format!("whether it works: {why}")));
    }
    if let Some(problem) = report.and_then(|report| report.problem.as_ref()) {
        unknown.push(plain(problem));
    }
    unknown
}

/// Returns who set a desired state, when and why, as far as that is recorded.
fn said_by(recorded: &Recorded) -> String {
    let said = Said {
        by: recorded.desired_by.as_ref(),
        by_another: recorded.desired_by_another,
        at: recorded.desired_at.as_deref(),
        reason: recorded.desired_reason.as_deref(),
    };
    let said = said.to_string();
    let words = said.trim_start_matches([',', ' ', ':']);
    if words.is_empty() { "it is not recorded who said so".to_owned() } else { words.to_owned() }
}
