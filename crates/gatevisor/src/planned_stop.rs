//! `s6-svc -d` for a gateway: the agent's own command line stops a gateway in this way before it
//! records the desired state.
//!
//! *Lives here:* the further steps of such a stop, besides the command to the supervisor.
//! *Does not live here:* the applet; `gatevisor gateway stop`, which records the desired state
//! itself.
//!
//! The gateway is told in its own home that the stop is intended. The agent's command line does
//! that only in the home of the profile for which it was called; with `--all`, that is one home for
//! all gateways, and the others are not told.
//!
//! The gateway has ended when this returns, unless it takes too long. At its end, it writes the
//! same file in which the desired state is recorded, and the later of the two writers would undo
//! the change of the other.
//!
//! With `--all`, the command line stops one gateway after the other. All of them are told with the
//! first, so that the whole takes only as long as the slowest of them.
//!
//! **Source:** L-3, L-19.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gatevisor_boot::environment::Variable;
use gatevisor_gateways::{ProfileName, ScandirManager, ServiceManager};
use gatevisor_paths::by_path;
use gatevisor_sys::{process, user};
use gatevisor_wire::control::Control;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, WaitOptions, geteuid, getppid, kill_process, pidfd_open, waitpid};

use crate::exit::Exit;
use crate::{enter, out};

/// Milliseconds that a gateway has to end before the caller goes on. Callers give up after five
/// seconds.
const ENDS_WITHIN_MS: &str = "3000";
/// How long the announcement may take that root lets a gateway's owner make.
const OWNER_WITHIN: Timespec = Timespec { tv_sec: 3, tv_nsec: 0 };

/// Stops a gateway of this container; `None` if the service directory belongs to none.
///
/// `run` runs the applet with given arguments, and returns its exit code.
pub fn run(service: &OsStr, run: impl Fn(&[OsString]) -> u8) -> Option<u8> {
    let (manager, name) = gateway_of(Path::new(service))?;
    let others = if all_are_meant() { running(&manager, &name) } else { Vec::new() };
    let announce = || others.iter().chain([&name]).for_each(|name| announce(&manager, name));
    if geteuid().is_root() {
        as_owner(Path::new(service), announce);
    } else {
        announce();
    }
    for other in &others {
        // The command line stops each of the others later, which shows whether this worked.
        let _ = manager.slot(other).send(&[Control::Down]);
    }
    let words = ["-wD", "-T", ENDS_WITHIN_MS, "-d"].map(OsString::from);
    let code = run(&[&words[..], &[service.to_owned()]].concat());
    // The command was sent, which is all that was requested.
    Some(if code == Exit::TimedOut.code() { Exit::Done.code() } else { code })
}

/// Returns the gateway of a service directory in a container, and its manager.
fn gateway_of(service: &Path) -> Option<(ScandirManager, ProfileName)> {
    let name = ProfileName::of_service(service.file_name()?.as_bytes())?;
    let variables: Vec<Variable> = std::env::vars_os().collect();
    let manager = enter::manager(&variables).ok()?;
    (service.parent()? == manager.scandir()).then_some((manager, name))
}

/// Returns whether the calling command line stops all gateways, one after the other.
fn all_are_meant() -> bool {
    let caller = getppid().map(|pid| format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
    let words = caller.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    is_stop_of_all(&words)
}

fn is_stop_of_all(command_line: &[u8]) -> bool {
    let words: Vec<&[u8]> = command_line.split(|&byte| byte == 0).collect();
    words.windows(2).any(|pair| pair == [&b"gateway"[..], b"stop"]) && words.contains(&&b"--all"[..])
}

/// Returns the other gateways that were not told to stop yet.
fn running(manager: &ScandirManager, besides: &ProfileName) -> Vec<ProfileName> {
    let mut names = manager.list().unwrap_or_default();
    names.retain(|name| name != besides && manager.slot(name).status().is_ok_and(|status| status.want_up));
    names
}

fn announce(manager: &ScandirManager, name: &ProfileName) {
    if let Some(problem) = manager.announce_stop(name) {
        out::say(format_args!("warning: {problem}"));
    }
}

/// Runs `job` as the service's user, in a separate process, because root does not write where
/// another user may put links.
fn as_owner(service: &Path, job: impl FnOnce()) {
    let owner = by_path::look_itself(service).ok().and_then(|found| user::lookup_uid(found.uid).ok());
    // A service of root's, or of an unknown user, is only stopped, and its log says that nobody
    // announced the stop.
    let Some(owner) = owner.filter(|owner| owner.uid != 0) else { return };
    let child = process::fork_child(|| {
        if user::assume(&owner).is_ok() {
            job();
        }
        0
    });
    let Ok(child) = child else { return };
    // The child runs as the owner, who may pause it, so the wait has a limit.
    if let Ok(held) = pidfd_open(child, PidfdFlags::empty()) {
        let _ = poll(&mut [PollFd::new(&held, PollFlags::IN)], Some(&OWNER_WITHIN));
        let _ = kill_process(child, Signal::KILL);
    }
    while matches!(waitpid(Some(child), WaitOptions::empty()), Err(Errno::INTR)) {}
}

#[cfg(test)]
mod tests {
    use super::is_stop_of_all;

    #[test]
    fn only_a_stop_of_all_means_all() {
        for (line, expected) in [
            ("python3 hermes gateway stop --all", true),
            ("python3 hermes -p coder gateway stop --all", true),
            ("python3 hermes gateway stop", false),
            ("python3 hermes gateway restart --all", false),
            ("bash -c stop --all gateway", false),
            ("", false),
        ] {
            let line = line.replace(' ', "\0") + "\0";
            assert_eq!(is_stop_of_all(line.as_bytes()), expected, "{line}");
        }
    }
}
