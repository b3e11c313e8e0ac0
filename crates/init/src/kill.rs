//! Sending signals to processes of ours, also where the container took the capability for it from root.
//!
//! *Lives here:* the sending. *Does not live here:* who gets which signal, and that the number is still theirs.
//!
//! **Source:** kill(2); capabilities(7), `CAP_KILL`.

use gatevisor_sys::Errno;
use rustix::process::{Pid, Signal, Uid, geteuid, kill_process, kill_process_group};
use rustix::thread::set_thread_res_uid;

/// Sends a signal to a child of ours that is not reaped yet, or with `group` to the group that it leads.
///
/// A process that is gone is no failure: its death is on its way to us.
pub(crate) fn kill(pid: Pid, signal: Signal, group: bool) {
    let send = || if group { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
    if send() != Err(Errno::PERM) || !geteuid().is_root() {
        return;
    }
    // Root without the capability may not, but its own user may. We are still root by our real and saved user, so that
    // user can do nothing to us meanwhile; a helper process that became the user could be stopped by it, and we with it.
    let Some(owner) = owner(pid) else { return };
    let root = geteuid();
    if set_thread_res_uid(root, owner, root).is_ok() {
        let _ = send();
        // Root may always become root again.
        let _ = set_thread_res_uid(root, root, root);
    }
}

/// Returns the real user of a process.
fn owner(pid: Pid) -> Option<Uid> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok().map(Uid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn a_process_has_an_owner() {
        assert_eq!(owner(rustix::process::getpid()), Some(rustix::process::getuid()));
    }
}
