//! One control group of a service.
//!
//! *Lives here:* making it, setting its bounds, entering it, and ending it with all its processes.
//! *Does not live here:* its place (`hierarchies`).

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gatevisor_sys::clock::{monotonic_ms, timespec};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Bound;
use crate::confine::Cannot;

/// The period in microseconds within which a group may use its share of the processors.
const PERIOD_US: u64 = 100_000;
/// Milliseconds that killed processes have to disappear.
const END_MS: u64 = 5000;
/// Milliseconds until a group that lists no process, and is not empty, is looked at again.
const AGAIN_MS: u64 = 10;
/// The value of `pids.max` that allows no further process.
const NO_MORE: &str = "0";

/// The kind of a control group hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// A hierarchy for some controllers.
    One,
    /// One hierarchy for all controllers.
    Two,
}

/// A group of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) path: PathBuf,
    pub(crate) version: Version,
}

impl Leaf {
    /// Makes the group, unless it exists already.
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

    /// Ends the processes in the groups, all of which are one service's, and removes the groups;
    /// returns those that are left, and why.
    pub(crate) fn end_all(leaves: Vec<Self>) -> Vec<(PathBuf, Errno)> {
        let deadline = monotonic_ms().saturating_add(END_MS);
        for leaf in &leaves {
            // If the kernel can do this at once, no process can escape.
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
                Err(Errno::BUSY) if monotonic_ms() >= deadline => return Err(Errno::BUSY),
                Err(Errno::BUSY) if !killed.is_empty() => {}
                // A process may have forked and ended after the list was read, so nothing on the
                // list was there to be killed. In version 1, no event tells of the child.
                Err(Errno::BUSY) if self.version == Version::One => {
                    let _ = poll(&mut [], Some(&timespec(AGAIN_MS)));
                }
                Err(Errno::NOENT) => return Ok(()),
                other => return other,
            }
        }
    }

    /// Kills the present processes of the group.
    fn kill(&self) -> Vec<OwnedFd> {
        let Ok(procs) = fs::read_to_string(self.path.join("cgroup.procs")) else { return Vec::new() };
        let numbers = procs.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?));
        numbers.filter_map(|pid| self.kill_one(pid)).collect()
    }

    fn kill_one(&self, pid: Pid) -> Option<OwnedFd> {
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The number may have been reused before the process was opened, but not afterwards.
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
        match poll(&mut [PollFd::new(fd, what)], Some(&timespec(left))) {
            Err(Errno::INTR) => {}
            Ok(0) | Err(_) => return false,
            Ok(_) => return true,
        }
    }
}

/// Writes to a file of an existing group.
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

    /// Every kind of group that we may make on this machine; possibly none.
    fn leaves() -> Vec<Leaf> {
        let name = format!("gatevisor-test-{}", std::process::id());
        OwnGroups::find().leaves(&name).into_iter().filter(|leaf| leaf.make().is_ok()).collect()
    }

    #[test]
    fn the_processes_in_groups_are_killed_and_the_groups_removed() {
        let leaves = leaves();
        let mut sleepers = Vec::new();
        for leaf in &leaves {
            for _ in 0..3 {
                let mut sleeper = Command::new("sleep").arg("3600").spawn().unwrap();
                // Some hierarchies accept no process before further settings.
                if write(&leaf.path.join("cgroup.procs"), &sleeper.id().to_string()).is_err() {
                    sleeper.kill().unwrap();
                }
                sleepers.push(sleeper);
            }
        }
        assert_eq!(Leaf::end_all(leaves.clone()), []);
        for mut sleeper in sleepers {
            // If it were alive, this would wait for an hour.
            assert!(!sleeper.wait().unwrap().success());
        }
        assert!(leaves.iter().all(|leaf| !leaf.path.exists()));
        assert_eq!(Leaf::end_all(leaves), [], "what is gone needs no end");
    }

    #[test]
    fn a_group_that_is_busy_and_lists_no_process_is_looked_at_again() {
        let name = format!("gatevisor-test-busy-{}", std::process::id());
        let mut leaves = OwnGroups::find().leaves(&name).into_iter();
        let is_tried = |leaf: &Leaf| leaf.version == Version::One && leaf.make().is_ok();
        let Some(leaf) = leaves.find(is_tried) else { return };
        // A group within it keeps it busy, as a process would that is not listed yet.
        let within = leaf.path.join("within");
        fs::create_dir(&within).unwrap();
        let deadline = monotonic_ms() + 30;
        assert_eq!(leaf.end(deadline), Err(Errno::BUSY));
        assert!(monotonic_ms() >= deadline, "it was given up at once");
        fs::remove_dir(&within).unwrap();
        assert_eq!(leaf.end(deadline), Ok(()));
    }
}
