//! Evidence about a gateway that does not work, collected before anything is done to it.
//!
//! *Lives here:* what is collected, in which order, and the time limits.
//! *Does not live here:* when it is collected and what follows (the watcher of liveness); the parts
//! (`processes`, `machine`, `sockets`); where incidents are kept (`store`).
//!
//! Each part is a file. A process of its own writes it within limits (`bounded`), so a part that
//! never ends costs only its limit. An incident is published as a whole, and its summary names what
//! is missing. The environment of a process is not written down, and the values of secrets are
//! replaced in everything that is written (`secrets`).

mod bounded;
mod command;
mod machine;
mod processes;
mod request;
mod secrets;
mod sockets;
mod store;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gatevisor_paths::by_path;
use gatevisor_slot::survivors::members::Rule;
use gatevisor_slot::survivors::process;
use gatevisor_slot::{dotenv, group};
use gatevisor_sys::file::lasting_identity;
use gatevisor_sys::proc::{self, Process};
use gatevisor_wire::Pid;
use gatevisor_wire::member::Member;

use request::line_of;
use secrets::Secrets;
use store::Store;

use crate::agent::{AgentDefinition, Placeholders, fill};
use crate::files::{Staging, read_bounded, write_new};
use crate::profile::{Home, ProfileName};

pub(crate) use bounded::{
    PartEnd, PartLimits, PartOutput, RunningPart, run as run_bounded, start as start_bounded,
};
pub(crate) use command::become_command;
pub use request::{Evidence, IncidentRequest};
pub use store::{DIRECTORY, Incident, KEPT, PartSummary, SUMMARY, count, latest, list, named};

/// The time limits of all parts together, and of each part.
const TIMES: Times = Times { part: Duration::from_secs(2), all: Duration::from_secs(8) };
/// How many of the last lines of the gateway's log are collected.
pub const LOG_LINES: usize = 200;
/// The most bytes of one part.
pub const PART_BYTES: usize = 256 << 10;
/// The most processes that are looked at.
const MEMBERS: usize = 1024;
/// The most lines of the history of probes.
const HISTORY: usize = 256;

/// Why nothing was collected.
#[derive(Debug, thiserror::Error)]
pub enum IncidentError {
    /// The process has ended, or another one has its number.
    #[error("process {0} has ended, so there is nothing to collect about it")]
    Ended(Pid),
    /// The directory for incidents cannot be used.
    #[error("the evidence cannot be kept: {0}")]
    Place(String),
    /// It cannot be written.
    #[error("cannot write the evidence in `{}`; is the disk full?", path.display())]
    Write {
        /// Where it would be.
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: std::io::Error,
    },
}

/// Returns the directory of logs in a profile's home, which holds its incidents.
pub fn logs_of(home: &Home, name: &ProfileName) -> PathBuf {
    home.profile_dir(name).join("logs")
}

/// Returns the files of a profile's variables that the definition names; `variable` looks up
/// inherited variables.
pub fn environment_files(
    agent: &AgentDefinition,
    home: &Home,
    name: &ProfileName,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Vec<PathBuf> {
    let home_variable = agent.home_variable();
    let lookup = |wanted: &str| {
        if wanted == home_variable { Some(home.root().into()) } else { variable(wanted) }
    };
    let placeholders = Placeholders::new(name, &home_variable);
    let file = |template: &String| {
        let filled = fill(template, &placeholders).ok()?;
        gatevisor_slot::expand(&filled, &lookup).ok().map(PathBuf::from)
    };
    agent.gateway.environment_files.iter().filter_map(file).collect()
}

/// Collects evidence about a gateway within eight seconds, and returns the incident.
///
/// Call it only while this process has one thread: each part is a child of it.
///
/// # Errors
/// The process has ended, or nothing can be written.
pub fn collect(request: &IncidentRequest<'_>) -> Result<Incident, IncidentError> {
    collect_within(request, TIMES)
}

/// How long all of it and each part may take.
#[derive(Debug, Clone, Copy)]
struct Times {
    part: Duration,
    all: Duration,
}

fn collect_within(request: &IncidentRequest<'_>, times: Times) -> Result<Incident, IncidentError> {
    let began = |pid| Process::of(pid).filter(|process| process.began == request.start_ticks);
    let leader = began(request.pid.get()).ok_or(IncidentError::Ended(request.pid))?;
    let store = Store::open(request.logs).map_err(IncidentError::Place)?;
    let failed = |source| IncidentError::Write { path: request.logs.join(DIRECTORY), source };
    let staging = store.stage().map_err(failed)?;
    let mut collecting = Collecting {
        staging: &staging,
        secrets: secrets_of(request.environment_files),
        part: times.part,
        until: after(times.all),
        parts: Vec::new(),
    };
    collecting.all(request, &leader).map_err(failed)?;
    let parts = collecting.parts;
    store.publish(staging, summary(request, parts), request.at).map_err(failed)
}

fn summary(request: &IncidentRequest<'_>, parts: Vec<PartSummary>) -> Incident {
    Incident {
        id: String::new(),
        name: request.name.to_owned(),
        at: String::new(),
        reason: line_of(request.reason),
        pid: request.pid.get(),
        start_ticks: request.start_ticks,
        parts,
        path: PathBuf::new(),
    }
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

/// Returns the secrets that a gateway knows: those of the environment that it shares with us, and
/// those of its own files.
fn secrets_of(files: &[PathBuf]) -> Secrets {
    let limit = usize::try_from(dotenv::MAX_BYTES).unwrap_or(usize::MAX);
    let read = |path: &PathBuf| read_bounded(path, limit).ok().flatten().unwrap_or_default();
    let own = files.iter().flat_map(|path| dotenv::parse(&read(path)));
    Secrets::among(std::env::vars_os().chain(own.map(|(name, value)| (name.into(), value))))
}

/// An incident that is being collected.
struct Collecting<'a> {
    staging: &'a Staging,
    secrets: Secrets,
    part: Duration,
    until: Instant,
    parts: Vec<PartSummary>,
}

impl Collecting<'_> {
    /// Collects all parts. The parts that depend least on the gateway and on the machine come
    /// first.
    fn all(&mut self, request: &IncidentRequest<'_>, leader: &Process) -> std::io::Result<()> {
        let history: String =
            request.history.iter().rev().take(HISTORY).rev().map(|line| line_of(line) + "\n").collect();
        self.keep("probes.txt", PartOutput { bytes: history.into_bytes(), end: PartEnd::Code(0) })?;
        let members = self.members(request, leader);
        self.part("processes.txt", |out| drop(processes::tree(&members, out)))?;
        self.part("threads.txt", |out| drop(processes::threads(&members, out)))?;
        self.part("memory.txt", |out| drop(processes::memory(&members, out)))?;
        self.part("group.txt", |out| drop(machine::groups(leader.pid, out)))?;
        self.part("files.txt", |out| drop(processes::files(&members, out)))?;
        self.part("log.txt", |out| (request.log)(out))?;
        self.part("machine.txt", |out| drop(machine::machine(request.logs, out)))?;
        self.part("commands.txt", |out| drop(processes::commands(&members, out)))?;
        let Some(evidence) = request.command else { return Ok(()) };
        let limits = self.limits(Duration::from_millis(evidence.timeout_ms));
        self.keep("evidence.txt", bounded::run(limits, |out| command::execute(evidence, request, &out)))
    }

    /// Returns the processes of the service. Finding them reads the environments of processes,
    /// which may not end. In that case, returns the processes of the leader's session.
    fn members(&self, request: &IncidentRequest<'_>, leader: &Process) -> Vec<Process> {
        let rule = Rule { leader: Some((leader.pid, leader.began)), ..Rule::default() };
        let limits = self.limits(self.part);
        let found = bounded::lines(limits, |out| {
            for process in marked_members(request.service, &rule) {
                let _ = writeln!(out, "{} {}", process.pid, process.began);
            }
        });
        let parse = |line: &str| {
            let (pid, began) = line.split_once(' ')?;
            let began = began.parse::<u64>().ok()?;
            Process::of(pid.parse().ok()?).filter(|process| process.began == began)
        };
        let text = String::from_utf8_lossy(&found.bytes);
        let mut members: Vec<Process> = text.lines().filter_map(parse).take(MEMBERS).collect();
        if found.end != PartEnd::Code(0) || members.is_empty() {
            members = of_session(leader);
        }
        members
    }

    fn part(&mut self, file: &str, job: impl FnOnce(&mut dyn Write)) -> std::io::Result<()> {
        let limits = self.limits(self.part);
        self.keep(file, bounded::lines(limits, job))
    }

    /// Returns the limits of a part that may take this time. The byte limit leaves room for a
    /// secret that begins before the end.
    fn limits(&self, time: Duration) -> PartLimits {
        let bytes = PART_BYTES.saturating_add(self.secrets.longest());
        PartLimits { until: after(time).min(self.until), bytes }
    }

    /// Writes a part without its secrets, and notes what is missing.
    fn keep(&mut self, file: &str, output: PartOutput) -> std::io::Result<()> {
        let is_cut = output.bytes.len() > PART_BYTES;
        let missing = missing(&output.end, is_cut);
        let bytes = self.secrets.blank(output.bytes, PART_BYTES);
        write_new(self.staging.directory(), Path::new(file), &bytes, 0o600)?;
        self.parts.push(PartSummary { file: file.to_owned(), missing });
        Ok(())
    }
}

/// Returns what is missing of a part.
fn missing(end: &PartEnd, is_cut: bool) -> Option<String> {
    match end {
        PartEnd::Code(0) if is_cut => Some(format!("it is longer than {PART_BYTES} bytes")),
        PartEnd::Code(0) => None,
        PartEnd::Code(code) => Some(format!("what wrote it ended with exit code {code}")),
        PartEnd::Signal(signal) => Some(format!("what wrote it was ended by signal {signal}")),
        PartEnd::TooLong => Some(format!("it is longer than {PART_BYTES} bytes")),
        PartEnd::Late => Some("it did not come in time".to_owned()),
        PartEnd::Failed(errno) => Some(format!("no process could be made for it: {errno}")),
    }
}

/// Returns the processes with the mark of the service, which the end of its survivors goes by, too.
fn marked_members(service: &Path, rule: &Rule) -> Vec<Process> {
    let scandir = service
        .parent()
        .map(|scandir| by_path::directory(scandir).and_then(|scandir| lasting_identity(scandir, "")));
    let (Some(Ok(scandir)), Some(name)) = (scandir, service.file_name()) else { return Vec::new() };
    let member = Member { scandir: scandir.as_bytes(), supervisor: 0, name: name.as_encoded_bytes() };
    let group = rule.leader.and_then(|(pid, _)| group::name_of(pid));
    let all = process::all(&member, group.as_deref()).unwrap_or_default();
    rule.members(&all).into_iter().cloned().collect()
}

/// Returns the processes of a session. Only files that need nothing of a process are read.
fn of_session(leader: &Process) -> Vec<Process> {
    proc::all().filter(|process| process.session == leader.session).take(MEMBERS).collect()
}

#[cfg(test)]
mod tests;
