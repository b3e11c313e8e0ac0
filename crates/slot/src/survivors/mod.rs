//! Ends the processes that an earlier life of a service has left behind.
//!
//! *Lives here:* the short program that the supervisor starts as the service's user, before the
//! service may start again.
//! *Does not live here:* which processes belong to a service (`members`), what is known of
//! processes (`process`), the order of the signals (`ending`), and when all this is done
//! (`gatevisor-core`, `machine/clearing.rs`).
//!
//! It has only its user's rights. It spares its own ancestors, and processes that asked for a
//! command to their own service and have recorded that (`data/asked-by`).

mod ending;
pub mod left;
pub mod members;
pub mod process;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Duration;

use gatevisor_sys::process::leads_session;
use gatevisor_sys::{Errno, file};
use gatevisor_wire::exit::Exit;
use gatevisor_wire::{files, member::Member};
use rustix::fs::{AtFlags, statat};
use rustix::process::{Pid, Signal};

use crate::failure::one_line;
use crate::os;
use ending::SurvivorEnding;
use members::{Known, Rule, ancestors};
use process::{Process, ServiceMark};

/// How long the survivors of a process have after `SIGTERM`.
const SURVIVOR_GRACE: Duration = Duration::from_secs(2);
/// Milliseconds that may pass from the beginning of a process until its supervisor publishes that
/// it is up.
const STARTING_MS: i64 = 60_000;
/// By how much the two clocks may disagree about when a process began.
const CLOCK_MS: i64 = 1000;
/// The most bytes of `data/asked-by` that are read.
const ASKED_BYTES: usize = 4096;

/// The kind of processes to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// The service's process under an earlier supervisor, and its other processes if the slot says
    /// so.
    Orphan,
    /// A logger under an earlier supervisor, which ends by itself.
    Reader,
    /// The survivors of a process of the service.
    Survivors,
}

/// The supervisor's request.
#[derive(Debug)]
struct EndRequest {
    scandir: Vec<u8>,
    name: Vec<u8>,
    /// Its control group, if it has one.
    group: Option<String>,
    what: What,
    /// The service's process.
    pid: Option<i32>,
    /// When its supervisor last changed its status, in milliseconds of Unix time.
    since_ms: i64,
    grace: Duration,
}

impl EndRequest {
    fn parse(args: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let words: Vec<OsString> = args.into_iter().collect();
        let [scandir, name, what, pid, since, grace, rest @ ..] = words.as_slice() else { return None };
        let group = match rest {
            [] => None,
            [group] => Some(group.to_str()?.to_owned()),
            _ => return None,
        };
        let what = match what.to_str()? {
            "orphan" => What::Orphan,
            "reader" => What::Reader,
            "survivors" => What::Survivors,
            _ => return None,
        };
        Some(Self {
            scandir: scandir.as_bytes().to_vec(),
            name: name.as_bytes().to_vec(),
            group,
            what,
            pid: Some(pid.to_str()?.parse().ok()?).filter(|&pid| pid > 0),
            since_ms: since.to_str()?.parse().ok()?,
            grace: Duration::from_millis(grace.to_str()?.parse().ok()?),
        })
    }

    fn member(&self) -> Member<'_> {
        Member { scandir: &self.scandir, supervisor: 0, name: &self.name }
    }

    fn say(&self, line: &str) {
        os::say(&one_line(&format!("gatevisor: {}: {line}", String::from_utf8_lossy(&self.name))));
    }
}

/// Ends what is left of a service. The exit code is 0 if nothing is left then.
///
/// `args` are the identifier of the scandir, the service, one of `orphan`, `reader` and
/// `survivors`, the number of the service's process or 0, when its status last changed, the
/// milliseconds that it has, and the name of its control group if it has one. The working directory
/// is the service directory.
pub fn run_end_survivors(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some(request) = EndRequest::parse(args) else {
        os::say("gatevisor: end-survivors: only the supervisor calls this");
        return Exit::Usage.into();
    };
    let ended = match request.what {
        What::Survivors => end_survivors(&request),
        What::Orphan => end_orphan(&request),
        What::Reader => end_reader(&request),
    };
    match ended {
        Ok(ending) => report(&request, ending),
        Err(NoProc) => without_proc(&request),
    }
}

/// Ends the processes that an earlier supervisor left running for a service that does not exist any
/// more; returns a line about each.
///
/// `pid` and `since_ms` are from the last status of the service.
pub fn end_vanished(
    scandir: &str,
    name: &[u8],
    pid: Option<i32>,
    since_ms: i64,
    grace: Duration,
) -> Vec<String> {
    let scandir = scandir.as_bytes().to_vec();
    let request =
        EndRequest { scandir, name: name.to_vec(), group: None, what: What::Orphan, pid, since_ms, grace };
    let ended = look(&request).and_then(|all| {
        let mut ending = SurvivorEnding::new();
        end_processes(&leaders(&request, &all), Some(Signal::TERM), grace, &mut ending);
        let rule = Rule { dead_leader: pid, ..Rule::default() };
        end_members(&request, &rule, SURVIVOR_GRACE, &mut ending)?;
        Ok(ending)
    });
    ended.map_or_else(|NoProc| Vec::new(), |ending| lines(&request, ending).1)
}

/// There is no `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NoProc;

fn look(request: &EndRequest) -> Result<Vec<(Process, ServiceMark)>, NoProc> {
    process::all(&request.member(), request.group.as_deref()).map_err(|_| NoProc)
}

/// Ends the survivors of a process that has died.
fn end_survivors(request: &EndRequest) -> Result<SurvivorEnding, NoProc> {
    let mut rule = Rule { dead_leader: request.pid, ..Rule::default() };
    rule.exempt = asked_by(request);
    let mut ending = SurvivorEnding::of_program();
    end_members(request, &rule, request.grace, &mut ending)?;
    if let Ok((data, name)) = note_of_askers() {
        let _ = rustix::fs::unlinkat(data, name, AtFlags::empty());
    }
    Ok(ending)
}

/// Returns the directory and the name of the file that records which processes asked for a command
/// to the service.
fn note_of_askers() -> Result<(OwnedFd, &'static str), Errno> {
    let (folder, name) = files::ASKED_BY.split_once('/').unwrap_or((".", files::ASKED_BY));
    Ok((file::open_directory(os::here()?, folder)?, name))
}

/// Ends all members of the service, except the ancestors of this process.
fn end_members(
    request: &EndRequest,
    rule: &Rule,
    grace: Duration,
    ending: &mut SurvivorEnding,
) -> Result<(), NoProc> {
    let mut rule = rule.clone();
    rule.exempt.append(&mut ancestors(&look(request)?, own_pid()));
    ending.end(Some(Signal::TERM), grace, &mut || {
        look(request)
            .map_or_else(|NoProc| Vec::new(), |all| rule.members(&all).into_iter().cloned().collect())
    });
    Ok(())
}

/// Stops the service's process under an earlier supervisor, and then its other processes if the
/// slot says so.
fn end_orphan(request: &EndRequest) -> Result<SurvivorEnding, NoProc> {
    let all = look(request)?;
    let leaders = leaders(request, &all);
    let mut ending = SurvivorEnding::of_program();
    let first = down_signal();
    end_processes(&leaders, first, request.grace, &mut ending);
    let kills_survivors =
        os::here().is_ok_and(|here| statat(here, files::KILL_SURVIVORS, AtFlags::SYMLINK_NOFOLLOW).is_ok());
    if kills_survivors {
        let rule = Rule { dead_leader: request.pid, ..Rule::default() };
        end_members(request, &rule, SURVIVOR_GRACE, &mut ending)?;
    }
    Ok(ending)
}

/// Waits for the end of a logger, and ends it when its time is over.
fn end_reader(request: &EndRequest) -> Result<SurvivorEnding, NoProc> {
    let all = look(request)?;
    let leaders = leaders(request, &all);
    let mut ending = SurvivorEnding::of_program();
    end_processes(&leaders, None, request.grace, &mut ending);
    Ok(ending)
}

fn end_processes(processes: &[Process], first: Option<Signal>, grace: Duration, ending: &mut SurvivorEnding) {
    ending
        .end(first, grace, &mut || processes.iter().filter(|process| process.is_there()).cloned().collect());
}

/// Returns the service's main processes under an earlier supervisor.
///
/// The supervisor may have been killed before it could publish the process, perhaps while it ended
/// the leftovers of a still earlier one. Then each process counts that leads a session, belongs to
/// the service, and descends from no other member.
fn leaders(request: &EndRequest, all: &[(Process, ServiceMark)]) -> Vec<Process> {
    let ours = ancestors(all, own_pid());
    let is_other = |process: &&Process| !ours.contains(&(process.pid, process.began));
    if let Some(pid) = request.pid
        && let Some((process, _)) =
            all.iter().find(|(process, mark)| process.pid == pid && is_the_one(request, process, *mark))
    {
        return Some(process).into_iter().filter(is_other).cloned().collect();
    }
    let marked =
        |pid: i32| all.iter().any(|(process, mark)| process.pid == pid && *mark == ServiceMark::This);
    all.iter()
        .filter(|(process, mark)| {
            *mark == ServiceMark::This && process.session == process.pid && !marked(process.parent)
        })
        .map(|(process, _)| process)
        .filter(is_other)
        .cloned()
        .collect()
}

/// Returns whether the process with the published number is the published one: its environment says
/// so, or tells nothing and it began at the right time.
fn is_the_one(request: &EndRequest, process: &Process, mark: ServiceMark) -> bool {
    match mark {
        ServiceMark::This => true,
        ServiceMark::Other => false,
        ServiceMark::None => {
            let began = process.began_unix_ms();
            let earliest = request.since_ms.saturating_sub(STARTING_MS);
            let latest = request.since_ms.saturating_add(CLOCK_MS);
            process.session == process.pid && (earliest..=latest).contains(&began)
        }
    }
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Returns the signal that stops the service.
fn down_signal() -> Option<Signal> {
    let mut buffer = [0; 32];
    let named = os::here().ok().and_then(|here| {
        let bytes = file::read_small(here, files::DOWN_SIGNAL, &mut buffer).ok()?;
        gatevisor_wire::signal::parse(bytes.split(|&byte| byte == b'\n').next()?)
    });
    let number = named.unwrap_or(gatevisor_wire::signal::TERM);
    Signal::from_named_raw(i32::from(number)).or(Some(Signal::TERM))
}

/// Returns the processes that asked for a command to their own service.
fn asked_by(request: &EndRequest) -> BTreeSet<Known> {
    let mut buffer = [0; ASKED_BYTES];
    let Ok((data, name)) = note_of_askers() else { return BTreeSet::new() };
    let bytes = file::read_small(data, name, &mut buffer).unwrap_or_default();
    let parse = |line: &[u8]| -> Option<Known> {
        let (pid, began) = str::from_utf8(line).ok()?.split_once(' ')?;
        Some((pid.parse().ok()?, began.parse().ok()?))
    };
    let asked = bytes.split(|&byte| byte == b'\n').filter_map(parse);
    // The service's process itself is never exempt, whatever the record says.
    asked.filter(|(pid, _)| Some(*pid) != request.pid).collect()
}

fn report(request: &EndRequest, ending: SurvivorEnding) -> ExitCode {
    let (is_clear, lines) = lines(request, ending);
    for line in &lines {
        request.say(line);
    }
    if is_clear { Exit::Done } else { Exit::No }.into()
}

/// Returns whether nothing is left, and the lines to print.
fn lines(request: &EndRequest, ending: SurvivorEnding) -> (bool, Vec<String>) {
    let outcome = ending.outcome();
    let left_by = match request.what {
        What::Orphan | What::Reader => "an earlier supervisor",
        What::Survivors => "the service when it ended",
    };
    let ended = |((pid, _), words): &(Known, String)| {
        one_line(&format!("ended process {pid} ({words}), left by {left_by}"))
    };
    let left = |(pid, why): &(i32, String)| {
        one_line(&format!("warning: cannot end process {pid}, left by {left_by} ({why})"))
    };
    let lines = outcome.ended.iter().map(ended).chain(outcome.left.iter().map(left)).collect();
    (outcome.left.is_empty(), lines)
}

/// Without `/proc`, we can only ask the kernel about a process number.
fn without_proc(request: &EndRequest) -> ExitCode {
    if request.what == What::Survivors {
        request.say("warning: what it left behind cannot be found without /proc");
        return Exit::No.into();
    }
    let leads_session = |pid: &i32| Pid::from_raw(*pid).is_some_and(leads_session);
    if let Some(pid) = request.pid.filter(leads_session) {
        request.say(&format!(
            "warning: process {pid} may be what an earlier supervisor left, and without /proc that cannot be told: mount \
             /proc, or end it by hand"
        ));
        return Exit::No.into();
    }
    ExitCode::SUCCESS
}
