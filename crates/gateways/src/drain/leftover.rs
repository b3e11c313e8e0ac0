//! *Lives here:* undoing a drain whose owner has ended, is late, or is told to end.
//!
//! *Does not live here:* undoing a drain of this process (`held`).

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::proc::Process;
use gatevisor_sys::process::fork_detached;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::asking::{DrainTarget, remove, words};
use super::error::DrainError;
use super::record::{DrainRecord, DrainRecords, directory};
use crate::agent::{AgentDefinition, DrainDefinition};
use crate::manager::ScandirManager;
use crate::profile::ProfileName;

/// Milliseconds after the limit at which others take back the request of an owner that has not done
/// so.
const LATE_MS: u64 = 5_000;
/// How long the owner of a drain may take to end it after being told to, if no command of the
/// definition takes longer.
const OWNER_ENDS: Duration = Duration::from_secs(15);

/// How a drain was cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelledDrain {
    /// Its owner has ended it.
    Owner(String),
    /// Its owner was gone or did not end it, so it was undone here.
    Undone(String),
    /// Another program had asked for it, and that request was taken back.
    AskedByAnother,
}

/// Undoes a drain in no more than so long: takes back the request that its record names, and
/// removes the record. The caller holds the lock.
pub(super) fn undo(
    manager: &ScandirManager,
    name: &ProfileName,
    records: &DrainRecords,
    limit: Duration,
) -> Result<(), String> {
    let service = name.service_entry();
    let record = records.read(&service);
    let taken_back = record.map_or(Ok(false), |record| take_back(manager, name, &record, limit));
    let definition = manager.agent().gateway.drain.as_ref();
    // To ask again and again may renew what is to be undone.
    let is_tried_once = definition.is_some_and(DrainDefinition::ends_with_process);
    if taken_back.is_ok() || is_tried_once {
        records.remove(&service);
    }
    taken_back.map(drop)
}

/// Takes back the request that a record names. Returns whether there was one, as far as that can be
/// seen.
///
/// If the definition was another one at that time, the file of the record is removed. The file of
/// the present definition may be a request of another program.
fn take_back(
    manager: &ScandirManager,
    name: &ProfileName,
    record: &DrainRecord,
    limit: Duration,
) -> Result<bool, String> {
    if let Some(file) = &record.marker {
        // The name must be plain, so that whoever may write the record cannot have us remove a file
        // elsewhere.
        let is_plain = !file.contains('/');
        let removed = if is_plain { remove(&manager.home().profile_dir(name), file) } else { Ok(false) };
        return removed.map_err(|errno| format!("`{file}` cannot be removed: {}", words(errno)));
    }
    let drain = manager.agent().gateway.drain.as_ref().filter(|drain| drain.marker.is_none());
    // A request that is not a file ends with the process that was asked.
    let status = manager.slot(name).status().ok().filter(gatevisor_wire::status::Status::is_up);
    let pid = status.and_then(|status| status.pid).map(gatevisor_wire::Pid::get);
    let is_asked =
        |drain: &&DrainDefinition| pid.is_some() && (!drain.ends_with_process() || pid == Some(record.pid));
    match drain.filter(is_asked) {
        Some(drain) => DrainTarget { manager, name, drain }.take_back(limit),
        None => Ok(false),
    }
}

/// Undoes every drain of a scandir whose owner has ended, and takes back the requests of late
/// owners. Returns the messages about that.
pub(crate) fn undo_left(manager: &ScandirManager) -> Vec<(ProfileName, String)> {
    let Some(records) = DrainRecords::open(manager.scandir()) else { return Vec::new() };
    let services = records.services().into_iter();
    services.filter_map(|service| undo_one(manager, &records, &service)).collect()
}

fn undo_one(
    manager: &ScandirManager,
    records: &DrainRecords,
    service: &str,
) -> Option<(ProfileName, String)> {
    let name = ProfileName::of_service(service.as_bytes())?;
    let lock = records.lock(service).ok()?;
    if lock.is_none() && !is_overdue(&records.read(service)?) {
        return None;
    }
    // The definition may have been edited since this process began.
    let manager = &manager.as_remembered();
    let said = match lock {
        Some(lock) => undo_abandoned(manager, records, &name, lock),
        None => undo_overdue(manager, records, &name),
    };
    Some((name, said?))
}

/// Undoes a drain whose owner has ended.
fn undo_abandoned(
    manager: &ScandirManager,
    records: &DrainRecords,
    name: &ProfileName,
    lock: OwnedFd,
) -> Option<String> {
    // The owner may have ended the drain properly just now.
    let by = records.read(&name.service_entry())?.by;
    if manager.agent().gateway.drain.as_ref().is_some_and(|drain| drain.command.is_some()) {
        undo_in_child(manager, name, lock);
        return Some(format!("{by}, ended before its drain did; that is being undone"));
    }
    Some(match undo(manager, name, records, Duration::MAX) {
        Ok(()) => format!("{by}, ended before its drain did; that is undone"),
        Err(why) => format!("{by}, ended before its drain did, which cannot be undone: {why}"),
    })
}

/// Takes back the request of an owner that still runs and is late.
fn undo_overdue(manager: &ScandirManager, records: &DrainRecords, name: &ProfileName) -> Option<String> {
    let record = records.read(&name.service_entry()).filter(is_overdue)?;
    record.marker.as_ref()?;
    let was_there = take_back(manager, name, &record, Duration::MAX).ok()?;
    was_there.then(|| format!("{}, did not end its drain in time; the request is taken back", record.by))
}

fn is_overdue(record: &DrainRecord) -> bool {
    monotonic_ms() > record.until_ms.saturating_add(LATE_MS)
}

/// Undoes a drain in a child process, because a command may take a while. The child holds the lock
/// until then.
fn undo_in_child(manager: &ScandirManager, name: &ProfileName, lock: OwnedFd) {
    let _ = fork_detached(|| {
        if let Some(records) = DrainRecords::open(manager.scandir()) {
            let _ = undo(manager, name, &records, Duration::MAX);
        }
        drop(lock);
    });
}

/// Cancels the drain of a gateway. Its owner is told to end it. If the owner does not, the drain is
/// undone here.
///
/// # Errors
/// Nobody drains it, or it cannot be undone.
pub fn cancel(manager: &ScandirManager, name: &ProfileName) -> Result<CancelledDrain, DrainError> {
    manager.check_profile(name)?;
    let service = name.service_entry();
    let records = DrainRecords::open(manager.scandir());
    let record = records.as_ref().and_then(|records| records.read(&service));
    let failed = |why| DrainError::Undo { name: name.clone(), why };
    let Some((records, record)) = records.zip(record) else {
        return cancel_another(manager, name);
    };
    if records.is_held(&service)
        && end_owner(&record, owner_limit(manager))
        && records.read(&service).is_none()
    {
        return Ok(CancelledDrain::Owner(record.by));
    }
    // A stopped owner still holds the lock. Its request is taken back all the same.
    let _lock = records.lock(&service).map_err(|errno| failed(words(errno)))?;
    undo(manager, name, &records, Duration::MAX).map_err(failed)?;
    Ok(CancelledDrain::Undone(record.by))
}

fn cancel_another(manager: &ScandirManager, name: &ProfileName) -> Result<CancelledDrain, DrainError> {
    let nobody = || DrainError::NotDraining { name: name.clone() };
    let drain =
        manager.agent().gateway.drain.as_ref().filter(|drain| drain.marker.is_some()).ok_or_else(nobody)?;
    match (DrainTarget { manager, name, drain }).take_back(Duration::MAX) {
        Ok(true) => Ok(CancelledDrain::AskedByAnother),
        Ok(false) => Err(nobody()),
        Err(why) => Err(DrainError::Undo { name: name.clone(), why }),
    }
}

/// Returns how long the owner of a drain may take to end it: to end a look, and to undo the drain.
fn owner_limit(manager: &ScandirManager) -> Duration {
    let Some(drain) = &manager.agent().gateway.drain else { return OWNER_ENDS };
    let look = drain.idle.command.as_ref().map_or(0, |_| drain.idle.timeout_ms);
    let undo = drain.command.as_ref().map_or(0, |commands| commands.timeout_ms);
    OWNER_ENDS.max(Duration::from_millis(look.saturating_add(undo)))
}

/// Tells the owner of a drain to end. Returns whether it has ended.
fn end_owner(record: &DrainRecord, limit: Duration) -> bool {
    let Some(process) = Pid::from_raw(record.owner).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
    else {
        return true;
    };
    // The descriptor is for the process that has the number now, which may be another one.
    if Process::of(record.owner).is_none_or(|process| process.began != record.owner_ticks) {
        return true;
    }
    if pidfd_send_signal(&process, Signal::TERM).is_err() {
        return false;
    }
    let until = Instant::now().checked_add(limit);
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    poll(&mut [PollFd::new(&process, PollFlags::IN)], timeout.as_ref()).is_ok_and(|ready| ready > 0)
}

/// Removes the file that asks a gateway to drain from the home of its profile, whoever wrote it.
/// After a start of the supervisor, no reason for a drain is left.
pub(crate) fn undo_marker(agent: &AgentDefinition, home: &Path) -> Result<(), String> {
    let Some(marker) = agent.gateway.drain.as_ref().and_then(|drain| drain.marker.as_ref()) else {
        return Ok(());
    };
    remove(home, &marker.file)
        .map(drop)
        .map_err(|errno| format!("cannot remove `{}`: {}", home.join(&marker.file).display(), words(errno)))
}

/// Removes all records of drains in a scandir that has no supervisor.
pub(crate) fn forget_all(scandir: &Path) {
    if !gatevisor_paths::by_path::is_directory(directory(scandir)) {
        return;
    }
    if let Some(records) = DrainRecords::open(scandir) {
        records.clear();
    }
}
