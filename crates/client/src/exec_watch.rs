//! *Lives here:* whether the process of a service is the service's command yet, or still our interpreter of `run`.
//!
//! *Does not live here:* the interpreter (`gatevisor-slot`), and waiting for what comes of it.
//!
//! A supervisor announces a service when `run` is executed, as s6 does. Where `run` is read by our interpreter, the command
//! is still to be executed then, and may not exist. The interpreter marks `data/started` with its process number and a
//! lock that ends when the command is executed or the interpreter is, and the end of both closes the file, which a
//! watch reports. The supervisor has no part in it, so this works under s6 as well.

use crate::ServiceDir;
use gatevisor_paths::by_path;
use gatevisor_sys::file;
use gatevisor_wire::{
    Pid, files,
    started::{Announcer, StartMark},
};
use rustix::{
    fs::{
        CWD, OFlags,
        inotify::{self, CreateFlags, Reader, WatchFlags},
    },
    io::Errno,
    process::{Flock, FlockType, fcntl_getlk},
};
use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// Room for the first line of `run`, of which the kernel reads 255 bytes.
const HEAD_ROOM: usize = 256;
/// Room for the mark and what an older one left behind it.
const MARK_ROOM: usize = 128;
const CMDLINE_ROOM: usize = 512;
const EVENTS_ROOM: usize = 4096;
/// The verbs with which our program is called when it stands in for a command that it is to become, and the place of
/// `./run` after them.
const STAND_INS: [(&[u8], usize); 2] = [(b"service", 2), (b"in-group", 4)];

/// How far the process of a service that is up has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecProgress {
    /// It is our interpreter, and the command has not been executed.
    BeforeCommand,
    /// It is the service, and this is who will say that it is ready.
    Command(Announcer),
}

impl ServiceDir {
    /// Returns how far the process that the status names has come.
    pub fn progress(&self, pid: Pid) -> ExecProgress {
        let announcer = if self.has_readiness() { Announcer::Service } else { Announcer::Nobody };
        if self.is_executed_directly() {
            return ExecProgress::Command(announcer);
        }
        let mark = || self.mark().filter(|mark| mark.pid == pid);
        let Some(marked) = mark() else {
            // It has not come so far, or may not write there.
            return if is_executed(pid) == Some(true) {
                ExecProgress::Command(announcer)
            } else {
                ExecProgress::BeforeCommand
            };
        };
        // It removes an old error once it holds the lock, and leaves a new one before it lets go. One that was killed in
        // between left none, and its successor may have done all that meanwhile: the process itself knows best.
        let is_over = !self.mark_is_locked() && !self.has(files::START_ERROR);
        if is_over && mark().is_some() && is_executed(pid) != Some(false) {
            ExecProgress::Command(marked.announcer.unwrap_or(announcer))
        } else {
            ExecProgress::BeforeCommand
        }
    }

    /// Returns whether what the supervisor executes is the command: neither our interpreter nor what makes a group for it.
    pub fn is_executed_directly(&self) -> bool {
        self.is_interpreted() == Some(false) && !self.has(files::CGROUP)
    }

    /// Returns whether our interpreter reads the service's `run`, where that can be told.
    fn is_interpreted(&self) -> Option<bool> {
        let mut buffer = [0; HEAD_ROOM];
        let head = match self.directory() {
            Ok(directory) => file::read_small(directory, files::RUN, &mut buffer),
            Err(errno) => Err(errno),
        };
        let head = match head {
            Ok(head) => head,
            Err(Errno::NOENT) => return Some(false),
            // A link, say.
            Err(_) => return None,
        };
        let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        Some(line.starts_with(b"#!") && words.nth(1) == Some(b"service"))
    }

    fn mark(&self) -> Option<StartMark> {
        StartMark::decode(&self.small::<MARK_ROOM>(files::STARTED).ok()??)
    }

    fn mark_is_locked(&self) -> bool {
        let held = self
            .open_file(files::STARTED, OFlags::RDONLY)
            .and_then(|mark| fcntl_getlk(&mark, &Flock::from(FlockType::WriteLock)));
        matches!(held, Ok(Some(_)))
    }
}

/// Returns whether a process is a command, going by its command line; `None` where there is no `/proc` to tell.
fn is_executed(pid: Pid) -> Option<bool> {
    let mut buffer = [0; CMDLINE_ROOM];
    match file::read_small(CWD, format!("/proc/{pid}/cmdline"), &mut buffer) {
        // Longer than ours ever is.
        Ok(line) if line.len() >= CMDLINE_ROOM => Some(true),
        // A process that is ending has none.
        Ok(line) => Some(!line.is_empty() && !is_stand_in(line)),
        // It is gone, or nothing can be told of anybody.
        Err(_) => Path::new("/proc/self").exists().then_some(false),
    }
}

/// Returns whether a command line is that of our program standing in for what it is to become.
fn is_stand_in(line: &[u8]) -> bool {
    let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
    STAND_INS.iter().any(|(verb, place)| {
        words.get(1) == Some(verb) && words.get(*place).is_some_and(|word| word.ends_with(b"run"))
    })
}

/// Reports that an interpreter of a service's `run` may be over.
#[derive(Debug)]
pub struct ExecWatch {
    inotify: OwnedFd,
}

impl ExecWatch {
    /// Begins to watch; `None` where `run` is another program's, or where there is nothing to watch.
    pub fn of(dir: &ServiceDir) -> Option<Self> {
        if dir.is_interpreted() == Some(false) {
            return None;
        }
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        let what = WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        let data = dir.open(files::DATA, OFlags::PATH | OFlags::DIRECTORY).ok()?;
        by_path::watch_opened(&inotify, data, what).ok()?;
        Some(Self { inotify })
    }

    /// Forgets what was reported, and returns whether there was anything.
    pub fn drain(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); EVENTS_ROOM];
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

impl AsFd for ExecWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::is_stand_in;

    #[test]
    fn our_interpreter_is_told_by_its_command_line_from_what_it_becomes() {
        for (line, expected) in [
            (&b"/usr/bin/gatevisor\0service\0./run\0gateway-coder\0"[..], true),
            (b"gatevisor\0in-group\0name\x001000\0./run\0gateway-coder\0", true),
            (b"python3\0service\0--port\080\0", false),
            (b"/bin/sh\0./run\0gateway-coder\0", false),
            (b"sleep\x001000\0", false),
            (b"service", false),
        ] {
            assert_eq!(is_stand_in(line), expected, "{}", line.escape_ascii());
        }
    }
}
