//! *Lives here:* causes in the desired state: who asked for it to run or to be stopped.
//!
//! *Does not live here:* reading the record (`gatevisor_gateways::desired`).

use gatevisor_client::status_view::StateName;

use super::place;
use crate::explain::cause::Cause;
use crate::explain::kind::CauseKind;
use crate::explain::subject::Subject;
use crate::explain::subject::said_by;
use crate::problem::{self, ServiceProblem};

/// The causes that rest on the fact that a record is missing.
const UNRECORDED: [CauseKind; 3] = [CauseKind::ToldDown, CauseKind::RunsThoughStopped, CauseKind::NeverAsked];

pub(super) fn of(subject: &Subject) -> Vec<Cause> {
    let causes = by_record(subject);
    let is_unrecorded = causes.iter().any(|cause| UNRECORDED.contains(&cause.cause));
    let why = is_unrecorded.then(|| place::nothing_recorded(subject)).flatten();
    why.into_iter().chain(causes).collect()
}

/// Returns the causes that follow from the record.
fn by_record(subject: &Subject) -> Vec<Cause> {
    // The record was removed with the profile.
    if subject.has_lost_its_profile() {
        return Vec::new();
    }
    let recorded = match &subject.recorded {
        Ok(recorded) => recorded,
        Err(reason) => {
            let what = "its desired state cannot be read, so it counts as not wanted";
            return vec![Cause::new(CauseKind::DesiredUnreadable, what, reason)];
        }
    };
    let state_file = subject.profile().map(|profile| crate::finding::shown(&profile.state_file));
    let file = state_file.unwrap_or_else(|| "its state file".to_owned());
    match recorded.prior.word() {
        Some("running") => against(subject),
        _ if subject.is_up() => {
            let what = "it runs although that is not its desired state, and nothing records who told its \
                        supervisor";
            let evidence = match recorded.prior.word() {
                Some(word) => format!("its supervisor wants it up, and `{file}` says {word}"),
                None => format!("its supervisor wants it up, and `{file}` says nothing"),
            };
            vec![Cause::new(CauseKind::RunsThoughStopped, what, evidence)]
        }
        // A gateway without a service directory cannot have been stopped.
        None if subject.service().is_none() => Vec::new(),
        None => {
            let evidence = format!("`{file}` records no desired state");
            vec![Cause::new(CauseKind::NeverAsked, "nobody has ever asked for it to run", evidence)]
        }
        Some(word) if recorded.desired_state.is_none() => {
            let evidence = format!("`{file}` records no desired state; it says of itself that it was {word}");
            vec![Cause::new(CauseKind::NeverAsked, "nobody has ever asked for it to run", evidence)]
        }
        Some(word) if recorded.origin.desired_by.is_some() => {
            vec![Cause::new(
                CauseKind::StoppedOnPurpose,
                format!("it is {word} on purpose"),
                said_by(&recorded.origin),
            )]
        }
        Some(word) if !recorded.origin.desired_by_another => {
            let what = format!("its desired state is {word}, and nothing tells who set it");
            let why = recorded.origin.desired_unknown.as_deref();
            let why = why.unwrap_or("it is not recorded who said so");
            let evidence = format!("`{file}` says {word}, and {why}");
            vec![Cause::new(CauseKind::StoppedByUnknown, what, evidence)]
        }
        Some(word) => {
            let what = format!("another program than gatevisor has set its desired state to {word}");
            let evidence = format!("`{file}` says so, {}", said_by(&recorded.origin));
            vec![Cause::new(CauseKind::StoppedByAnother, what, evidence)]
        }
    }
}

/// Returns why its supervisor keeps it down although its desired state is running.
fn against(subject: &Subject) -> Vec<Cause> {
    let Some(service) = subject.service() else { return Vec::new() };
    if problem::of(&subject.facts, service) != Some(ServiceProblem::Missed) {
        return Vec::new();
    }
    if problem::is_kept_by_down_file(service) {
        let what = problem::DOWN_FILE;
        let evidence = format!("`{}`", crate::finding::shown(&service.path.join("down")));
        return vec![Cause::new(CauseKind::DownFile, what, evidence)];
    }
    let what = "its supervisor was told to keep it down, and nothing records by whom";
    let evidence = "its supervisor wants it down, and no desired state says so: whoever told it used s6-svc, was \
                    another program, or could not record it";
    debug_assert!(service.observed.state == StateName::Down);
    vec![Cause::new(CauseKind::ToldDown, what, evidence)]
}
