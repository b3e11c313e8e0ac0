//! *Lives here:* the check whether the home and its profiles can be used.
//!
//! *Does not live here:* a full disk (see `disk`), which is a different problem from a refusal; the
//! owners of files.

use std::path::Path;

use super::fixes::aside;
use crate::commands::{command, quote};
use crate::facts::{Facts, HomeState, Refused};
use crate::finding::{Check, Finding, Severity, shown};

/// The most places that may not be looked at and are named. The first ones tell enough.
const MOST_UNREAD: usize = 8;

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    let home = &facts.home.path;
    let name = shown(home);
    let error = |what: &str, why: &str| Finding::new(Check::Home, Severity::Error, what, why).at(home);
    unread(facts, found);
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

/// Adds the places that may not be looked at.
fn unread(facts: &Facts, found: &mut Vec<Finding>) {
    let more = facts.unread.len().saturating_sub(MOST_UNREAD);
    for (index, (path, why)) in facts.unread.iter().take(MOST_UNREAD).enumerate() {
        let is_last = index.saturating_add(1) == MOST_UNREAD;
        let more = if is_last && more > 0 { format!(", and in {more} more places") } else { String::new() };
        let what = format!("uid {} cannot tell what is in `{}`{more}", facts.uid, shown(path));
        let why = format!("{why}; ask as its owner or as root");
        found.push(Finding::new(Check::Home, Severity::Error, &what, &why).at(path));
    }
}

/// Returns the command that makes the directory writable.
///
/// Returns nothing for a read-only file system, because a link in place of a profile would decide
/// which one it is.
fn remedy(facts: &Facts, directory: &Path, refused: &Refused) -> Option<String> {
    let (uid, gid) = facts.home.owner;
    let path = quote(directory);
    if refused.is_read_only {
        None
    } else if facts.uid == uid {
        Some(format!("chmod u+rwx -- {path}"))
    } else {
        // The caller may well be the wrong user, so nothing is given away. The proposed command
        // asks again as the owner.
        let own = facts.caller.command(["doctor"]);
        Some(format!("{} s6 s6-setuidgid {uid}:{gid} {own}", facts.caller.program()))
    }
}
