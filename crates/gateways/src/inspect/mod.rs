//! *Lives here:* one gateway, or everything supervised, as a report: state, desired state, deaths,
//! memory.
//!
//! *Does not live here:* tables and colours.
//!
//! Names and values are those of `s6-svstat -o` where it has them; additions have their unit in the
//! name.
//!
//! **Source:** s6-svstat(8), *Programmatic usage*.

mod beside;
mod deaths;
mod delay;
mod exits;
mod failed_start;
mod log_health;
mod reason;
mod report;
mod runs;
mod served;
mod slot_facts;
mod state;

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use gatevisor_client::status_view::StateName;
use gatevisor_paths::by_path::{self, HeldDirectories};
use gatevisor_slot::home_lock::Standing;
use gatevisor_sys::file::born;
use gatevisor_sys::proc::{Process, has_ended, is_stopped_by_signal};
use gatevisor_wire::Pid;
use gatevisor_wire::exit::{Exit, ExitError};
use gatevisor_wire::status::Status;
use gatevisor_wire::tai::Tai64n;

use crate::declared::KeptDeclaration;
use crate::desired::{self, Recorded};
use crate::drain::DrainReader;
use crate::earlier;
use crate::live::{self, LiveReport, LiveRestart};
use crate::manager::{ListServicesError, LookError, Observed, ScandirManager, ServiceManager};
use crate::ports::PortTable;
use crate::profile::{self, ProfileName};
use crate::ticket::TicketReader;
use crate::topology::TopologyReader;
use crate::tree::{self, Leader, Usage};

use log_health::LogErrors;
use slot_facts::SlotFacts;

pub use deaths::{DeathReport, deaths, meaning, moment};
pub use delay::{after_words, delay_words};
pub use exits::{ExitCounter, ExitCounts, ExitWay};
pub use failed_start::TriedAgain;
pub use log_health::{LogCounts, log_counts};
pub use reason::asks_too_often;
pub(crate) use report::STOPPED;
pub use report::ServiceReport;
pub use runs::{LineSpan, RunLines};
pub(crate) use served::ServerState;
pub use served::{
    PlatformReport, ServedReport, all as served_now, by as served_by, file as serving_file,
    why_not as why_not_served,
};
pub use state::ServiceState;

/// Milliseconds by which a process may seem to have begun after its start was published, because
/// the clock was set a little.
const CLOCK_MS: i64 = 1000;

/// Why nothing can be reported.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The services cannot be listed.
    #[error(transparent)]
    Services(#[from] ListServicesError),
    /// The profiles cannot be listed.
    #[error(transparent)]
    Profiles(#[from] profile::ListProfilesError),
    /// There is no such profile.
    #[error(transparent)]
    Profile(#[from] profile::ShowError),
    /// The place cannot be looked at.
    #[error(transparent)]
    Look(#[from] LookError),
}

impl ExitError for InspectError {
    fn exit(&self) -> Exit {
        match self {
            Self::Services(error) => error.exit(),
            Self::Profiles(error) => error.exit(),
            Self::Profile(error) => error.exit(),
            Self::Look(error) => error.exit(),
        }
    }
}

/// Returns the report of everything in the scandir, and of every profile that has no slot there.
///
/// Profiles come first, the root profile's at the top, then other services; each part is sorted by
/// name. When their runs wrote lines is left out, which only a look at one gateway needs.
pub fn survey(manager: &ScandirManager) -> Result<Vec<ServiceReport>, InspectError> {
    let _held = held(manager);
    let log_errors = LogErrors::of(manager.scandir());
    let mut by_name: BTreeMap<ProfileName, SeenService> = BTreeMap::new();
    let mut others = Vec::new();
    let look = |slot: &_, observed: &_| SlotFacts::of(manager, &log_errors, slot, observed);
    for seen in manager.observe_all_with(look)? {
        match &seen.0.profile {
            Some(name) => drop(by_name.insert(name.clone(), seen)),
            None => others.push(seen),
        }
    }
    let is_known = |name: &ProfileName| by_name.contains_key(name);
    for profile in profile::list_except(manager.home(), manager.agent(), is_known)? {
        let has_gateway = !profile.name.is_root() || manager.agent().default_profile.gateway;
        if has_gateway && !by_name.contains_key(&profile.name) {
            let absent = absent(&profile.name);
            let facts = SlotFacts::at(manager, &log_errors, &absent);
            by_name.insert(profile.name, (absent, facts));
        }
    }
    let root = by_name.remove(&ProfileName::root());
    let all: Vec<SeenService> = root.into_iter().chain(by_name.into_values()).chain(others).collect();
    let sources = ReportSources { tells_lines: false, ..ReportSources::of(manager, &all) };
    Ok(all.iter().map(|seen| sources.report(seen)).collect())
}

/// Returns the report of one profile's gateway.
///
/// # Errors
/// There is neither a profile of that name nor a slot.
pub fn inspect(manager: &ScandirManager, name: &ProfileName) -> Result<ServiceReport, InspectError> {
    let _held = held(manager);
    let observed = observe(manager, name)?;
    let facts = SlotFacts::at(manager, &LogErrors::of(manager.scandir()), &observed);
    let seen = (observed, facts);
    Ok(ReportSources::of(manager, std::slice::from_ref(&seen)).report(&seen))
}

/// Returns the report of each of these profiles, as [`inspect`] does of one. What concerns
/// all is found out once.
pub fn inspect_each(
    manager: &ScandirManager,
    names: &[ProfileName],
) -> Vec<Result<ServiceReport, InspectError>> {
    let _held = held(manager);
    let (mut found, mut results) = (Vec::new(), Vec::new());
    for name in names {
        results.push(observe(manager, name).map(|observed| found.push(observed)));
    }
    let mut reports = reports(manager, found).into_iter().map(|(_, report)| report);
    results.into_iter().filter_map(|result| result.map(|()| reports.next()).transpose()).collect()
}

/// Returns services that were observed, each with its report.
pub fn reports(manager: &ScandirManager, all: Vec<Observed>) -> Vec<(Observed, ServiceReport)> {
    let _held = held(manager);
    let log_errors = LogErrors::of(manager.scandir());
    let see = |observed| {
        let facts = SlotFacts::at(manager, &log_errors, &observed);
        (observed, facts)
    };
    let all: Vec<SeenService> = all.into_iter().map(see).collect();
    let sources = ReportSources::of(manager, &all);
    let reports: Vec<ServiceReport> = all.iter().map(|seen| sources.report(seen)).collect();
    all.into_iter().map(|(observed, _)| observed).zip(reports).collect()
}

/// Has the way to every file of the home begin at what the home, its profiles and the scandir are
/// now. A report reads many files of each gateway.
fn held(manager: &ScandirManager) -> HeldDirectories {
    let home = manager.home();
    by_path::hold([home.root(), &home.profiles_dir(), manager.scandir()])
}

fn observe(manager: &ScandirManager, name: &ProfileName) -> Result<Observed, InspectError> {
    if let Some(observed) = manager.observe(name)? {
        return Ok(observed);
    }
    profile::show(manager.home(), manager.agent(), name)?;
    Ok(absent(name))
}

/// Returns what all services use, in one pass over the processes.
fn usage_of(manager: &ScandirManager, all: &[SeenService]) -> HashMap<Pid, Usage> {
    let leader = |(observed, facts): &SeenService| {
        let (service, pid) = (observed.service.clone(), observed.status?.pid?);
        Some(Leader { service, pid, may_have_group: facts.may_have_group })
    };
    let leaders: Vec<Leader> = all.iter().filter_map(leader).collect();
    tree::usage(manager.scandir(), &leaders)
}

/// A service, with what else its directory tells.
type SeenService = (Observed, SlotFacts);

/// What the reports of all services come from, each found out once.
struct ReportSources<'a> {
    manager: &'a ScandirManager,
    usage: HashMap<Pid, Usage>,
    now: Tai64n,
    supervisor: Option<String>,
    supervisor_began: Option<SystemTime>,
    /// The supervisor, if a signal has stopped it.
    stopped_supervisor: Option<Pid>,
    standing: Standing,
    topology: TopologyReader<'a>,
    server: Option<ServerState>,
    ports: PortTable,
    drains: DrainReader<'a>,
    /// The process of each gateway that a killed supervisor has left.
    orphans: Vec<(ProfileName, i32)>,
    tickets: TicketReader,
    declared: Option<KeptDeclaration>,
    /// Whether the reports tell when the runs of each service wrote their lines.
    tells_lines: bool,
}

impl<'a> ReportSources<'a> {
    fn of(manager: &'a ScandirManager, all: &[SeenService]) -> Self {
        Self {
            manager,
            usage: usage_of(manager, all),
            now: Tai64n::now_from(SystemTime::now()),
            supervisor: manager.supervisor_program(),
            supervisor_began: manager.supervisor_began(),
            stopped_supervisor: manager.stopped_supervisor(),
            standing: manager.standing(),
            topology: manager.topology(),
            server: ServerState::read(manager),
            ports: PortTable::now(),
            drains: DrainReader::new(manager),
            orphans: orphans(manager, all),
            tickets: TicketReader::new(manager.home()),
            declared: KeptDeclaration::read(manager.home().root()),
            tells_lines: true,
        }
    }

    fn report(&self, (observed, facts): &SeenService) -> ServiceReport {
        let report = self.own(observed, facts);
        let report = if let Some(name) = &observed.profile { self.of_profile(name, report) } else { report };
        report
            .under(self.supervisor.as_ref())
            .standing(&self.standing)
            .orphaned(self.orphan(observed), may_be_left(observed))
    }

    /// Returns what the service itself shows.
    fn own(&self, observed: &Observed, facts: &SlotFacts) -> ServiceReport {
        let manager = self.manager;
        let pid = observed.status.and_then(|status| status.pid);
        let memory = pid.and_then(|pid| self.usage.get(&pid).copied());
        let desired_state = observed.profile.as_ref().map(|name| desired_state(manager, name));
        let report = ServiceReport::new(manager.agent(), observed, desired_state, memory, self.now)
            .with_log_error(facts.log_error.as_ref())
            .older(facts.is_older)
            .writing(self.lines(observed));
        let (live, restarted) = followed(manager, &report, facts);
        let running = observed.profile.as_ref().zip(report.pid.filter(|_| report.is_up()));
        let drained = running.and_then(|(name, pid)| self.drains.look(name, pid));
        let may_be_stopped = memory.is_none_or(|usage| usage.is_stopped);
        let is_stopped = may_be_stopped && report.pid.is_some_and(is_stopped_by_signal);
        let unseen = self.stopped_supervisor.filter(|_| report.pid.is_some_and(has_ended));
        let report = report.followed(live, restarted).draining(drained).stopped_by_signal(is_stopped);
        report.ended_unseen(unseen)
    }

    /// Returns the process that a killed supervisor has left of a service that no supervisor holds.
    fn orphan(&self, observed: &Observed) -> Option<i32> {
        let name = observed.profile.as_ref().filter(|_| observed.state == StateName::NotSupervised)?;
        self.orphans.iter().find(|(left, _)| left == name).map(|(_, pid)| *pid)
    }

    fn lines(&self, observed: &Observed) -> RunLines {
        if self.tells_lines {
            RunLines::of(observed, [self.supervisor_began, made(self.manager, observed)])
        } else {
            RunLines::default()
        }
    }

    /// Adds who serves the profile, and who keeps its port from it.
    fn of_profile(&self, name: &ProfileName, report: ServiceReport) -> ServiceReport {
        let (manager, root) = (self.manager, self.server.as_ref());
        let decided = self.topology.decide(name);
        let served = root.and_then(|root| root.report(&manager.agent().topology, name));
        let why = served::why_down(manager, root, decided.from);
        let report = report.served(served).decided(decided).because(why);
        let report = report.asking(self.tickets.look(name)).declared(self.declared.as_ref());
        let process = report.pid.filter(|_| report.is_up());
        let looks = report.fails() || process.is_some();
        let held = looks.then(|| self.ports.held(manager, name, process)).flatten();
        report.without_port(held.as_ref())
    }
}

/// Returns whether the process of a service that no supervisor holds may still run: the number that
/// was published last is that of a process that did not begin afterwards. If its environment tells
/// nothing, nothing else shows whose process it is.
fn may_be_left(observed: &Observed) -> bool {
    let status = observed.status.filter(Status::is_up);
    let Some((pid, changed)) = status.and_then(|status| Some((status.pid?, status.changed))) else {
        return false;
    };
    let latest = changed.to_unix_ms().saturating_add(CLOCK_MS);
    let began = || Process::of(pid.get()).map(|process| process.began_unix_ms());
    observed.state == StateName::NotSupervised && began().is_some_and(|began| began <= latest)
}

/// Returns what killed supervisors have left of gateways that no supervisor holds. That needs a
/// look at every process, so it is done only where no supervisor runs.
fn orphans(manager: &ScandirManager, all: &[SeenService]) -> Vec<(ProfileName, i32)> {
    let is_one = |(observed, _): &SeenService| {
        observed.profile.is_some() && observed.state == StateName::NotSupervised
    };
    if all.iter().any(is_one) && manager.supervisor_running().is_ok_and(|runs| !runs) {
        earlier::orphans(manager.scandir(), manager.home().root()).unwrap_or_default()
    } else {
        Vec::new()
    }
}

/// Returns when the profile of a gateway was made, if that is known. The default profile is the
/// home, which no other had before.
fn made(manager: &ScandirManager, observed: &Observed) -> Option<SystemTime> {
    let name = observed.profile.as_ref().filter(|name| !name.is_root())?;
    born(by_path::directory(manager.home().profile_dir(name)).ok()?, "")
}

/// Returns what the watcher of gateways knows of a service, and why it last ended a process of it.
fn followed(
    manager: &ScandirManager,
    report: &ServiceReport,
    facts: &SlotFacts,
) -> (Option<LiveReport>, Option<LiveRestart>) {
    let scandir = manager.scandir();
    let running = report.pid.filter(|_| report.is_up() && facts.may_be_followed);
    let live =
        running.and_then(|pid| live::look(scandir, &report.service, pid, report.updownfor.unwrap_or(0)));
    let restarted = report
        .profile
        .as_ref()
        .filter(|_| facts.may_be_restarted)
        .and_then(|_| live::restarted(&scandir.join(&report.service)));
    (live, restarted)
}

/// Returns what a profile's state file says, or what is wrong with it.
fn desired_state(manager: &ScandirManager, name: &ProfileName) -> Result<Option<Recorded>, String> {
    let file = &manager.agent().gateway.state_file;
    desired::read(&manager.home().profile_dir(name), file).map_err(|error| error.reason(file))
}

/// Returns the observation of a gateway that has no slot.
fn absent(name: &ProfileName) -> Observed {
    Observed {
        service: name.service_entry(),
        profile: Some(name.clone()),
        state: StateName::NotSupervised,
        status: None,
        executed: false,
        policy: None,
        normally_up: Some(false),
        deaths: Vec::new(),
        start_error: None,
        not_ready: None,
        delay: None,
        problem: None,
        fail_codes: Vec::new(),
        restart_codes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use gatevisor_wire::status::Status;
    use gatevisor_wire::wait::WaitStatus;

    use super::*;

    /// Returns what is observed of a gateway whose process became its command then.
    pub(super) fn up(changed: Tai64n) -> Observed {
        let status = Status {
            changed,
            ready_at: changed,
            pid: Pid::new(70),
            last: WaitStatus::default(),
            paused: false,
            finishing: false,
            want_up: true,
            ready: false,
        };
        let absent = absent(&ProfileName::root());
        Observed { state: StateName::Up, status: Some(status), executed: true, ..absent }
    }
}
