//! *Lives here:* knowing whether our interpreter of `run` has become the gateway's command.
//!
//! *Does not live here:* the interpreter (`gatevisor-slot`), and what comes of it (`follow`).
//!
//! The supervisor announces a service when `run` is executed. Where that is our interpreter, the command is still to be
//! executed, and may not exist. The interpreter marks `data/started` with its process number and a lock that ends when
//! the command is executed or the interpreter is, and the end of both closes the file, which a watch reports.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use gatevisor_wire::{Pid, files};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use crate::files::read_bounded;

/// Bytes of a process number and its newline at the most, with room for what an older number left.
const MARK_BYTES: usize = 64;
const ROOM: usize = 4096;

/// Watches a slot whose `run` our interpreter reads.
pub(super) struct Becoming {
    inotify: OwnedFd,
    mark: PathBuf,
    error: PathBuf,
}

impl Becoming {
    /// Begins to watch a slot; `None` where its `run` is another program's, so that nothing is to be waited for.
    pub(super) fn watch(slot: &Path) -> Option<Self> {
        if !is_interpreted(slot) {
            return None;
        }
        let watch = || -> io::Result<OwnedFd> {
            let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            let what = WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
            inotify::add_watch(&inotify, slot.join(files::DATA), what)?;
            Ok(inotify)
        };
        Some(Self {
            inotify: watch().ok()?,
            mark: slot.join(files::STARTED),
            error: slot.join(files::START_ERROR),
        })
    }

    /// Returns whether the interpreter that was `pid` has become the command.
    pub(super) fn has_become(&self, pid: Pid) -> bool {
        let marked = read_bounded(&self.mark, MARK_BYTES).ok().flatten().unwrap_or_default();
        let number = marked.split(|&byte| byte == b'\n').next().unwrap_or_default();
        // It removes an old error once it holds the lock, and leaves a new one before it lets go.
        number == pid.get().to_string().as_bytes() && !self.is_locked() && !self.error.exists()
    }

    fn is_locked(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = openat(CWD, &self.mark, flags, Mode::empty())
            .and_then(|mark| fcntl_getlk(&mark, &Flock::from(FlockType::WriteLock)));
        matches!(held, Ok(Some(_)))
    }

    /// Forgets what the watch reported, and returns whether that was anything.
    pub(super) fn drain(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); ROOM];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut any = false;
        loop {
            match reader.next() {
                Ok(_) => any = true,
                Err(Errno::INTR) => {}
                Err(_) => return any,
            }
        }
    }
}

impl AsFd for Becoming {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn is_interpreted(slot: &Path) -> bool {
    let Ok(Some(head)) = read_bounded(&slot.join(files::RUN), gatevisor_slot::file::MAX_BYTES) else {
        return false;
    };
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    line.starts_with(b"#!") && words.nth(1) == Some(b"service")
}
