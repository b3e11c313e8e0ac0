//! Sending signals to processes of ours, also where the container took the capability for it from root.
//!
//! *Lives here:* the sending. *Does not live here:* who gets which signal, and that the number is still theirs.
//!
//! **Source:** kill(2); capabilities(7), `CAP_KILL`.

use gatevisor_sys::user::{self, User};
use gatevisor_sys::{Errno, process};
use rustix::process::{Pid, Signal, WaitOptions, geteuid, kill_process, kill_process_group, waitpid};

/// Sends a signal to a child of ours that is not reaped yet, or with `group` to the group that it leads.
///
/// A process that is gone is no failure: its death is on its way to us.
pub(crate) fn kill(pid: Pid, signal: Signal, group: bool) {
    let send = || if group { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
    if send() != Err(Errno::PERM) || !geteuid().is_root() {
        return;
    }
    // Root without the capability may not, but its own user may.
    let Some((uid, gid)) = owner(pid) else { return };
    let owner = User { uid, gid, name: Vec::new(), home: Vec::new(), groups: vec![gid] };
    let helper = process::fork_child(|| {
        if user::assume(&owner).is_ok() {
            let _ = send();
        }
        0
    });
    // It makes a handful of system calls. Until it has, nobody else may get the number that it signals.
    if let Ok(helper) = helper {
        while matches!(waitpid(Some(helper), WaitOptions::empty()), Err(Errno::INTR)) {}
    }
}

/// Returns the real user and group of a process.
fn owner(pid: Pid) -> Option<(u32, u32)> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    Some((number("Uid:")?, number("Gid:")?))
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn a_process_has_an_owner() {
        let ours = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        assert_eq!(owner(rustix::process::getpid()), Some(ours));
    }
}
