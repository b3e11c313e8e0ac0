//! *Lives here:* one gateway, or everything supervised, as a report: state, desired state, deaths, memory.
//!
//! *Does not live here:* tables and colours.
//!
//! Names and values are those of `s6-svstat -o` where it has them; additions have their unit in the name.
//!
//! **Source:** s6-svstat(8), *Programmatic usage*.

mod deaths;
mod keeping;
mod report;
mod served;

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use gatevisor_wire::Pid;
use gatevisor_wire::exit::{Exit, ExitError};
use gatevisor_wire::tai::Tai64n;

use crate::desired::{self, Recorded};
use crate::live::{self, LiveReport, LiveRestart};
use crate::manager::{ListServicesError, LookError, Observed, ScandirManager, ServiceManager};
use crate::ports;
use crate::profile::{self, ProfileName};
use crate::slots;
use crate::tree::{self, Leader, Usage};

pub use deaths::{DeathReport, deaths, meaning, moment};
pub use report::{ServiceReport, ServiceState};
pub use served::by as served_by;

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
    /// Nobody may look.
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
/// Profiles come first, the root profile's at the top, then other services; each part is sorted by name.
pub fn survey(manager: &ScandirManager) -> Result<Vec<ServiceReport>, InspectError> {
    let mut by_name: BTreeMap<ProfileName, Observed> = BTreeMap::new();
    let mut others = Vec::new();
    for observed in manager.observe_all()? {
        match &observed.profile {
            Some(name) => drop(by_name.insert(name.clone(), observed)),
            None => others.push(observed),
        }
    }
    for profile in profile::list(manager.home(), manager.agent())? {
        let has_gateway = !profile.name.is_root() || manager.agent().default_profile.gateway;
        if has_gateway {
            by_name.entry(profile.name.clone()).or_insert_with(|| absent(&profile.name));
        }
    }
    let root = by_name.remove(&ProfileName::root());
    let all: Vec<Observed> = root.into_iter().chain(by_name.into_values()).chain(others).collect();
    Ok(reports(manager, &all))
}

/// Returns the report of one profile's gateway.
///
/// # Errors
/// There is neither a profile of that name nor a slot.
pub fn inspect(manager: &ScandirManager, name: &ProfileName) -> Result<ServiceReport, InspectError> {
    let observed = if let Some(observed) = manager.observe(name)? {
        observed
    } else {
        profile::show(manager.home(), manager.agent(), name)?;
        absent(name)
    };
    let usage = usage_of(manager, std::slice::from_ref(&observed));
    let report = report(manager, &observed, &usage, now()).under(manager.supervisor_program().as_ref());
    Ok(report.standing(&manager.standing()))
}

/// Returns the reports of services that were observed, in their order.
pub fn reports(manager: &ScandirManager, all: &[Observed]) -> Vec<ServiceReport> {
    let (usage, now, supervisor) = (usage_of(manager, all), now(), manager.supervisor_program());
    let standing = manager.standing();
    let one =
        |observed| report(manager, observed, &usage, now).under(supervisor.as_ref()).standing(&standing);
    all.iter().map(one).collect()
}

/// Returns what all services use, in one pass: the cost of a table is not the number of services times that of
/// processes.
fn usage_of(manager: &ScandirManager, all: &[Observed]) -> HashMap<Pid, Usage> {
    let leader =
        |observed: &Observed| Some(Leader { service: observed.service.clone(), pid: observed.status?.pid? });
    let leaders: Vec<Leader> = all.iter().filter_map(leader).collect();
    tree::usage(manager.scandir(), &leaders)
}

fn report(
    manager: &ScandirManager,
    observed: &Observed,
    usage: &HashMap<Pid, Usage>,
    now: Tai64n,
) -> ServiceReport {
    let pid = observed.status.and_then(|status| status.pid);
    let memory = pid.and_then(|pid| usage.get(&pid).copied());
    let desired_state = observed.profile.as_ref().map(|name| desired_state(manager, name));
    let kept = keeping::log_error(&manager.scandir().join(&observed.service));
    let is_older = observed.profile.as_ref().is_some_and(|name| is_older(manager, name));
    let report = ServiceReport::new(manager.agent(), observed, desired_state, memory, now)
        .keeping(kept.as_ref())
        .older(is_older);
    let (live, restarted) = followed(manager, &report);
    let report = report.followed(live, restarted);
    let Some(name) = &observed.profile else { return report };
    let report = report.served(served::by(manager, name).as_ref());
    let held = report.fails().then(|| ports::held(manager, name)).flatten();
    report.without_port(held.as_ref())
}

/// Returns what the watcher of gateways knows of a service, and why it ended a process of it last.
fn followed(manager: &ScandirManager, report: &ServiceReport) -> (Option<LiveReport>, Option<LiveRestart>) {
    let scandir = manager.scandir();
    let running = report.pid.filter(|_| report.up);
    let live = running.and_then(|pid| live::look(scandir, &report.service, pid, report.updownfor));
    let restarted = report.profile.as_ref().and_then(|_| live::restarted(&scandir.join(&report.service)));
    (live, restarted)
}

/// Returns whether a gateway's service directory is one of ours and not as the definition has it.
fn is_older(manager: &ScandirManager, name: &ProfileName) -> bool {
    let changes = slots::changes(manager.slot(name).path(), manager.agent(), name).ok().flatten();
    changes.is_some_and(|changes| !changes.is_empty())
}

fn now() -> Tai64n {
    Tai64n::now_from(SystemTime::now())
}

/// Returns what a profile's state file says, or what is wrong with it.
fn desired_state(manager: &ScandirManager, name: &ProfileName) -> Result<Option<Recorded>, String> {
    let file = &manager.agent().gateway.state_file;
    desired::read(&manager.home().profile_dir(name), file).map_err(|error| error.reason(file))
}

/// Returns what is seen of a gateway that has no slot: that there is nothing.
fn absent(name: &ProfileName) -> Observed {
    Observed {
        service: name.service_entry(),
        profile: Some(name.clone()),
        state: gatevisor_client::status_view::StateName::NotSupervised,
        status: None,
        executed: false,
        policy: None,
        normally_up: false,
        deaths: Vec::new(),
        start_error: None,
        not_ready: None,
        problem: None,
        fail_codes: Vec::new(),
        restart_codes: Vec::new(),
    }
}
