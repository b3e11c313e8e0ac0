//! *Lives here:* who holds the locks of a home, and which processes its files name.
//!
//! *Does not live here:* whether they should.
//!
//! Looking disturbs nobody: a lock that is free is let go at once, and one that is held is waited for no longer than a
//! desired state waits for it.
//!
//! **Source:** flock(2), fcntl(2) `F_GETLK`, `/proc/locks` in proc(5).

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gatevisor_paths::by_path;
use rustix::fs::{FileType, FlockOperation, OFlags, flock, fstat, major, minor, stat};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::process;
use crate::desired::{LOCK_TIMEOUT, changed, lock_name, wait_apart};
use crate::doctor::facts::{HeldLock, Holder, LockKind, Named, PidFile, ProfileFact};
use crate::files::read_bounded;
use crate::manager::ScandirManager;
use crate::profile;

/// The lock of a log directory, as s6-log names it.
const LOG_LOCK: &str = "lock";
/// Bytes of `/proc/locks` and of a file that names a process.
const LOCKS_BYTES: usize = 4 << 20;
const PID_BYTES: usize = 4096;

/// Opens a lock that exists; what is no regular file is none.
fn open(path: &Path) -> Option<OwnedFd> {
    let file = by_path::open(path, OFlags::RDONLY | OFlags::NOFOLLOW).ok()?;
    FileType::from_raw_mode(fstat(&file).ok()?.st_mode).is_file().then_some(file)
}

fn is_held(file: &OwnedFd) -> bool {
    flock(file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

pub(super) fn locks(manager: &ScandirManager, profiles: &[ProfileFact]) -> Vec<HeldLock> {
    // Without a /proc nobody can be told from anybody, our own log daemon included.
    if !Path::new("/proc/self").exists() {
        return Vec::new();
    }
    let mut locks = state_locks(profiles);
    for profile in profiles {
        let Some(path) = profile.log.as_ref().map(|log| log.path.join(LOG_LOCK)) else { continue };
        let held = open(&path)
            .and_then(|file| fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).ok().flatten());
        if let Some(held) = held {
            let holder = held.pid.and_then(|pid| holder(pid.as_raw_nonzero().get()));
            locks.push(HeldLock { path, profile: Some(profile.name.clone()), kind: LockKind::Log, holder });
        }
    }
    let path = manager.home().root().join(profile::LOCK);
    if let Some(file) = open(&path).filter(is_held) {
        locks.push(HeldLock { path, profile: None, kind: LockKind::Home, holder: holder_of(&file) });
    }
    locks
}

/// Returns the locks of state files that one writer holds for as long as a desired state would wait.
fn state_locks(profiles: &[ProfileFact]) -> Vec<HeldLock> {
    let mut waited_for = Vec::new();
    for profile in profiles {
        let path = profile.state_file.with_file_name(lock_name(&profile.state_file));
        let Some(file) = open(&path).filter(is_held) else { continue };
        let holder = holder_of(&file);
        let Ok(taken) = fstat(&file) else { continue };
        // Who waits behind us is not held up.
        if let Ok(free) = wait_apart(file, FlockOperation::LockShared, drop) {
            waited_for.push((path, profile, holder, changed(&taken), free));
        }
    }
    let now = Instant::now();
    let deadline = now.checked_add(LOCK_TIMEOUT).unwrap_or(now);
    let mut locks = Vec::new();
    for (path, profile, holder, taken, free) in waited_for {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let is_same = || stat(&path).is_ok_and(|stat| changed(&stat) == taken);
        if free.recv_timeout(left).is_err() && is_same() {
            locks.push(HeldLock {
                path,
                profile: Some(profile.name.clone()),
                kind: LockKind::DesiredState,
                holder,
            });
        }
    }
    locks
}

/// Returns the process that holds a lock of flock(2), where it can be seen from here.
fn holder_of(file: &OwnedFd) -> Option<Holder> {
    let stat = fstat(file).ok()?;
    let inode = format!(":{}", stat.st_ino);
    let whole = format!("{:02x}:{:02x}{inode}", major(stat.st_dev), minor(stat.st_dev));
    let text = read_bounded(Path::new("/proc/locks"), LOCKS_BYTES).ok()??;
    let text = String::from_utf8_lossy(&text);
    // Layered file systems show another device here than there.
    let with = |end: &str| text.lines().find_map(|line| holder(holder_in(line, end)?));
    with(&whole).or_else(|| with(&inode)).or_else(|| heir(&whole, &inode))
}

/// Returns the process that has a lock through an open file that it was given by one that is gone.
fn heir(whole: &str, inode: &str) -> Option<Holder> {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let others = processes.filter(|path| path.file_name().is_some_and(|name| name.to_str() != Some(&own)));
    // Of those that we may look at.
    for process in others {
        for file in fs::read_dir(process.join("fdinfo")).into_iter().flatten().flatten() {
            let text = read_bounded(&file.path(), LOCKS_BYTES).ok().flatten().unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let mut locks = text.lines().filter_map(|line| line.strip_prefix("lock:"));
            if locks.any(|line| holder_in(line, whole).or_else(|| holder_in(line, inode)).is_some()) {
                let pid = process.file_name()?.to_str()?.parse().ok()?;
                return holder(pid);
            }
        }
    }
    None
}

/// Returns the process that a line of `/proc/locks` names as the holder of a lock on the file that ends so.
fn holder_in(line: &str, end: &str) -> Option<i32> {
    // Those who wait have an arrow.
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

pub(super) fn pid_files(manager: &ScandirManager, profiles: &[ProfileFact]) -> Vec<PidFile> {
    let mut files = Vec::new();
    for profile in profiles {
        for name in &manager.agent().doctor.pid_files {
            files.extend(pid_file(profile, profile.home.join(name)));
        }
    }
    files
}

fn pid_file(profile: &ProfileFact, path: PathBuf) -> Option<PidFile> {
    let bytes = read_bounded(&path, PID_BYTES).ok()??;
    let (pid, started) = named(&bytes)?;
    let is_the_same = || match started {
        Some(started) => process::started(pid) == Some(started),
        None => by_path::open(&path, OFlags::PATH)
            .map(File::from)
            .map_err(io::Error::from)
            .and_then(|file| file.metadata()?.modified())
            .is_ok_and(|written| process::began_before(pid, written)),
    };
    let found = process::name(pid).map(|name| Named {
        name,
        uid: process::owner(pid),
        is_dated: started.is_some(),
        is_the_same: is_the_same(),
        session: process::session(pid),
    });
    Some(PidFile { path, profile: profile.name.clone(), pid, found })
}

/// Returns the process that a file names, and when it began: a number, or an object with `pid` and `start_time`.
fn named(bytes: &[u8]) -> Option<(i32, Option<u64>)> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let pid = value.as_i64().or_else(|| value.get("pid")?.as_i64())?;
    let started = value.get("start_time").and_then(serde_json::Value::as_u64);
    Some((i32::try_from(pid).ok().filter(|pid| *pid > 0)?, started))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(open(&path).is_none());
        let held = File::create(&path).unwrap();
        let looked = open(&path).unwrap();
        assert!(!is_held(&looked));
        drop(looked);
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let looked = open(&path).unwrap();
        assert!(is_held(&looked));
        if let Some(holder) = holder_of(&looked) {
            assert_eq!(holder.pid, i32::try_from(std::process::id()).unwrap());
        }
    }
}
