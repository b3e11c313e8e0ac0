//! Waiting for changes of directories, those included that do not exist yet.
//!
//! *Lives here:* inotify. *Does not live here:* what a change means; every event only says that a directory is worth
//! a look.
//!
//! The directories above are watched, too, for the one name in each that leads to the directory: it may not exist
//! yet, and a watch on a directory that was removed is silent for as long as any process has a file open in it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gatevisor_paths::by_path;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Bytes of events that are read at once.
const EVENTS: usize = 16 << 10;
/// How often a path is walked again because it changed under us.
const WALKS: usize = 100;
/// How many of the directories above are watched, the nearest first. Those further up are not replaced while somebody
/// follows a log, and have much going on in them.
const ABOVE: usize = 4;

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FollowWake {
    /// There are changes.
    Changed,
    /// The descriptor that ends everything is broken or hung up.
    Stopped,
}

/// A directory that is worth a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirectoryChange {
    /// Its number.
    pub index: usize,
    /// It must be attached again: it is gone, or another one has its name.
    pub lost: bool,
}

/// Watches numbered directories.
#[derive(Debug)]
pub(crate) struct DirectoryWatcher {
    inotify: OwnedFd,
    /// By watch: whom it is for.
    watches: BTreeMap<i32, Vec<WatchUser>>,
}

/// Whom a watch is for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WatchUser {
    index: usize,
    /// The name in the watched directory that leads to the one that is meant; `None` if it is that one itself.
    next: Option<Box<OsStr>>,
}

impl DirectoryWatcher {
    /// Returns a watcher of nothing.
    pub fn new() -> Result<Self, Errno> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, watches: BTreeMap::new() })
    }

    /// Watches the directory `path`, which need not exist, as number `index`.
    pub fn attach(&mut self, index: usize, path: &Path) -> Result<(), Errno> {
        for _ in 0..WALKS {
            self.detach(index);
            // The nearest ones that exist, each with the name to watch for in it.
            let steps: Vec<(&Path, &OsStr)> = path
                .ancestors()
                .zip(path.ancestors().skip(1))
                .filter_map(|(child, parent)| Some((or_here(parent), child.file_name()?)))
                .filter(|(parent, _)| by_path::is_directory(parent))
                .take(ABOVE)
                .collect();
            // From above, so that whatever is replaced while we walk is replaced below a watch.
            for (directory, next) in steps.iter().rev() {
                self.add(directory, WatchUser { index, next: Some((*next).into()) })?;
            }
            if self.add(path, WatchUser { index, next: None })? {
                return Ok(());
            }
            // What appeared before the watch above it did gave no event.
            if steps.first().is_some_and(|(parent, next)| !by_path::is_directory(parent.join(next))) {
                return Ok(());
            }
        }
        Err(Errno::LOOP)
    }

    /// Waits until there are changes, or `stop` is broken or hung up.
    pub fn wait(&self, stop: Option<BorrowedFd<'_>>) -> Result<FollowWake, Errno> {
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
                return Ok(FollowWake::Stopped);
            }
            if !changes.revents().is_empty() {
                return Ok(FollowWake::Changed);
            }
        }
    }

    /// Returns the directories that changed, each once, in the order of their first change.
    pub fn changes(&mut self) -> Result<Vec<DirectoryChange>, Errno> {
        let mut changes: Vec<DirectoryChange> = Vec::new();
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
                for user in self.watches.values().flatten() {
                    note(&mut changes, user.index, true);
                }
                continue;
            }
            let gone = flags.intersects(
                ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED | ReadFlags::UNMOUNT,
            );
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            for user in self.watches.get(&event.wd()).map(Vec::as_slice).unwrap_or_default() {
                match &user.next {
                    None if gone || name.is_none_or(is_log) => note(&mut changes, user.index, gone),
                    Some(next) if gone || name == Some(next) => note(&mut changes, user.index, true),
                    None | Some(_) => {}
                }
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.watches.remove(&event.wd());
            }
        }
    }

    /// Adds a watch; returns whether there is such a directory.
    fn add(&mut self, path: &Path, user: WatchUser) -> Result<bool, Errno> {
        let mut flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            // The same directory may be watched for several reasons.
            | WatchFlags::MASK_ADD;
        if user.next.is_none() {
            flags |= WatchFlags::MODIFY | WatchFlags::DELETE | WatchFlags::MOVED_FROM;
        }
        match by_path::watch(&self.inotify, path, flags) {
            Ok(watch) => {
                let users = self.watches.entry(watch).or_default();
                if !users.contains(&user) {
                    users.push(user);
                }
                Ok(true)
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            // What may not be read above is not ours to watch, and will hardly be replaced.
            Err(Errno::ACCESS) if user.next.is_some() => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn detach(&mut self, index: usize) {
        let inotify = &self.inotify;
        self.watches.retain(|watch, users| {
            users.retain(|user| user.index != index);
            if users.is_empty() {
                // Gone already when the directory is.
                let _ = inotify::remove_watch(inotify, *watch);
            }
            !users.is_empty()
        });
    }
}

/// Returns whether a file of a log directory has lines in it.
fn is_log(name: &OsStr) -> bool {
    name != "lock" && name != "state"
}

/// Returns the path, or `.` for the empty path that a relative one begins with.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn note(changes: &mut Vec<DirectoryChange>, index: usize, lost: bool) {
    match changes.iter_mut().find(|change| change.index == index) {
        Some(change) => change.lost |= lost,
        None => changes.push(DirectoryChange { index, lost }),
    }
}
