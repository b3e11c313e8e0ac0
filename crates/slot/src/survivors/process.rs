//! Processes, and which service each names in its environment.
//!
//! *Lives here:* finding that out.
//! *Does not live here:* which service a process belongs to (`members`).
//!
//! **Source:** proc(5).

use std::fs;
use std::io;

use gatevisor_sys::proc;
use gatevisor_wire::member::Member;
use rustix::fs::{AtFlags, CWD, statat};

use crate::group;

pub use gatevisor_sys::proc::Process;

/// The service that a process names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceMark {
    /// The service in question.
    This,
    /// Another one.
    Other,
    /// None, or it cannot be seen.
    None,
}

/// Returns what a process's environment, and its control group if the service has one, tell about
/// `service`.
///
/// Leaving a group of the supervisor's requires the supervisor's rights, but every process may
/// clear its environment.
fn mark(pid: i32, service: &Member<'_>, own_group: Option<&str>) -> ServiceMark {
    if own_group.is_some() && group::name_of(pid).as_deref() == own_group {
        return ServiceMark::This;
    }
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    match Member::in_environment(&environment) {
        Some(member) if member.is_of(service) => ServiceMark::This,
        Some(_) => ServiceMark::Other,
        None => ServiceMark::None,
    }
}

/// Returns every process that has not ended, with its mark if we may look into it. `group` is the
/// control group of the service, if it has one.
///
/// # Errors
/// There is no `/proc`.
pub fn all(service: &Member<'_>, group: Option<&str>) -> io::Result<Vec<(Process, ServiceMark)>> {
    let user = rustix::process::geteuid().as_raw();
    let mut all = Vec::new();
    for pid in proc::numbers()? {
        // The environments of other users' processes cannot be seen, so nothing is lost by not
        // trying.
        let owner = statat(CWD, format!("/proc/{pid}"), AtFlags::SYMLINK_NOFOLLOW).map(|stat| stat.st_uid);
        let Some(process) = Process::of(pid) else { continue };
        let may_look = user == 0 || owner.is_ok_and(|owner| owner == user);
        all.push((process, if may_look { mark(pid, service, group) } else { ServiceMark::None }));
    }
    if all.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(all)
}
