//! *Lives here:* noticing changes without an event: a pause or its end, which a supervisor only
//! writes into the status, and the possible end of an interpreter.
//!
//! *Does not live here:* the events of supervisors, and checking whether an interpreter has become
//! the command (`event_subscriber`).

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};

use gatevisor_client::{ServiceDir, status_view};
use gatevisor_sys::inotify::Inotify;
use gatevisor_wire::name::ServiceName;
use gatevisor_wire::status::Status;

/// The change of a running service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// A command has paused it.
    Paused,
    /// It was continued.
    Continued,
}

/// Watches the files of several services with one instance of inotify, because a user may have few
/// of them.
pub struct ServiceFilesWatch {
    inotify: Option<Inotify>,
    services: BTreeMap<ServiceName, PausableService>,
}

/// A service whose files are watched, as far as they may be.
struct PausableService {
    supervise: Option<i32>,
    exec: Option<i32>,
    dir: ServiceDir,
    status: Option<Status>,
    /// Whether it was paused at the last report.
    is_paused: bool,
}

impl ServiceFilesWatch {
    /// Returns a watch on no service.
    pub fn new() -> Self {
        Self { inotify: Inotify::new().ok(), services: BTreeMap::new() }
    }

    /// Begins to watch a service.
    pub fn add(&mut self, name: &ServiceName, dir: &ServiceDir) {
        let Some(inotify) = &self.inotify else { return };
        let supervise = dir.watch_published(inotify);
        let exec = dir.watch_exec(inotify);
        let status = dir.status().ok();
        let is_paused = status.as_ref().is_some_and(status_view::is_paused);
        let service = PausableService { supervise, exec, dir: dir.clone(), status, is_paused };
        self.services.insert(name.clone(), service);
    }

    /// Watches the status of a service that had no status when it was added, because it was not
    /// supervised yet.
    pub fn complete(&mut self, name: &ServiceName) {
        if let (Some(inotify), Some(service)) = (&self.inotify, self.services.get_mut(name))
            && service.supervise.is_none()
        {
            service.supervise = service.dir.watch_published(inotify);
            service.status = service.dir.status().ok();
        }
    }

    /// Ends the watch on a service.
    pub fn remove(&mut self, name: &ServiceName) {
        if let (Some(inotify), Some(service)) = (&self.inotify, self.services.remove(name)) {
            service.supervise.into_iter().chain(service.exec).for_each(|watch| inotify.remove(watch));
        }
    }

    /// Returns the descriptor that can be read after a change.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Returns which services were paused or continued since the last call.
    pub fn take(&mut self) -> Vec<(ServiceName, Pause)> {
        let Some(inotify) = &self.inotify else { return Vec::new() };
        let (mut changed, mut is_loss) = (BTreeSet::new(), false);
        let _ = inotify.read(|change| {
            is_loss |= change.is_loss();
            changed.insert(change.watch);
        });
        let services = self.services.iter_mut();
        let is_changed = |service: &PausableService| {
            is_loss || service.supervise.is_some_and(|watch| changed.contains(&watch))
        };
        let changed = services.filter(|(_, service)| is_changed(service));
        changed.filter_map(|(name, service)| Some((name.clone(), service.look()?))).collect()
    }

    /// Compares a service with the report of the watcher of gateways. If a process is continued by
    /// hand, or stops later than its supervisor has said so, no file of the supervisor changes.
    pub fn compare(&mut self, name: &ServiceName, is_said_to_be_held: bool) -> Option<Pause> {
        let service = self.services.get_mut(name)?;
        service.status = service.dir.status().ok();
        // The report of the watcher may be older than the last command.
        let is_paused = service.status.as_ref().is_some_and(status_view::is_paused);
        if is_paused != is_said_to_be_held || is_paused == service.is_paused {
            return None;
        }
        service.is_paused = is_paused;
        Some(if is_paused { Pause::Paused } else { Pause::Continued })
    }
}

impl PausableService {
    fn look(&mut self) -> Option<Pause> {
        let status = self.dir.status().ok();
        let before = std::mem::replace(&mut self.status, status);
        let has_flag = |status: Option<Status>| status.is_some_and(|it| it.paused && !it.never_started());
        let pid = |status: Option<Status>| status.and_then(|status| status.pid);
        let is_same = pid(before) == pid(status);
        let was_paused = std::mem::take(&mut self.is_paused) && is_same;
        // The kernel may stop the process a little later than its supervisor says so. Somebody may
        // also have continued it by hand, which leaves the status as it is.
        let is_new = !has_flag(before) || !is_same;
        let is_held = || is_new || status.as_ref().is_some_and(status_view::is_paused);
        self.is_paused = has_flag(status) && (was_paused || is_held());
        match (was_paused, self.is_paused) {
            (false, true) => Some(Pause::Paused),
            (true, false) => Some(Pause::Continued),
            _ => None,
        }
    }
}
