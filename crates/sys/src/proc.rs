//! Processes as `/proc` shows them: numbers that distinguish one from another, and their names.
//!
//! *Lives here:* reading and parsing one process.
//! *Does not live here:* which processes belong together.
//!
//! **Source:** proc(5).

use std::str::FromStr;
use std::{fs, io};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

/// The unit, per second, in which the kernel says when a process began; the same on every Linux.
const TICKS_A_SECOND: u64 = 100;
/// Bytes that are read at once. Nearly every file about a process is shorter, and then the kernel
/// writes it only once.
const AT_ONCE: usize = 4096;

/// A line of `/proc/PID/stat` or `/proc/PID/task/TID/stat`.
///
/// **Source:** `proc_pid_stat(5)`, whose numbers of fields these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatLine<'a> {
    number: &'a [u8],
    /// The name that the kernel has for it; any bytes.
    pub command: &'a [u8],
    /// Everything from the third field on.
    fields: &'a str,
}

impl<'a> StatLine<'a> {
    /// Parses a line; `None` if it is none.
    pub fn parse(stat: &'a [u8]) -> Option<Self> {
        // The name may contain any bytes; only numbers follow its last parenthesis.
        let open = stat.iter().position(|&byte| byte == b'(')?;
        let close = stat.iter().rposition(|&byte| byte == b')')?;
        let fields = str::from_utf8(stat.get(close.checked_add(1)?..)?).ok()?;
        Some(Self { number: stat.get(..open)?, command: stat.get(open.checked_add(1)?..close)?, fields })
    }

    /// Returns the process or thread number, which is the first field.
    pub fn pid(&self) -> Option<i32> {
        str::from_utf8(self.number).ok()?.trim().parse().ok()
    }

    /// Returns the kernel's letter for the state, which is the third field.
    pub fn state(&self) -> Option<char> {
        self.fields.trim_ascii_start().chars().next()
    }

    /// Returns the number in a field after the third.
    pub fn number<T: FromStr>(&self, field: usize) -> Option<T> {
        self.fields.split_ascii_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
    }
}

/// A process that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its process number.
    pub pid: i32,
    /// The process number of its parent.
    pub parent: i32,
    /// The process number of its session's leader.
    pub session: i32,
    /// When it began, in ticks since the machine started. It distinguishes the process from a later
    /// one with the same number.
    pub began: u64,
    /// The name that the kernel has for it.
    pub command: Vec<u8>,
    /// The processor time that it has used, in milliseconds.
    pub cpu_ms: u64,
    /// Whether it has memory of its own; threads of the kernel have none.
    pub has_memory: bool,
    /// Pages of memory that it has now.
    pub resident_pages: u64,
    /// Whether a signal or a debugger has stopped it.
    pub is_stopped: bool,
}

impl Process {
    /// Returns the process with this number, unless it has ended or is hidden from us.
    pub fn of(pid: i32) -> Option<Self> {
        Self::seen_by(own_pid(), pid)
    }

    fn seen_by(own: i32, pid: i32) -> Option<Self> {
        Self::parse(&stat_seen_by(own, pid)?)
    }

    fn parse(stat: &[u8]) -> Option<Self> {
        let line = StatLine::parse(stat)?;
        let state = line.state()?;
        if matches!(state, 'Z' | 'X') {
            return None;
        }
        let ticks = line.number::<u64>(14)?.saturating_add(line.number(15)?);
        Some(Self {
            pid: line.pid()?,
            parent: line.number(4)?,
            session: line.number(6)?,
            began: line.number(22)?,
            command: line.command.to_vec(),
            cpu_ms: ticks.saturating_mul(1000 / TICKS_A_SECOND),
            has_memory: line.number::<u64>(23)? != 0,
            resident_pages: line.number(24)?,
            is_stopped: matches!(state, 'T' | 't'),
        })
    }

    /// Returns when it began, in milliseconds of Unix time by the present clock.
    pub fn began_unix_ms(&self) -> i64 {
        self.began_ms_of(ClockId::Realtime)
    }

    /// Returns when it began, in milliseconds of the monotonic clock, or less if the machine was
    /// suspended since.
    pub fn began_monotonic_ms(&self) -> i64 {
        self.began_ms_of(ClockId::Monotonic)
    }

    /// Returns when it began, in milliseconds of a clock, by what that clock shows now.
    fn began_ms_of(&self, clock: ClockId) -> i64 {
        let ms = |clock| {
            let now = clock_gettime(clock);
            now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
        };
        let began = i64::try_from(self.began.saturating_mul(1000 / TICKS_A_SECOND)).unwrap_or(i64::MAX);
        ms(clock).saturating_sub(ms(ClockId::Boottime)).saturating_add(began)
    }

    /// Returns its command line for people, or the kernel's name for it if the command line cannot
    /// be seen.
    pub fn words(&self) -> String {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let words: Vec<_> = line
            .split(|&byte| byte == 0)
            .filter(|word| !word.is_empty())
            .map(String::from_utf8_lossy)
            .collect();
        if words.is_empty() { String::from_utf8_lossy(&self.command).into_owned() } else { words.join(" ") }
    }

    /// Returns its number and its program's name for people; for an interpreter, the script's name,
    /// too. Other arguments are left out, because one may be a secret.
    pub fn called(&self) -> String {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let mut words = line.split(|&byte| byte == 0).filter(|word| !word.is_empty());
        let program = words.next().unwrap_or(&self.command);
        let is_path = |word: &&[u8]| word.contains(&b'/') && !word.starts_with(b"-") && !word.contains(&b' ');
        let names: Vec<&[u8]> = [program].into_iter().chain(words.find(is_path)).map(base).collect();
        format!("process {} ({})", self.pid, String::from_utf8_lossy(&names.join(&b' ')))
    }

    /// Returns whether the same process still exists.
    pub fn is_there(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.began == self.began)
    }
}

/// Returns the kernel's letter for the state of a process, if it can be seen; also of one that has
/// ended and is not reaped.
///
/// **Source:** proc(5), `/proc/pid/stat`, field 3.
pub fn state(pid: i32) -> Option<char> {
    StatLine::parse(&stat(pid)?)?.state()
}

/// Returns the environment with which a process was started: assignments that each end with a null
/// byte. It is empty if we may not look into the process.
pub fn environment(pid: i32) -> Vec<u8> {
    read_until(pid, "environ", |_| false).unwrap_or_default()
}

/// Returns the lines of `/proc/PID/cgroup`. The kernel writes them whole.
///
/// # Errors
/// The process has gone.
pub fn groups(pid: i32) -> io::Result<Vec<u8>> {
    Ok(read_until(pid, "cgroup", |read| read.ends_with(b"\n"))?)
}

/// Returns the command line of a process, as far as `room` holds it: words that each end with a
/// null byte. It is empty in the middle of an exec, and of a process that has ended.
///
/// # Errors
/// The process has gone, or is hidden from us.
pub fn command_line(pid: i32, room: &mut [u8]) -> Result<&[u8], Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(CWD, format!("/proc/{pid}/cmdline"), flags, Mode::empty())?;
    let mut filled = 0_usize;
    while let Some(rest) = room.get_mut(filled..)
        && !rest.is_empty()
    {
        match rustix::io::read(&file, rest) {
            Ok(0) => break,
            Ok(count) => {
                filled = filled.saturating_add(count);
                // The last word ends there.
                if room.get(..filled).is_some_and(|read| read.ends_with(b"\0")) {
                    break;
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(room.get(..filled).unwrap_or_default())
}

fn stat(pid: i32) -> Option<Vec<u8>> {
    stat_seen_by(own_pid(), pid)
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Returns the line of `/proc/PID/stat`, as the process with the number `own` sees it. The kernel
/// writes it whole, and nothing follows its end.
///
/// That of this process is its main thread's, which began with it: QEMU's user emulation invents
/// the other one, with a beginning that no other process sees.
fn stat_seen_by(own: i32, pid: i32) -> Option<Vec<u8>> {
    let file = if pid == own { format!("task/{pid}/stat") } else { "stat".to_owned() };
    read_until(pid, &file, |read| read.ends_with(b"\n")).ok()
}

/// Reads a file about a process to its end, or until what one read has returned is the whole.
fn read_until(pid: i32, file: &str, is_whole: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(CWD, format!("/proc/{pid}/{file}"), flags, Mode::empty())?;
    let mut bytes = Vec::new();
    let mut filled = 0_usize;
    loop {
        let room = filled.saturating_add(AT_ONCE);
        bytes.resize(room, 0);
        let count = match rustix::io::read(&file, bytes.get_mut(filled..).unwrap_or_default()) {
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        filled = filled.saturating_add(count);
        let is_over = count == 0 || (filled < room && is_whole(bytes.get(..filled).unwrap_or_default()));
        if is_over {
            bytes.truncate(filled);
            return Ok(bytes);
        }
    }
}

/// Returns whether a signal has stopped a process, as far as that can be seen.
pub fn is_stopped_by_signal(pid: i32) -> bool {
    state(pid) == Some('T')
}

/// Returns whether a process has ended, as far as that can be seen; it may not be reaped yet.
pub fn has_ended(pid: i32) -> bool {
    state(pid).is_none_or(is_ended)
}

/// Returns whether a [`state`] is that of a process that has ended.
pub const fn is_ended(state: char) -> bool {
    matches!(state, 'Z' | 'X')
}

/// Returns the numbers of all visible processes, in the kernel's order.
///
/// # Errors
/// There is no `/proc`.
pub fn pids() -> io::Result<impl Iterator<Item = i32>> {
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

/// Returns every visible process that has not ended; none if there is no `/proc`.
pub fn all() -> impl Iterator<Item = Process> {
    let own = own_pid();
    pids().into_iter().flatten().filter_map(move |pid| Process::seen_by(own, pid))
}

/// Returns the last part of a path.
fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_process_is_called_its_numbers_are_found() {
        let rest = "S 7 1 5 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 1 0 4711 0 9";
        for name in [&b"sleep"[..], b"a) S 1 (b", b"\xff) \xfe", b"", b"two\nlines"] {
            let stat = [b"12 (", name, b") ", rest.as_bytes(), b"\n"].concat();
            let process = Process::parse(&stat).unwrap();
            let numbers = (process.pid, process.parent, process.session, process.began, process.cpu_ms);
            assert_eq!((numbers, process.command.as_slice()), ((12, 7, 5, 4711, 70), name));
        }
        for wrong in [&b""[..], b"12 (x", b"12 (x) S", b"12 (x) S y", b"12 (x) Z 7 1"] {
            assert_eq!(Process::parse(wrong), None);
        }
    }

    #[test]
    fn this_process_began_before_now() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let process = Process::of(pid).unwrap();
        assert!(process.is_there() && process.has_memory);
        assert!(state(pid).is_some_and(|state| "RSD".contains(state)) && !is_stopped_by_signal(pid));
        assert_eq!(state(i32::MAX), None);
        let now = clock_gettime(ClockId::Realtime);
        assert!(process.began_unix_ms() <= now.tv_sec * 1000 + now.tv_nsec / 1_000_000);
        assert!(process.words().contains("sys"), "{}", process.words());
        let called = process.called();
        assert!(called.starts_with(&format!("process {pid} (gatevisor_sys-")), "{called}");
    }
}
