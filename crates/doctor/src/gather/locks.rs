//! *Lives here:* who holds the locks of a home, and which processes its files name.
//!
//! *Does not live here:* whether that is right.
//!
//! **Source:** flock(2), fcntl(2) `F_GETLK`, `/proc/locks` in proc(5).

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use gatevisor_sys::proc::Process;
use rustix::fs::{OFlags, fstat, major, minor};
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::process;
use crate::facts::{HeldLock, Holder, LockKind, NamedProcess, PidFile, ProfileFact};
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_gateways::profile;
use gatevisor_gateways::{desired, is_locked, open_lock, read_bounded};

/// The lock of a log directory, as s6-log names it.
const LOG_LOCK: &str = "lock";
/// The most bytes of `/proc/locks`, and of a file that names a process.
const LOCKS_BYTES: usize = 4 << 20;
const PID_BYTES: usize = 4096;

pub(super) fn locks(manager: &ScandirManager, profiles: &[ProfileFact]) -> Vec<HeldLock> {
    // Without `/proc`, processes cannot be distinguished, not even our own log daemon.
    if !Path::new("/proc/self").exists() {
        return Vec::new();
    }
    let mut locks: Vec<HeldLock> = state_locks(profiles).collect();
    for profile in profiles {
        let Some(path) = profile.log.as_ref().map(|log| log.path.join(LOG_LOCK)) else { continue };
        let held = open_lock(&path)
            .and_then(|file| fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).ok().flatten());
        if let Some(held) = held {
            let holder = held.pid.and_then(|pid| holder(pid.as_raw_nonzero().get()));
            locks.push(HeldLock { path, profile: Some(profile.name.clone()), kind: LockKind::Log, holder });
        }
    }
    let path = manager.home().root().join(profile::LOCK);
    if let Some(file) = open_lock(&path).filter(is_locked) {
        locks.push(HeldLock { path, profile: None, kind: LockKind::Home, holder: holder_of(&file) });
    }
    locks
}

/// Returns the locks of state files that a writer has held for too long.
fn state_locks(profiles: &[ProfileFact]) -> impl Iterator<Item = HeldLock> {
    let files = profiles.iter().map(|profile| (&profile.name, profile.state_file.clone()));
    desired::stuck_locks(files).into_iter().map(|(name, path)| {
        let holder = open_lock(&path).as_ref().and_then(holder_of);
        HeldLock { path, profile: Some(name.clone()), kind: LockKind::DesiredState, holder }
    })
}

/// Returns the process that holds a lock of flock(2), if we can see it.
pub fn holder_of(file: &OwnedFd) -> Option<Holder> {
    let stat = fstat(file).ok()?;
    let inode = format!(":{}", stat.st_ino);
    let whole = format!("{:02x}:{:02x}{inode}", major(stat.st_dev), minor(stat.st_dev));
    let text = read_bounded(Path::new("/proc/locks"), LOCKS_BYTES).ok()??;
    holder_by(&String::from_utf8_lossy(&text), &whole, &inode)
}

/// Returns the holder of a lock by the text of `/proc/locks`. That names who took it, who may have
/// ended since and left it to another, and the number may be a later process's by now.
fn holder_by(text: &str, whole: &str, inode: &str) -> Option<Holder> {
    // Layered file systems show different device numbers here and there.
    let named = |end: &str| {
        let pids = text.lines().filter_map(|line| holder_in(line, end));
        pids.filter(|pid| has(*pid, whole, inode) != Some(false)).find_map(holder)
    };
    named(whole).or_else(|| named(inode)).or_else(|| heir(whole, inode))
}

/// Returns whether a process has the lock through an open file; `None` if we may not look.
fn has(pid: i32, whole: &str, inode: &str) -> Option<bool> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?.flatten();
    let mut texts = files.filter_map(|file| read_bounded(&file.path(), LOCKS_BYTES).ok().flatten());
    Some(texts.any(|text| {
        let text = String::from_utf8_lossy(&text);
        let mut locks = text.lines().filter_map(|line| line.strip_prefix("lock:"));
        locks.any(|line| holder_in(line, whole).or_else(|| holder_in(line, inode)).is_some())
    }))
}

/// Returns the process that has a lock through an open file which it got from a process that is
/// gone.
fn heir(whole: &str, inode: &str) -> Option<Holder> {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let others = processes.filter(|path| path.file_name().is_some_and(|name| name.to_str() != Some(&own)));
    // Only processes into which we may look count.
    let mut pids = others.filter_map(|path| path.file_name()?.to_str()?.parse::<i32>().ok());
    pids.find(|pid| has(*pid, whole, inode) == Some(true)).and_then(holder)
}

/// Returns the holder that a line of `/proc/locks` names, if the line's file ends with `end`.
fn holder_in(line: &str, end: &str) -> Option<i32> {
    // Lines about waiting processes have an arrow.
    let mut words = line.split_ascii_whitespace().skip(1);
    if words.next()? != "FLOCK" {
        return None;
    }
    let pid = words.nth(2)?.parse().ok()?;
    words.next()?.ends_with(end).then_some(pid)
}

fn holder(pid: i32) -> Option<Holder> {
    let name = process::name(pid).filter(|_| pid > 0)?;
    Some(Holder { pid, name, uid: process::owner(pid), is_logger: process::is_logger(pid) })
}

pub(super) fn pid_files(
    manager: &ScandirManager,
    profiles: &[ProfileFact],
    units: &[String],
) -> Vec<PidFile> {
    let mut files = Vec::new();
    for profile in profiles {
        for name in &manager.agent().doctor.pid_files {
            files.extend(pid_file(profile, profile.home.join(name), units));
        }
    }
    files
}

fn pid_file(profile: &ProfileFact, path: PathBuf, units: &[String]) -> Option<PidFile> {
    let bytes = read_bounded(&path, PID_BYTES).ok()??;
    let (pid, started) = named(&bytes)?;
    let is_the_same = |process: &Process| match started {
        Some(started) => process.began == started,
        None => by_path::open(&path, OFlags::PATH)
            .map(File::from)
            .map_err(io::Error::from)
            .and_then(|file| file.metadata()?.modified())
            .is_ok_and(|written| process::began_before(process, written)),
    };
    let process = Process::of(pid);
    let found = process::name(pid).map(|name| NamedProcess {
        name,
        uid: process::owner(pid),
        is_dated: started.is_some(),
        is_the_same: process.as_ref().is_some_and(is_the_same),
        session: process.as_ref().map(|process| process.session),
        unit: process::unit(pid).map(|unit| unit.name).filter(|unit| units.contains(unit)),
    });
    Some(PidFile { path, profile: profile.name.clone(), pid, found })
}

/// Returns the process in a file, and when it began. The file holds a number, or an object with
/// `pid` and `start_time`.
fn named(bytes: &[u8]) -> Option<(i32, Option<u64>)> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let pid = value.as_i64().or_else(|| value.get("pid")?.as_i64())?;
    let started = value.get("start_time").and_then(serde_json::Value::as_u64);
    Some((i32::try_from(pid).ok().filter(|pid| *pid > 0)?, started))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FlockOperation, flock};

    #[test]
    fn the_holder_is_in_the_line_of_the_file_and_not_among_those_who_wait() {
        let lines = [
            ("1: FLOCK  ADVISORY  WRITE 42 08:01:99 0 EOF", Some(42)),
            ("1: -> FLOCK  ADVISORY  WRITE 43 08:01:99 0 EOF", None),
            ("2: POSIX  ADVISORY  WRITE 44 08:01:99 0 EOF", None),
            ("3: FLOCK  ADVISORY  WRITE 45 08:01:98 0 EOF", None),
            ("3: FLOCK", None),
            ("", None),
        ];
        for (line, pid) in lines {
            assert_eq!(holder_in(line, "08:01:99"), pid, "{line}");
        }
    }

    #[test]
    fn a_process_is_named_by_a_number_or_an_object() {
        let table = [
            (&b"42\n"[..], Some((42, None))),
            (b"{\"pid\": 42}", Some((42, None))),
            (b"{\"pid\": 42, \"start_time\": 7}", Some((42, Some(7)))),
            (b"{\"pid\": \"42\"}", None),
            (b"0", None),
            (b"-1", None),
            (b"\xff", None),
        ];
        for (bytes, expected) in table {
            assert_eq!(named(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_lock_that_this_process_holds_is_seen_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(open_lock(&path).is_none());
        let held = File::create(&path).unwrap();
        let looked = open_lock(&path).unwrap();
        assert!(!is_locked(&looked));
        drop(looked);
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let looked = open_lock(&path).unwrap();
        assert!(is_locked(&looked));
        if let Some(holder) = holder_of(&looked) {
            assert_eq!(holder.pid, i32::try_from(std::process::id()).unwrap());
        }
    }

    #[test]
    fn a_process_that_has_the_number_of_whoever_took_a_lock_and_left_it_to_another_is_no_holder() {
        // It is started before there is a file that it could inherit for a moment.
        let mut later = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("lock")).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        let inode = format!(":{}", fstat(&file).unwrap().st_ino);
        let by = |pid: u32| {
            let line = format!("1: FLOCK  ADVISORY  WRITE {pid} 08:01{inode} 0 EOF");
            holder_by(&line, &inode, &inode).and_then(|holder| u32::try_from(holder.pid).ok())
        };
        let own = std::process::id();
        let found = (by(own), by(later.id()));
        later.kill().unwrap();
        later.wait().unwrap();
        assert_eq!(found, (Some(own), None));
    }
}
