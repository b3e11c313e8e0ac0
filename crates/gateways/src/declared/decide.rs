//! *Lives here:* the decision what is done about one declared profile. No I/O, no clock.
//!
//! *Does not live here:* finding out what is there, and doing it (`apply`).

use super::file::{DeclaredProfile, DriftPolicy};
use crate::desired::Desired;

/// What is found of a declared profile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FoundProfileState {
    /// Whether there is such a profile.
    pub exists: bool,
    /// The word of its recorded desired state, if one is recorded.
    pub recorded: Option<String>,
    /// The declared state that was last carried out here.
    pub applied: Option<Desired>,
    /// Whether a supervisor runs that has no slot for it.
    pub lacks_slot: bool,
}

/// What is done about a declared profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclaredAction {
    /// Nothing: it is as declared.
    Leave,
    /// The profile is made, with the declared state.
    Make,
    /// The declared state is recorded and carried out.
    Set,
    /// Nothing: somebody wants it otherwise here, and that is kept and shown.
    KeepDrift,
}

/// Decides what is done about a profile.
///
/// A declared state that is new is carried out, whatever the policy is: drift is what comes after
/// that.
pub fn decide(declared: &DeclaredProfile, found: &FoundProfileState) -> DeclaredAction {
    let can_run = declared.desired == Desired::Stopped || !found.lacks_slot;
    let is_as_declared = found.recorded.as_deref() == Some(declared.desired.word()) && can_run;
    let is_drift = found.applied == Some(declared.desired);
    match (found.exists, is_as_declared) {
        (true, true) => DeclaredAction::Leave,
        _ if is_drift && declared.drift == DriftPolicy::Report => DeclaredAction::KeepDrift,
        (true, false) => DeclaredAction::Set,
        (false, _) => DeclaredAction::Make,
    }
}

#[cfg(test)]
mod tests {
    use super::DeclaredAction::{KeepDrift, Leave, Make, Set};
    use super::DriftPolicy::{Report, Revert};
    use super::*;
    use crate::desired::Desired::{Running, Stopped};

    #[test]
    fn what_follows_from_what_is_declared_recorded_and_was_carried_out() {
        // Declared, policy, whether the profile exists, recorded, carried out last, and the action.
        for (desired, drift, exists, recorded, applied, action) in [
            // It is as declared, whoever made it so.
            (Running, Revert, true, Some("running"), None, Leave),
            (Stopped, Report, true, Some("stopped"), Some(Stopped), Leave),
            (Running, Report, true, Some("running"), Some(Stopped), Leave),
            // Nothing was carried out yet, or something else was declared then.
            (Running, Revert, true, None, None, Set),
            (Stopped, Report, true, None, None, Set),
            (Running, Report, true, Some("stopped"), None, Set),
            (Running, Report, true, Some("stopped"), Some(Stopped), Set),
            (Stopped, Report, true, Some("running"), Some(Running), Set),
            // Somebody wants it otherwise since.
            (Running, Revert, true, Some("stopped"), Some(Running), Set),
            (Running, Report, true, Some("stopped"), Some(Running), KeepDrift),
            (Stopped, Revert, true, Some("running"), Some(Stopped), Set),
            (Stopped, Report, true, Some("running"), Some(Stopped), KeepDrift),
            (Running, Report, true, Some("paused"), Some(Running), KeepDrift),
            (Running, Report, true, None, Some(Running), KeepDrift),
            // It is not there, or not any more.
            (Running, Revert, false, None, None, Make),
            (Stopped, Report, false, None, None, Make),
            (Running, Revert, false, None, Some(Running), Make),
            (Running, Report, false, None, Some(Running), KeepDrift),
            (Running, Report, false, None, Some(Stopped), Make),
        ] {
            let name = "coder".parse().unwrap();
            let declared = DeclaredProfile { name, desired, drift, env_file: None };
            let recorded = recorded.map(str::to_owned);
            let found = FoundProfileState { exists, recorded, applied, lacks_slot: false };
            assert_eq!(decide(&declared, &found), action, "{desired} {drift} {found:?}");
        }
    }

    #[test]
    fn a_gateway_that_shall_run_and_has_no_slot_is_not_as_declared() {
        for (desired, drift, applied, action) in [
            (Running, Revert, Some(Running), Set),
            (Running, Report, Some(Running), KeepDrift),
            (Running, Report, None, Set),
            (Stopped, Revert, Some(Stopped), Leave),
        ] {
            let declared = DeclaredProfile { name: "coder".parse().unwrap(), desired, drift, env_file: None };
            let recorded = Some(desired.word().to_owned());
            let found = FoundProfileState { exists: true, recorded, applied, lacks_slot: true };
            assert_eq!(decide(&declared, &found), action, "{desired} {drift} {found:?}");
        }
    }
}
