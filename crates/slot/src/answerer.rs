//! Finds out whether the process that answers on an address belongs to the service.
//!
//! *Lives here:* which sockets are the service's, and the words for the owners of other sockets.
//! *Does not live here:* asking (`probe`); which processes belong to a service
//! (`survivors::members`).
//!
//! An older process on the same port would answer just as well. So an answer counts only if a
//! process of this life of the service has the socket: one that belongs to the service and began no
//! earlier than its main process. If that is unknown, the answer does not count, and the reason is
//! reported.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;

use gatevisor_paths::by_path;
use gatevisor_sys::file::lasting_identity;
use gatevisor_sys::proc::{self, Process};
use gatevisor_sys::tcp::{self, Socket, Sockets};
use gatevisor_wire::member::{self, Member};

use crate::group;
use crate::log::GATEWAY_PREFIX;
use crate::os;
use crate::survivors::members::{Known, Rule};
use crate::survivors::process::{AllProcesses, ServiceMark};

/// A process other than the service's that has a socket. It is displayed as words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketHolder {
    /// Its number, if it may be looked into.
    pub pid: Option<i32>,
    words: String,
}

impl fmt::Display for SocketHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl SocketHolder {
    /// Returns the holder of a socket that is not of the service which `own` names.
    pub fn of(socket: &Socket, own: &Member<'_>) -> Self {
        let has = |pid: &i32| tcp::of_process(*pid).is_ok_and(|inodes| inodes.contains(&socket.inode));
        let process = proc::pids().ok().and_then(|mut all| all.find(has)).and_then(Process::of);
        process.map_or_else(|| Self::hidden(socket), |process| Self::process(&process, own))
    }

    fn process(process: &Process, own: &Member<'_>) -> Self {
        let called = process.called();
        let environment = proc::environment(process.pid);
        let member = Member::in_environment(&environment).filter(|member| member.scandir == own.scandir);
        let words = match member {
            Some(member) if member.name == own.name => {
                format!("{called}, which an earlier start of it has left")
            }
            Some(member) => format!("{}, {called}", service_words(member.name)),
            None => called,
        };
        Self { pid: Some(process.pid), words }
    }

    /// Returns the holder of a socket that no process which we may look into has.
    fn hidden(socket: &Socket) -> Self {
        let words = format!("a process of uid {}, which may not be looked into", socket.uid);
        Self { pid: None, words }
    }
}

/// Returns the words for a service of the same scandir.
fn service_words(service: &[u8]) -> String {
    match service.strip_prefix(GATEWAY_PREFIX) {
        Some(profile) => format!("the gateway of {}", String::from_utf8_lossy(profile)),
        None => format!("the service {}", String::from_utf8_lossy(service)),
    }
}

/// The owner of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// A process of the service itself.
    Own,
    /// Somebody else.
    Another(SocketHolder),
    /// Unknown; the text tells why.
    Unknown(String),
}

/// The service, with what is known of its processes.
#[derive(Debug, Clone)]
pub struct ServiceProcesses {
    /// Its main process; `None` if there is no `/proc`.
    leader: Option<Known>,
    /// The service variable in the environment of its processes; empty if there is none.
    mark: Vec<u8>,
    /// The last answer, and the sockets that it was about, so that the same ones are not looked up
    /// twice.
    known: Option<(Vec<Socket>, Whose)>,
}

impl ServiceProcesses {
    /// Returns the service whose command this process is about to become.
    pub(crate) fn of_this_process(name: &str) -> Self {
        let leader = os::own_pid().and_then(|pid| Process::of(pid.get()));
        let mark = std::env::var_os(member::VARIABLE).map(std::os::unix::ffi::OsStringExt::into_vec);
        // If it was started by hand, or by another supervisor, it may have inherited another
        // service's variable.
        let is_ours =
            |mark: &Vec<u8>| Member::parse(mark).is_some_and(|member| member.name == name.as_bytes());
        Self {
            leader: leader.map(|process| (process.pid, process.began)),
            mark: mark.filter(is_ours).unwrap_or_default(),
            known: None,
        }
    }

    /// Returns the service of a scandir with this running process.
    pub fn of_running(pid: i32, scandir: &Path, name: &str) -> Self {
        let identity = by_path::directory(scandir).and_then(|scandir| lasting_identity(scandir, ""));
        let mark = identity.map(|scandir| {
            let member = Member { scandir: scandir.as_bytes(), supervisor: 0, name: name.as_bytes() };
            member.value()
        });
        let leader = Process::of(pid).map(|process| (process.pid, process.began));
        Self { leader, mark: mark.unwrap_or_default(), known: None }
    }

    /// Returns the owner of these sockets. The service is the owner only if all of them belong to
    /// it.
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

    /// Returns the same by processes that were found before, where these tell it. So one look at
    /// all processes does for many services. Only that the sockets are the service's is believed:
    /// a process may have begun since.
    pub fn whose_among<'a>(
        &mut self,
        sockets: &[Socket],
        all: impl FnOnce() -> Option<&'a AllProcesses>,
    ) -> Whose {
        let marked = || all().map(|all| self.marked(all)).ok_or_else(|| io::ErrorKind::NotFound.into());
        match self.look_at(sockets, marked) {
            Whose::Own => Whose::Own,
            Whose::Another(_) | Whose::Unknown(_) => self.whose(sockets),
        }
    }

    fn look(&self, sockets: &[Socket]) -> Whose {
        self.look_at(sockets, || AllProcesses::now().map(|all| self.marked(&all)))
    }

    fn look_at(
        &self,
        sockets: &[Socket],
        all: impl FnOnce() -> io::Result<Vec<(Process, ServiceMark)>>,
    ) -> Whose {
        let no_proc = || Whose::Unknown("there is no /proc".to_owned());
        let Some(leader) = self.leader else { return no_proc() };
        if is_held_by(leader, sockets) {
            return Whose::Own;
        }
        let Ok(processes) = all() else { return no_proc() };
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
                (Some(holder), _) => Whose::Another(SocketHolder::process(holder, &self.member())),
                (None, Some(pid)) => Whose::Unknown(format!("process {pid} of it may not be looked into")),
                // All its own processes were looked into, and none had it.
                (None, None) if is_open(missing) => Whose::Another(SocketHolder::hidden(missing)),
                (None, None) => Whose::Unknown("the socket was closed meanwhile".to_owned()),
            },
        }
    }

    fn member(&self) -> Member<'_> {
        Member::parse(&self.mark).unwrap_or(NOBODY)
    }

    /// Returns every process, and whether its environment says that it belongs to the service.
    fn marked(&self, all: &AllProcesses) -> Vec<(Process, ServiceMark)> {
        let group = self.leader.and_then(|(pid, _)| group::name_of(pid));
        let mut processes = all.marked(&self.member(), group.as_deref());
        if self.mark.is_empty() {
            for (_, mark) in &mut processes {
                *mark = ServiceMark::None;
            }
        }
        processes
    }
}

/// Names no service.
const NOBODY: Member<'_> = Member { scandir: b"", supervisor: 0, name: b"" };

/// Returns whether this process, if it still is the one that was known, has all of these sockets.
/// That spares a look at all others.
fn is_held_by((pid, began): Known, sockets: &[Socket]) -> bool {
    let Ok(inodes) = tcp::of_process(pid) else { return false };
    !sockets.is_empty()
        && sockets.iter().all(|socket| inodes.contains(&socket.inode))
        && Process::of(pid).is_some_and(|process| process.began == began)
}

/// Returns the sockets that these processes have, and one process into which we may not look, if
/// there is one.
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

/// Returns whether a socket is still there.
fn is_open(socket: &Socket) -> bool {
    Sockets::now().is_ok_and(|sockets| sockets.has(socket.inode))
}

fn holder<'a>(processes: &'a [(Process, ServiceMark)], socket: &Socket) -> Option<&'a Process> {
    let has = |pid| tcp::of_process(pid).is_ok_and(|inodes| inodes.contains(&socket.inode));
    processes.iter().map(|(process, _)| process).find(|process| has(process.pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use gatevisor_sys::socket;

    #[test]
    fn a_socket_that_none_of_its_processes_has_is_anothers_also_where_nobody_shows_whose() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = Sockets::now().unwrap().listeners(listener.local_addr().unwrap());
        let own = i32::try_from(std::process::id()).unwrap();
        let place = tempfile::tempdir().unwrap();
        let of_running = || ServiceProcesses::of_running(own, place.path(), "gateway-a");
        assert_eq!(of_running().whose(&sockets), Whose::Own);
        let (in_flight, hidden) = in_flight(TcpListener::bind("127.0.0.1:0").unwrap());
        let whose = of_running().whose(&hidden);
        let Whose::Another(holder) = whose else { panic!("{whose:?}") };
        let words = format!("a process of uid {}, which may not be looked into", hidden[0].uid);
        assert_eq!((holder.pid, holder.to_string()), (None, words));
        let shared = [sockets, hidden.clone()].concat();
        assert!(matches!(of_running().whose(&shared), Whose::Another(_)), "a part is not the whole");
        drop(in_flight);
        let whose = of_running().whose(&hidden);
        assert_eq!(whose, Whose::Unknown("the socket was closed meanwhile".to_owned()));
    }

    #[test]
    fn one_look_at_all_processes_does_for_many_services_and_a_process_of_later_is_found_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = Sockets::now().unwrap().listeners(listener.local_addr().unwrap());
        let own = i32::try_from(std::process::id()).unwrap();
        let place = tempfile::tempdir().unwrap();
        let before = AllProcesses::now().unwrap();
        let of_running = || ServiceProcesses::of_running(own, place.path(), "gateway-a");
        let unneeded = || unreachable!("the main process has it");
        assert_eq!(of_running().whose_among(&sockets, unneeded), Whose::Own);
        rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
        let mark = std::ffi::OsString::from(String::from_utf8(of_running().mark).unwrap());
        let mut child =
            std::process::Command::new("sleep").arg("1000").env(member::VARIABLE, &mark).spawn().unwrap();
        // The kernel lets it go on before its environment is there.
        let pid = i32::try_from(child.id()).unwrap();
        let has_mark =
            || proc::environment(pid).windows(mark.len()).any(|part| part == mark.as_encoded_bytes());
        while !has_mark() {
            std::thread::yield_now();
        }
        drop(listener);
        let now = AllProcesses::now().unwrap();
        let mut looks = 0;
        let found = [&now, &now, &before].map(|all| {
            of_running().whose_among(&sockets, || {
                looks += 1;
                Some(all)
            })
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((found, looks), ([Whose::Own, Whose::Own, Whose::Own], 3));
    }

    /// Sends a listener to a socket that nobody reads, so that no process has a descriptor of it.
    /// It is closed with what is returned beside its sockets.
    fn in_flight(listener: TcpListener) -> ((UnixStream, UnixStream), Vec<Socket>) {
        let (from, to) = UnixStream::pair().unwrap();
        socket::send_with_fds(&from, b"x", &[listener.as_fd()]).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        ((from, to), Sockets::now().unwrap().listeners(address))
    }

    #[test]
    fn the_holder_of_a_socket_is_called_after_its_service() {
        let own = Process::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert_eq!(service_words(b"gateway-writer"), "the gateway of writer");
        assert_eq!(service_words(b"dashboard"), "the service dashboard");
        assert_eq!(SocketHolder::process(&own, &NOBODY).pid, Some(own.pid));
    }
}
