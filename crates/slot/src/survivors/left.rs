//! Processes of earlier supervisors that no supervisor would find, because their scandir or their
//! service directory is gone.
//!
//! *Lives here:* finding them with one look at all processes, and ending those of all services at
//! once.
//! *Does not live here:* what the supervisor itself does with the processes of a service directory
//! that it still has (`run_end_survivors`).

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use gatevisor_wire::member::Member;
use rustix::process::Signal;

use super::ending::SurvivorEnding;
use super::members::{Known, Membership, allot, ancestors};
use super::process::{AllProcesses, Process};
use super::{SURVIVOR_GRACE, own_pid};

/// How long a logger may take to read its input to the end after its service has ended.
const READER_GRACE: Duration = Duration::from_secs(15);
/// The end of the name of a service's logger.
const LOGGER: &[u8] = b"/log";

/// The processes that are left of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftService {
    /// The identifier of its scandir.
    pub scandir: String,
    /// Its name, such as `foo` or `foo/log`.
    pub name: Vec<u8>,
    /// Its supervisor, if that still runs.
    pub supervisor: Option<i32>,
    /// The main processes: each leads a session, and its parent is of no service.
    pub leaders: Vec<Process>,
    /// All of its processes, the leaders included.
    pub processes: Vec<Process>,
}

impl LeftService {
    /// Returns whether it is a logger, which ends by itself when its input has ended.
    pub fn is_logger(&self) -> bool {
        self.name.ends_with(LOGGER)
    }

    /// Returns the name of the service directory.
    pub fn directory(&self) -> &[u8] {
        self.name.strip_suffix(LOGGER).unwrap_or(&self.name)
    }
}

/// Returns what runs of the services of scandirs. This process and its ancestors are left out.
///
/// # Errors
/// There is no `/proc`.
pub fn find(scandirs: &[String]) -> io::Result<Vec<LeftService>> {
    Ok(among(&AllProcesses::now()?.with_variables(), scandirs, own_pid()))
}

/// Returns the processes in `all` of the services of scandirs, without `own` and its ancestors.
fn among(all: &[(Process, Option<&[u8]>)], scandirs: &[String], own: i32) -> Vec<LeftService> {
    let exempt = ancestors(all, own);
    let mut services: Vec<LeftService> = Vec::new();
    let mut places: BTreeMap<(&[u8], &[u8]), usize> = BTreeMap::new();
    let mut sessions: BTreeMap<i32, usize> = BTreeMap::new();
    let mut marks = Vec::new();
    for (process, variable) in all {
        let Some(member) = variable.and_then(Member::parse) else {
            marks.push(None);
            continue;
        };
        let scandir = scandirs.iter().find(|scandir| scandir.as_bytes() == member.scandir);
        let Some(scandir) = scandir.filter(|_| !exempt.contains(&(process.pid, process.began))) else {
            marks.push(Some(Membership::Nobodys));
            continue;
        };
        let place = *places.entry((member.scandir, member.name)).or_insert_with(|| {
            services.push(LeftService::none_of(scandir, member.name));
            services.len().saturating_sub(1)
        });
        if process.session == process.pid {
            sessions.insert(process.pid, place);
        }
        if let Some(service) = services.get_mut(place)
            && process.parent == member.supervisor
        {
            service.supervisor = Some(member.supervisor);
        }
        marks.push(Some(Membership::Of(place)));
    }
    let processes: Vec<&Process> = all.iter().map(|(process, _)| process).collect();
    let whose = allot(&processes, |index| {
        let Some(process) = processes.get(index) else { return Membership::Nobodys };
        let session = || sessions.get(&process.session).map(|place| Membership::Of(*place));
        match marks.get(index).copied().flatten() {
            Some(mark) => mark,
            None if exempt.contains(&(process.pid, process.began)) => Membership::Nobodys,
            None => session().unwrap_or(Membership::Parents),
        }
    });
    let of: BTreeMap<i32, usize> =
        processes.iter().zip(&whose).filter_map(|(process, place)| Some((process.pid, (*place)?))).collect();
    for (process, place) in processes.into_iter().zip(whose) {
        let Some(service) = place.and_then(|place| services.get_mut(place)) else { continue };
        if process.session == process.pid && of.get(&process.parent) != place.as_ref() {
            service.leaders.push(process.clone());
        }
        service.processes.push(process.clone());
    }
    services
}

impl LeftService {
    fn none_of(scandir: &str, name: &[u8]) -> Self {
        let (leaders, processes) = (Vec::new(), Vec::new());
        Self { scandir: scandir.to_owned(), name: name.to_vec(), supervisor: None, leaders, processes }
    }
}

/// The result of ending one service.
#[derive(Debug, Default)]
pub struct EndedService {
    /// A line about each process that was ended.
    pub ended: Vec<String>,
    /// A line about each process that could not be ended.
    pub left: Vec<String>,
}

/// Ends services, all at the same time: their main processes with `SIGTERM`, and with `SIGKILL`
/// after `grace`; if `with_survivors`, whatever else is left of them; and then their loggers, which
/// have 15 s to read to the end. Returns what became of each, by the name of its directory.
pub fn end(
    services: &[LeftService],
    grace: Duration,
    with_survivors: bool,
) -> BTreeMap<Vec<u8>, EndedService> {
    let (loggers, mains): (Vec<_>, Vec<_>) = services.iter().partition(|service| service.is_logger());
    let mut ending = SurvivorEnding::new();
    let leaders: Vec<&Process> = mains.iter().flat_map(|service| &service.leaders).collect();
    ending.end(Some(Signal::TERM), grace, &mut || alive(&leaders));
    let mut whose: BTreeMap<Known, Vec<u8>> = BTreeMap::new();
    note(&mut whose, services);
    if with_survivors && !mains.is_empty() {
        let scandirs: Vec<String> = mains.iter().map(|service| service.scandir.clone()).collect();
        let is_one = |found: &LeftService| {
            mains.iter().any(|main| (&main.scandir, &main.name) == (&found.scandir, &found.name))
        };
        ending.end(Some(Signal::TERM), SURVIVOR_GRACE, &mut || {
            let mut found = find(&scandirs).unwrap_or_default();
            found.retain(is_one);
            note(&mut whose, &found);
            found.into_iter().flat_map(|service| service.processes).collect()
        });
    }
    let readers: Vec<&Process> = loggers.iter().flat_map(|service| &service.leaders).collect();
    ending.end(None, READER_GRACE, &mut || alive(&readers));
    sorted(ending, &whose)
}

fn alive(processes: &[&Process]) -> Vec<Process> {
    processes.iter().filter(|process| process.is_there()).map(|process| (*process).clone()).collect()
}

fn note(whose: &mut BTreeMap<Known, Vec<u8>>, services: &[LeftService]) {
    for service in services {
        for process in &service.processes {
            whose.insert((process.pid, process.began), service.directory().to_vec());
        }
    }
}

/// Returns the outcome of each service.
fn sorted(ending: SurvivorEnding, whose: &BTreeMap<Known, Vec<u8>>) -> BTreeMap<Vec<u8>, EndedService> {
    let outcome = ending.outcome();
    let mut all: BTreeMap<Vec<u8>, EndedService> = BTreeMap::new();
    for (known, words) in outcome.ended {
        let Some(name) = whose.get(&known) else { continue };
        let line = format!("ended process {} ({words}), left by an earlier supervisor", known.0);
        all.entry(name.clone()).or_default().ended.push(line);
    }
    for (pid, why) in outcome.left {
        let Some((_, name)) = whose.iter().find(|((known, _), _)| *known == pid) else { continue };
        let line = format!("cannot end process {pid}, left by an earlier supervisor ({why})");
        all.entry(name.clone()).or_default().left.push(line);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survivors::process::listed;

    /// Each line is `pid parent session variable`, with `-` for no variable.
    fn found(lines: &str, own: i32) -> String {
        let all = listed(lines).into_iter();
        let all: Vec<_> =
            all.map(|(process, word)| (process, (word != "-").then_some(word.as_bytes()))).collect();
        let scandirs = ["old".to_owned(), "new".to_owned()];
        let pids = |all: &[Process]| all.iter().map(|process| process.pid).collect::<Vec<_>>();
        let line = |left: &LeftService| {
            let name = String::from_utf8_lossy(&left.name);
            let under = left.supervisor.map_or_else(String::new, |pid| format!(" under {pid}"));
            let (leaders, all) = (pids(&left.leaders), pids(&left.processes));
            format!("{} {name} {leaders:?} of {all:?}{under}\n", left.scandir)
        };
        among(&all, &scandirs, own).iter().map(line).collect()
    }

    #[test]
    fn what_is_left_is_found_by_its_mark_its_session_and_its_descent() {
        let lines = "
            1  0  1  -
            70 1  70 old/9/gateway-a
            71 70 70 -
            72 70 72 old/9/gateway-a
            73 72 73 -
            74 70 74 other/70/x
            80 1  80 new/9/gateway-b
            81 1  81 old/9/gateway-b/log
            90 1  90 third/9/gateway-c
        ";
        assert_eq!(
            found(lines, 1),
            "old gateway-a [70] of [70, 71, 72, 73]\n\
             new gateway-b [80] of [80]\n\
             old gateway-b/log [81] of [81]\n"
        );
    }

    #[test]
    fn a_service_whose_supervisor_lives_is_known_by_its_parent() {
        let lines = "
            1  0  1  -
            9  1  9  -
            70 9  70 old/9/gateway-a
            80 1  80 old/9/gateway-b
        ";
        assert_eq!(found(lines, 1), "old gateway-a [70] of [70] under 9\nold gateway-b [80] of [80]\n");
    }

    #[test]
    fn the_process_that_looks_and_its_ancestors_are_spared() {
        let lines = "
            1  0  1  -
            70 1  70 old/9/gateway-a
            71 70 71 old/9/gateway-a
            72 71 71 old/9/gateway-a
            73 70 70 old/9/gateway-a
        ";
        assert_eq!(found(lines, 72), "old gateway-a [] of [73]\n");
    }
}
