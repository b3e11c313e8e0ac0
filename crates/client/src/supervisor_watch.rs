//! *Lives here:* noticing that the supervisor of a service has gone, or has published something
//! without an event.
//!
//! *Does not live here:* events (`listener`), and what was published.
//!
//! **Source:** pipe(7): writing to a pipe that nobody reads is an error, and poll(2) reports it;
//! inotify(7).

use std::os::fd::{AsFd, OwnedFd};

use gatevisor_paths::by_path;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use gatevisor_wire::files;

use crate::{ServiceDir, engine::Interests, open};

/// Watches for what a supervisor does without sending an event.
#[derive(Debug)]
pub struct SupervisorWatch {
    /// The control FIFO, opened for writing. An error on it means that it has no reader any more.
    control: Option<OwnedFd>,
    published: Option<Inotify>,
}

impl SupervisorWatch {
    /// Begins to watch, as far as this user may.
    pub fn of(dir: &ServiceDir) -> Self {
        Self { control: dir.control().ok().flatten(), published: published(dir) }
    }

    /// Adds the descriptors that report a publication and the end of the supervisor.
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

    /// Discards the reports.
    pub fn drain(&self) {
        self.published.as_ref().map(Inotify::drain);
    }
}

fn published(dir: &ServiceDir) -> Option<Inotify> {
    let watch = Inotify::new().ok()?;
    let what = WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
    by_path::watch(&watch, dir.path().join(files::SUPERVISE), what).ok()?;
    Some(watch)
}
