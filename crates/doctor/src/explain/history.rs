//! *Lives here:* the events of a gateway with their times, from all records.
//!
//! *Does not live here:* their causes (`causes`).

use jiff::Timestamp;
use serde::Serialize;

use super::subject::Subject;
use super::subject::said_by;
use crate::finding::plain;
use gatevisor_gateways::desired::DesiredOrigin;
use gatevisor_gateways::inspect::{DeathReport, ServiceReport, moment};

/// The most deaths that are listed.
const DEATHS: usize = 5;

/// One line of what led to the present state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Occurrence {
    /// Its time, in RFC 3339 UTC.
    pub at: String,
    /// A sentence without the gateway's name.
    pub what: String,
}

/// Returns the events, the newest first.
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
        let said = said_by(&DesiredOrigin { desired_at: None, ..recorded.origin.clone() });
        add(recorded.origin.desired_at.as_deref(), format!("{word} was desired, {said}"));
    }
    if let Some((at, action)) = &subject.reconciled {
        add(Some(at), format!("`up` or a boot found it and did this: {action}"));
    }
    if let Some(ended) = &subject.ended_by_watcher {
        add(Some(&ended.at), format!("the watcher of gateways ended it: {}", ended.reason));
    }
    if let Some(ticket) = subject.report().and_then(|report| report.asked_restart.as_ref()) {
        add(Some(&ticket.asked_at), ticket.words());
        let outcome = ticket.outcome.as_deref().unwrap_or_default();
        let what = if ticket.scheduled.is_some() { "its daily restart" } else { "what it had asked for" };
        add(ticket.ended_at.as_deref(), format!("{what} was over: {outcome}"));
    }
    for incident in &subject.incidents {
        let what = format!("evidence was collected in `{}`: {}", incident.path.display(), incident.reason);
        add(Some(&incident.at), what);
    }
    if let Some(report) = subject.report() {
        for (at, what) in lives(subject, report) {
            add(Some(&at), what);
        }
        let mut asked = asked_for(subject);
        for death in report.deaths().iter().take(DEATHS) {
            let told = if asked.next() == Some(true) { ", as its supervisor had been told" } else { "" };
            add(Some(&death.at), format!("{}{told}", died(death)));
        }
        if let Some(problem) = &report.log_problem {
            add(report.log_problem_since.as_deref(), format!("its lines were no longer kept: {problem}"));
        }
    }
    events.sort_by(|(one, _), (other, _)| other.cmp(one));
    let shown = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    events.into_iter().map(|(at, what)| Occurrence { at: shown(at), what }).collect()
}

/// Returns when its process was started, and when it became ready.
fn lives(subject: &Subject, report: &ServiceReport) -> Vec<(String, String)> {
    let status = subject.service().and_then(|service| service.observed.status);
    let Some(status) = status.filter(gatevisor_wire::status::Status::is_up) else { return Vec::new() };
    let pid = report.pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
    let mut lives = vec![(moment(status.changed), format!("it was started{pid}"))];
    if report.ready == Some(true) {
        lives.push((moment(status.ready_at), "it said that it is ready".to_owned()));
    }
    lives
}

/// Returns whether somebody had asked for each of its last deaths, the newest first, as far as that
/// is recorded.
///
/// The record of a running process ends with the death before its start.
fn asked_for(subject: &Subject) -> impl Iterator<Item = bool> {
    let running = subject.service().filter(|service| service.report.pid.is_some());
    let policy = running.and_then(|service| service.observed.policy.as_ref());
    policy.into_iter().flat_map(|policy| policy.asked.newest_first())
}

fn died(death: &DeathReport) -> String {
    let meaning = death.meaning.as_ref().map_or_else(String::new, |meaning| format!(": {meaning}"));
    format!("it ended {}{meaning}", death.how("with ", "by "))
}
