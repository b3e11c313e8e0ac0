//! Waiting for events: inotify, pollable descriptors, deadlines.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::{WAIT_LIMIT, soon};

/// Returns a descriptor that becomes readable when an event of `what` happens to `path`.
pub fn watch(path: &Path, what: WatchFlags) -> OwnedFd {
    // A user has 128 inotify instances by default, and many tests run at one time. No event tells
    // when one is free again.
    let watch = polled("a free inotify instance", || {
        match inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC) {
            Ok(watch) => Some(watch),
            Err(Errno::MFILE) => None,
            Err(errno) => panic!("cannot watch anything: {errno}"),
        }
    });
    inotify::add_watch(&watch, path, what)
        .unwrap_or_else(|errno| panic!("cannot watch {}: {errno}", path.display()));
    watch
}

/// Reads all pending events, and returns the names that they are about.
pub fn drain(watch: &OwnedFd) -> Vec<String> {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(watch, &mut space);
    let mut names = Vec::new();
    while let Ok(event) = reader.next() {
        names.extend(event.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    names
}

/// Waits until the descriptor can be read, or hangs up. Returns false if the deadline passes first.
pub fn readable(fd: impl AsFd, deadline: Instant) -> bool {
    polled_for(fd, PollFlags::IN, deadline)
}

/// Waits until the descriptor can be written to. Returns false if the deadline passes first.
pub fn writable(fd: impl AsFd, deadline: Instant) -> bool {
    polled_for(fd, PollFlags::OUT, deadline)
}

fn polled_for(fd: impl AsFd, what: PollFlags, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap();
        match poll(&mut [PollFd::new(&fd, what)], Some(&timeout)) {
            Ok(count) => return count > 0,
            Err(Errno::INTR) => {}
            Err(errno) => panic!("cannot poll: {errno}"),
        }
    }
}

/// Waits until `look` finds something. It looks again whenever an entry of `watched` (or the file
/// itself) changes.
pub fn until<T>(watched: &Path, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let events = WatchFlags::CREATE
        | WatchFlags::MODIFY
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF;
    if let Some(found) = look() {
        return found;
    }
    let watch = watch(watched, events);
    let deadline = soon();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(readable(&watch, deadline), "waited {WAIT_LIMIT:?} for {what} in {}", watched.display());
        drain(&watch);
    }
}

/// Waits for something that no event announces, such as the state of a process that is no child.
///
/// It looks a hundred times a second. Use it only where there is no event.
pub fn polled<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    found_often(look).unwrap_or_else(|| panic!("waited for {what}"))
}

/// As [`polled`], but leaves it to the caller to say what was seen instead.
pub fn found_often<T>(look: impl FnMut() -> Option<T>) -> Option<T> {
    looked_for(Timespec { tv_sec: 0, tv_nsec: 10_000_000 }, look)
}

/// As [`polled`], but looks once a second, for what takes minutes or where each look is work.
pub fn polled_slowly<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    found_slowly(look).unwrap_or_else(|| panic!("waited for {what}"))
}

/// As [`polled_slowly`], but leaves it to the caller to say what was seen instead.
pub fn found_slowly<T>(look: impl FnMut() -> Option<T>) -> Option<T> {
    looked_for(Timespec { tv_sec: 1, tv_nsec: 0 }, look)
}

fn looked_for<T>(pause: Timespec, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = soon();
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        let _ = poll(&mut [], Some(&pause));
    }
}

/// Makes a FIFO and returns both ends in one descriptor, which never blocks.
pub fn fifo(path: &Path) -> File {
    stale_fifo(path);
    open_fifo(path)
}

/// Makes a FIFO that nobody holds.
pub fn stale_fifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
}

/// Returns both ends of an existing FIFO in one descriptor, which never blocks.
pub fn open_fifo(path: &Path) -> File {
    use rustix::fs::{Mode, OFlags, open};
    open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).unwrap().into()
}
