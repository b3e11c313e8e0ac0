//! *Lives here:* waiting until services are supervised that may never have been.
//!
//! *Does not live here:* asking for it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use gatevisor_client::{RefusalWatch, ScanDir, ServiceDir};
use gatevisor_paths::{by_path, look};
use gatevisor_wire::files;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::listen::remaining;

/// Room for some dozens of events.
const ROOM: usize = 4096;
/// How long other users' services are waited for. They need an instant, unless their owner made it impossible to see.
const OTHERS_WITHIN: Duration = Duration::from_millis(500);

/// How waiting for services to be supervised ended, of those that are not.
#[derive(Debug, Default)]
pub(crate) struct Unsupervised {
    /// The supervisor refuses them, and why.
    pub(crate) refused: Vec<(ServiceDir, String)>,
    /// They were not supervised in time.
    pub(crate) late: Vec<ServiceDir>,
    /// They were not supervised in time either, and belong to other users.
    pub(crate) others: Vec<ServiceDir>,
}

/// Waits until a supervisor holds each service and has published its status or refuses it, or the service has gone.
///
/// What another user does to a service of that user's holds nobody up for long.
///
/// `refusals` has been listening since before the scan was asked for.
pub(crate) fn wait(
    scandir: &ScanDir,
    dirs: Vec<ServiceDir>,
    refusals: Option<&RefusalWatch>,
    deadline: Option<Instant>,
) -> Result<Unsupervised, Errno> {
    let mut waiting: Vec<AwaitedService> =
        dirs.into_iter().map(AwaitedService::new).filter_map(AwaitedService::unfinished).collect();
    let others_deadline = Instant::now().checked_add(OTHERS_WITHIN);
    let mut left = Unsupervised::default();
    if waiting.is_empty() {
        return Ok(left);
    }
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    loop {
        // Watched first and looked at then, so that nothing falls in between. A directory that is watched already
        // keeps its watch.
        for service in &waiting {
            service.watch(&inotify);
        }
        waiting = waiting.into_iter().filter_map(AwaitedService::unfinished).collect();
        for name in refusals.map(RefusalWatch::fresh).unwrap_or_default() {
            let Some(reason) = scandir.refusal(&name) else { continue };
            let path = scandir.path().join(&name);
            if let Some(at) = waiting.iter().position(|service| service.dir.path() == path) {
                left.refused.push((waiting.swap_remove(at).dir, reason));
            }
        }
        if waiting.is_empty() {
            return Ok(left);
        }
        let mut fds = vec![PollFd::new(&inotify, PollFlags::IN)];
        fds.extend(refusals.map(|refusals| PollFd::new(refusals, PollFlags::IN)));
        let has_own = waiting.iter().any(|service| service.is_own);
        let until = if has_own { deadline } else { others_deadline.into_iter().chain(deadline).min() };
        match poll(&mut fds, remaining(until).as_ref()) {
            Ok(0) => {
                let (own, others): (Vec<AwaitedService>, Vec<AwaitedService>) =
                    waiting.into_iter().partition(|service| service.is_own);
                left.late = own.into_iter().map(|service| service.dir).collect();
                left.others = others.into_iter().map(|service| service.dir).collect();
                return Ok(left);
            }
            Ok(_) | Err(Errno::INTR) => drain(&inotify),
            Err(errno) => return Err(errno),
        }
    }
}

/// A service that no supervisor holds yet.
struct AwaitedService {
    dir: ServiceDir,
    /// It belongs to us.
    is_own: bool,
    /// A supervisor reads its FIFO. Not asked again, for our own looking would be news to our own watch.
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
        // Not before: opening an old status would be news to our own watch as well.
        let finished = self.held && self.dir.status().is_ok();
        // A slot that was withdrawn meanwhile is nobody's to supervise.
        if finished || !self.dir.is_there() { None } else { Some(self) }
    }
}

fn drain(inotify: &OwnedFd) {
    let mut buffer = [MaybeUninit::uninit(); ROOM];
    let mut reader = Reader::new(inotify, &mut buffer);
    while let Ok(_) | Err(Errno::INTR) = reader.next() {}
}
