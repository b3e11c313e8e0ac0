//! *Lives here:* the check whether files of secrets can be read by their gateway and by nobody
//! else.
//!
//! *Does not live here:* their contents (see `shared`).

use super::fixes::aside;
use crate::commands::quote;
use crate::facts::{EnvironmentFile, Facts, ProfileFact};
use crate::finding::{Check, Finding, Severity, shown};

/// The permissions of everybody, and of the group.
const OTHERS: u32 = 0o007;
const GROUP: u32 = 0o070;

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    for profile in &facts.profiles {
        for file in &profile.environment {
            // A file that a user without rights cannot read may well be in order.
            found.extend(problem(profile, file).filter(|_| !facts.is_strange()));
            found.extend(exposure(profile, file));
        }
    }
}

fn problem(profile: &ProfileFact, file: &EnvironmentFile) -> Option<Finding> {
    let (why, is_something_else) = file.problem.as_ref()?;
    let what = format!("`{}` of profile {} cannot be read", shown(&file.path), profile.name);
    let why = format!("{why}; its gateway does not get its keys, ports and tokens");
    let fix =
        if *is_something_else { aside(&file.path) } else { format!("chmod u+r -- {}", quote(&file.path)) };
    let finding = Finding::new(Check::Secret, Severity::Error, &what, &why);
    Some(finding.of(&profile.name).at(&file.path).fix(fix))
}

fn exposure(profile: &ProfileFact, file: &EnvironmentFile) -> Option<Finding> {
    // Something other than a file holds no secrets.
    let is_file = file.problem.as_ref().is_none_or(|(_, is_something_else)| !is_something_else);
    let (severity, who) = match file.mode {
        mode if mode & OTHERS != 0 && file.is_reachable => (Severity::Error, "everybody on this machine"),
        mode if mode & OTHERS != 0 => (Severity::Warning, "everybody who comes to its directory"),
        mode if mode & GROUP != 0 => (Severity::Warning, "its group"),
        _ => return None,
    };
    let what = format!(
        "`{}` of profile {} is open to others (mode {:04o})",
        shown(&file.path),
        profile.name,
        file.mode
    );
    let why = format!("it holds secrets, and {who} can get at them");
    let finding = Finding::new(Check::Secret, severity, &what, &why).of(&profile.name).at(&file.path);
    is_file.then(|| finding.fix(format!("chmod 600 -- {}", quote(&file.path))))
}
