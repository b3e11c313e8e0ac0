//! One control group of a service.
//!
//! *Lives here:* making it, setting its bounds, entering it, and ending it with all that is in it.
//! *Does not live here:* where it is (`place`).

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gatevisor_sys::clock::monotonic_ms;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Bound;
use crate::confine::Cannot;

/// Microseconds in which a group may use its part of the processors.
const PERIOD_US: u64 = 100_000;
/// Milliseconds that killed processes have to be gone.
const END_MS: u64 = 5000;
/// What a new process of a group is refused with.
const NO_MORE: &str = "0";

/// Which kind of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// A hierarchy for some controllers.
    One,
    /// One hierarchy for all.
    Two,
}

/// A group of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) path: PathBuf,
    pub(crate) version: Version,
}

impl Leaf {
    /// Makes the group; it may be there already.
    pub(crate) fn make(&self) -> Result<(), Errno> {
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(errno_of(&error)),
            _ => Ok(()),
        }
    }

    /// Sets a bound of the group.
    pub(crate) fn set(&self, bound: Bound, number: u64) -> Result<(), Cannot> {
        let setting = format!("{} = {number}", bound.path());
        let quota = || number.saturating_mul(PERIOD_US / 100);
        let (file, text) = match (bound, self.version) {
            (Bound::Pids, _) => ("pids.max", number.to_string()),
            (Bound::Memory, Version::One) => ("memory.limit_in_bytes", number.to_string()),
            (Bound::Memory, Version::Two) => ("memory.max", number.to_string()),
            (Bound::MemoryHigh, Version::One) => {
                return Err(Cannot::new(
                    setting,
                    None,
                    "control groups of version 1 have no such bound; set `memory`",
                ));
            }
            (Bound::MemoryHigh, Version::Two) => ("memory.high", number.to_string()),
            (Bound::CpuPercent, Version::One) => ("cpu.cfs_quota_us", quota().to_string()),
            (Bound::CpuPercent, Version::Two) => ("cpu.max", format!("{} {PERIOD_US}", quota())),
        };
        write(&self.path.join(file), &text).map_err(|errno| {
            Cannot::new(setting, errno, format!("`{}` does not take it", self.path.join(file).display()))
        })
    }

    /// Moves this process into the group.
    pub(crate) fn enter(&self) -> Result<(), Cannot> {
        write(&self.path.join("cgroup.procs"), "0").map_err(|errno| {
            let remedy = format!("this process cannot enter `{}`", self.path.display());
            Cannot::new("cgroup", errno, remedy)
        })
    }

    /// Ends what is in the groups, all of which are one service's, and removes them; returns what is left, and why.
    pub(crate) fn end_all(leaves: Vec<Self>) -> Vec<(PathBuf, Errno)> {
        let deadline = monotonic_ms().saturating_add(END_MS);
        for leaf in &leaves {
            // Where the kernel can do this at once, nothing can slip through.
            let _ = write(&leaf.path.join("pids.max"), NO_MORE);
            let _ = write(&leaf.path.join("cgroup.kill"), "1");
        }
        leaves.into_iter().filter_map(|leaf| Some((leaf.path.clone(), leaf.end(deadline).err()?))).collect()
    }

    fn end(&self, deadline: u64) -> Result<(), Errno> {
        loop {
            let killed = self.kill();
            for process in &killed {
                wait(process, PollFlags::IN, deadline);
            }
            if killed.is_empty() && self.version == Version::Two {
                self.wait_until_empty(deadline);
            }
            match fs::remove_dir(&self.path).map_err(|error| errno_of(&error)) {
                Err(Errno::BUSY) if !killed.is_empty() && monotonic_ms() < deadline => {}
                Err(Errno::NOENT) => return Ok(()),
                other => return other,
            }
        }
    }

    /// Kills the processes that are in the group now.
    fn kill(&self) -> Vec<OwnedFd> {
        let Ok(procs) = fs::read_to_string(self.path.join("cgroup.procs")) else { return Vec::new() };
        let numbers = procs.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?));
        numbers.filter_map(|pid| self.kill_one(pid)).collect()
    }

    fn kill_one(&self, pid: Pid) -> Option<OwnedFd> {
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The number may have become somebody else's before it was opened, and not afterwards.
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).ok()?;
        let name = self.path.file_name()?.to_str()?;
        if !groups.lines().any(|line| line.rsplit('/').next() == Some(name)) {
            return None;
        }
        pidfd_send_signal(&process, Signal::KILL).ok()?;
        Some(process)
    }

    fn wait_until_empty(&self, deadline: u64) {
        let Ok(mut events) = File::open(self.path.join("cgroup.events")) else { return };
        let mut text = String::new();
        while events.read_to_string(&mut text).is_ok() && text.contains("populated 1") {
            if !wait(&events, PollFlags::PRI, deadline) {
                return;
            }
            let Ok(again) = File::open(self.path.join("cgroup.events")) else { return };
            events = again;
            text.clear();
        }
    }
}

/// Waits for an event of a descriptor; returns false when the time is over.
fn wait(fd: &impl std::os::fd::AsFd, what: PollFlags, deadline: u64) -> bool {
    loop {
        let left = deadline.saturating_sub(monotonic_ms());
        let seconds = i64::try_from(left / 1000).unwrap_or(0);
        let timeout =
            Timespec { tv_sec: seconds, tv_nsec: i64::try_from(left % 1000).unwrap_or(0) * 1_000_000 };
        match poll(&mut [PollFd::new(fd, what)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            Ok(0) | Err(_) => return false,
            Ok(_) => return true,
        }
    }
}

/// Writes to a file of a group that is there.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Errno> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| errno_of(&e))
}

pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::hierarchies::OwnGroups;
    use std::process::Command;

    /// Every kind of group that this machine lets us make; none where it lets us make none.
    fn leaves() -> Vec<Leaf> {
        let name = format!("gatevisor-test-{}", std::process::id());
        OwnGroups::find().leaves(&name).into_iter().filter(|leaf| leaf.make().is_ok()).collect()
    }

    #[test]
    fn what_is_in_groups_is_killed_and_they_are_removed() {
        let leaves = leaves();
        let mut sleepers = Vec::new();
        for leaf in &leaves {
            for _ in 0..3 {
                let mut sleeper = Command::new("sleep").arg("3600").spawn().unwrap();
                // Some hierarchies let nobody in before they are told more.
                if write(&leaf.path.join("cgroup.procs"), &sleeper.id().to_string()).is_err() {
                    sleeper.kill().unwrap();
                }
                sleepers.push(sleeper);
            }
        }
        assert_eq!(Leaf::end_all(leaves.clone()), []);
        for mut sleeper in sleepers {
            // Were it alive, this would wait for an hour.
            assert!(!sleeper.wait().unwrap().success());
        }
        assert!(leaves.iter().all(|leaf| !leaf.path.exists()));
        assert_eq!(Leaf::end_all(leaves), [], "what is gone needs no end");
    }
}
