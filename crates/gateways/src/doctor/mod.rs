//! *Lives here:* `doctor`: what is wrong with a home and its scandir, why, and the command that fixes it.
//!
//! *Does not live here:* printing it.
//!
//! First everything is found out (`gather`), without waiting for anybody for long and without leaving anything behind;
//! then each check is a function of what was found out, in a file of its own.

pub(crate) mod condition;
mod deaths;
mod desired;
mod disk;
pub(crate) mod facts;
pub(crate) mod finding;
pub(crate) mod fix;
pub(crate) mod gather;
mod home;
mod locks;
mod owners;
mod secrets;
mod shared;
mod slots;
mod supervisor;
#[cfg(test)]
pub(crate) mod table;

use facts::{Facts, Presence};

pub use finding::{Check, Finding, Severity};
pub use fix::Caller;
pub use gather::{DoctorSettings, SeenSupervisor, owner_of};

/// What was found, and what was looked at for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
    /// What was looked at, in words.
    pub looked_at: String,
}

impl Diagnosis {
    /// Returns how many findings are this bad.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// Finds out what is wrong.
pub fn diagnose(settings: &DoctorSettings<'_>) -> Diagnosis {
    let facts = gather::gather(settings);
    Diagnosis { findings: examine(&facts), looked_at: looked_at(&facts) }
}

/// Returns what follows from the facts, the worst first.
pub(crate) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let checks = [
        supervisor::check,
        home::check,
        disk::check,
        owners::check,
        secrets::check,
        desired::check,
        slots::check,
        deaths::check,
        shared::check,
        locks::check,
    ];
    for check in checks {
        check(facts, &mut found);
    }
    for finding in &mut found {
        finding.fix = finding.fix.take().map(|line| fix::bound(facts, line));
    }
    // Findings of one severity stay in the order of the checks: causes come before what follows from them.
    found.sort_by_key(|finding| finding.severity);
    found
}

fn looked_at(facts: &Facts) -> String {
    let supervision = &facts.supervision;
    let supervisor = match (&supervision.presence, &supervision.program, supervision.pid) {
        (Presence::Supervised, Some(program), Some(pid)) => {
            format!("the supervisor ({program}, process {pid})")
        }
        (Presence::Supervised, Some(program), None) => format!("the supervisor ({program})"),
        _ => "the supervisor".to_owned(),
    };
    let counted = |count: usize, thing: &str| match count {
        1 => format!("1 {thing}"),
        many => format!("{many} {thing}s"),
    };
    finding::plain(&format!(
        "{supervisor}, the home `{}`, {}, {}, owners, secrets, desired states, ports, tokens, logs, deaths, disks and locks",
        facts.home.path.display(),
        counted(facts.profiles.len(), "profile"),
        counted(facts.services.len(), "slot"),
    ))
}
