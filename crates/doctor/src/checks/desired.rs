//! *Lives here:* the check whether state files hold a desired state.
//!
//! *Does not live here:* reading them (`gatevisor_gateways::desired`).

use crate::facts::Facts;
use crate::finding::{Check, Finding, Severity};

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    // A file that a user without rights cannot read may well be in order.
    if facts.is_strange() {
        return;
    }
    for profile in &facts.profiles {
        let Err(reason) = &profile.desired_state else { continue };
        let what = format!("what is desired of the gateway of {} cannot be read", profile.name);
        let why = format!("{reason}; at the next boot it stays down");
        // Recording a desired state moves a bad file aside. The desired state is taken from what
        // runs now.
        let is_up = facts.slot(&profile.name).is_some_and(|slot| slot.report.is_up());
        let verb = if is_up { "start" } else { "stop" };
        let fix = facts.caller.about(&["gateway", verb], &profile.name);
        let finding = Finding::new(Check::DesiredState, Severity::Warning, &what, &why);
        found.push(finding.of(&profile.name).at(&profile.state_file).fix(fix));
    }
}
