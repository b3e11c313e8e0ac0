//! Watches files and directories for changes.
//!
//! *Lives here:* one instance of inotify: its watches, reading its events, and closing it.
//! *Does not live here:* watching a path that others may change (`gatevisor_paths::by_path`); what
//! a change means. The supervisor's scanner calls the kernel itself: it counts the bytes that it
//! has read, to know which changes came before a request.
//!
//! Nothing here waits or allocates, except closing an instance. A process that closes the last
//! descriptor of one, by `close` or by its end, waits until no processor uses its watches any more.
//! That takes 13 ms on an idle machine, many times longer than the work of a command. So a command
//! keeps the instances that it does not use any more ([`keep_dropped`]), and in the end leaves the
//! last descriptors to a child ([`close_kept_beside`]), which nobody waits for.
//!
//! Events are hints: after each of them, look at the file system.
//!
//! **Source:** inotify(7).

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::path::Arg;

use crate::process;

pub use rustix::fs::inotify::WatchFlags;

/// Bytes of a buffer for one read; one event takes up to 272 bytes.
const EVENTS_ROOM: usize = 4096;
/// The most instances that are kept. A user may have few, and a command that runs for long may use
/// one after the other.
const MOST_KEPT: usize = 4;

/// The instances that were dropped, if they are kept.
static KEPT: OnceLock<Mutex<Vec<OwnedFd>>> = OnceLock::new();

/// Keeps some of the instances that are dropped from now on, so that nobody waits for their end.
pub fn keep_dropped() {
    KEPT.get_or_init(Mutex::default);
}

/// Leaves the instances that were kept to a child process, which ends when the kernel has taken
/// them apart. When this returns, the child has closed every other descriptor of this process. Call
/// it at the end of the process.
///
/// The child belongs to the next reaper up the tree.
pub fn close_kept_beside() {
    let Some(kept) = KEPT.get() else { return };
    let kept = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
    if !kept.is_empty() {
        // If there can be no child, this process waits itself.
        let _ = process::leave_to_child(kept);
    }
}

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

impl Drop for Inotify {
    fn drop(&mut self) {
        let Some(kept) = KEPT.get() else { return };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST_KEPT {
            kept.extend(fcntl_dupfd_cloexec(&self.fd, 0));
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{Inotify, MOST_KEPT, WatchFlags, close_kept_beside, keep_dropped};
    use rustix::pipe::{PipeFlags, pipe_with};
    use rustix::process::{WaitOptions, wait};
    use std::ffi::OsString;
    use std::fs;

    #[test]
    fn a_child_gets_what_was_dropped_and_has_let_go_of_everything_else_before_this_process_goes_on() {
        keep_dropped();
        for _ in 0..=MOST_KEPT {
            drop(Inotify::new().unwrap());
        }
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| fs::read_link(entry.path()));
        let kept = links.filter(|link| link.as_ref().is_ok_and(|link| link.ends_with("anon_inode:inotify")));
        assert_eq!(kept.count(), MOST_KEPT, "a user may have few");
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        close_kept_beside();
        drop(writer);
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0), "the child has no end of this pipe");
        let (_, status) = wait(WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
    }

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
