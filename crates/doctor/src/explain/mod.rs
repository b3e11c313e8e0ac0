//! *Lives here:* `explain`: the desired state of one gateway and who set it, its actual state, the
//! causes with their evidence, the events, and one or two commands to run next.
//!
//! *Does not live here:* printing it; problems of the home as a whole (`crate::doctor`), whose
//! facts and decisions it uses.
//!
//! All facts are gathered first (`gather`). The explanation is then a pure function of the facts.

mod cause;
mod causes;
mod gather;
mod history;
mod kind;
mod remedy;
pub mod subject;

use serde::Serialize;

use crate::finding::plain;
use crate::{DoctorSettings, Finding, Severity, examine};
use gatevisor_gateways::desired::{DesiredOrigin, Recorded};
use gatevisor_gateways::inspect::{InspectError, LineSpan, ServiceReport, ServiceState};
use gatevisor_gateways::profile::ProfileName;
use subject::Subject;

pub use cause::Cause;
pub use gather::ReadLines;
pub use history::Occurrence;
pub use kind::CauseKind;

/// Why one gateway is in its present state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whose gateway is explained.
    pub profile: ProfileName,
    /// Its state in one word, as in `status`.
    pub state: ServiceState,
    /// Its process, if there is one.
    pub pid: Option<i32>,
    /// Seconds since it came up or went down; 0 if that never happened, and `None` if nobody can
    /// tell.
    pub updownfor: Option<u64>,
    /// The desired state; `None` if it was never recorded, or cannot be read.
    pub desired_state: Option<String>,
    /// Why the desired state cannot be read.
    pub desired_problem: Option<String>,
    /// Who set it, when and why.
    #[serde(flatten)]
    pub origin: DesiredOrigin,
    /// Why it is in its state. The first cause is the most important, and there is always one.
    pub causes: Vec<Cause>,
    /// The events, the newest first.
    pub events: Vec<Occurrence>,
    /// The last output of the process that ended last, if it did not end well.
    pub last_lines: Vec<String>,
    /// Its other problems, as `doctor` finds them.
    pub findings: Vec<Finding>,
    /// What to do, in this order: harmless shell commands.
    pub commands: Vec<String>,
    /// What is unknown, and why.
    pub unknown: Vec<String>,
    /// The time of the lines that explain its state: its present run, or else its last one.
    #[serde(skip)]
    pub lines: Option<LineSpan>,
}

impl Explanation {
    /// Returns the most important cause.
    pub fn first(&self) -> Option<&Cause> {
        self.causes.first()
    }
}

/// Explains a gateway.
///
/// # Errors
/// There is neither a profile of that name nor a service directory of its gateway.
pub fn explain(
    settings: &DoctorSettings<'_>,
    name: &ProfileName,
    lines: ReadLines<'_>,
) -> Result<Explanation, InspectError> {
    gather::gather(settings, name, lines).map(|subject| of(&subject))
}

/// Returns the explanation that follows from the facts.
pub fn of(subject: &Subject) -> Explanation {
    let causes: Vec<Cause> = causes::of(subject).iter().map(harmless).collect();
    let recorded = subject.recorded.clone().unwrap_or_else(|why| Recorded::unknown(&plain(&why)));
    let report = subject.report();
    let findings = findings(subject);
    let commands = remedy::commands(subject, &causes, &findings);
    // A problem that is listed as a cause is not listed again as a finding.
    let is_new = |found: &Finding| !causes.iter().any(|cause| cause.cause.check() == Some(found.check));
    let findings = findings.into_iter().filter(is_new).collect();
    let is_bad = causes.first().is_some_and(|cause| cause.cause != CauseKind::Well);
    Explanation {
        profile: subject.name.clone(),
        state: report.map_or(ServiceState::NotSupervised, |report| report.state),
        pid: report.and_then(|report| report.pid),
        updownfor: report.map_or(Some(0), |report| report.updownfor),
        desired_state: subject.desired().map(str::to_owned),
        desired_problem: subject.recorded.as_ref().err().map(|why| plain(why)),
        origin: recorded.origin,
        events: history::of(subject),
        last_lines: if is_bad { subject.printed.clone() } else { Vec::new() },
        findings,
        commands,
        unknown: unknown(subject, report, is_bad),
        lines: report.and_then(|report| report.lines.latest()),
        causes,
    }
}

fn harmless(cause: &Cause) -> Cause {
    Cause::new(cause.cause, plain(&cause.what), plain(&cause.evidence))
}

/// Returns the findings of `doctor` about this gateway, and its errors that concern no particular
/// gateway.
fn findings(subject: &Subject) -> Vec<Finding> {
    let is_about = |finding: &Finding| match &finding.profile {
        Some(name) => *name == subject.name,
        None => finding.severity == Severity::Error,
    };
    examine(&subject.facts).into_iter().filter(is_about).collect()
}

fn unknown(subject: &Subject, report: Option<&ServiceReport>, is_bad: bool) -> Vec<String> {
    let mut unknown = Vec::new();
    // If it works, the cause `well` says what its watcher could not see.
    let missed = report.and_then(|report| report.live.as_ref()?.missed()).filter(|_| is_bad);
    unknown.extend(missed.map(|missed| plain(&format!("whether it works: {missed}"))));
    if let Ok(recorded) = &subject.recorded {
        let nobody = "another program wrote it, and left no name".to_owned();
        let origin = &recorded.origin;
        let why = origin.desired_unknown.clone().or_else(|| origin.desired_by_another.then_some(nobody));
        unknown.extend(why.map(|why| plain(&format!("who set its desired state: {why}"))));
    }
    if report.is_some_and(|report| report.restarts.is_none() && report.state != ServiceState::NotSupervised) {
        unknown.push("which of its deaths were asked for: its supervisor does not keep that".to_owned());
    }
    if let Some(problem) = report.and_then(|report| report.problem.as_ref()) {
        unknown.push(plain(problem));
    }
    unknown
}
