//! *Lives here:* the check whether the home and its profiles can be worked in.
//!
//! *Does not live here:* a full disk (see `disk`), which is another thing than a refusal; whose files are whose.

use std::path::Path;

use super::fixes::aside;
use crate::commands::{command, quote};
use crate::facts::{Facts, HomeState, Refused};
use crate::finding::{Check, Finding, Severity, shown};

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    let home = &facts.home.path;
    let name = shown(home);
    let error = |what: &str, why: &str| Finding::new(Check::Home, Severity::Error, what, why).at(home);
    for (path, why) in &facts.unread {
        let what = format!("`{}` cannot be listed", shown(path));
        found.push(Finding::new(Check::Home, Severity::Error, &what, why).at(path));
    }
    match &facts.home.state {
        HomeState::Missing => {
            let finding = error(
                &format!("there is no home `{name}`"),
                "every profile, desired state and log is below it",
            );
            return found.push(finding.fix(command([
                Path::new("mkdir"),
                Path::new("-p"),
                Path::new("--"),
                home,
            ])));
        }
        HomeState::NotADirectory => {
            let finding = error(&format!("the home `{name}` is no directory"), "something else has its name");
            return found.push(finding.fix(aside(home)));
        }
        HomeState::Unwritable(refused) => {
            let what = format!("uid {} cannot write to the home `{name}`", facts.uid);
            found.push(error(&what, &refused.why).fix(remedy(facts, home, refused)));
        }
        HomeState::Writable => {}
    }
    for profile in &facts.profiles {
        // The root profile's home is the home.
        let Some(refused) = profile.refused.as_ref().filter(|_| !profile.name.is_root()) else { continue };
        let what = format!("uid {} cannot write to the home of profile {}", facts.uid, profile.name);
        let finding = Finding::new(Check::Home, Severity::Error, &what, &refused.why);
        found.push(finding.of(&profile.name).at(&profile.home).fix(remedy(facts, &profile.home, refused)));
    }
    for (name, reason) in &facts.misnamed {
        let what = format!("`{name}` would be a profile but for its name");
        found.push(Finding::new(Check::Home, Severity::Warning, &what, reason));
    }
}

/// Returns what lets the directory be written to.
///
/// Nothing where it is a file system that is read-only: which one that is, a link in a profile's place would decide.
fn remedy(facts: &Facts, directory: &Path, refused: &Refused) -> Option<String> {
    let (uid, gid) = facts.home.owner;
    let path = quote(directory);
    if refused.is_read_only {
        None
    } else if facts.uid == uid {
        Some(format!("chmod u+rwx -- {path}"))
    } else {
        // Whoever asked may well be the wrong one, so nothing is given away: it is asked again as the owner.
        let own = facts.caller.command(["doctor"]);
        Some(format!("{} s6 s6-setuidgid {uid}:{gid} {own}", facts.caller.program()))
    }
}
