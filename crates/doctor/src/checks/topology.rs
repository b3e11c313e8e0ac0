//! *Lives here:* the check whether exactly one gateway serves each profile, and whether it is known
//! which.
//!
//! *Does not live here:* a profile that should run but that no gateway serves: its gateway is down
//! (`deaths`).

use gatevisor_gateways::agent::ServedFrom;

use crate::facts::{Facts, ServiceFact};
use crate::finding::{Check, Finding, Severity};

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    found.extend(facts.services.iter().filter_map(|service| twice(facts, service)));
    // A file that a user without rights cannot read may well be in order.
    if !facts.is_strange() {
        found.extend(facts.services.iter().filter_map(unknown));
    }
}

fn twice(facts: &Facts, service: &ServiceFact) -> Option<Finding> {
    let name = service.observed.profile.as_ref()?;
    let served = service.report.served.as_ref().filter(|_| service.report.is_up())?;
    let own = service.report.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    let what =
        format!("two gateways serve {name}: its own{own}, and that of {} (pid {})", served.by, served.pid);
    let why = "each message goes to only one of them";
    let fix = match service.report.served_from {
        // The other gateway reads what it serves when it starts.
        ServedFrom::Own => facts.caller.about(&["gateway", "restart"], &served.by),
        ServedFrom::Server | ServedFrom::Nobody => {
            let verb = |verb| facts.caller.about(&["gateway", verb], name);
            format!("{} && {}", verb("stop"), verb("start"))
        }
    };
    let finding = Finding::new(Check::Topology, Severity::Error, &what, why);
    Some(finding.of(name).fix(fix))
}

fn unknown(service: &ServiceFact) -> Option<Finding> {
    let name = service.observed.profile.as_ref()?;
    let why = service.report.topology_problem.as_ref()?;
    let what = if name.is_root() {
        format!("it is not known whether the gateway of {name} should serve other profiles")
    } else {
        format!("it is not known which gateway should serve {name}")
    };
    let why = format!("{why}; what was known last counts, if anything was");
    Some(Finding::new(Check::Topology, Severity::Warning, &what, &why).of(name))
}
