//! `gatevisor health`: whether gateways, or only the supervisor, work; the exit code is the answer.
//!
//! *Lives here:* the judgement. *Does not live here:* finding states out
//! (`gatevisor_gateways::inspect`).
//!
//! A container engine replaces an unhealthy container with all its gateways. So an engine should
//! ask only about the supervisor: a gateway that does not work, or an agent that removes its
//! services, makes nothing unhealthy.

use std::io;
use std::path::{Path, PathBuf};

use gatevisor_boot::{presence, runtime_directories};
use gatevisor_client::ScanDir;
use gatevisor_gateways::inspect::{self, ServiceReport, ServiceState};
use gatevisor_gateways::live::{self, LiveReport};
use gatevisor_gateways::manager::LookError;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_wire::Pid;
use serde::Serialize;

use crate::args::{Choice, Common};
use crate::choice::{NameScope, Unnamed, chosen};
use crate::container_scandir::{self, SCANDIR_VARIABLE};
use crate::context::{CommandContext, MissingHome};
use crate::exit::{CommandError, Exit, Outcome};
use crate::{liveness_words, out};

/// What is unknown if a place may not be looked at.
const RUNS: &str = "whether a supervisor runs on";

/// The report about the supervisor.
#[derive(Debug, Serialize)]
struct SupervisorHealth {
    /// Whether it works; `None` if that is unknown.
    healthy: Option<bool>,
    /// Its process, if there is one that we can see.
    pid: Option<i32>,
    reason: Option<String>,
    /// Why nobody watches whether the gateways work, if somebody should.
    unwatched: Option<String>,
}

/// The report about a gateway.
#[derive(Debug, Serialize)]
struct GatewayHealth<'a> {
    profile: &'a ProfileName,
    /// Whether it works; `None` if that is unknown.
    healthy: Option<bool>,
    state: ServiceState,
    reason: Option<&'a str>,
}

/// The supervisor that was looked for.
enum FoundSupervisor {
    /// None runs.
    Nowhere,
    /// One runs; its process may be hidden from us.
    Here(Option<Pid>),
}

/// Judges only the supervisor.
pub fn of_supervisor(common: &Common) -> Outcome {
    let container = || of_container().map(|found| (found, container_scandir::containers_scandir()));
    let named = named_scandir(common).map(|scandir| (of_scandir(&scandir), scandir));
    let (found, scandir) = if let Some(known) = named.or_else(container) {
        known
    } else {
        let context = CommandContext::new(common, MissingHome::IsRefused, false)?;
        let scandir = context.manager.scandir();
        (of_scandir(scandir), scandir.to_owned())
    };
    let is_here = matches!(found, Ok(FoundSupervisor::Here(_)));
    let answer = judged(found, live::missing(&scandir).filter(|_| is_here));
    if common.json {
        out::json(&answer)?;
    } else if let Some(reason) = &answer.reason {
        out::line(reason.as_str())?;
    } else {
        let pid = answer.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
        let but = answer
            .unwatched
            .as_ref()
            .map_or_else(String::new, |why| format!(", and nobody watches whether the gateways work: {why}"));
        out::line(format_args!("the supervisor works (pid {pid}){but}"))?;
    }
    Ok(answer_code(answer.healthy))
}

/// Returns the scandir that the command line or the environment names.
fn named_scandir(common: &Common) -> Option<PathBuf> {
    let variable = || container_scandir::variable(SCANDIR_VARIABLE).filter(|path| !path.is_empty());
    common.scandir.clone().or_else(|| variable().map(PathBuf::from))
}

/// Returns the supervisor of the container that we are in; `None` if we seem to be in none.
fn of_container() -> Option<Result<FoundSupervisor, LookError>> {
    let places = [
        PathBuf::from(container_scandir::CONTAINER_RUN),
        runtime_directories::fallback_of(&std::env::temp_dir()),
    ];
    places.iter().find_map(|place| match presence::supervisor(place) {
        Ok(found) => Some(Ok(found.map_or(FoundSupervisor::Nowhere, |pid| FoundSupervisor::Here(Some(pid))))),
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            Some(Err(LookError { what: RUNS, path: place.clone(), source }))
        }
        Err(_) => None,
    })
}

fn of_scandir(path: &Path) -> Result<FoundSupervisor, LookError> {
    let scandir = ScanDir::new(path);
    match scandir.running() {
        Ok(true) => Ok(FoundSupervisor::Here(scandir.holder())),
        Ok(false) => Ok(FoundSupervisor::Nowhere),
        Err(source) => Err(LookError { what: RUNS, path: path.to_owned(), source }),
    }
}

/// Judges a supervisor. Whether the gateways are watched decides nothing: their user can end the
/// watcher, and would have the engine replace the whole container.
fn judged(found: Result<FoundSupervisor, LookError>, unwatched: Option<String>) -> SupervisorHealth {
    let (healthy, pid, reason) = match found {
        Err(unseen) => (None, None, Some(CommandError::from(unseen).message)),
        Ok(FoundSupervisor::Nowhere) => (Some(false), None, Some("no supervisor is running".to_owned())),
        Ok(FoundSupervisor::Here(pid)) => {
            let why = pid.and_then(why_it_does_nothing);
            (Some(why.is_none()), pid, why.map(str::to_owned))
        }
    };
    SupervisorHealth { healthy, pid: pid.map(Pid::get), reason, unwatched }
}

/// Returns why a supervisor does nothing, as far as the kernel tells.
fn why_it_does_nothing(pid: Pid) -> Option<&'static str> {
    match gatevisor_sys::proc::state(pid.get())? {
        'T' => Some("the supervisor is stopped by a signal"),
        't' => Some("a debugger holds the supervisor"),
        'Z' | 'X' => Some("the supervisor has ended"),
        _ => None,
    }
}

/// Judges gateways: those that are chosen, or all that should run.
pub fn of_gateways(context: &CommandContext, choice: &Choice) -> Outcome {
    let is_of_all = choice.is_empty() && !context.is_selected;
    let names =
        if is_of_all { Vec::new() } else { chosen(context, choice, NameScope::Known, Unnamed::Selected)? };
    let reports = if is_of_all {
        let all = inspect::survey(&context.manager)?;
        all.into_iter().filter(may_be_wanted).collect()
    } else {
        let all = inspect::inspect_each(&context.manager, &names);
        all.into_iter().collect::<Result<Vec<ServiceReport>, _>>()?
    };
    let mut all_healthy = Some(true);
    for report in &reports {
        let Some(profile) = &report.profile else { continue };
        let unknown = liveness_words::unknown(report);
        let healthy = report.is_healthy();
        // What nobody can tell comes before what is known to be bad: it may be worse.
        all_healthy = all_healthy.zip(healthy).map(|(all, this)| all && this);
        let reason = report.reason.as_deref().or(unknown).or(report.problem.as_deref());
        let is_degraded = report.state == ServiceState::Degraded;
        let reason = reason.filter(|_| healthy != Some(true) || is_degraded);
        let missed = report.live.as_ref().and_then(LiveReport::missed);
        let reason = reason.or(missed.as_deref());
        if context.json {
            out::json(&GatewayHealth { profile, healthy, state: report.state, reason })?;
        } else {
            let because = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            out::line(format_args!("{profile}: {}{because}", report.state.words()))?;
        }
    }
    Ok(answer_code(all_healthy))
}

/// Returns whether a service is a gateway that somebody wants to run, or may want to.
fn may_be_wanted(report: &ServiceReport) -> bool {
    report.profile.is_some() && report.is_wanted() != Some(false)
}

const fn answer_code(healthy: Option<bool>) -> u8 {
    match healthy {
        Some(true) => Exit::Done.code(),
        Some(false) => Exit::No.code(),
        None => Exit::System.code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_is_healthy_as_long_as_it_runs_and_nobody_knows_if_it_cannot_be_looked_for() {
        let ours = Pid::new(std::process::id().cast_signed());
        let answer = |found| {
            let SupervisorHealth { healthy, pid, reason, .. } = judged(found, None);
            (healthy, pid.is_some(), reason)
        };
        assert_eq!(answer(Ok(FoundSupervisor::Here(ours))), (Some(true), true, None));
        assert_eq!(answer(Ok(FoundSupervisor::Here(None))), (Some(true), false, None));
        let none = Some("no supervisor is running".to_owned());
        assert_eq!(answer(Ok(FoundSupervisor::Nowhere)), (Some(false), false, none));
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let (healthy, _, reason) =
            answer(Err(LookError { what: RUNS, path: PathBuf::from("/scandir"), source: refused }));
        assert_eq!(healthy, None);
        assert!(reason.is_some_and(|reason| reason.starts_with("cannot tell whether a supervisor runs on")));
        let unwatched = judged(Ok(FoundSupervisor::Here(ours)), Some("no watcher".to_owned()));
        assert!(unwatched.healthy == Some(true) && unwatched.unwatched.is_some());
    }
}
