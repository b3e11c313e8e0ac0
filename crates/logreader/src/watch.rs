//! Waits for changes of directories, including those that do not exist yet.
//!
//! *Lives here:* which directories are watched.
//! *Does not live here:* the meaning of a change; every event only tells that a directory is worth
//! a look.
//!
//! The parent directories are watched, too, for the one name in each that leads to the directory.
//! The directory may not exist yet, and a watch on a removed directory is silent as long as any
//! process has a file open in it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use gatevisor_paths::by_path;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// How often a path is followed again because it changed meanwhile.
const WALKS: usize = 100;
/// How many parent directories are watched, the nearest first. Those further up are not replaced
/// while somebody follows a log, and many things happen in them.
const ABOVE: usize = 4;

/// The reason for the end of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FollowWake {
    /// There are changes.
    Changed,
    /// The `stop` descriptor is broken or hung up.
    Stopped,
}

/// A directory that is worth a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirectoryChange {
    /// Its place in the list of directories.
    pub index: usize,
    /// Whether it must be attached again, because it is gone or another one has its name.
    pub lost: bool,
}

/// Watches numbered directories.
#[derive(Debug)]
pub(crate) struct DirectoryWatcher {
    inotify: Inotify,
    /// The users of each watch.
    watches: BTreeMap<i32, Vec<WatchUser>>,
}

/// A use of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WatchUser {
    index: usize,
    /// The name in the watched directory that leads to the intended one; `None` if it is the
    /// intended one itself.
    next: Option<Box<OsStr>>,
}

impl DirectoryWatcher {
    /// Returns a watcher without watches.
    pub fn new() -> Result<Self, Errno> {
        let inotify = Inotify::new()?;
        Ok(Self { inotify, watches: BTreeMap::new() })
    }

    /// Watches the directory `path`, which need not exist, under the index `index`.
    pub fn attach(&mut self, index: usize, path: &Path) -> Result<(), Errno> {
        for _ in 0..WALKS {
            self.detach(index);
            // The nearest parents, each with the name to watch for in it.
            let steps: Vec<(&Path, &OsStr)> = path
                .ancestors()
                .zip(path.ancestors().skip(1))
                .filter_map(|(child, parent)| Some((or_here(parent), child.file_name()?)))
                .filter(|(parent, _)| by_path::is_directory(parent))
                .take(ABOVE)
                .collect();
            // It begins at the top, so that a directory that is replaced meanwhile is below a
            // watch.
            for (directory, next) in steps.iter().rev() {
                self.add(directory, WatchUser { index, next: Some((*next).into()) })?;
            }
            if self.add(path, WatchUser { index, next: None })? {
                return Ok(());
            }
            // A directory that appeared before its parent was watched caused no event.
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
                // Errors and hang-ups are reported even if no events are requested; we do not read
                // what a person types.
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

    /// Returns the changed directories, each once, in the order of their first change.
    pub fn changes(&mut self) -> Result<Vec<DirectoryChange>, Errno> {
        let mut changes: Vec<DirectoryChange> = Vec::new();
        let watches = &mut self.watches;
        self.inotify.read(|change| {
            if change.is_loss() {
                // Changes were lost, so every user may be affected.
                for user in watches.values().flatten() {
                    note(&mut changes, user.index, true);
                }
                return;
            }
            let gone = change.is_departure();
            for user in watches.get(&change.watch).map(Vec::as_slice).unwrap_or_default() {
                match &user.next {
                    None if gone || change.name.is_none_or(is_log) => note(&mut changes, user.index, gone),
                    Some(next) if gone || change.name == Some(next) => note(&mut changes, user.index, true),
                    None | Some(_) => {}
                }
            }
            if change.is_end() {
                watches.remove(&change.watch);
            }
        })?;
        Ok(changes)
    }

    /// Adds a watch; returns whether the directory exists.
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
            // A parent that we may not read cannot be watched, and will hardly be replaced.
            Err(Errno::ACCESS) if user.next.is_some() => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn detach(&mut self, index: usize) {
        let inotify = &self.inotify;
        self.watches.retain(|watch, users| {
            users.retain(|user| user.index != index);
            if users.is_empty() {
                inotify.remove(*watch);
            }
            !users.is_empty()
        });
    }
}

/// Returns whether a file of a log directory holds lines.
fn is_log(name: &OsStr) -> bool {
    name != "lock" && name != "state"
}

/// Returns the path, or `.` for the empty path at the beginning of a relative one.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn note(changes: &mut Vec<DirectoryChange>, index: usize, lost: bool) {
    match changes.iter_mut().find(|change| change.index == index) {
        Some(change) => change.lost |= lost,
        None => changes.push(DirectoryChange { index, lost }),
    }
}
