//! *Lives here:* the checks, each of which turns the facts into findings.
//!
//! *Does not live here:* gathering the facts (`crate::gather`).

mod deaths;
mod declared;
mod desired;
mod disk;
mod drains;
mod fixes;
mod home;
mod locks;
mod owners;
mod secrets;
mod shared;
mod slots;
mod supervisor;
mod topology;

use crate::facts::Facts;
use crate::finding::Finding;

/// Returns the findings that follow from the facts, the worst first.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let checks = [
        supervisor::check,
        home::check,
        disk::check,
        owners::check,
        secrets::check,
        desired::check,
        declared::check,
        slots::check,
        topology::check,
        deaths::check,
        drains::check,
        shared::check,
        locks::check,
    ];
    for check in checks {
        check(facts, &mut found);
    }
    for finding in &mut found {
        finding.fix = finding.fix.take().map(|line| fixes::bound(facts, line));
    }
    // Findings of one severity stay in the order of the checks: causes come before their
    // consequences.
    found.sort_by_key(|finding| finding.severity);
    found
}
