//! Ending what an earlier life of a service has left behind.
//!
//! *Lives here:* the short program that the supervisor starts as the service's user, before the service may start again.
//! *Does not live here:* who belongs to a service (`members`), what is known of processes (`process`), the order of the
//! signals (`ending`), and when all this is done (`gatevisor-core`, `machine/clearing.rs`).
//!
//! It can do no more than its user can. It leaves alone what it descends from itself, and those that asked for what is
//! done to their own service and have said so (`data/asked-by`).

mod ending;
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

/// Exit code where something is left that should not be.
const EXIT_LEFT: u8 = 1;
/// Milliseconds that what a process has left behind has after `SIGTERM`.
const SURVIVOR_GRACE: Duration = Duration::from_secs(2);
/// Milliseconds that may pass from the beginning of a process until its supervisor says that it is up.
const STARTING_MS: i64 = 60_000;
/// By how much the two clocks may disagree about when a process began.
const CLOCK_MS: i64 = 1000;
/// Bytes of `data/asked-by` that are read.
const ASKED_BYTES: usize = 4096;

/// What is to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// The service's process of an earlier supervisor, and what belongs to it where the slot says so.
    Orphan,
    /// A logger of an earlier supervisor, which ends by itself.
    Reader,
    /// What a process of the service has left behind.
    Survivors,
}

/// What the supervisor asks for.
#[derive(Debug)]
struct EndRequest {
    scandir: Vec<u8>,
    name: Vec<u8>,
    /// Its control group, if it has one.
    group: Option<String>,
    what: What,
    /// The service's process.
    pid: Option<i32>,
    /// When its supervisor last said something new about it, in milliseconds of Unix time.
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

/// Ends what is left of a service; exits 0 when nothing is.
///
/// `args` are what tells the scandir from others, the service, `orphan`, `reader` or `survivors`, the number of the
/// service's process or 0, since when its status was so, the milliseconds that it has, and the name of its control group
/// where it has one. The working directory is the service directory.
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

/// Ends what an earlier supervisor left running of a service that is no more, and returns what was done, a line each.
///
/// `pid` and `since_ms` are what the service's status said last.
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

/// There is no `/proc` to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NoProc;

fn look(request: &EndRequest) -> Result<Vec<(Process, ServiceMark)>, NoProc> {
    process::all(&request.member(), request.group.as_deref()).map_err(|_| NoProc)
}

/// Ends what a process has left behind that has died.
fn end_survivors(request: &EndRequest) -> Result<SurvivorEnding, NoProc> {
    let mut rule = Rule { dead_leader: request.pid, ..Rule::default() };
    rule.exempt = asked_by(request);
    let mut ending = SurvivorEnding::new();
    end_members(request, &rule, request.grace, &mut ending)?;
    if let Ok((data, name)) = note_of_askers() {
        let _ = rustix::fs::unlinkat(data, name, AtFlags::empty());
    }
    Ok(ending)
}

/// Returns the directory in which is noted who asked for what is done to the service, and the name of the note.
fn note_of_askers() -> Result<(OwnedFd, &'static str), Errno> {
    let (folder, name) = files::ASKED_BY.split_once('/').unwrap_or((".", files::ASKED_BY));
    Ok((file::open_directory(os::here()?, folder)?, name))
}

/// Ends all members of the service; what this process descends from is none.
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

/// Ends the service's process of an earlier supervisor in order, then what else belongs to it where the slot says so.
fn end_orphan(request: &EndRequest) -> Result<SurvivorEnding, NoProc> {
    let all = look(request)?;
    let leaders = leaders(request, &all);
    let mut ending = SurvivorEnding::new();
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
    let mut ending = SurvivorEnding::new();
    end_processes(&leaders, None, request.grace, &mut ending);
    Ok(ending)
}

fn end_processes(processes: &[Process], first: Option<Signal>, grace: Duration, ending: &mut SurvivorEnding) {
    ending
        .end(first, grace, &mut || processes.iter().filter(|process| process.is_there()).cloned().collect());
}

/// Returns the processes of an earlier supervisor that are the service itself.
///
/// The supervisor may have been killed before it could say which process that is, perhaps while it ended what its own
/// predecessor had left. Then it is each process that leads a session, belongs to the service, and descends from no other
/// member.
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

/// Returns whether the process with the number that was published is the one that was meant: its environment says so, or
/// says nothing and it began when the one that was meant did.
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

/// Returns the signal that brings the service down.
fn down_signal() -> Option<Signal> {
    let mut buffer = [0; 32];
    let named = os::here().ok().and_then(|here| {
        let bytes = file::read_small(here, files::DOWN_SIGNAL, &mut buffer).ok()?;
        gatevisor_wire::signal::parse(bytes.split(|&byte| byte == b'\n').next()?)
    });
    let number = named.unwrap_or(gatevisor_wire::signal::TERM);
    Signal::from_named_raw(i32::from(number)).or(Some(Signal::TERM))
}

/// Returns those that asked for what is done to the service they belong to.
fn asked_by(request: &EndRequest) -> BTreeSet<Known> {
    let mut buffer = [0; ASKED_BYTES];
    let Ok((data, name)) = note_of_askers() else { return BTreeSet::new() };
    let bytes = file::read_small(data, name, &mut buffer).unwrap_or_default();
    let parse = |line: &[u8]| -> Option<Known> {
        let (pid, began) = str::from_utf8(line).ok()?.split_once(' ')?;
        Some((pid.parse().ok()?, began.parse().ok()?))
    };
    let asked = bytes.split(|&byte| byte == b'\n').filter_map(parse);
    // Not the service's process itself, whoever says so.
    asked.filter(|(pid, _)| Some(*pid) != request.pid).collect()
}

fn report(request: &EndRequest, ending: SurvivorEnding) -> ExitCode {
    let (is_clear, lines) = lines(request, ending);
    for line in &lines {
        request.say(line);
    }
    ExitCode::from(if is_clear { 0 } else { EXIT_LEFT })
}

/// Returns whether nothing is left, and what there is to say.
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

/// Without `/proc` only the kernel can be asked, and that by number.
fn without_proc(request: &EndRequest) -> ExitCode {
    if request.what == What::Survivors {
        request.say("warning: what it left behind cannot be found without /proc");
        return ExitCode::from(EXIT_LEFT);
    }
    let leads_session = |pid: &i32| Pid::from_raw(*pid).is_some_and(leads_session);
    if let Some(pid) = request.pid.filter(leads_session) {
        request.say(&format!(
            "warning: process {pid} may be what an earlier supervisor left, and without /proc that cannot be told: mount \
             /proc, or end it by hand"
        ));
        return ExitCode::from(EXIT_LEFT);
    }
    ExitCode::SUCCESS
}
