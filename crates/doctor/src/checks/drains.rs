//! *Lives here:* the check whether gateways take work, and do not ask for their own restart again
//! and again.
//!
//! *Does not live here:* a gateway that does not run (`deaths`).

use crate::facts::{Facts, ServiceFact};
use crate::finding::{Check, Finding, Severity};

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    found.extend(facts.services.iter().filter_map(|service| drained(facts, service)));
    found.extend(facts.services.iter().filter_map(|service| asks_again(facts, service)));
}

fn drained(facts: &Facts, service: &ServiceFact) -> Option<Finding> {
    let (name, drain) = (service.observed.profile.as_ref()?, service.report.drain.as_ref()?);
    let what = format!("{name} takes no new work: somebody drains it");
    let finding = if let Some(until) = &drain.until {
        let why = format!("{}, until {until} at the most", drain.by);
        Finding::new(Check::Drain, Severity::Note, &what, &why)
    } else {
        let why = format!("{}; nothing ends that by itself", drain.by);
        let cancel = facts.caller.about(&["gateway", "drain", "--cancel"], name);
        Finding::new(Check::Drain, Severity::Warning, &what, &why).fix(cancel)
    };
    Some(finding.of(name).at(&service.path))
}

fn asks_again(facts: &Facts, service: &ServiceFact) -> Option<Finding> {
    let (name, ticket) = (service.observed.profile.as_ref()?, service.report.asked_restart.as_ref()?);
    let until = ticket.not_before.as_ref().filter(|_| ticket.is_pending())?;
    let what =
        format!("{name} asks for its own restart again and again: {} times in the last hour", ticket.recent);
    let reason = ticket.reason.as_deref().unwrap_or("it does not say why");
    let why = format!("{reason}; the next restart waits until {until}");
    let look = facts.caller.about(&["logs", "-n", "50"], name);
    let finding = Finding::new(Check::Crash, Severity::Warning, &what, &why).of(name).at(&service.path);
    Some(finding.said(service.report.lines.since_ended()).fix(look))
}
