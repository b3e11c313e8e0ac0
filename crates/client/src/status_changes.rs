//! *Lives here:* notice that a status file was replaced, where the client may look into `supervise/`.
//!
//! *Does not live here:* reading it.
//!
//! A supervisor that is told `d` of a service that is already down records it in the status and sends no event, for
//! nothing happened to the service. Only the replaced file says that the command was obeyed.

use crate::ServiceDir;
use gatevisor_paths::by_path;
use gatevisor_wire::files;
use rustix::{
    fs::{
        OFlags,
        inotify::{self, CreateFlags, Reader, WatchFlags},
    },
    io::Errno,
};
use std::{
    collections::{HashMap, HashSet},
    ffi::CStr,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// The status file within `supervise/`.
const NAME: &CStr = c"status";
/// Room for some dozens of events.
const ROOM: usize = 4096;

/// Watches the status files of several services, each known by its index.
#[derive(Debug)]
pub(crate) struct StatusChanges {
    inotify: OwnedFd,
    indexes: HashMap<i32, usize>,
    watched: HashSet<usize>,
}

impl StatusChanges {
    /// Returns a watch on what can be watched of `dirs`, or `None` if that is nothing.
    pub(crate) fn watch<'a>(dirs: impl Iterator<Item = (usize, &'a ServiceDir)>) -> Option<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        let mut indexes = HashMap::new();
        for (index, dir) in dirs {
            let supervise = dir.open(files::SUPERVISE, OFlags::PATH | OFlags::DIRECTORY);
            // Replaced atomically means renamed into place.
            let what = WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
            if let Ok(watch) = supervise.and_then(|it| by_path::watch_opened(&inotify, it, what)) {
                indexes.insert(watch, index);
            }
        }
        // A directory that is given twice has one watch, known by the later index.
        let watched: HashSet<usize> = indexes.values().copied().collect();
        (!watched.is_empty()).then_some(Self { inotify, indexes, watched })
    }

    /// Returns whether the service with this index is watched.
    pub(crate) fn watches(&self, index: usize) -> bool {
        self.watched.contains(&index)
    }

    /// Returns the indexes of the services whose status was replaced since the last call; never waits.
    ///
    /// Where the kernel lost count, all of them.
    pub(crate) fn replaced(&self) -> Vec<usize> {
        let mut out = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); ROOM];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.wd() < 0 => out.extend(self.indexes.values()),
                Ok(event) if event.file_name() == Some(NAME) => out.extend(self.indexes.get(&event.wd())),
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }
}

impl AsFd for StatusChanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
