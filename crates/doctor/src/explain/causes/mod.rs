//! *Lives here:* the causes of a gateway's state, the most important first.
//!
//! *Does not live here:* finding the facts (`gather`); what to do (`remedy`).
//!
//! The modules are asked in turn. Who runs a gateway, and whether it should run, explains more than
//! its own behaviour. Problems beside it explain least.

mod declared;
mod ends;
mod intent;
mod place;
mod printed;
mod process;
mod starts;

use super::cause::Cause;
use super::kind::CauseKind;
use super::subject::Subject;

/// Returns the causes, the most important first; there is always one.
pub(super) fn of(subject: &Subject) -> Vec<Cause> {
    // If something could not be looked at, other causes that follow from what was seen may be
    // wrong.
    let unseen = place::permission(subject);
    if !unseen.is_empty() {
        return unseen;
    }
    let steps = [
        place::elsewhere,
        place::served,
        place::orphans,
        place::profile,
        intent::of,
        declared::of,
        place::supervisor,
        place::slot,
        process::of,
        place::disk,
        ends::of,
        process::waits,
        place::beside,
    ];
    let mut causes: Vec<Cause> = Vec::new();
    for step in steps {
        for cause in step(subject) {
            if !causes.iter().any(|known| known.cause == cause.cause) {
                causes.push(cause);
            }
        }
    }
    if causes.is_empty() {
        causes.push(well(subject));
    }
    causes
}

fn well(subject: &Subject) -> Cause {
    let state = subject.report().map_or("down", |report| report.state.words());
    let desired = subject.desired().unwrap_or("nothing");
    let missed = subject.report().and_then(|report| report.live.as_ref()?.missed());
    let missed = missed.map_or_else(String::new, |missed| format!("; {missed}"));
    let evidence = format!("it is {state}, and {desired} is desired{missed}");
    Cause::new(CauseKind::Well, "it is as it should be", evidence)
}
