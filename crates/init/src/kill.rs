//! Sends signals to our processes, even if the container's root does not have the capability for
//! it.
//!
//! *Lives here:* the sending.
//! *Does not live here:* who gets which signal, and that the process number is still theirs.
//!
//! **Source:** kill(2); capabilities(7), `CAP_KILL`.

use std::os::fd::AsFd;

use gatevisor_sys::Errno;
use rustix::process::{Pid, Signal, Uid, geteuid, kill_process, kill_process_group, pidfd_send_signal};
use rustix::thread::set_thread_res_uid;

/// Sends a signal to a child of ours that is not reaped yet, or with `group` to the group that it
/// leads.
///
/// It is no failure if the process is gone: we are about to learn of its death.
pub(crate) fn kill(pid: Pid, signal: Signal, group: bool) {
    as_allowed(pid, || if group { kill_process_group(pid, signal) } else { kill_process(pid, signal) });
}

/// Sends a signal to any process, by a descriptor that refers to it.
pub(crate) fn kill_held(held: impl AsFd, pid: Pid, signal: Signal) {
    as_allowed(pid, || pidfd_send_signal(&held, signal));
}

/// Kills everything in our PID namespace except us. We are its first process, and `some` are
/// processes in it.
///
/// The kernel does that in one step, during which no process can fork.
pub(crate) fn kill_all(some: &[Pid]) {
    // Group minus one stands for every process.
    let send = || kill_process_group(Pid::INIT, Signal::KILL);
    let _ = send();
    for &pid in some {
        // If we may not send to everybody, this tells whether we may send to one process.
        as_allowed(pid, || kill_process(pid, Signal::KILL).and_then(|()| send()));
    }
}

/// Calls `send` as a user who may send signals to the process.
fn as_allowed(pid: Pid, send: impl Fn() -> Result<(), Errno>) {
    if send() != Err(Errno::PERM) || !geteuid().is_root() {
        return;
    }
    // Without the capability root may not send the signal, but the process's own user may. Our real
    // and saved users are still root, so that user can do nothing to us meanwhile. (If a helper
    // process became the user, the user could stop it, and we would wait for it.)
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
    // The file also holds the process's name, which may be any bytes.
    let status = std::fs::read(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    str::from_utf8(line).ok()?.split_ascii_whitespace().next()?.parse().ok().map(Uid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn a_process_has_an_owner() {
        assert_eq!(owner(rustix::process::getpid()), Some(rustix::process::getuid()));
    }
}
