//! *Lives here:* what happened to a gateway and when, from every record that there is.
//!
//! *Does not live here:* why (`causes`).

use jiff::Timestamp;
use serde::Serialize;

use super::said_by;
use super::subject::Subject;
use crate::finding::plain;
use gatevisor_gateways::desired::Recorded;
use gatevisor_gateways::inspect::{DeathReport, ServiceReport, moment};

/// Deaths that are told at the most.
const DEATHS: usize = 5;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Occurrence {
    /// When, in RFC 3339 UTC.
    pub at: String,
    /// What.
    pub what: String,
}

/// Returns what happened, the newest first.
pub(super) fn of(subject: &Subject) -> Vec<Occurrence> {
    let mut events: Vec<(Timestamp, String)> = Vec::new();
    let mut add = |at: Option<&str>, what: String| {
        if let Some(at) = at.and_then(|at| at.parse().ok()) {
            events.push((at, plain(&what)));
        }
    };
    if let Ok(recorded) = &subject.recorded
        && let Some(word) = recorded.prior.word()
    {
        let said = said_by(&Recorded { desired_at: None, ..recorded.clone() });
        add(recorded.desired_at.as_deref(), format!("{word} was desired, {said}"));
    }
    if let Some((at, action)) = &subject.reconciled {
        add(Some(at), format!("`up` or a boot found it and did this: {action}"));
    }
    if let Some(ended) = &subject.ended_by_watcher {
        add(Some(&ended.at), format!("the watcher of gateways ended it: {}", ended.reason));
    }
    for incident in &subject.incidents {
        let what = format!("evidence was collected in `{}`: {}", incident.path.display(), incident.reason);
        add(Some(&incident.at), what);
    }
    if let Some(report) = subject.report() {
        for (at, what) in lives(subject, report) {
            add(Some(&at), what);
        }
        for death in report.deaths.iter().take(DEATHS) {
            add(Some(&death.at), died(death));
        }
        if let Some(problem) = &report.log_problem {
            add(report.log_problem_since.as_deref(), format!("its lines were no longer kept: {problem}"));
        }
    }
    events.sort_by(|(one, _), (other, _)| other.cmp(one));
    let shown = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    events.into_iter().map(|(at, what)| Occurrence { at: shown(at), what }).collect()
}

/// Returns when its process was started, and when it was ready.
fn lives(subject: &Subject, report: &ServiceReport) -> Vec<(String, String)> {
    let status = subject.service().and_then(|service| service.observed.status);
    let Some(status) = status.filter(gatevisor_wire::status::Status::is_up) else { return Vec::new() };
    let pid = report.pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
    let mut lives = vec![(moment(status.changed), format!("it was started{pid}"))];
    if report.ready {
        lives.push((moment(status.ready_at), "it said that it is ready".to_owned()));
    }
    lives
}

fn died(death: &DeathReport) -> String {
    let meaning = death.meaning.as_ref().map_or_else(String::new, |meaning| format!(": {meaning}"));
    format!("it ended {}{meaning}", death.how("with ", "by "))
}
