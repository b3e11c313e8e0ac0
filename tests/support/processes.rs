//! What `/proc` tells about processes.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::{soon, waiting};

/// Returns a process id as the system's calls take it.
pub fn process_id(pid: i32) -> Pid {
    Pid::from_raw(pid).expect("a process id is not 0")
}

/// Sends a signal to a process that may have ended.
pub fn signal_if_there(pid: i32, signal: Signal) {
    match kill_process(process_id(pid), signal) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => panic!("no signal to {pid}: {errno}"),
    }
}

/// Sends a signal to a process that exists.
pub fn signal(pid: i32, signal: Signal) {
    kill_process(process_id(pid), signal).unwrap_or_else(|errno| panic!("no signal to {pid}: {errno}"));
}

/// A process whose end is watched. Another process with its number is never taken for it.
#[derive(Debug)]
pub struct Held(OwnedFd);

impl Held {
    /// Returns the process, or `None` if no process has this number (any more).
    pub fn of(pid: i32) -> Option<Self> {
        pidfd_open(process_id(pid), PidfdFlags::empty()).ok().map(Self)
    }

    /// Waits until it has ended. Returns false if the deadline passes first.
    pub fn gone_by(&self, deadline: Instant) -> bool {
        waiting::readable(&self.0, deadline)
    }

    pub fn is_gone(&self) -> bool {
        self.gone_by(Instant::now())
    }

    /// Waits until it has ended.
    pub fn until_gone(&self, what: &str) {
        assert!(self.gone_by(soon()), "{what} did not end");
    }

    /// Kills it and waits until it is dead.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
        self.gone_by(soon());
    }
}

/// A few fields of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub state: char,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    pub terminal: i32,
}

pub fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command may hold any character. After its last parenthesis, the fields are plain.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    let state = words.next()?.chars().next()?;
    let mut number = || words.next()?.parse().ok();
    Some(Stat { state, parent: number()?, group: number()?, session: number()?, terminal: number()? })
}

/// Waits until the state of a process is one of these. The kernel reports it only to its parent.
pub fn until_state(pid: i32, wanted: &str) {
    waiting::polled(&format!("state {wanted} of {pid}"), || {
        stat(pid).filter(|stat| wanted.contains(stat.state))
    });
}

/// Returns every process id.
fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("there is a /proc");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Returns the children of a process, zombies included.
pub fn children(parent: i32) -> Vec<i32> {
    all().into_iter().filter(|&pid| stat(pid).is_some_and(|stat| stat.parent == parent)).collect()
}

/// Returns the processes that have `name` with the value `value` in their environment and have not
/// ended.
pub fn marked(name: &str, value: &Path) -> Vec<i32> {
    let mut wanted = format!("{name}=").into_bytes();
    wanted.extend_from_slice(value.as_os_str().as_bytes());
    let is_marked = |pid: i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == wanted)
    };
    let us = i32::try_from(std::process::id()).expect("a process id");
    all().into_iter().filter(|&pid| pid != us && is_marked(pid)).collect()
}

/// Returns a description of a process, for a message.
pub fn describe(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    format!("{pid} {line} {:?}", stat(pid))
}

/// Returns what each open descriptor of a process is.
pub fn descriptors(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors may be looked at");
    let mut found: Vec<String> = entries
        .flatten()
        .map(|entry| {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            format!("{} {}", entry.file_name().to_string_lossy(), target.display())
        })
        .collect();
    found.sort();
    found
}

/// Returns the value of a line of `/proc/PID/status`.
pub fn status_line(pid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no `{key}` in {text}")).split_whitespace().collect::<Vec<_>>().join(" ")
}
