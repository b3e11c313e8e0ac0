//! Processes, and which service each names in its environment.
//!
//! *Lives here:* finding that out.
//! *Does not live here:* which service a process belongs to (`members`).
//!
//! **Source:** proc(5).

use std::cell::OnceCell;
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

/// A process, with what tells which service it is of, as far as we may look into it.
#[derive(Debug)]
struct SeenProcess {
    process: Process,
    may_look: bool,
    /// The service variable in its environment, which is read when it is needed.
    variable: OnceCell<Option<Vec<u8>>>,
    /// The name of its control group, which is read when it is needed.
    group: OnceCell<Option<String>>,
}

impl SeenProcess {
    /// Returns what its environment, and its control group if the service has one, tell about
    /// `service`.
    ///
    /// Leaving a group of the supervisor's requires the supervisor's rights, but every process may
    /// clear its environment.
    fn mark(&self, service: &Member<'_>, own_group: Option<&str>) -> ServiceMark {
        if !self.may_look {
            return ServiceMark::None;
        }
        let pid = self.process.pid;
        let group = || self.group.get_or_init(|| group::name_of(pid)).as_deref();
        if own_group.is_some() && group() == own_group {
            return ServiceMark::This;
        }
        match self.variable().and_then(Member::parse) {
            Some(member) if member.is_of(service) => ServiceMark::This,
            Some(_) => ServiceMark::Other,
            None => ServiceMark::None,
        }
    }

    /// Returns the service variable in its environment, if we may look at that.
    fn variable(&self) -> Option<&[u8]> {
        let read = || {
            let environment = proc::environment(self.process.pid);
            Member::in_environment(&environment).map(|member| member.value())
        };
        self.may_look.then(|| self.variable.get_or_init(read).as_deref()).flatten()
    }
}

/// The processes of one moment, of which any number of services can be told. Each is looked into
/// once.
#[derive(Debug)]
pub struct AllProcesses(Vec<SeenProcess>);

impl AllProcesses {
    /// Returns every process that has not ended.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn now() -> io::Result<Self> {
        let user = rustix::process::geteuid().as_raw();
        let mut all = Vec::new();
        for pid in proc::pids()? {
            // The environments of other users' processes cannot be seen, so nothing is lost by not
            // trying.
            let owner = statat(CWD, format!("/proc/{pid}"), AtFlags::SYMLINK_NOFOLLOW);
            let Some(process) = Process::of(pid) else { continue };
            let may_look = user == 0 || owner.is_ok_and(|owner| owner.st_uid == user);
            let (variable, group) = (OnceCell::new(), OnceCell::new());
            all.push(SeenProcess { process, may_look, variable, group });
        }
        if all.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(Self(all)) }
    }

    /// Returns each with the service variable in its environment, if we may look at that.
    pub(super) fn with_variables(&self) -> Vec<(Process, Option<&[u8]>)> {
        self.0.iter().map(|seen| (seen.process.clone(), seen.variable())).collect()
    }

    /// Returns each with its mark if we may look into it. `group` is the control group of the
    /// service, if it has one.
    pub fn marked(&self, service: &Member<'_>, group: Option<&str>) -> Vec<(Process, ServiceMark)> {
        self.0.iter().map(|seen| (seen.process.clone(), seen.mark(service, group))).collect()
    }
}

/// Returns every process that has not ended, with its mark if we may look into it. `group` is the
/// control group of the service, if it has one.
///
/// # Errors
/// There is no `/proc`.
pub fn all(service: &Member<'_>, group: Option<&str>) -> io::Result<Vec<(Process, ServiceMark)>> {
    Ok(AllProcesses::now()?.marked(service, group))
}

/// Returns the processes that lines name, for tests. Each line is `pid parent session word`.
#[cfg(test)]
pub(super) fn listed(lines: &str) -> Vec<(Process, &str)> {
    fn of(line: &str) -> Option<(Process, &str)> {
        let mut words = line.split_ascii_whitespace();
        let mut number = || words.next()?.parse().ok();
        let (pid, parent, session) = (number()?, number()?, number()?);
        let (began, command, is_stopped) = (5, Vec::new(), false);
        let process = Process {
            pid,
            parent,
            session,
            began,
            command,
            cpu_ms: 0,
            has_memory: true,
            resident_pages: 0,
            is_stopped,
        };
        Some((process, words.next()?))
    }
    lines.lines().filter(|line| !line.trim().is_empty()).map(|line| of(line).expect(line)).collect()
}
