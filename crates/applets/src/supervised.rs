//! *Lives here:* waiting until services are supervised that may never have been.
//!
//! *Does not live here:* asking for it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Instant;

use gatevisor_client::ServiceDir;
use gatevisor_wire::files;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::listen::remaining;

/// Room for some dozens of events.
const ROOM: usize = 4096;

/// Waits until a supervisor holds each service and has published its status, or the service has gone.
///
/// Returns those of which that is not so when `deadline` passes.
pub(crate) fn wait(dirs: Vec<ServiceDir>, deadline: Option<Instant>) -> Result<Vec<ServiceDir>, Errno> {
    let mut waiting: Vec<Birth> =
        dirs.into_iter().map(|dir| Birth { dir, held: false }).filter_map(Birth::unfinished).collect();
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    loop {
        // Watched first and looked at then, so that nothing falls in between. A directory that is watched already
        // keeps its watch.
        for birth in &waiting {
            birth.watch(&inotify);
        }
        waiting = waiting.into_iter().filter_map(Birth::unfinished).collect();
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        match poll(&mut [PollFd::new(&inotify, PollFlags::IN)], remaining(deadline).as_ref()) {
            Ok(0) => return Ok(waiting.into_iter().map(|birth| birth.dir).collect()),
            Ok(_) | Err(Errno::INTR) => drain(&inotify),
            Err(errno) => return Err(errno),
        }
    }
}

/// A service on its way to being supervised.
struct Birth {
    dir: ServiceDir,
    /// A supervisor reads its FIFO. Not asked again, for our own looking would be news to our own watch.
    held: bool,
}

impl Birth {
    /// Watches for `supervise/`, for a supervisor that opens the FIFO in it, and for the status.
    fn watch(&self, inotify: &OwnedFd) {
        let entries = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB | WatchFlags::ONLYDIR;
        let itself = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        // What cannot be watched, because it is not there yet or is another user's, is watched or skipped later.
        let _ = inotify::add_watch(inotify, self.dir.path(), entries | itself);
        let _ =
            inotify::add_watch(inotify, self.dir.path().join(files::SUPERVISE), entries | WatchFlags::OPEN);
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
        if finished || !self.dir.path().is_dir() { None } else { Some(self) }
    }
}

fn drain(inotify: &OwnedFd) {
    let mut buffer = [MaybeUninit::uninit(); ROOM];
    let mut reader = Reader::new(inotify, &mut buffer);
    while let Ok(_) | Err(Errno::INTR) = reader.next() {}
}
