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
    process::{Flock, FlockType, fcntl_getlk, test_kill_process},
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
    /// It has ended, and its supervisor has not noticed that yet.
    Ended,
}

/// What can be seen of the process of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunProcess {
    /// It is our program, which stands in for the command.
    StandIn,
    /// It has become the service's command.
    Command,
    /// It has ended.
    Ended,
}

impl ServiceDir {
    /// Returns how far the process in the status has come.
    pub fn progress(&self, pid: Pid) -> ExecProgress {
        // Only our interpreter makes the mark, so nothing else need tell that it reads `run`.
        let marked = self.mark().filter(|(mark, _)| mark.pid == pid);
        let seen = match &marked {
            Some((_, file)) => self.seen_after_mark(pid, file),
            // The interpreter has not come so far, or may not write there.
            None if self.is_executed_directly() => RunProcess::Command,
            None => seen(pid).unwrap_or(RunProcess::StandIn),
        };
        match seen {
            RunProcess::StandIn => ExecProgress::BeforeCommand,
            RunProcess::Ended => ExecProgress::Ended,
            RunProcess::Command => {
                let announcer = marked.and_then(|(mark, _)| mark.announcer);
                ExecProgress::Command(announcer.unwrap_or_else(|| self.announcer()))
            }
        }
    }

    /// Returns what the process is that made this mark.
    ///
    /// An interpreter that failed, or was killed, has unlocked its mark as well. So the process
    /// itself decides. If it cannot be seen, the error does that the interpreter removes once it
    /// holds the lock, and writes before it unlocks, unless another one has made the mark since.
    fn seen_after_mark(&self, pid: Pid, mark: &OwnedFd) -> RunProcess {
        let has_not_failed =
            || !self.has(files::START_ERROR) && self.mark().is_some_and(|(mark, _)| mark.pid == pid);
        if is_locked(mark) {
            return RunProcess::StandIn;
        }
        let unseen = || if has_not_failed() { RunProcess::Command } else { RunProcess::StandIn };
        seen(pid).unwrap_or_else(unseen)
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

/// Returns what a process is, according to its command line; `None` if there is no `/proc`.
fn seen(pid: Pid) -> Option<RunProcess> {
    let mut buffer = [0; CMDLINE_ROOM];
    for _ in 0..EXEC_LOOKS {
        match proc::command_line(pid.get(), &mut buffer) {
            // It is longer than any of ours.
            Ok(line) if line.len() >= CMDLINE_ROOM => return Some(RunProcess::Command),
            Ok(line) if is_stand_in(line) => return Some(RunProcess::StandIn),
            Ok(line) if !line.is_empty() => return Some(RunProcess::Command),
            // The command line of a process that is ending is empty.
            Ok(_) if proc::has_ended(pid.get()) => return Some(RunProcess::Ended),
            // So is that of a process in the middle of an exec, which closes the mark before it has
            // the new one. Nothing would wake anybody after that.
            Ok(_) => drop(poll(&mut [], Some(&EXEC_LOOK_AGAIN))),
            Err(_) if !Path::new("/proc/self").exists() => return None,
            // The process is gone, or nothing can be found out about processes of others.
            Err(_) => return Some(if is_gone(pid) { RunProcess::Ended } else { RunProcess::StandIn }),
        }
    }
    Some(RunProcess::StandIn)
}

/// Returns whether there is no process with this number, also none that is hidden from us.
fn is_gone(pid: Pid) -> bool {
    let process = rustix::process::Pid::from_raw(pid.get());
    process.is_some_and(|process| test_kill_process(process) == Err(Errno::SRCH))
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
    use super::{RunProcess, is_stand_in, seen};
    use gatevisor_sys::proc;
    use gatevisor_wire::Pid;
    use std::process::{Command, Stdio};
    use std::thread;

    #[test]
    fn a_process_that_has_ended_is_told_from_one_that_is_about_to_become_the_command() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = Pid::new(child.id().try_into().unwrap()).unwrap();
        assert_eq!(seen(pid), Some(RunProcess::Command));
        child.kill().unwrap();
        // It is not reaped, as one whose supervisor has other things to do.
        while !proc::has_ended(pid.get()) {
            thread::yield_now();
        }
        assert_eq!(seen(pid), Some(RunProcess::Ended));
        child.wait().unwrap();
        // No process ever has this number.
        assert_eq!(seen(Pid::new(i32::MAX).unwrap()), Some(RunProcess::Ended));
    }

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
