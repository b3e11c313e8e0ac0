//! *Lives here:* waiting until services are supervised, including services that never were before.
//!
//! *Does not live here:* requesting a scan; waiting for one service with a subscription
//! (`waiting`).

use crate::engine::{self, Interests, Waiting, Woken};
use crate::{RefusalWatch, ScanDir, ServiceDir};
use gatevisor_paths::{by_path, look};
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use gatevisor_wire::files;
use rustix::{fs::OFlags, io::Errno};
use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

/// How long other users' services are waited for. They need an instant, unless their owner has
/// hidden them.
const OTHERS_WITHIN: Duration = Duration::from_millis(500);

/// The services that are not supervised at the end of the wait.
#[derive(Debug, Default)]
pub struct Unsupervised {
    /// Services that the supervisor refuses, each with the reason.
    pub refused: Vec<(ServiceDir, String)>,
    /// Services that were not supervised in time.
    pub late: Vec<ServiceDir>,
    /// Services of other users that were not supervised in time.
    pub others: Vec<ServiceDir>,
}

/// Waits until, for each service, a supervisor has it and has published its status, or refuses it,
/// or the service has gone.
///
/// A service of another user is waited for half a second at most, so that its owner cannot hold up
/// the others.
///
/// `refusals` must have been created before the scan was requested.
///
/// # Errors
/// The directories cannot be watched, or polling failed.
pub fn wait_supervised(
    scandir: &ScanDir,
    dirs: Vec<ServiceDir>,
    refusals: Option<&RefusalWatch>,
    deadline: Option<Instant>,
) -> Result<Unsupervised, Errno> {
    let waiting: Vec<AwaitedService> =
        dirs.into_iter().map(AwaitedService::new).filter_map(AwaitedService::unfinished).collect();
    if waiting.is_empty() {
        return Ok(Unsupervised::default());
    }
    let inotify = Inotify::new()?;
    let others_deadline = Instant::now().checked_add(OTHERS_WITHIN);
    let group = AwaitedServices {
        scandir,
        refusals,
        inotify,
        waiting,
        others_deadline,
        found: Unsupervised::default(),
    };
    engine::wait_one(group, deadline).unwrap_or_else(|| Ok(Unsupervised::default()))
}

struct AwaitedServices<'a> {
    scandir: &'a ScanDir,
    refusals: Option<&'a RefusalWatch>,
    inotify: Inotify,
    waiting: Vec<AwaitedService>,
    others_deadline: Option<Instant>,
    found: Unsupervised,
}

impl AwaitedServices<'_> {
    fn has_own(&self) -> bool {
        self.waiting.iter().any(|service| service.is_own)
    }

    fn take_refusals(&mut self) {
        for name in self.refusals.map(RefusalWatch::fresh).unwrap_or_default() {
            let Some(reason) = self.scandir.refusal(&name) else { continue };
            let path = self.scandir.path().join(&name);
            if let Some(at) = self.waiting.iter().position(|service| service.dir.path() == path) {
                self.found.refused.push((self.waiting.swap_remove(at).dir, reason));
            }
        }
    }

    fn end(&mut self) -> Unsupervised {
        for service in std::mem::take(&mut self.waiting) {
            let missed = if service.is_own { &mut self.found.late } else { &mut self.found.others };
            missed.push(service.dir);
        }
        std::mem::take(&mut self.found)
    }
}

impl Waiting for AwaitedServices<'_> {
    type End = Result<Unsupervised, Errno>;

    fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        interests.readable(self.inotify.as_fd());
        if let Some(refusals) = self.refusals {
            interests.readable(refusals.as_fd());
        }
    }

    fn step(&mut self, _: Woken) -> Option<Self::End> {
        self.inotify.drain();
        // The watch comes before the look, so that no change falls between them. A directory that
        // has a watch already keeps it.
        for service in &self.waiting {
            service.watch(&self.inotify);
        }
        self.waiting =
            std::mem::take(&mut self.waiting).into_iter().filter_map(AwaitedService::unfinished).collect();
        self.take_refusals();
        let is_over = self.waiting.is_empty() || self.due().is_some_and(|due| due <= Instant::now());
        is_over.then(|| Ok(self.end()))
    }

    fn due(&self) -> Option<Instant> {
        self.others_deadline.filter(|_| !self.has_own())
    }

    fn late(&mut self) -> Self::End {
        Ok(self.end())
    }

    fn broken(&mut self, errno: Errno) -> Self::End {
        Err(errno)
    }
}

/// A service that no supervisor has yet.
struct AwaitedService {
    dir: ServiceDir,
    /// Whether it belongs to us.
    is_own: bool,
    /// Whether a supervisor reads its FIFO. It is not checked again, because our own look would
    /// wake our own watch.
    held: bool,
}

impl AwaitedService {
    fn new(dir: ServiceDir) -> Self {
        let ours = rustix::process::geteuid().as_raw();
        let found = dir.directory().and_then(look);
        let is_own = found.is_ok_and(|found| found.uid == ours);
        Self { dir, is_own, held: false }
    }

    /// Watches for `supervise/`, for a supervisor that opens the FIFO in it, and for the status.
    fn watch(&self, inotify: &Inotify) {
        let entries = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB | WatchFlags::ONLYDIR;
        let itself = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        // A directory that cannot be watched, because it does not exist yet or is another user's,
        // is watched or skipped later.
        let Ok(dir) = self.dir.held() else { return };
        let _ = dir.directory().and_then(|it| by_path::watch_opened(inotify, it, entries | itself));
        let supervise = dir.open(files::SUPERVISE, OFlags::PATH | OFlags::DIRECTORY);
        let _ = supervise.and_then(|it| by_path::watch_opened(inotify, it, entries | WatchFlags::OPEN));
    }

    /// Returns the service unless it is supervised or gone.
    fn unfinished(mut self) -> Option<Self> {
        if !self.held {
            match self.dir.supervised() {
                Ok(held) => self.held = held,
                // It is another user's. All that we may learn is that its supervisor has made the
                // directory.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
                Err(_) => {}
            }
        }
        // The status is not read before, because opening an old one would wake our own watch as
        // well.
        let finished = self.held && self.dir.status().is_ok();
        // Nobody has to supervise a service directory that was withdrawn meanwhile.
        if finished || !self.dir.is_there() { None } else { Some(self) }
    }
}
