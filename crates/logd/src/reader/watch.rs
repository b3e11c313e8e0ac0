//! Waiting for changes of directories, those included that do not exist yet.
//!
//! *Lives here:* inotify. A directory that is missing is waited for at its nearest ancestor.
//! *Does not live here:* what a change means; every event only says that a directory is worth a look.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Bytes of events that are read at once.
const EVENTS: usize = 16 << 10;
/// How often a path is walked again because it changed under us.
const WALKS: usize = 100;

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// There are changes.
    Changed,
    /// The descriptor that ends everything is broken or hung up.
    Stopped,
}

/// A directory that is worth a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its number.
    pub index: usize,
    /// It must be attached again: it, or what stood for it, is gone, or it may have appeared.
    pub lost: bool,
}

/// Watches numbered directories.
#[derive(Debug)]
pub(crate) struct Watcher {
    inotify: OwnedFd,
    /// By watch: whom it is for, and whether it is the directory itself or an ancestor.
    watches: BTreeMap<i32, Vec<(usize, Role)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Directory,
    Ancestor,
}

impl Watcher {
    /// Returns a watcher of nothing.
    pub fn new() -> Result<Self, Errno> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, watches: BTreeMap::new() })
    }

    /// Watches the directory `path` as number `index`, or what it will appear in.
    pub fn attach(&mut self, index: usize, path: &Path) -> Result<(), Errno> {
        self.detach(index);
        for _ in 0..WALKS {
            if self.add(path, index, Role::Directory)? {
                return Ok(());
            }
            let mut child = path;
            let mut watched = false;
            for ancestor in path.ancestors().skip(1) {
                // A relative path's last ancestor is the empty one.
                let here = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
                if self.add(here, index, Role::Ancestor)? {
                    watched = true;
                    break;
                }
                child = ancestor;
            }
            // What appeared before the watch did gives no event.
            if watched && !child.is_dir() {
                return Ok(());
            }
            self.detach(index);
        }
        Err(Errno::LOOP)
    }

    /// Waits until there are changes, or `stop` is broken or hung up.
    pub fn wait(&self, stop: Option<BorrowedFd<'_>>) -> Result<Wake, Errno> {
        loop {
            let inotify = self.inotify.as_fd();
            let mut fds = [
                PollFd::from_borrowed_fd(inotify, PollFlags::IN),
                // Errors and hang-ups are reported unasked; what a person types is not for us.
                PollFd::from_borrowed_fd(stop.unwrap_or(inotify), PollFlags::empty()),
            ];
            let waited = if stop.is_some() { 2 } else { 1 };
            match poll(fds.get_mut(..waited).unwrap_or_default(), None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            }
            let [changes, stopped] = &fds;
            if stop.is_some() && !stopped.revents().is_empty() {
                return Ok(Wake::Stopped);
            }
            if !changes.revents().is_empty() {
                return Ok(Wake::Changed);
            }
        }
    }

    /// Returns the directories that changed, each once, in the order of their first change.
    pub fn changes(&mut self) -> Result<Vec<Change>, Errno> {
        let mut changes: Vec<Change> = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let mut reader = inotify::Reader::new(self.inotify.as_fd(), &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(changes),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                // Something happened to somebody.
                for (index, _) in self.watches.values().flatten() {
                    note(&mut changes, *index, true);
                }
                continue;
            }
            let gone = flags.intersects(
                ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED | ReadFlags::UNMOUNT,
            );
            for (index, role) in self.watches.get(&event.wd()).map(Vec::as_slice).unwrap_or_default() {
                note(&mut changes, *index, gone || *role == Role::Ancestor);
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.watches.remove(&event.wd());
            }
        }
    }

    /// Adds a watch; returns whether there is such a directory.
    fn add(&mut self, path: &Path, index: usize, role: Role) -> Result<bool, Errno> {
        let mut flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            // The same directory may be watched for several reasons.
            | WatchFlags::MASK_ADD;
        if role == Role::Directory {
            flags |= WatchFlags::MODIFY | WatchFlags::DELETE | WatchFlags::MOVED_FROM;
        }
        match inotify::add_watch(&self.inotify, path, flags) {
            Ok(watch) => {
                let users = self.watches.entry(watch).or_default();
                if !users.contains(&(index, role)) {
                    users.push((index, role));
                }
                Ok(true)
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn detach(&mut self, index: usize) {
        let inotify = &self.inotify;
        self.watches.retain(|watch, users| {
            users.retain(|(user, _)| *user != index);
            if users.is_empty() {
                // Gone already when the directory is.
                let _ = inotify::remove_watch(inotify, *watch);
            }
            !users.is_empty()
        });
    }
}

fn note(changes: &mut Vec<Change>, index: usize, lost: bool) {
    match changes.iter_mut().find(|change| change.index == index) {
        Some(change) => change.lost |= lost,
        None => changes.push(Change { index, lost }),
    }
}
