//! *Lives here:* the check whether the home is as the profiles file declares it.
//!
//! *Does not live here:* carrying the file out (`gatevisor_gateways::declared`).

use gatevisor_gateways::declared::{DriftPolicy, KeptDeclaration, KeptProfile};
use gatevisor_gateways::desired::Desired;
use gatevisor_gateways::profile::ProfileName;

use crate::facts::Facts;
use crate::finding::{Check, Finding, Severity};

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    let Some(kept) = &facts.declared else { return };
    if let Some(why) = &kept.problem {
        let what = "the profiles file does not count, and the last good one does";
        found.push(Finding::new(Check::Declared, Severity::Error, what, why).at(&kept.file));
    }
    for profile in &kept.profiles {
        let Ok(name) = profile.name.parse::<ProfileName>() else { continue };
        found.extend(problem(kept, profile, &name).or_else(|| drift(facts, kept, profile, &name)));
    }
}

fn problem(kept: &KeptDeclaration, profile: &KeptProfile, name: &ProfileName) -> Option<Finding> {
    let why = profile.problem.as_ref()?;
    let what = format!("{name} is not as the profiles file declares it ({})", profile.desired);
    Some(Finding::new(Check::Declared, Severity::Error, &what, why).of(name).at(&kept.file))
}

/// Returns that somebody wants a profile otherwise here, if that is kept. What is reverted is gone
/// at once.
fn drift(
    facts: &Facts,
    kept: &KeptDeclaration,
    profile: &KeptProfile,
    name: &ProfileName,
) -> Option<Finding> {
    if profile.drift != DriftPolicy::Report || facts.is_strange() {
        return None;
    }
    let note = |what: &str, why: &str, fix| {
        Some(Finding::new(Check::Declared, Severity::Note, what, why).of(name).at(&kept.file).fix(fix))
    };
    let declared = kept.set_by.clone().unwrap_or_else(|| "the profiles file".to_owned());
    let Some(here) = facts.profiles.iter().find(|here| here.name == *name) else {
        if facts.may_miss_profiles() {
            return None;
        }
        let what = format!("the profile {name} is declared, and does not exist");
        let why = format!("{declared} declares it, somebody has removed it here, and drift is kept");
        let fix = facts.caller.about(&["profile", "create"], name);
        return note(&what, &why, fix);
    };
    let recorded = here.desired_state.as_ref().ok()?.as_deref();
    if profile.is_met(recorded) {
        return None;
    }
    let word = recorded.unwrap_or("nothing");
    let what = format!("{word} is desired of the gateway of {name}, which is declared {}", profile.desired);
    let why = format!("{declared} declares it, somebody wants it otherwise here, and drift is kept");
    let verb = match profile.desired {
        Desired::Running => "start",
        Desired::Stopped => "stop",
    };
    let fix = facts.caller.about(&["gateway", verb], name);
    note(&what, &why, fix)
}
