//! *Lives here:* why a gateway is as it is: the causes, the one to look at first before all others.
//!
//! *Does not live here:* finding out what they go by (`gather`); what to do about them (`remedy`).
//!
//! Each step is asked in turn. What stands before a gateway (who runs it, whether it shall run) explains more than what it
//! did itself, and what is wrong beside it explains least.

mod ends;
mod intent;
mod place;
mod printed;
mod process;
mod starts;

use serde::Serialize;

use super::kind::CauseKind;
use super::subject::Subject;

/// A cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Which.
    pub cause: CauseKind,
    /// What is so, as a sentence without its subject's name.
    pub what: String,
    /// What shows it: what was read, and where.
    pub evidence: String,
}

impl Cause {
    pub(super) fn new(cause: CauseKind, what: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self { cause, what: what.into(), evidence: evidence.into() }
    }
}

/// Returns the causes, the first before all others; there is always one.
pub(super) fn of(subject: &Subject) -> Vec<Cause> {
    let steps = [
        place::permission,
        place::elsewhere,
        place::served,
        place::orphans,
        place::profile,
        intent::of,
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
    Cause::new(CauseKind::Well, "it is as it should be", format!("it is {state}, and {desired} is desired"))
}
