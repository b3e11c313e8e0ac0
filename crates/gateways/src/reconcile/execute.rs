//! *Lives here:* carrying out a plan, one profile after the other, whatever happens to any of them.
//!
//! *Does not live here:* deciding it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use gatevisor_paths::by_path;
use gatevisor_slot::survivors::end_vanished;
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
use crate::desired;
use crate::files::{is_leftover, read_bounded, remove_tree, sweep};
use crate::marker;
use crate::profile::ProfileName;
use crate::slots;

/// Bytes of a stale file that are looked at.
const STALE_BYTES: usize = 1 << 16;

/// Carries out the steps, and returns what came of them.
///
/// # Errors
/// A supervisor runs on the scandir, or there cannot be a scandir. Nothing has been touched then.
pub(super) fn execute(
    settings: &ReconcileSettings<'_>,
    steps: ReconcileSteps,
) -> Result<ReconcileReport, ReconcileError> {
    refuse_if_supervised(settings)?;
    slots::may_make_slots(settings.scandir)?;
    fs::create_dir_all(settings.scandir)
        .map_err(|source| ReconcileError::Scandir { scandir: settings.scandir.to_owned(), source })?;
    let mut report = ReconcileReport::default();
    for entry in steps.sweep {
        report.ended.extend(end_orphan(settings, &entry));
        match sweep_entry(settings.scandir, &entry) {
            Ok(true) => report.swept.push(entry),
            Ok(false) => {}
            Err(error) => report.warnings.push(format!("cannot remove `{entry}` from the scandir: {error}")),
        }
    }
    if steps.migrate {
        migrate(settings, &mut report.warnings);
    }
    for action in steps.actions {
        let action = act(settings, action, &mut report.warnings);
        report.actions.push(action);
    }
    sweep_profiles(settings);
    if let Err(error) = boot_log::append(settings, &report.actions, &mut report.warnings) {
        report
            .warnings
            .push(format!("cannot write the boot log `{}`: {error}", settings.agent.gateway.boot_log));
    }
    Ok(report)
}

/// Cleans up after the last life of each profile that shall run, and records it.
pub(super) fn take_over(settings: &ReconcileSettings<'_>, steps: ReconcileSteps) -> ReconcileReport {
    let mut report = ReconcileReport { actions: steps.actions, ..ReconcileReport::default() };
    let started = report.actions.iter().filter(|action| action.action == ProfileAction::Started);
    for name in started.filter_map(|action| action.name.as_ref()) {
        remove_stale(settings, name, &mut report.warnings);
    }
    if let Err(error) = boot_log::append(settings, &report.actions, &mut report.warnings) {
        let file = &settings.agent.gateway.boot_log;
        report.warnings.push(format!("cannot write the boot log `{file}`: {error}"));
    }
    report
}

/// Ends what a supervisor that was killed left running of a gateway whose slot goes away: nobody would look for it any more.
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

/// Cleans up after one profile's last life and makes its slot; a failure makes the profile skipped.
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
        remove_stale(settings, &name, warnings);
    }
    let made = slots::render(settings.agent, &name, settings.interpreter, up)
        .map_err(|error| error_chain(&error))
        .and_then(|files| {
            slots::replace(settings.scandir, &name.service_entry(), &files)
                .map_err(|error| error_chain(&error))
        });
    match made {
        Ok(None) => action,
        Ok(Some(left)) => {
            warnings.push(format!("profile {name}: cannot remove its old slot, now `{}`", left.display()));
            action
        }
        Err(reason) => ReconciledProfile { action: ProfileAction::Skipped, reason: Some(reason), ..action },
    }
}

/// Deletes files that mean nothing after a boot.
///
/// One that names a process by pid and start time, where that very process lives, means something still: outside of a
/// container a gateway may have been started by hand.
///
/// **Source:** REC-12.
fn remove_stale(settings: &ReconcileSettings<'_>, name: &ProfileName, warnings: &mut Vec<String>) {
    let home = settings.home.profile_dir(name);
    for file in &settings.agent.gateway.stale_files {
        let path = home.join(file);
        if names_live_process(&path) {
            warnings.push(format!("profile {name}: `{file}` names a process that is alive, so it stays"));
            continue;
        }
        match remove_file(&path) {
            Err(errno) if errno != Errno::NOENT => {
                let error = io::Error::from(errno);
                warnings.push(format!("profile {name}: cannot delete the stale `{file}`: {error}"));
            }
            _ => {}
        }
    }
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
    matches!((pid, started), (Some(pid), Some(started)) if marker::start_time(pid) == Some(started))
}
