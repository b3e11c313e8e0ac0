//! *Lives here:* the fixes that several checks propose, and the rights that each fix runs with.
//!
//! *Does not live here:* quoting (`crate::commands`).

use std::ffi::OsStr;
use std::path::Path;

use crate::commands::quote;
use crate::facts::Facts;

/// Returns a fix that the operator may paste: commands of other programs run with the rights of the
/// home's owner.
///
/// The operator may be root, and the home's owner controls where a path in the home leads: `sed
/// -i`, `>>`, `chmod` and `rm` with root's rights would follow. Also, with the owner's rights a
/// command cannot end another user's process, whatever number a file of the owner names. Our own
/// commands protect themselves.
pub(super) fn bound(facts: &Facts, line: String) -> String {
    let is_ours = line.starts_with(&format!("{} ", facts.caller.program()));
    if !facts.operator_is_root || facts.home.owner.0 == 0 || is_ours {
        return line;
    }
    let (uid, gid) = facts.home.owner;
    let owner = format!("{uid}:{gid}");
    facts.caller.command(["as-owner", &owner, "sh", "-c", &line])
}

/// Returns the command that gives an entry of the home to its owner. Only root can run it, and it
/// walks the tree without following links.
pub(super) fn give(facts: &Facts, path: &Path) -> String {
    let (uid, gid) = facts.home.owner;
    facts.caller.command([OsStr::new("give-back"), OsStr::new(&format!("{uid}:{gid}")), path.as_os_str()])
}

/// Returns the command that moves a file out of the way without destroying it.
pub(super) fn aside(path: &Path) -> String {
    let mut other = path.as_os_str().to_owned();
    other.push(".aside");
    format!("mv -n -- {} {}", quote(path), quote(other))
}
