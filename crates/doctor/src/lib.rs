//! Finds what is wrong with a home and its scandir, and why one gateway is in its present state.
//!
//! *Lives here:* `doctor` and `explain`: finding out the facts (`gather`), judging them (`checks`,
//! `problem`), and the commands that fix what was found (`commands`). `explain` is built on the
//! same facts and judgements.
//!
//! *Does not live here:* printing (`gatevisor`); profiles, services and managers
//! (`gatevisor-gateways`).
//!
//! *May depend on it:* only the binary.
//!
//! All facts are gathered first. Gathering never waits long and leaves nothing behind. Then each
//! check is a function of the facts, in a file of its own.
#![forbid(unsafe_code)]

mod checks;
mod commands;
pub mod explain;
pub mod facts;
mod finding;
mod gather;
mod problem;

use facts::{Facts, Presence};

pub use checks::examine;
pub use commands::{Caller, quote};
pub use finding::{Check, Finding, Severity};
pub use gather::{
    DoctorSettings, SeenSupervisor, SystemdUnit, container_boots, lock_holder, lost_supervisor, owner_of,
    scandir_of, sees_our_files, unit_of, words_of,
};

/// The findings, and what was examined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The findings, the worst first.
    pub findings: Vec<Finding>,
    /// A sentence for people that lists what was examined.
    pub looked_at: String,
}

impl Diagnosis {
    /// Returns how many findings have this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// Gathers the facts and returns the findings.
pub fn diagnose(settings: &DoctorSettings<'_>) -> Diagnosis {
    let facts = gather::gather(settings);
    Diagnosis { findings: examine(&facts), looked_at: looked_at(&facts) }
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
