//! The kernel's count of processes that it killed because memory ran out.
//!
//! *Lives here:* the counter of our own control group, opened once. *Does not live here:* which
//! death it explains (`gatevisor_core::machine::memory`).
//!
//! The counter is read only when a service ended by a `SIGKILL` that nobody here had sent.
//!
//! **Source:** cgroups(7); the kernel's *Control Group v2*, `memory.events`; *Memory Resource
//! Controller*, `memory.oom_control`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use gatevisor_core::Tick;
use gatevisor_core::machine::memory::Kills;

/// The mount points of control groups: that of version 1's memory controller, and those of version
/// 2.
const MOUNTED: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.oom_control"), ("/sys/fs/cgroup", "memory.events")];
/// A buffer larger than the counter's file.
const ROOM: usize = 1024;

/// The counter of this process's control group.
#[derive(Debug)]
pub(crate) struct Counter {
    file: File,
    kills: Kills,
}

impl Counter {
    /// Returns the counter, if there is one and it can be read.
    pub(crate) fn find(now: Tick) -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let us = rustix::process::getpid().as_raw_nonzero().to_string();
        candidates(&groups).into_iter().filter(|(group, _)| lists(group, &us)).find_map(|(group, name)| {
            let file = File::open(group.join(name)).ok()?;
            let counted = count(&file)?;
            Some(Self { file, kills: Kills::new(counted, now) })
        })
    }

    /// Returns whether the kernel's count explains a death without another explanation.
    pub(crate) fn explains_a_death(&mut self, now: Tick) -> bool {
        count(&self.file).is_some_and(|counted| self.kills.explain(counted, now))
    }
}

/// Returns the directories that may be our own group. A container sees its own group as the topmost
/// one, whatever its path is.
fn candidates(groups: &str) -> Vec<(PathBuf, &'static str)> {
    let mut all = Vec::new();
    for ((mounted, name), is_meant) in MOUNTED.into_iter().zip([is_of_memory, is_of_version_2]) {
        for path in groups.lines().filter_map(|line| own_path(line, is_meant)) {
            all.push((Path::new(mounted).join(path.trim_start_matches('/')), name));
            all.push((PathBuf::from(mounted), name));
        }
    }
    all
}

/// Returns the path in a line of `/proc/self/cgroup`, if its controllers satisfy `is_meant`.
fn own_path(line: &str, is_meant: fn(&str) -> bool) -> Option<&str> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    is_meant(controllers).then_some(path)
}

fn is_of_memory(controllers: &str) -> bool {
    controllers.split(',').any(|name| name == "memory")
}

fn is_of_version_2(controllers: &str) -> bool {
    controllers.is_empty()
}

/// Returns whether a group contains this process, so that its counter is about us.
fn lists(group: &Path, us: &str) -> bool {
    fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|procs| procs.lines().any(|line| line == us))
}

/// Returns the present count of kills.
fn count(file: &File) -> Option<u64> {
    let mut bytes = [0; ROOM];
    let length = file.read_at(&mut bytes, 0).ok()?;
    counted(str::from_utf8(bytes.get(..length)?).ok()?)
}

fn counted(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::{candidates, counted};

    #[test]
    fn the_count_is_found_in_the_files_of_both_versions_and_nowhere_else() {
        for (text, expected) in [
            ("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", Some(7)),
            ("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n", Some(2)),
            // A kernel before 4.13 does not count.
            ("oom_kill_disable 0\nunder_oom 0\n", None),
            ("oom_kill many\n", None),
            ("", None),
        ] {
            assert_eq!(counted(text), expected, "{text:?}");
        }
    }

    #[test]
    fn our_group_is_looked_for_where_the_kernel_names_it_and_at_the_top_of_what_is_mounted() {
        for (groups, expected) in [
            (
                "13:hugetlb:/docker/abc\n4:memory:/docker/abc\n0::/docker/abc\n",
                &[
                    "/sys/fs/cgroup/memory/docker/abc/memory.oom_control",
                    "/sys/fs/cgroup/memory/memory.oom_control",
                    "/sys/fs/cgroup/docker/abc/memory.events",
                    "/sys/fs/cgroup/memory.events",
                ][..],
            ),
            ("0::/\n", &["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory.events"][..]),
            ("1:name=systemd:/\nnonsense\n", &[]),
        ] {
            let found: Vec<_> =
                candidates(groups).into_iter().map(|(group, name)| group.join(name)).collect();
            let expected: Vec<_> = expected.iter().map(std::path::PathBuf::from).collect();
            // The last candidate occurs twice, with and without a slash.
            assert_eq!(found, expected, "{groups}");
        }
    }
}
