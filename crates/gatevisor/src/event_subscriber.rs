//! The events of all services of a scandir in one stream, including those of later services.
//!
//! *Lives here:* subscribing, and noticing when an interpreter has become the service's command.
//! *Does not live here:* printing (`events`), and waiting for one state (`gatevisor_client`).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gatevisor_client::engine::Interests;
use gatevisor_client::{ExecProgress, ScanDir, ServiceDir, StatusError, Subscription};
use gatevisor_gateways::manager::LookError;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_gateways::{drain, live};
use gatevisor_liveness::Liveness;
use gatevisor_paths::by_path;
use gatevisor_slot::start_permits;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use gatevisor_wire::event::ServiceEvent;
use gatevisor_wire::exit::COMMAND_NOT_REACHED;
use gatevisor_wire::name::ServiceName;
use gatevisor_wire::status::Status;
use rustix::fs::fstat;

use crate::drain_watch::{DrainNews, DrainWatch};
use crate::exit::{CommandError, Exit};
use crate::pauses::{Pause, ServiceFilesWatch};

/// The owners of polled descriptors: the scandir, a service, or neither.
const SCANDIR: usize = 0;
const SERVICES: usize = 1;
const BESIDE: usize = 2;
const OWNERS: usize = 3;

/// An event of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// Our interpreter of `run` was executed, and has not become the command yet.
    Starting,
    /// Its start waits for its turn, after this many others.
    Queued(usize),
    /// Its start waits for that of another service, which the list of starts names.
    QueuedAfter,
    /// Its command was executed.
    Up,
    /// It ended before its command was executed.
    FailedToStart,
    /// The watcher of gateways reports whether it works.
    Live(Liveness),
    /// A command has paused it, or it was continued.
    Pause(Pause),
    /// Its drain has changed.
    Drain(DrainNews),
    /// Another event from its supervisor.
    ServiceEvent(ServiceEvent),
}

/// A service with a subscription.
struct SubscribedService {
    dir: ServiceDir,
    subscription: Subscription,
    /// Whether its interpreter is up and may still become the command.
    is_starting: bool,
    /// The process whose wait before its start was reported, and whether it waited for another
    /// service.
    queued: Option<(i32, bool)>,
}

impl SubscribedService {
    /// Adds the descriptor that wakes it.
    fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        interests.readable(self.subscription.as_fd());
    }

    /// Returns the events since the last call, in order.
    fn take(&mut self) -> Vec<Happened> {
        let mut happened = Vec::new();
        loop {
            while let Ok(Some(event)) = self.subscription.try_next() {
                self.receive(event, &mut happened);
            }
            if !self.is_starting || !self.has_become() {
                return happened;
            }
            // Unless another event came meanwhile, the last event's process is the one that became
            // the command.
            if let Ok(Some(event)) = self.subscription.try_next() {
                self.receive(event, &mut happened);
            } else {
                self.is_starting = false;
                happened.push(Happened::Up);
            }
        }
    }

    fn receive(&mut self, event: ServiceEvent, happened: &mut Vec<Happened>) {
        match event {
            ServiceEvent::Up if self.dir.is_executed_directly() => happened.push(Happened::Up),
            ServiceEvent::Up => {
                self.is_starting = true;
                happened.push(Happened::Starting);
            }
            // The interpreter's exit code shows whether the command was ever executed.
            ServiceEvent::Died if std::mem::take(&mut self.is_starting) => {
                let code = self.dir.deaths().last().and_then(|death| death.how().exit_code());
                let is_failure = code.is_none_or(|code| COMMAND_NOT_REACHED.contains(&code));
                let first = if is_failure { Happened::FailedToStart } else { Happened::Up };
                happened.extend([first, Happened::ServiceEvent(event)]);
            }
            // A service that is ready has been executed.
            ServiceEvent::Ready if std::mem::take(&mut self.is_starting) => {
                happened.extend([Happened::Up, Happened::ServiceEvent(event)]);
            }
            _ => happened.push(Happened::ServiceEvent(event)),
        }
    }

    fn has_become(&self) -> bool {
        let status = self.dir.status().ok().filter(Status::is_up);
        let pid = status.and_then(|status| status.pid);
        pid.is_some_and(|pid| matches!(self.dir.progress(pid), ExecProgress::Command(_)))
    }
}

/// Receives the events of all services of a scandir.
pub struct EventSubscriber {
    scandir: PathBuf,
    only: Vec<ProfileName>,
    watch: Inotify,
    /// A descriptor that wakes the receiver, too.
    beside: Option<OwnedFd>,
    subscriptions: BTreeMap<ServiceName, SubscribedService>,
    /// How often a subscription was added or removed.
    changes: u64,
    /// The watcher's last reports.
    live: BTreeMap<ServiceName, Liveness>,
    files: ServiceFilesWatch,
    drains: DrainWatch,
    /// Services whose directories were removed, and whose supervision has not ended yet.
    leaving: Vec<(ServiceName, SubscribedService)>,
    /// Whether nothing was received yet. What happened before the scandir was watched causes no
    /// event.
    is_new: bool,
}

impl EventSubscriber {
    /// Subscribes to the services of a scandir, or only to the named gateways.
    pub fn open(scandir: &Path, only: Vec<ProfileName>) -> Result<Self, CommandError> {
        let watch = watch(scandir).map_err(|errno| {
            CommandError::new(Exit::System, format!("cannot watch `{}`: {errno}", scandir.display()))
        })?;
        let subscriptions = BTreeMap::new();
        let (scandir, leaving, live) = (scandir.to_owned(), Vec::new(), BTreeMap::new());
        let (beside, changes) = (None, 0);
        let (files, drains) = (ServiceFilesWatch::new(), DrainWatch::new(&scandir));
        let mut subscriber = Self {
            scandir,
            only,
            watch,
            beside,
            subscriptions,
            changes,
            live,
            files,
            drains,
            leaving,
            is_new: true,
        };
        subscriber.begin()?;
        Ok(subscriber)
    }

    /// Subscribes for the first time. The present states are no events, but every change after the
    /// subscription is one. So the states are read first.
    fn begin(&mut self) -> Result<(), CommandError> {
        let services = ScanDir::new(&self.scandir).services().unwrap_or_default();
        let said =
            |(name, _)| Some((ServiceName::clone(&name), live::said(&self.scandir, &name.to_string())?));
        self.live = services.into_iter().filter_map(said).collect();
        let permits = start_permits::all(&self.scandir);
        self.subscribe()?;
        for (permit, delay) in permits.delayed() {
            let name = ServiceName::new(permit.service.as_bytes()).ok();
            if let Some(service) = name.and_then(|name| self.subscriptions.get_mut(&name)) {
                service.queued = Some((permit.pid, delay.before().is_none()));
            }
        }
        Ok(())
    }

    /// Sets a descriptor that ends each wait for events when it can be read.
    pub fn wake_on(&mut self, beside: Option<OwnedFd>) {
        self.beside = beside;
    }

    /// Returns how often a subscription was added or removed.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// Waits for events, at most for `timeout`, and calls `on_event` with each.
    pub fn receive(
        &mut self,
        timeout: Option<Duration>,
        mut on_event: impl FnMut(&ServiceName, Happened) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let is_new = std::mem::take(&mut self.is_new);
        let timeout = if is_new { Some(Duration::ZERO) } else { timeout };
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut interests = Interests::default();
        interests.of(SCANDIR).readable(self.watch.as_fd());
        if let Some(files) = self.files.descriptor() {
            interests.of(BESIDE).readable(files);
        }
        if let Some(beside) = &self.beside {
            interests.of(BESIDE).readable(beside.as_fd());
        }
        interests.of(SERVICES);
        let services = self.subscriptions.values().chain(self.leaving.iter().map(|(_, service)| service));
        for service in services {
            service.interests(&mut interests);
        }
        let woken = interests
            .poll(OWNERS, until)
            .map_err(|errno| CommandError::new(Exit::System, format!("cannot wait for events: {errno}")))?;
        let changed = is_new || woken.get(SCANDIR).is_some_and(|scandir| scandir.readable);
        // The pauses are read before the services look, so that a later change wakes the next wait.
        let pauses = self.files.take();
        let leaving = self.leaving.iter_mut().map(|(name, service)| (&*name, service));
        for (name, service) in self.subscriptions.iter_mut().chain(leaving) {
            let happened = service.take();
            if !happened.is_empty() {
                self.files.complete(name);
            }
            for happened in happened {
                on_event(name, happened)?;
            }
        }
        for (name, pause) in pauses {
            on_event(&name, Happened::Pause(pause))?;
        }
        // Once its directory is removed with the FIFO in it, nobody can send another event.
        self.leaving.retain(|(_, service)| fstat(&service.subscription).is_ok_and(|stat| stat.st_nlink > 0));
        if changed {
            self.watch.drain();
            self.subscribe()?;
            for (name, happened) in self.queued() {
                on_event(&name, happened)?;
            }
            for (name, news) in self.drained() {
                on_event(&name, Happened::Drain(news))?;
            }
            for (name, happened) in self.news() {
                on_event(&name, happened)?;
            }
        }
        Ok(())
    }

    /// Returns the changes of the states that the watcher of gateways reports. That a gateway works
    /// is an event only after a problem.
    fn news(&mut self) -> Vec<(ServiceName, Happened)> {
        let mut news = Vec::new();
        for name in self.subscriptions.keys() {
            let Some(state) = live::said(&self.scandir, &name.to_string()) else { continue };
            let before = self.live.insert(name.clone(), state);
            let is_problem = |state| {
                matches!(
                    state,
                    Liveness::Unresponsive | Liveness::Degraded | Liveness::Draining | Liveness::Traced
                )
            };
            let is_held = |state| matches!(state, Liveness::Paused | Liveness::Traced);
            if before != Some(state) {
                let pause = self.files.compare(name, is_held(state));
                news.extend(pause.map(|pause| (name.clone(), Happened::Pause(pause))));
            }
            // The event of the drain has been sent already.
            let is_told = state == Liveness::Draining && self.drains.is_drained(name);
            if before != Some(state)
                && !is_told
                && (is_problem(state) || (state == Liveness::Live && before.is_some_and(is_problem)))
            {
                news.push((name.clone(), Happened::Live(state)));
            }
        }
        news
    }

    /// Returns the changes of drains of the services with a subscription.
    fn drained(&mut self) -> Vec<(ServiceName, DrainNews)> {
        let news = self.drains.news().into_iter();
        let named = news.filter_map(|(name, news)| Some((ServiceName::new(name.as_bytes()).ok()?, news)));
        named.filter(|(name, _)| self.subscriptions.contains_key(name)).collect()
    }

    /// Returns the starts that have begun to wait for their turn, or for another service.
    fn queued(&mut self) -> Vec<(ServiceName, Happened)> {
        let permits = start_permits::all(&self.scandir);
        let mut news = Vec::new();
        for (permit, delay) in permits.delayed() {
            let Ok(name) = ServiceName::new(permit.service.as_bytes()) else { continue };
            let Some(service) = self.subscriptions.get_mut(&name) else { continue };
            let waits = Some((permit.pid, delay.before().is_none()));
            if std::mem::replace(&mut service.queued, waits) != waits {
                news.push((name, delay.before().map_or(Happened::QueuedAfter, Happened::Queued)));
            }
        }
        news
    }

    /// Subscribes to every service without a subscription.
    fn subscribe(&mut self) -> Result<(), CommandError> {
        // The directory does not exist before a watcher has run.
        let flags = WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        let moved = WatchFlags::MOVED_TO | flags;
        let _ = by_path::watch(&self.watch, live::directory(&self.scandir), moved);
        let _ = by_path::watch(&self.watch, self.scandir.join(start_permits::DIRECTORY), moved);
        // The removal of a record is a change, too.
        let _ = by_path::watch(&self.watch, drain::directory(&self.scandir), moved | WatchFlags::DELETE);
        let services = ScanDir::new(&self.scandir).services().map_err(|error| {
            CommandError::new(
                Exit::System,
                format!("cannot read the scandir `{}`: {error}", self.scandir.display()),
            )
        })?;
        // A service whose directory was removed still sends events, and another service may have
        // its name by now.
        let is_there = |name: &ServiceName, service: &mut SubscribedService| {
            let path = services.iter().find(|(known, _)| known == name).map(|(_, path)| path);
            path.is_some_and(|path| {
                by_path::look_itself(path.join("event").join(service.subscription.name())).is_ok()
            })
        };
        let left = self.subscriptions.extract_if(.., |name, service| !is_there(name, service));
        let left: Vec<(ServiceName, SubscribedService)> = left.collect();
        for (name, _) in &left {
            self.files.remove(name);
            self.changes = self.changes.saturating_add(1);
        }
        self.leaving.extend(left);
        for (name, path) in services {
            let of_interest = self.only.is_empty()
                || ProfileName::of_service(name.as_bytes())
                    .is_some_and(|profile| self.only.contains(&profile));
            if !of_interest || self.subscriptions.contains_key(&name) {
                continue;
            }
            // Without an event directory, nobody supervises it yet. It is tried again when the
            // scandir changes.
            let dir = ServiceDir::new(path);
            self.files.add(&name, &dir);
            match Subscription::subscribe(&dir) {
                Ok(subscription) => {
                    may_be_followed(&name, &dir)?;
                    self.changes = self.changes.saturating_add(1);
                    self.subscriptions.insert(
                        name,
                        SubscribedService { dir, subscription, is_starting: false, queued: None },
                    );
                }
                Err(error) if is_refused_gateway(&name, &error) => {
                    return Err(LookError::at(&dir.event_path(), error).into());
                }
                Err(_) => self.files.remove(&name),
            }
        }
        Ok(())
    }
}

/// Refuses a gateway whose status may not be read, because its events could not be completed.
fn may_be_followed(name: &ServiceName, dir: &ServiceDir) -> Result<(), CommandError> {
    match dir.status() {
        Err(StatusError::Read { file, source }) if is_refused_gateway(name, &source) => {
            Err(LookError::at(&file, source).into())
        }
        _ => Ok(()),
    }
}

/// Returns whether permission was refused to look at a gateway. Other services may be closed to the
/// owner of the gateways.
fn is_refused_gateway(name: &ServiceName, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && ProfileName::of_service(name.as_bytes()).is_some()
}

fn watch(scandir: &Path) -> rustix::io::Result<Inotify> {
    let watch = Inotify::new()?;
    let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
    by_path::watch(&watch, scandir, flags)?;
    Ok(watch)
}
