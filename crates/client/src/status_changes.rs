//! *Lives here:* noticing that a status file was replaced, if the client may look into
//! `supervise/`.
//!
//! *Does not live here:* reading it.
//!
//! If a supervisor receives `d` for a service that is already down, it records that in the status
//! and sends no event, because nothing happened to the service. Only the replaced file shows that
//! the command was obeyed.

use crate::ServiceDir;
use crate::engine::SharedNews;
use gatevisor_paths::by_path;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use gatevisor_wire::files;
use rustix::fs::OFlags;
use std::{
    collections::{HashMap, HashSet},
    os::fd::{AsFd, BorrowedFd},
};

/// The name of the status file within `supervise/`.
const NAME: &str = "status";

/// Watches the status files of several services, each identified by its index.
#[derive(Debug)]
pub(crate) struct StatusChanges {
    inotify: Inotify,
    indexes: HashMap<i32, usize>,
    watched: HashSet<usize>,
}

impl StatusChanges {
    /// Returns a watch on those of `dirs` that can be watched, or `None` if there are none.
    pub(crate) fn watch<'a>(dirs: impl Iterator<Item = (usize, &'a ServiceDir)>) -> Option<Self> {
        let inotify = Inotify::new().ok()?;
        let mut indexes = HashMap::new();
        for (index, dir) in dirs {
            let supervise = dir.open(files::SUPERVISE, OFlags::PATH | OFlags::DIRECTORY);
            // A file that is replaced atomically is renamed into place.
            let what = WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
            if let Ok(watch) = supervise.and_then(|it| by_path::watch_opened(&inotify, it, what)) {
                indexes.insert(watch, index);
            }
        }
        // A directory that is given twice has one watch, identified by the later index.
        let watched: HashSet<usize> = indexes.values().copied().collect();
        (!watched.is_empty()).then_some(Self { inotify, indexes, watched })
    }

    /// Returns whether the service with this index is watched.
    pub(crate) fn watches(&self, index: usize) -> bool {
        self.watched.contains(&index)
    }
}

impl SharedNews for StatusChanges {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.inotify.as_fd())
    }

    /// Returns the indexes of the services whose status was replaced. If the kernel lost changes,
    /// returns all of them.
    fn take(&self) -> Vec<usize> {
        let mut out = Vec::new();
        let _ = self.inotify.read(|change| match change.name {
            _ if change.is_loss() => out.extend(self.indexes.values()),
            Some(name) if name == NAME => out.extend(self.indexes.get(&change.watch)),
            Some(_) | None => {}
        });
        out.sort_unstable();
        out.dedup();
        out
    }
}
