//! Watches files and directories for changes.
//!
//! *Lives here:* one instance of inotify: its watches, and reading its events.
//! *Does not live here:* watching a path that others may change (`gatevisor_paths::by_path`); what
//! a change means.
//!
//! Nothing here waits or allocates. Events are hints: after each of them, look at the file system.
//!
//! **Source:** inotify(7).

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader};
use rustix::io::Errno;
use rustix::path::Arg;

pub use rustix::fs::inotify::WatchFlags;

/// Bytes of a buffer for one read; one event takes up to 272 bytes.
const EVENTS_ROOM: usize = 4096;

/// Watches files and directories.
#[derive(Debug)]
pub struct Inotify {
    fd: OwnedFd,
}

/// A change in something that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileChange<'a> {
    /// The watch that noticed it; negative if changes were lost.
    pub watch: i32,
    /// The name in the watched directory, if the change is about an entry.
    pub name: Option<&'a OsStr>,
    flags: ReadFlags,
}

impl FileChange<'_> {
    /// Returns whether the kernel lost changes, of whichever watch.
    pub fn is_loss(&self) -> bool {
        self.watch < 0 || self.flags.contains(ReadFlags::QUEUE_OVERFLOW)
    }

    /// Returns whether the kernel has removed the watch. It may give the number to another one.
    pub fn is_end(&self) -> bool {
        self.flags.contains(ReadFlags::IGNORED)
    }

    /// Returns whether something was renamed into the watched directory.
    pub fn is_arrival(&self) -> bool {
        self.flags.contains(ReadFlags::MOVED_TO)
    }

    /// Returns whether the watched file itself was moved or removed.
    pub fn is_departure(&self) -> bool {
        let departure = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
        self.is_end() || self.flags.intersects(departure)
    }
}

impl Inotify {
    /// Returns an instance that watches nothing.
    pub fn new() -> Result<Self, Errno> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { fd })
    }

    /// Watches the file that a path leads to, wherever that is. Use `gatevisor_paths::by_path` for
    /// paths that others may change.
    pub fn add_by_path(&self, path: impl Arg, flags: WatchFlags) -> Result<i32, Errno> {
        inotify::add_watch(&self.fd, path, flags)
    }

    /// Removes a watch. The kernel has removed it already if the watched file is gone.
    pub fn remove(&self, watch: i32) {
        let _ = inotify::remove_watch(&self.fd, watch);
    }

    /// Passes each change since the last call to `each`.
    pub fn read(&self, mut each: impl FnMut(FileChange<'_>)) -> Result<(), Errno> {
        let mut room = [MaybeUninit::uninit(); EVENTS_ROOM];
        let mut reader = Reader::new(&self.fd, &mut room);
        loop {
            match reader.next() {
                Ok(event) => each(FileChange {
                    watch: event.wd(),
                    name: event.file_name().map(|name| OsStr::from_bytes(name.to_bytes())),
                    flags: event.events(),
                }),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Discards the changes since the last call, and returns whether there were any.
    pub fn drain(&self) -> bool {
        let mut any = false;
        // If reading fails, a later attempt fails, too.
        let _ = self.read(|_| any = true);
        any
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{Inotify, WatchFlags};
    use std::ffi::OsString;
    use std::fs;

    #[test]
    fn each_change_is_given_once_with_its_watch_and_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let inotify = Inotify::new().unwrap();
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF;
        let watch = inotify.add_by_path(dir.path(), flags).unwrap();
        assert!(!inotify.drain());
        fs::write(dir.path().join("a"), "").unwrap();
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        let mut seen: Vec<(i32, Option<OsString>, bool)> = Vec::new();
        inotify
            .read(|change| seen.push((change.watch, change.name.map(Into::into), change.is_arrival())))
            .unwrap();
        assert_eq!(seen, [(watch, Some("a".into()), false), (watch, Some("b".into()), true)]);
        assert!(!inotify.drain());
        drop(dir);
        let (mut ends, mut departures) = (0, 0);
        inotify
            .read(|change| {
                ends += usize::from(change.is_end());
                departures += usize::from(change.is_departure());
            })
            .unwrap();
        assert_eq!((ends, departures), (1, 2), "the directory went, and its watch with it");
    }
}
