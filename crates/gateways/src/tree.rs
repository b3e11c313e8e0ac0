//! The processes of services: which belong to each, and what they use.
//!
//! *Lives here:* finding them for any number of services in one pass. *Does not live here:* the
//! rule (`gatevisor-slot`, `survivors::members`), ending them, tables.
//!
//! A process is recognized by its control group, by its session, or by its ancestors. Only a
//! process that has none of these, because it went to the background, is recognized by its
//! environment. That is in the memory of the process, and reading it can take long. So a thread
//! reads it, and processes whose environment does not come in time are left out.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gatevisor_paths::by_path;
use gatevisor_slot::group;
use gatevisor_slot::survivors::members::{Membership, allot};
use gatevisor_sys::file::lasting_identity;
use gatevisor_sys::proc::{self, Process};
use gatevisor_wire::Pid;
use gatevisor_wire::member::Member;
use rustix::param::page_size;

/// How long environments are waited for.
const ENVIRONMENTS: Duration = Duration::from_secs(5);

/// Returns the result of a job that reads environments, unless that takes too long: a read waits
/// for a process that holds its own memory.
pub(crate) fn in_time<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (say, said) = mpsc::channel();
    let reader = std::thread::Builder::new().spawn(move || drop(say.send(job())));
    reader.ok().and_then(|_| said.recv_timeout(ENVIRONMENTS).ok())
}

/// A service that is up: its name in the scandir, and its process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Its name in the scandir.
    pub service: String,
    /// What its status names.
    pub pid: Pid,
    /// Whether its supervisor may have made a control group for it. Only then its group is asked
    /// for, which the kernel takes long to tell.
    pub may_have_group: bool,
}

/// What the processes of one service use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Resident memory in bytes. A shared page counts once for each process.
    pub memory_bytes: u64,
    /// Processor time in milliseconds of the processes that are still there.
    pub cpu_ms: u64,
    /// How many processes there are.
    pub processes: u32,
    /// Whether a signal or a debugger has stopped the service's own process.
    pub is_stopped: bool,
}

impl Usage {
    fn add(&mut self, process: &Process) {
        self.memory_bytes = self.memory_bytes.saturating_add(memory_bytes(process));
        self.cpu_ms = self.cpu_ms.saturating_add(process.cpu_ms);
        self.processes = self.processes.saturating_add(1);
    }
}

/// Returns what the services of a scandir use, by the process of each. A service of which nothing
/// can be seen is left out.
pub fn usage(scandir: &Path, leaders: &[Leader]) -> HashMap<Pid, Usage> {
    let mut found: HashMap<Pid, Usage> = HashMap::new();
    for (index, process) in members(scandir, leaders) {
        if let Some(leader) = leaders.get(index) {
            let usage = found.entry(leader.pid).or_default();
            usage.add(&process);
            usage.is_stopped |= process.is_stopped && process.pid == leader.pid.get();
        }
    }
    found
}

/// Returns each process that belongs to one of the services, with the index of that service.
pub fn members(scandir: &Path, leaders: &[Leader]) -> Vec<(usize, Process)> {
    if leaders.is_empty() {
        return Vec::new();
    }
    let all: Vec<Process> = proc::all().collect();
    let table = LeaderIndex::of(leaders);
    let processes: Vec<&Process> = all.iter().collect();
    let plainly: Vec<Membership<usize>> = all.iter().map(|process| table.plainly(process)).collect();
    let first = allot(&processes, |index| plainly.get(index).copied().unwrap_or(Membership::Parents));
    // Threads of the kernel, which are many, have no environment.
    let unknown = all.iter().zip(&first).filter(|(process, whose)| whose.is_none() && process.has_memory);
    let marked = marked(scandir, unknown.map(|(process, _)| process.pid).collect(), leaders);
    let whose = allot(&processes, |index| {
        let process = processes.get(index);
        match plainly.get(index) {
            Some(Membership::Parents) | None => {
                process.and_then(|process| marked.get(&process.pid)).map_or(Membership::Parents, |own| *own)
            }
            Some(own) => *own,
        }
    });
    let found: Vec<(usize, usize)> =
        whose.into_iter().enumerate().filter_map(|(index, whose)| Some((index, whose?))).collect();
    found.into_iter().filter_map(|(index, whose)| Some((whose, all.get(index)?.clone()))).collect()
}

/// Returns each process after its parent, with its depth.
pub fn in_order(members: &[Process]) -> Vec<(&Process, usize)> {
    let mut children: BTreeMap<i32, Vec<&Process>> = BTreeMap::new();
    for process in members {
        children.entry(process.parent).or_default().push(process);
    }
    let is_member = |pid: i32| members.iter().any(|process| process.pid == pid);
    let mut open: Vec<(&Process, usize)> =
        members.iter().filter(|process| !is_member(process.parent)).map(|process| (process, 0)).collect();
    open.sort_by_key(|(process, _)| std::cmp::Reverse((process.began, process.pid)));
    let mut order = Vec::with_capacity(members.len());
    while let Some((process, depth)) = open.pop() {
        order.push((process, depth));
        // Each process once: the list is not of one instant, so it may contain a circle.
        let mut below = children.remove(&process.pid).unwrap_or_default();
        below.sort_by_key(|child| std::cmp::Reverse((child.began, child.pid)));
        open.extend(below.into_iter().map(|child| (child, depth.saturating_add(1))));
    }
    order
}

/// Returns the resident memory of a process in bytes.
pub fn memory_bytes(process: &Process) -> u64 {
    process.resident_pages.saturating_mul(u64::try_from(page_size()).unwrap_or(4096))
}

/// Services by what can be seen of their processes without their environment.
#[derive(Debug, Default)]
struct LeaderIndex {
    sessions: BTreeMap<i32, usize>,
    groups: BTreeMap<String, usize>,
}

impl LeaderIndex {
    fn of(leaders: &[Leader]) -> Self {
        let mut table = Self::default();
        for (index, leader) in leaders.iter().enumerate() {
            table.sessions.insert(leader.pid.get(), index);
            let group = if leader.may_have_group { group::name_of(leader.pid.get()) } else { None };
            if let Some(group) = group {
                table.groups.insert(group, index);
            }
        }
        table
    }

    fn plainly(&self, process: &Process) -> Membership<usize> {
        // If no service has a group, no group is looked up.
        let group = if self.groups.is_empty() { None } else { group::name_of(process.pid) };
        let of_group = group.and_then(|group| self.groups.get(&group));
        of_group
            .or_else(|| self.sessions.get(&process.session))
            .map_or(Membership::Parents, |index| Membership::Of(*index))
    }
}

/// Returns the services that the environments of these processes name, as far as they can be read
/// in time.
fn marked(scandir: &Path, pids: Vec<i32>, leaders: &[Leader]) -> BTreeMap<i32, Membership<usize>> {
    let identity = by_path::directory(scandir).and_then(|it| lasting_identity(it, ""));
    let Ok(identity) = identity else { return BTreeMap::new() };
    let (say, said) = mpsc::channel();
    let reader = std::thread::Builder::new().spawn(move || {
        for pid in pids {
            let environment = proc::environment(pid);
            let Some(member) = Member::in_environment(&environment) else { continue };
            let is_of_here = member.scandir == identity.as_bytes();
            if say.send((pid, is_of_here.then(|| member.name.to_vec()))).is_err() {
                return;
            }
        }
    });
    let mut found = BTreeMap::new();
    if reader.is_err() {
        return found;
    }
    let until = Instant::now().checked_add(ENVIRONMENTS).unwrap_or_else(Instant::now);
    while let Ok((pid, name)) = said.recv_timeout(until.saturating_duration_since(Instant::now())) {
        let place = name.and_then(|name| leaders.iter().position(|leader| leader.service.as_bytes() == name));
        found.insert(pid, place.map_or(Membership::Nobodys, Membership::Of));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Runs a shell that leads a session. Returns it with the first line that it prints.
    fn session(script: &str, environment: Option<&str>) -> (Child, String) {
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.env_remove("GATEVISOR_SERVICE");
        if let Some(value) = environment {
            command.env("GATEVISOR_SERVICE", value);
        }
        let mut child = command.spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        (child, first)
    }

    fn leader(service: &str, pid: u32) -> Leader {
        let pid = Pid::new(i32::try_from(pid).unwrap()).unwrap();
        Leader { service: service.to_owned(), pid, may_have_group: true }
    }

    fn end(mut child: Child) {
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn a_session_uses_something_and_so_does_what_has_gone_to_the_background() {
        let scandir = tempfile::tempdir().unwrap();
        let identity = lasting_identity(rustix::fs::CWD, scandir.path()).unwrap();
        let value = format!("{identity}/1/web");
        // The second process has a session of its own and is no descendant of ours. The third names
        // another service. They end with the first, whose input they have.
        let script = "exec 3<&0; (setsid sh -c 'read line <&3' >/dev/null 2>&1 & ) ; \
             (GATEVISOR_SERVICE=other/1/web setsid sh -c 'read line <&3' >/dev/null 2>&1 & ); echo up; read line <&3";
        let (child, first) = session(script, Some(&value));
        assert_eq!(first, "up\n");
        let leaders = [leader("none", 1), leader("web", child.id())];
        let until = Instant::now() + Duration::from_mins(1);
        // A process that was forked may not have executed anything yet.
        let usage = loop {
            let found = usage(scandir.path(), &leaders[1..]);
            let usage = found.get(&leaders[1].pid).copied().unwrap_or_default();
            if usage.processes == 2 {
                break usage;
            }
            assert!(Instant::now() < until, "{usage:?}");
            let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            let _ = rustix::event::poll(&mut [], Some(&pause));
        };
        assert!(usage.memory_bytes > 100_000, "{usage:?}");
        end(child);
        assert!(super::usage(scandir.path(), &[]).is_empty());
    }
}
