//! *Lives here:* noticing that the supervisor of a service has gone, or has published something
//! without an event.
//!
//! *Does not live here:* events (`subscription`), and what was published.
//!
//! **Source:** pipe(7): writing to a pipe that nobody reads is an error, and poll(2) reports it;
//! inotify(7).

use std::os::fd::{AsFd, OwnedFd};

use gatevisor_paths::by_path;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use gatevisor_wire::files;

use crate::{ServiceDir, engine::Interests, open};

/// Watches for the end of a supervisor.
#[derive(Debug)]
pub struct SupervisorWatch {
    /// The control FIFO, opened for writing. An error on it means that it has no reader any more.
    control: Option<OwnedFd>,
}

impl SupervisorWatch {
    /// Begins to watch, as far as this user may.
    pub fn of(dir: &ServiceDir) -> Self {
        Self { control: dir.control().ok().flatten() }
    }

    /// Adds the descriptor that reports the end of the supervisor.
    pub fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        if let Some(control) = &self.control {
            interests.closed(control.as_fd());
        }
    }

    /// Returns whether the supervisor that was there at the beginning has gone.
    pub fn is_gone(&self) -> bool {
        self.control.as_ref().is_some_and(|control| !open::is_read(control))
    }
}

impl ServiceDir {
    /// Has `inotify` report what the service's supervisor publishes, and returns the watch, if this
    /// user may look there.
    pub fn watch_published(&self, inotify: &Inotify) -> Option<i32> {
        let what = WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        by_path::watch(inotify, self.path().join(files::SUPERVISE), what).ok()
    }
}
