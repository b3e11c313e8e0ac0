//! `gatevisor health`: whether gateways, or the supervisor alone, are as they should be; the answer is the exit code.
//!
//! *Lives here:* the judgement. *Does not live here:* finding states out (`gatevisor_gateways::inspect`).
//!
//! A container engine replaces a container that is not healthy, with all its gateways. So what it asks is the supervisor, and
//! one gateway that does not work, or an agent that takes its services away, makes nothing unhealthy.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gatevisor_boot::{presence, runtime_directories};
use gatevisor_client::ScanDir;
use gatevisor_gateways::inspect::{self, ServiceReport, ServiceState};
use gatevisor_gateways::profile::ProfileName;
use gatevisor_wire::Pid;
use serde::Serialize;

use crate::args::Common;
use crate::container_scandir::{self, SCANDIR_VARIABLE};
use crate::context::{CommandContext, MissingHome};
use crate::exit::{Exit, Outcome};
use crate::{liveness_words, out, status};

/// What is said of the supervisor.
#[derive(Debug, Serialize)]
struct SupervisorHealth {
    healthy: bool,
    /// Its process; -1 if there is none that can be seen.
    pid: i32,
    reason: Option<&'static str>,
}

/// What is said of a gateway.
#[derive(Debug, Serialize)]
struct GatewayHealth<'a> {
    profile: &'a ProfileName,
    healthy: bool,
    state: ServiceState,
    reason: Option<&'a str>,
}

/// Judges the supervisor alone.
pub fn of_supervisor(common: &Common) -> Outcome {
    let found = match named_scandir(common) {
        Some(scandir) => of_scandir(&scandir),
        None => match of_container() {
            Ok(found) => found,
            Err(_) => {
                of_scandir(CommandContext::new(common, MissingHome::IsRefused, false)?.manager.scandir())
            }
        },
    };
    let answer = judged(found);
    if common.json {
        out::json(&answer)?;
    } else if let Some(reason) = answer.reason {
        out::line(format_args!("{reason}"))?;
    } else {
        out::line(format_args!("the supervisor works (pid {})", answer.pid))?;
    }
    Ok(answer_code(answer.healthy))
}

/// Returns the scandir that the command line or the environment names.
fn named_scandir(common: &Common) -> Option<PathBuf> {
    let variable = || container_scandir::variable(SCANDIR_VARIABLE).filter(|path| !path.is_empty());
    common.scandir.clone().or_else(|| variable().map(PathBuf::from))
}

/// Returns the supervisor of the container that we are in, or why we seem to be in none.
fn of_container() -> std::io::Result<Option<Pid>> {
    presence::supervisor(Path::new(container_scandir::CONTAINER_RUN))
        .or_else(|_| presence::supervisor(&runtime_directories::fallback_of(&std::env::temp_dir())))
}

fn of_scandir(scandir: &Path) -> Option<Pid> {
    let scandir = ScanDir::new(scandir);
    scandir.running().is_ok_and(|running| running).then(|| scandir.holder()).flatten()
}

fn judged(found: Option<Pid>) -> SupervisorHealth {
    let reason = match found {
        None => Some("no supervisor is running"),
        Some(pid) if is_stopped(pid) => Some("the supervisor is stopped by a signal"),
        Some(_) => None,
    };
    SupervisorHealth { healthy: reason.is_none(), pid: found.map_or(-1, Pid::get), reason }
}

/// Returns whether a process has been stopped, by a signal or by a debugger, or has ended without being reaped.
fn is_stopped(pid: Pid) -> bool {
    let stat = std::fs::read(format!("/proc/{}/stat", pid.get())).unwrap_or_default();
    // The name, which may hold anything, ends with the last parenthesis.
    let state = stat.iter().rposition(|&byte| byte == b')').and_then(|end| stat.get(end.checked_add(2)?));
    state.is_some_and(|state| b"TtZX".contains(state))
}

/// Judges gateways: those that are named, or all that should run.
pub fn of_gateways(context: &CommandContext, names: &[OsString]) -> Outcome {
    let names: Vec<ProfileName> =
        names.iter().map(|name| context.named(Some(name))).collect::<Result<_, _>>()?;
    let reports = if names.is_empty() {
        let all = inspect::survey(&context.manager)?;
        all.into_iter().filter(should_run).collect()
    } else {
        names.iter().map(|name| status::row(context, name)).collect::<Result<Vec<ServiceReport>, _>>()?
    };
    let mut all_healthy = true;
    for report in &reports {
        let Some(profile) = &report.profile else { continue };
        let unknown = liveness_words::unknown(report);
        let healthy = works(report.state) && unknown.is_none();
        all_healthy &= healthy;
        let reason = report.reason.as_deref().or(unknown).or(report.problem.as_deref()).filter(|_| !healthy);
        if context.json {
            out::json(&GatewayHealth { profile, healthy, state: report.state, reason })?;
        } else {
            let because = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            out::line(format_args!("{profile}: {}{because}", report.state.words()))?;
        }
    }
    Ok(answer_code(all_healthy))
}

/// Returns whether a service is a gateway that somebody wants to run.
fn should_run(report: &ServiceReport) -> bool {
    report.profile.is_some() && (report.wantedup || report.desired_state.as_deref() == Some("running"))
}

/// Returns whether a gateway does what it is there for. Of one that does not say whether it is ready, being up is enough.
fn works(state: ServiceState) -> bool {
    matches!(state, ServiceState::Up | ServiceState::Ready | ServiceState::Degraded | ServiceState::Draining)
}

fn answer_code(healthy: bool) -> u8 {
    if healthy { Exit::Done.code() } else { Exit::No.code() }
}

#[cfg(test)]
mod tests {
    use super::judged;
    use gatevisor_wire::Pid;

    #[test]
    fn a_supervisor_is_healthy_as_long_as_it_runs() {
        let ours = Pid::new(std::process::id().cast_signed());
        assert!(judged(ours).healthy);
        let none = judged(None);
        assert_eq!((none.healthy, none.pid, none.reason), (false, -1, Some("no supervisor is running")));
    }
}
