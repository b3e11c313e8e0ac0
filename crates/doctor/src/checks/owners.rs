//! *Lives here:* the check whether everything in the home belongs to the home's owner.
//!
//! *Does not live here:* files of the agent that we do not know.

use std::path::PathBuf;

use super::fixes::give;
use crate::facts::Facts;
use crate::finding::{Check, Finding, Severity, shown};

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    let (uid, _) = facts.home.owner;
    // Entries below a tree that is given away as a whole are not reported separately.
    let mut trees: Vec<&PathBuf> = Vec::new();
    // A volume that Kubernetes gave to a group is root's, and works like one's own.
    for entry in facts.entries.iter().filter(|entry| entry.owner.0 != uid && !entry.is_shared) {
        if trees.iter().any(|tree| entry.path.starts_with(tree)) {
            continue;
        }
        let what = format!("`{}` belongs to uid {}", shown(&entry.path), entry.owner.0);
        let why = format!("gateways run as uid {uid}, which can neither replace it nor, perhaps, read it");
        let fix = give(facts, &entry.path);
        let mut finding = Finding::new(Check::Owner, Severity::Error, &what, &why).at(&entry.path).fix(fix);
        finding.profile.clone_from(&entry.profile);
        found.push(finding);
        if entry.is_directory {
            trees.push(&entry.path);
        }
    }
}
