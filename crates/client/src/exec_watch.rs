//! *Lives here:* finding out whether the process of a service has become the service's command, or
//! is still our interpreter of `run`.
//!
//! *Does not live here:* the interpreter (`gatevisor-slot`), and waiting for the result.
//!
//! A supervisor announces a service when `run` is executed, as s6 does. If our interpreter reads
//! `run`, the command is executed later, and may not even exist. The interpreter marks
//! `data/started` with its process number and a lock. The lock ends when the interpreter executes
//! the command or ends itself. Both close the file, which a watch reports. The supervisor has no
//! part in it, so this works under s6 as well.

use crate::ServiceDir;
use gatevisor_paths::by_path;
use gatevisor_sys::{
    file,
    inotify::{Inotify, WatchFlags},
    proc,
};
use gatevisor_wire::{
    Pid, files,
    started::{Announcer, StartMark},
};
use rustix::{
    event::{Timespec, poll},
    fs::OFlags,
    io::Errno,
    process::{Flock, FlockType, fcntl_getlk},
};
use std::{os::fd::OwnedFd, path::Path};

/// Bytes for the first line of `run`, of which the kernel reads 255.
const HEAD_ROOM: usize = 256;
/// Bytes for the mark and the remains of a longer one after it.
const MARK_ROOM: usize = 128;
const CMDLINE_ROOM: usize = 512;
/// How often a process without a command line is looked at, and how long after each look the next
/// one comes. An exec takes some microseconds between the two.
const EXEC_LOOKS: u32 = 50;
const EXEC_LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
/// The verbs of our program when it stands in for a command that it will become, each with the
/// position of `./run` after it.
const STAND_INS: [(&[u8], usize); 2] = [(b"service", 2), (b"in-group", 4)];

/// How far the process of a service that is up has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecProgress {
    /// It is our interpreter, and the command has not been executed yet.
    BeforeCommand,
    /// It is the service's command; the value is who will announce its readiness.
    Command(Announcer),
}

impl ServiceDir {
    /// Returns how far the process in the status has come.
    pub fn progress(&self, pid: Pid) -> ExecProgress {
        // Only our interpreter makes the mark, so nothing else need tell that it reads `run`.
        if let Some((mark, file)) = self.mark().filter(|(mark, _)| mark.pid == pid) {
            return if self.has_become_command(pid, &file) {
                ExecProgress::Command(mark.announcer.unwrap_or_else(|| self.announcer()))
            } else {
                ExecProgress::BeforeCommand
            };
        }
        // The interpreter has not come so far, or may not write there.
        if self.is_executed_directly() || is_executed(pid) == Some(true) {
            ExecProgress::Command(self.announcer())
        } else {
            ExecProgress::BeforeCommand
        }
    }

    /// Returns whether the process that made this mark has become the command.
    ///
    /// An interpreter that failed, or was killed, has unlocked its mark as well. So the process
    /// itself decides. If it cannot be seen, the error does that the interpreter removes once it
    /// holds the lock, and writes before it unlocks, unless another one has made the mark since.
    fn has_become_command(&self, pid: Pid, mark: &OwnedFd) -> bool {
        let has_not_failed =
            || !self.has(files::START_ERROR) && self.mark().is_some_and(|(mark, _)| mark.pid == pid);
        !is_locked(mark) && is_executed(pid).unwrap_or_else(has_not_failed)
    }

    /// Returns who announces the readiness of a service whose interpreter does not tell.
    fn announcer(&self) -> Announcer {
        if self.has_readiness() { Announcer::Service } else { Announcer::Nobody }
    }

    /// Returns whether the supervisor executes the command directly, without our interpreter and
    /// without a process that makes a control group.
    pub fn is_executed_directly(&self) -> bool {
        self.is_interpreted() == Some(false) && !self.has(files::CGROUP)
    }

    /// Has `inotify` report when an interpreter of the service's `run` may have finished, and
    /// returns the watch; `None` if `run` is another program's, or if there is nothing to watch.
    pub fn watch_exec(&self, inotify: &Inotify) -> Option<i32> {
        if self.is_interpreted() == Some(false) {
            return None;
        }
        let what = WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        let data = self.open(files::DATA, OFlags::PATH | OFlags::DIRECTORY).ok()?;
        by_path::watch_opened(inotify, data, what).ok()
    }

    /// Returns whether our interpreter reads the service's `run`, if that can be found out.
    fn is_interpreted(&self) -> Option<bool> {
        let mut buffer = [0; HEAD_ROOM];
        let head = match self.directory() {
            Ok(directory) => file::read_small(directory, files::RUN, &mut buffer),
            Err(errno) => Err(errno),
        };
        let head = match head {
            Ok(head) => head,
            Err(Errno::NOENT) => return Some(false),
            // For example, it is a link.
            Err(_) => return None,
        };
        let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        Some(line.starts_with(b"#!") && words.nth(1) == Some(b"service"))
    }

    /// Returns the interpreter's mark, and the file that it is in.
    fn mark(&self) -> Option<(StartMark, OwnedFd)> {
        let (bytes, file) = self.small_with_file::<MARK_ROOM>(files::STARTED).ok()?;
        Some((StartMark::decode(&bytes?)?, file))
    }
}

fn is_locked(mark: &OwnedFd) -> bool {
    matches!(fcntl_getlk(mark, &Flock::from(FlockType::WriteLock)), Ok(Some(_)))
}

/// Returns whether a process is a command, according to its command line; `None` if there is no
/// `/proc`.
fn is_executed(pid: Pid) -> Option<bool> {
    let mut buffer = [0; CMDLINE_ROOM];
    for _ in 0..EXEC_LOOKS {
        match proc::command_line(pid.get(), &mut buffer) {
            // It is longer than any of ours.
            Ok(line) if line.len() >= CMDLINE_ROOM => return Some(true),
            Ok(line) if !line.is_empty() => return Some(!is_stand_in(line)),
            // The command line of a process that is ending is empty.
            Ok(_) if proc::has_ended(pid.get()) => return Some(false),
            // So is that of a process in the middle of an exec, which closes the mark before it has
            // the new one. Nothing would wake anybody after that.
            Ok(_) => drop(poll(&mut [], Some(&EXEC_LOOK_AGAIN))),
            // The process is gone, or nothing can be found out about any process.
            Err(_) => return Path::new("/proc/self").exists().then_some(false),
        }
    }
    Some(false)
}

/// Returns whether the process that a service has in place of a finish script ends what the service
/// left behind. Its supervisor does not publish that, so its command line has to tell.
pub(crate) fn ends_survivors(pid: Pid) -> bool {
    let mut buffer = [0; CMDLINE_ROOM];
    let line = proc::command_line(pid.get(), &mut buffer);
    line.is_ok_and(|line| line.split(|&byte| byte == 0).nth(1) == Some(b"end-survivors"))
}

/// Returns whether a command line is that of our program standing in for the command.
fn is_stand_in(line: &[u8]) -> bool {
    let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
    STAND_INS.iter().any(|(verb, place)| {
        words.get(1) == Some(verb) && words.get(*place).is_some_and(|word| word.ends_with(b"run"))
    })
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
