//! *Lives here:* noticing that the supervisor of a service has gone, or has published something that no event tells.
//!
//! *Does not live here:* events (`listener`); what is published.
//!
//! **Source:** pipe(7): writing to a pipe that nobody reads is an error, and poll(2) tells so; inotify(7).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use gatevisor_paths::by_path;
use gatevisor_wire::files;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::{ServiceDir, engine::Interests, open};

/// Bytes of events that are read at once.
const EVENTS_ROOM: usize = 1024;

/// Watches for what a supervisor does without sending an event.
#[derive(Debug)]
pub struct SupervisorWatch {
    /// The control FIFO, open for writing: an error on it says that nobody reads it any more.
    control: Option<OwnedFd>,
    published: Option<OwnedFd>,
}

impl SupervisorWatch {
    /// Begins to watch, as far as this user may.
    pub fn of(dir: &ServiceDir) -> Self {
        Self { control: dir.control().ok().flatten(), published: published(dir) }
    }

    /// Adds what tells that something was published, and that the supervisor has gone.
    pub fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        if let Some(control) = &self.control {
            interests.closed(control.as_fd());
        }
        if let Some(published) = &self.published {
            interests.readable(published.as_fd());
        }
    }

    /// Returns whether the supervisor that was there at the beginning has gone.
    pub fn is_gone(&self) -> bool {
        self.control.as_ref().is_some_and(|control| !open::is_read(control))
    }

    /// Forgets what was reported.
    pub fn drain(&self) {
        let Some(published) = &self.published else { return };
        let mut buffer = [MaybeUninit::uninit(); EVENTS_ROOM];
        let mut reader = Reader::new(published, &mut buffer);
        while matches!(reader.next(), Ok(_) | Err(Errno::INTR)) {}
    }
}

fn published(dir: &ServiceDir) -> Option<OwnedFd> {
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
    let what = WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
    by_path::watch(&watch, dir.path().join(files::SUPERVISE), what).ok()?;
    Some(watch)
}
