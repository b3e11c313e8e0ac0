//! *Lives here:* carrying out a plan, one profile after the other. A failure of one stops no other.
//!
//! *Does not live here:* deciding it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use gatevisor_paths::by_path;
use gatevisor_slot::survivors::end_vanished;
use gatevisor_slot::survivors::left::{self, LeftService};
use gatevisor_sys::file;
use gatevisor_wire::Pid;
use gatevisor_wire::exit::error_chain;
use gatevisor_wire::status::Status;
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use serde_json::Value;

use super::gather::refuse_if_supervised;
use super::plan::ReconcileSteps;
use super::{ProfileAction, ReconcileError, ReconcileReport, ReconcileSettings, ReconciledProfile, boot_log};
use crate::agent::Survivors;
use crate::desired::{self, Desired, DesiredState, Provenance};
use crate::drain;
use crate::earlier::{self, LastScandir, LeftGateway};
use crate::files::{is_leftover, read_bounded, remove_tree, sweep};
use crate::planned_stop_marker;
use crate::profile::ProfileName;
use crate::slots;
use crate::ticket;

/// The bytes of a stale file that are read.
const STALE_BYTES: usize = 1 << 16;
/// How long a process that an earlier supervisor left has after `SIGTERM`, where the definition
/// sets no time. The supervisor gives as much (`gatevisor-core`, `launch`).
const LEFT_GRACE: Duration = Duration::from_secs(10);

/// Makes the scandir.
///
/// # Errors
/// A supervisor runs on it, or it cannot be made or read. Then nothing was changed.
pub(super) fn prepare(settings: &ReconcileSettings<'_>) -> Result<(), ReconcileError> {
    refuse_if_supervised(settings)?;
    slots::may_make_slots(settings.scandir)?;
    let wrong = |source| ReconcileError::Scandir { scandir: settings.scandir.to_owned(), source };
    fs::create_dir_all(settings.scandir).map_err(wrong)?;
    by_path::names(settings.scandir).map(drop).map_err(wrong)
}

/// Carries out the steps, and returns the results.
///
/// # Errors
/// A supervisor runs on the scandir, or the scandir cannot be made. Then nothing was changed.
pub(super) fn execute(
    settings: &ReconcileSettings<'_>,
    steps: ReconcileSteps,
) -> Result<ReconcileReport, ReconcileError> {
    prepare(settings)?;
    let mut report = ReconcileReport::default();
    let left = end_left(settings, &mut report);
    report.is_held_back = !left.is_empty();
    for entry in steps.sweep {
        report.ended.extend(end_orphan(settings, &entry));
        match sweep_entry(settings.scandir, &entry) {
            Ok(true) => report.swept.push(entry),
            Ok(false) => {}
            Err(error) => report
                .warnings
                .push(format!("cannot remove `{entry}` from the scandir: {}", error_chain(&error))),
        }
    }
    drain::forget_all(settings.scandir);
    if steps.migrate {
        migrate(settings, &mut report.warnings);
    }
    for action in steps.actions {
        let action = act(settings, held_back(action, &left), &mut report.warnings);
        report.actions.push(action);
    }
    sweep_profiles(settings);
    append_to_boot_log(settings, &mut report);
    Ok(report)
}

/// Cleans up after the last run of each profile that shall run, and records that.
pub(super) fn take_over(settings: &ReconcileSettings<'_>, steps: ReconcileSteps) -> ReconcileReport {
    let mut report = ReconcileReport { actions: steps.actions, ..ReconcileReport::default() };
    let started = report.actions.iter().filter(|action| action.action == ProfileAction::Started);
    for name in started.filter_map(|action| action.name.as_ref()) {
        let _ = remove_stale(settings, name, &mut report.warnings);
    }
    for action in &report.actions {
        park(settings, action, &mut report.warnings);
    }
    append_to_boot_log(settings, &mut report);
    report
}

fn append_to_boot_log(settings: &ReconcileSettings<'_>, report: &mut ReconcileReport) {
    if let Err(error) = boot_log::append(settings, &report.actions, &mut report.warnings) {
        let file = &settings.agent.gateway.boot_log;
        report.warnings.push(format!("cannot write the boot log `{file}`: {}", error_chain(&error)));
    }
}

/// Ends what an earlier supervisor left of gateways of which the next one knows nothing: its
/// scandir is another one, or their slots have gone. Returns what could not be ended.
fn end_left(settings: &ReconcileSettings<'_>, report: &mut ReconcileReport) -> Vec<(ProfileName, String)> {
    let now = LastScandir::at(settings.scandir).map(|now| now.identity).unwrap_or_default();
    if settings.elsewhere || (settings.earlier.is_none() && !slots::follows_a_killed_one(settings.scandir)) {
        return Vec::new();
    }
    let mut scandirs = vec![now.clone()];
    scandirs.extend(settings.earlier.filter(|earlier| *earlier != now).map(str::to_owned));
    let is_unknown = |left: &LeftGateway| {
        left.is_orphan()
            && (left.service.scandir != now
                || slots::orphaned_status(settings.scandir, &left.name.service_entry()).is_none())
    };
    let left = earlier::left_of(&scandirs).unwrap_or_default().into_iter().filter(is_unknown);
    let services: Vec<LeftService> = left.map(|left| left.service).collect();
    let gateway = &settings.agent.gateway;
    let grace = match gateway.stop_timeout_ms {
        0 => LEFT_GRACE,
        own => Duration::from_millis(own),
    };
    let mut kept = Vec::new();
    for (entry, outcome) in left::end(&services, grace, gateway.survivors == Survivors::Kill) {
        let shown = String::from_utf8_lossy(&entry);
        report.ended.extend(outcome.ended.into_iter().map(|line| format!("{shown}: {line}")));
        let name = ProfileName::of_service(&entry);
        kept.extend(outcome.left.into_iter().filter_map(|line| Some((name.clone()?, line))));
    }
    kept
}

/// Returns what to do with a profile of which a process is left that cannot be ended: its gateway
/// is not started beside that.
fn held_back(action: ReconciledProfile, left: &[(ProfileName, String)]) -> ReconciledProfile {
    let is_its = |(name, _): &&(ProfileName, String)| action.name.as_ref() == Some(name);
    match left.iter().find(is_its) {
        Some((_, why)) if action.action == ProfileAction::Started => ReconciledProfile {
            action: ProfileAction::Registered,
            reason: Some(format!("{why}, so it is not started")),
            ..action
        },
        _ => action,
    }
}

/// Ends the processes that a killed supervisor has left running of a gateway whose slot goes away.
/// Nobody would look for them any more.
fn end_orphan(settings: &ReconcileSettings<'_>, entry: &str) -> Vec<String> {
    let Some(status) = slots::orphaned_status(settings.scandir, entry) else { return Vec::new() };
    let Ok(status) = Status::decode(&status) else { return Vec::new() };
    let Ok(scandir) = by_path::directory(settings.scandir).and_then(|it| file::lasting_identity(it, ""))
    else {
        return Vec::new();
    };
    let pid = status.pid.filter(|_| !status.finishing).map(Pid::get);
    let grace = Duration::from_millis(settings.agent.gateway.stop_timeout_ms);
    let since_ms = status.changed.to_unix_ms();
    let ended = end_vanished(&scandir, entry.as_bytes(), pid, since_ms, grace);
    ended.into_iter().map(|line| format!("{entry}: {line}")).collect()
}

fn sweep_entry(scandir: &Path, entry: &str) -> io::Result<bool> {
    let path = scandir.join(entry);
    if is_leftover(entry.as_ref()) { sweep(&path) } else { remove_tree(&path).map(|()| true) }
}

/// Removes what killed processes left among the profiles.
fn sweep_profiles(settings: &ReconcileSettings<'_>) {
    let profiles = settings.home.profiles_dir();
    for (entry, _) in by_path::names(&profiles).unwrap_or_default() {
        if is_leftover(&entry) {
            let _ = sweep(&profiles.join(entry));
        }
    }
}

fn migrate(settings: &ReconcileSettings<'_>, warnings: &mut Vec<String>) {
    let from = settings.agent.container.migrated_from.as_deref().unwrap_or("container-command");
    let file = &settings.agent.gateway.state_file;
    if let Err(error) = desired::migrate(settings.home.root(), file, from, settings.now.timestamp()) {
        warnings.push(error_chain(&error));
    }
}

/// Cleans up after the last run of one profile and makes its slot. If that fails, the profile is
/// skipped.
fn act(
    settings: &ReconcileSettings<'_>,
    action: ReconciledProfile,
    warnings: &mut Vec<String>,
) -> ReconciledProfile {
    let Some(name) = action.name.clone().filter(|_| action.action != ProfileAction::Skipped) else {
        return action;
    };
    let up = action.action == ProfileAction::Started;
    if !settings.elsewhere {
        if let Some(file) = remove_stale(settings, &name, warnings) {
            keep_running(settings, &action, &name, file, warnings);
        }
        park(settings, &action, warnings);
        forget_served(settings, &name, warnings);
    }
    let made = slots::render(settings.agent, &name, settings.interpreter, up)
        .map_err(|error| error_chain(&error))
        .and_then(|files| {
            slots::replace(settings.scandir, &name.service_entry(), &files)
                .map_err(|error| error_chain(&error))
        });
    if up && !settings.elsewhere {
        ticket::leave_reason(settings.home.root(), &name, &settings.scandir.join(name.service_entry()));
    }
    match made {
        Ok(None) => action,
        Ok(Some(left)) => {
            warnings.push(format!("profile {name}: cannot remove its old slot, now `{}`", left.display()));
            action
        }
        Err(reason) => ReconciledProfile { action: ProfileAction::Skipped, reason: Some(reason), ..action },
    }
}

/// Takes out of the root profile's state file whom its gateway served last. Another version of the
/// agent may leave that there, and it would count for the gateway that is started now.
fn forget_served(settings: &ReconcileSettings<'_>, name: &ProfileName, warnings: &mut Vec<String>) {
    let topology = &settings.agent.topology;
    let keys: Vec<&str> = [&topology.served_profiles, &topology.alone_reason]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    if !name.is_root() || keys.is_empty() {
        return;
    }
    let file = &settings.agent.gateway.state_file;
    if let Err(error) = desired::forget(settings.home.root(), file, &keys) {
        warnings.push(format!("profile {name}: {}", error_chain(&error)));
    }
}

/// Takes a profile out of those that another gateway serves, or puts it back.
fn park(settings: &ReconcileSettings<'_>, action: &ReconciledProfile, warnings: &mut Vec<String>) {
    let (Some(change), Some(name)) = (action.park, &action.name) else { return };
    let Some(file) = &settings.agent.topology.park else { return };
    if let Err(error) = change.make(&settings.home.profile_dir(name), file) {
        warnings.push(format!("profile {name}: cannot make or remove `{file}`: {}", error_chain(&error)));
    }
}

/// Records that a gateway shall run which somebody started by hand, and whose place the one in the
/// slot takes. What it leaves in its state file when it ends would count for the next start
/// otherwise.
fn keep_running(
    settings: &ReconcileSettings<'_>,
    action: &ReconciledProfile,
    name: &ProfileName,
    file: &str,
    warnings: &mut Vec<String>,
) {
    let runs = action.prior_state.as_deref() == Some(Desired::Running.word());
    // A gateway that is draining was told to end, and shall not come back.
    let (home, state_file) = (settings.home.profile_dir(name), &settings.agent.gateway.state_file);
    let recorded = desired::read(&home, state_file).ok().flatten();
    let is_ending = recorded.is_some_and(|recorded| recorded.gateway_state.as_deref() == Some("draining"));
    if action.action != ProfileAction::Started || !runs || is_ending {
        return;
    }
    let state = DesiredState {
        desired: Desired::Running,
        by: Provenance::here("up"),
        reason: Some(format!("it ran already, as `{file}` says")),
        at: settings.now.timestamp(),
    };
    if let Err(error) = desired::record_if_none(&home, state_file, &state) {
        warnings.push(format!("profile {name}: {}", error_chain(&error)));
    }
}

/// Deletes files that mean nothing after a boot. Returns one that stays, because the process that
/// it names is alive.
///
/// A file that names a process by pid and start time stays if that process lives. Outside of a
/// container, somebody may have started a gateway by hand.
///
/// **Source:** REC-12.
fn remove_stale<'a>(
    settings: &ReconcileSettings<'a>,
    name: &ProfileName,
    warnings: &mut Vec<String>,
) -> Option<&'a str> {
    let home = settings.home.profile_dir(name);
    let mut alive = None;
    if let Err(why) = drain::undo_marker(settings.agent, &home) {
        warnings.push(format!("profile {name}: {why}"));
    }
    for file in &settings.agent.gateway.stale_files {
        let path = home.join(file);
        if names_live_process(&path) {
            warnings.push(format!("profile {name}: `{file}` names a process that is alive, so it stays"));
            alive = Some(file.as_str());
            continue;
        }
        match remove_file(&path) {
            Err(errno) if errno != Errno::NOENT => {
                let why = error_chain(&errno);
                warnings.push(format!("profile {name}: cannot delete the stale `{file}`: {why}"));
            }
            _ => {}
        }
    }
    alive
}

fn remove_file(path: &Path) -> Result<(), Errno> {
    let (parent, name) = by_path::parent(path)?;
    unlinkat(parent, name, AtFlags::empty())
}

fn names_live_process(path: &Path) -> bool {
    let Ok(Some(bytes)) = read_bounded(path, STALE_BYTES) else { return false };
    let Ok(value) = serde_json::from_slice::<Value>(&bytes) else { return false };
    let number = |key: &str| value.get(key).and_then(Value::as_i64);
    let pid = number("pid").and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::new);
    let started = number("start_time").and_then(|time| u64::try_from(time).ok());
    matches!((pid, started), (Some(pid), Some(started)) if planned_stop_marker::start_time(pid) == Some(started))
}
