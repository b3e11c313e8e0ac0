//! *Lives here:* waiting until services are supervised that may never have been.
//!
//! *Does not live here:* asking for a scan; waiting for one service that is subscribed to (`waiting`).

use crate::engine::{self, Interests, Waiting, Woken};
use crate::{RefusalWatch, ScanDir, ServiceDir};
use gatevisor_paths::{by_path, look};
use gatevisor_wire::files;
use rustix::{
    fs::{
        OFlags,
        inotify::{self, CreateFlags, Reader, WatchFlags},
    },
    io::Errno,
};
use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

/// Room for some dozens of events.
const ROOM: usize = 4096;
/// How long other users' services are waited for. They need an instant, unless their owner made it impossible to see.
const OTHERS_WITHIN: Duration = Duration::from_millis(500);

/// The services that are not supervised when the wait is over.
#[derive(Debug, Default)]
pub struct Unsupervised {
    /// The supervisor refuses them, and why.
    pub refused: Vec<(ServiceDir, String)>,
    /// They were not supervised in time.
    pub late: Vec<ServiceDir>,
    /// They were not supervised in time either, and belong to other users.
    pub others: Vec<ServiceDir>,
}

/// Waits until a supervisor holds each service and has published its status or refuses it, or the service has gone.
///
/// A service of another user is waited for half a second at most: its owner must not hold up the others.
///
/// `refusals` must have been watching since before the scan was asked for.
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
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
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
    inotify: OwnedFd,
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
        drain(&self.inotify);
        // Watched first and looked at then, so that nothing falls in between. A directory that is watched already
        // keeps its watch.
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

/// A service that no supervisor holds yet.
struct AwaitedService {
    dir: ServiceDir,
    /// It belongs to us.
    is_own: bool,
    /// A supervisor reads its FIFO. It is not asked again, because our own looking would wake our own watch.
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
    fn watch(&self, inotify: &OwnedFd) {
        let entries = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB | WatchFlags::ONLYDIR;
        let itself = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        // What cannot be watched, because it is not there yet or is another user's, is watched or skipped later.
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
                // Another user's. That its supervisor has made it is all that we may know.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
                Err(_) => {}
            }
        }
        // Not before: opening an old status would wake our own watch as well.
        let finished = self.held && self.dir.status().is_ok();
        // A service directory that was withdrawn meanwhile is nobody's to supervise.
        if finished || !self.dir.is_there() { None } else { Some(self) }
    }
}

fn drain(inotify: &OwnedFd) {
    let mut buffer = [MaybeUninit::uninit(); ROOM];
    let mut reader = Reader::new(inotify, &mut buffer);
    while let Ok(_) | Err(Errno::INTR) = reader.next() {}
}
