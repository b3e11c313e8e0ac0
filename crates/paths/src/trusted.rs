//! The users whom this process trusts.
//!
//! *Lives here:* whose directories and processes this process may follow.
//! *Does not live here:* the consequences (`home`, `resolve`).

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::geteuid;

use crate::look::{look, pinned};

/// The owner shown for files whose owner is unknown in this user namespace.
const OVERFLOW: u32 = 65_534;

/// If a path begins with the root directory of a process of ours or of root's (`/proc/PID/root`),
/// returns that directory and the rest of the path.
///
/// It is the one link of `/proc` that an operator names on purpose: the way into a container from
/// outside.
pub fn root_of_a_process(path: &Path) -> Option<(OwnedFd, &Path)> {
    let mut parts = path.components();
    let begin = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let [Component::RootDir, Component::Normal(proc), Component::Normal(pid), Component::Normal(root)] =
        begin
    else {
        return None;
    };
    let is_number = pid.as_bytes().iter().all(u8::is_ascii_digit);
    if proc != "proc" || root != "root" || !is_number {
        return None;
    }
    let link = Path::new("/proc").join(pid).join(root);
    let is_trusted = look(pinned(CWD, &link).ok()?).is_ok_and(|seen| is_trusted(seen.uid));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = is_trusted.then(|| openat(CWD, &link, flags, Mode::empty()))?;
    Some((opened.ok()?, parts.as_path()))
}

/// Returns whether a user is root or the user of this process, whose processes could do everything
/// that we do.
pub fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw() || is_root_outside(uid)
}

/// Returns whether this is how the machine's root appears in a user namespace that does not contain
/// it.
///
/// **Source:** `user_namespaces(7)`, "Unmapped user and group IDs".
fn is_root_outside(uid: u32) -> bool {
    let covers = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().filter_map(|word| word.parse::<u64>().ok());
        let (first, _, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some((first..first.saturating_add(count)).contains(&u64::from(uid)))
    };
    uid == OVERFLOW
        && std::fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| !map.lines().any(|line| covers(line).unwrap_or(true)))
}
