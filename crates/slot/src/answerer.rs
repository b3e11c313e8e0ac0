//! Whether whoever answers on an address is the service itself.
//!
//! *Lives here:* which sockets are the service's, and words about whose they are otherwise.
//! *Does not live here:* asking (`probe`); who belongs to a service (`survivors::members`).
//!
//! An older process on the same port answers as well as the service would. So an answer counts only where a process of this
//! life of the service has the socket: one that belongs to it, and began no earlier than its own process. Where that cannot
//! be told, the answer does not count, and why is said.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use gatevisor_paths::by_path;
use gatevisor_sys::file::lasting_identity;
use gatevisor_sys::proc::Process;
use gatevisor_sys::tcp::{self, Socket};
use gatevisor_wire::member::{self, Member};

use crate::group;
use crate::os;
use crate::survivors::members::{Known, Rule};
use crate::survivors::process::{ServiceMark, all};

/// Whose a socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// The service's.
    Own,
    /// Somebody else's, in words.
    Another(String),
    /// That cannot be told, and why.
    Unknown(String),
}

/// The service, as its processes are known.
#[derive(Debug, Clone)]
pub struct ServiceProcesses {
    /// Its process; `None` where there is no `/proc`.
    leader: Option<Known>,
    /// What the environment of its processes says; empty where nothing does.
    mark: Vec<u8>,
    /// The last answer, and which sockets it was about: the same ones are not looked for twice.
    known: Option<(Vec<Socket>, Whose)>,
}

impl ServiceProcesses {
    /// Returns the service whose process this is about to become.
    pub(crate) fn of_this_process(name: &str) -> Self {
        let leader = os::own_pid().and_then(|pid| Process::of(pid.get()));
        let mark = std::env::var_os(member::VARIABLE).map(std::os::unix::ffi::OsStringExt::into_vec);
        // Started by hand, or by another supervisor, it may have inherited what something else is known by.
        let is_ours =
            |mark: &Vec<u8>| Member::parse(mark).is_some_and(|member| member.name == name.as_bytes());
        Self {
            leader: leader.map(|process| (process.pid, process.began)),
            mark: mark.filter(is_ours).unwrap_or_default(),
            known: None,
        }
    }

    /// Returns the service of a scandir whose process runs.
    pub fn of_running(pid: i32, scandir: &Path, name: &str) -> Self {
        let identity = by_path::directory(scandir).and_then(|scandir| lasting_identity(scandir, ""));
        let mark = identity.map(|scandir| {
            let member = Member { scandir: scandir.as_bytes(), supervisor: 0, name: name.as_bytes() };
            member.assignment().split_off(member::VARIABLE.len().saturating_add(1))
        });
        let leader = Process::of(pid).map(|process| (process.pid, process.began));
        Self { leader, mark: mark.unwrap_or_default(), known: None }
    }

    /// Returns whose these sockets are; they are the service's where all of them are.
    pub fn whose(&mut self, sockets: &[Socket]) -> Whose {
        match &self.known {
            Some((known, whose)) if known == sockets => whose.clone(),
            _ => {
                let whose = self.look(sockets);
                let lasts = !matches!(whose, Whose::Unknown(_));
                self.known = lasts.then(|| (sockets.to_vec(), whose.clone()));
                whose
            }
        }
    }

    fn look(&self, sockets: &[Socket]) -> Whose {
        let no_proc = || Whose::Unknown("there is no /proc".to_owned());
        let Some(leader) = self.leader else { return no_proc() };
        let Ok(processes) = self.processes() else { return no_proc() };
        let rule = Rule { leader: Some(leader), ..Rule::default() };
        let mut own = rule.members(&processes);
        own.retain(|process| process.began >= leader.1);
        let (inodes, hidden) = inodes_of(&own);
        match sockets.iter().find(|socket| !inodes.contains(&socket.inode)) {
            None if sockets.is_empty() => {
                Whose::Unknown("/proc/net/tcp does not show the sockets of this machine".to_owned())
            }
            None => Whose::Own,
            Some(missing) => match (holder(&processes, missing), hidden) {
                (Some(holder), _) => Whose::Another(holder.called()),
                (None, Some(pid)) => Whose::Unknown(format!("process {pid} of it may not be looked into")),
                (None, None) => stranger(missing),
            },
        }
    }

    /// Returns every process, and whether it says that it belongs to the service.
    fn processes(&self) -> io::Result<Vec<(Process, ServiceMark)>> {
        let nobody = Member { scandir: b"", supervisor: 0, name: b"" };
        let member = Member::parse(&self.mark);
        let group = self.leader.and_then(|(pid, _)| group::name_of(pid));
        let mut processes = all(&member.unwrap_or(nobody), group.as_deref())?;
        if member.is_none() {
            for (_, mark) in &mut processes {
                *mark = ServiceMark::None;
            }
        }
        Ok(processes)
    }
}

/// Returns the sockets that these processes have, and one of them that may not be looked into, if there is one.
fn inodes_of(processes: &[&Process]) -> (BTreeSet<u64>, Option<i32>) {
    let (mut inodes, mut hidden) = (BTreeSet::new(), None);
    for process in processes {
        match tcp::of_process(process.pid) {
            Ok(more) => inodes.extend(more),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => hidden = Some(process.pid),
            // It has ended.
            Err(_) => {}
        }
    }
    (inodes, hidden)
}

fn holder<'a>(processes: &'a [(Process, ServiceMark)], socket: &Socket) -> Option<&'a Process> {
    let has = |pid| tcp::of_process(pid).is_ok_and(|inodes| inodes.contains(&socket.inode));
    processes.iter().map(|(process, _)| process).find(|process| has(process.pid))
}

/// Returns whose a socket is that no process has that may be looked into.
fn stranger(socket: &Socket) -> Whose {
    if socket.uid == rustix::process::geteuid().as_raw() {
        Whose::Unknown(format!("nobody who may be looked into has the socket on {}", socket.local))
    } else {
        Whose::Another(format!("a process of uid {}", socket.uid))
    }
}
