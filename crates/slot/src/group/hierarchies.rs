//! The control groups of this process, below which those of services are made.
//!
//! *Lives here:* reading the kernel's lists of hierarchies and mounts, and preparing a version 2
//! group for children.
//! *Does not live here:* work in a child group (`leaf`).
//!
//! **Source:** cgroups(7), `proc_pid_mountinfo(5)`, and the kernel's *Control Group v2*, "No
//! Internal Process Constraint".

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::Bound;
use super::leaf::{Leaf, Version, errno_of, write};
use crate::confine::Cannot;

/// The group for the supervisor and all processes that are not a service's, if version 2 requires
/// them to be in a group.
const SUPERVISOR: &str = "gatevisor-supervisor";
/// How often processes are moved to it; each time, more may have been forked meanwhile.
const MOVES: usize = 16;
/// What to do if groups cannot be made.
const REMEDY: &str =
    "a container needs `/sys/fs/cgroup` mounted writable, and an ordinary user a group delegated to it";

/// This process's group in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OwnGroup {
    /// The directory of the group.
    directory: PathBuf,
    version: Version,
    /// Its controllers, if it is of version 1.
    controllers: Vec<String>,
}

/// The groups of this process.
#[derive(Debug, Default)]
pub(crate) struct OwnGroups {
    all: Vec<OwnGroup>,
}

impl OwnGroups {
    /// Returns the groups that the kernel lists and that are mounted.
    pub(crate) fn find() -> Self {
        Self::of("/proc/self/cgroup")
    }

    /// Returns the groups that a file of `/proc` lists and that are mounted here.
    pub(crate) fn of(cgroup: &str) -> Self {
        let read = |path: &str| fs::read(path).unwrap_or_default();
        Self::parse(&read(cgroup), &read("/proc/self/mountinfo"))
    }

    /// Returns their directories.
    pub(crate) fn directories(self) -> Vec<PathBuf> {
        self.all.into_iter().map(|own| own.directory).collect()
    }

    /// Returns the groups that `cgroup` lists, at their places according to `mountinfo`.
    fn parse(cgroup: &[u8], mountinfo: &[u8]) -> Self {
        let mounts: Vec<Mount> = mountinfo.split(|&b| b == b'\n').filter_map(Mount::parse).collect();
        let mut all = Vec::new();
        for line in cgroup.split(|&b| b == b'\n') {
            let mut fields = line.splitn(3, |&b| b == b':');
            let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let path = PathBuf::from(OsString::from_vec(path.to_vec()));
            let names = String::from_utf8_lossy(names);
            let controllers: Vec<String> =
                names.split(',').filter(|name| !name.is_empty()).map(String::from).collect();
            let version = if controllers.is_empty() { Version::Two } else { Version::One };
            let serves = |mount: &&Mount| {
                mount.version == version && controllers.iter().all(|name| mount.options.contains(name))
            };
            let directory = mounts.iter().filter(serves).find_map(|mount| mount.place_of(&path));
            all.extend(directory.map(|directory| OwnGroup { directory, version, controllers }));
        }
        Self { all }
    }

    /// Returns the service's group of this name in the hierarchy in which this bound can be set,
    /// and makes it if necessary.
    pub(crate) fn leaf(&self, bound: Bound, name: &str) -> Result<Leaf, Cannot> {
        let controller = match bound {
            Bound::Memory | Bound::MemoryHigh => "memory",
            Bound::CpuPercent => "cpu",
            Bound::Pids => "pids",
        };
        let setting = || bound.path();
        let cannot = |errno: Errno| Cannot::new(setting(), errno, REMEDY);
        let one = self.all.iter().find(|own| own.controllers.iter().any(|known| known == controller));
        if let Some(own) = one {
            let leaf = Leaf { path: own.directory.join(name), version: Version::One };
            return leaf.make().map(|()| leaf).map_err(cannot);
        }
        let two = self.all.iter().find(|own| own.version == Version::Two);
        let base = two.map(|own| base(&own.directory));
        let offered = base.as_ref().is_some_and(|base| lists(&base.join("cgroup.controllers"), controller));
        let Some(base) = base.filter(|_| offered) else {
            let remedy = format!("no control group here offers the controller `{controller}`; {REMEDY}");
            return Err(Cannot::new(setting(), None, remedy));
        };
        let leaf = Leaf { path: base.join(name), version: Version::Two };
        hand_down(&base, controller).and_then(|()| leaf.make()).map(|()| leaf).map_err(|errno| match errno {
            Errno::BUSY => {
                Cannot::new(setting(), errno, "other processes are in this control group and cannot be moved")
            }
            errno => cannot(errno),
        })
    }

    /// Removes empty groups for whose names `is_old` is true.
    pub(crate) fn sweep(&self, is_old: impl Fn(&str) -> bool) {
        for own in &self.all {
            for entry in fs::read_dir(base(&own.directory)).into_iter().flatten().flatten() {
                if entry.file_name().to_str().is_some_and(&is_old) {
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }

    /// Ends the processes in the groups of this name and removes the groups; returns those that are
    /// left, and why.
    pub(crate) fn end(&self, name: &str) -> Vec<(PathBuf, Errno)> {
        Leaf::end_all(self.leaves(name).into_iter().filter(|leaf| leaf.path.is_dir()).collect())
    }

    /// Returns the groups of this name in all hierarchies, whether they exist or not.
    pub(crate) fn leaves(&self, name: &str) -> Vec<Leaf> {
        let leaf = |own: &OwnGroup| Leaf { path: base(&own.directory).join(name), version: own.version };
        self.all.iter().map(leaf).collect()
    }
}

/// Returns the group below which ours are made: this process's own one, or its parent if we are in
/// [`SUPERVISOR`].
fn base(own: &Path) -> PathBuf {
    match (own.file_name(), own.parent()) {
        (Some(name), Some(parent)) if name == SUPERVISOR => parent.to_owned(),
        _ => own.to_owned(),
    }
}

/// Returns whether a file of words contains this one.
fn lists(file: &Path, word: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.split_whitespace().any(|known| known == word))
}

/// Enables a controller in the children of a version 2 group.
///
/// A group whose children are controlled may not contain processes itself, except for the topmost
/// one. So its processes move into a child group, if we may arrange the group.
fn hand_down(base: &Path, controller: &str) -> Result<(), Errno> {
    let control = base.join("cgroup.subtree_control");
    if lists(&control, controller) {
        return Ok(());
    }
    let switch_on = || write(&control, &format!("+{controller}"));
    for _ in 0..MOVES {
        match switch_on() {
            Err(Errno::BUSY) if is_ours_to_arrange(base) => {}
            other => return other,
        }
        let aside = Leaf { path: base.join(SUPERVISOR), version: Version::Two };
        aside.make()?;
        let procs = fs::read_to_string(base.join("cgroup.procs")).map_err(|error| errno_of(&error))?;
        for pid in procs.split_whitespace() {
            // The process may have ended. Kernel threads and processes of another namespace stay,
            // and make the next attempt fail.
            let _ = write(&aside.path.join("cgroup.procs"), pid);
        }
    }
    switch_on()
}

/// Returns whether nobody else manages the group: it is all that a container sees, or it was
/// delegated.
fn is_ours_to_arrange(base: &Path) -> bool {
    let all_there_is = fs::read_to_string("/proc/self/cgroup").is_ok_and(|text| {
        text.lines().any(|line| line == "0::/" || line.strip_prefix("0::/") == Some(SUPERVISOR))
    });
    let delegated = ["trusted.delegate", "user.delegate"].iter().any(|name| {
        let mut value = [0; 8];
        rustix::fs::getxattr(base, *name, &mut value).is_ok_and(|length| value.get(..length) == Some(b"1"))
    });
    let user = rustix::process::geteuid().as_raw();
    all_there_is || delegated || (user != 0 && fs::metadata(base).is_ok_and(|meta| meta.uid() == user))
}

/// A mounted hierarchy.
#[derive(Debug)]
struct Mount {
    /// The group at `point`.
    root: PathBuf,
    point: PathBuf,
    version: Version,
    options: Vec<String>,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|&b| b == b' ');
        let root = unescape(words.nth(3)?);
        let point = unescape(words.next()?);
        let mut words = words.skip_while(|word| *word != b"-").skip(1);
        let version = match words.next()? {
            b"cgroup" => Version::One,
            b"cgroup2" => Version::Two,
            _ => return None,
        };
        let options = String::from_utf8_lossy(words.nth(1)?).split(',').map(String::from).collect();
        Some(Self { root, point, version, options })
    }

    /// Returns the place where a group of this hierarchy is mounted, if it is.
    fn place_of(&self, group: &Path) -> Option<PathBuf> {
        let below = group.strip_prefix(&self.root).ok()?;
        // The path of a group outside our namespace contains `..`.
        let plain = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        plain.then(|| if below.as_os_str().is_empty() { self.point.clone() } else { self.point.join(below) })
    }
}

/// Resolves the octal escapes of mountinfo.
fn unescape(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| after.get(..3)).flatten().and_then(|digits| {
            let digits =
                str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
            u8::from_str_radix(digits, 8).ok()
        });
        if let Some(byte) = octal {
            out.push(byte);
            rest = after.get(3..).unwrap_or_default();
        } else {
            out.push(byte);
            rest = after;
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS_OF_ONE: &[u8] = b"\
30 25 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs rw,mode=755
31 30 0:27 /docker/abc /sys/fs/cgroup/memory rw,relatime master:11 - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /my\\040groups/pids rw - cgroup cgroup rw,pids
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";

    fn directories(cgroup: &str, mounts: &[u8]) -> Vec<(String, String)> {
        let show = |own: &OwnGroup| (own.controllers.join(","), own.directory.display().to_string());
        OwnGroups::parse(cgroup.as_bytes(), mounts).all.iter().map(show).collect()
    }

    #[test]
    fn own_groups_are_found_where_they_are_mounted() {
        let cgroup = "9:pids:/a\n8:cpu,cpuacct:/\n7:memory:/docker/abc/x\n6:freezer:/\n0::/user.slice\n";
        let expected = [
            ("pids", "/my groups/pids/a"),
            ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
            ("memory", "/sys/fs/cgroup/memory/x"),
            ("", "/sys/fs/cgroup/unified/user.slice"),
        ];
        let expected = expected.map(|(names, path)| (names.to_owned(), path.to_owned()));
        assert_eq!(directories(cgroup, MOUNTS_OF_ONE), expected);
    }

    #[test]
    fn a_group_that_is_not_mounted_is_not_found() {
        for cgroup in
            ["7:memory:/docker/abcd\n", "7:memory:/\n", "9:pids:/../other\n", "", "x\n", "0::\n:::\n"]
        {
            assert_eq!(directories(cgroup, MOUNTS_OF_ONE), [], "{cgroup}");
        }
        assert_eq!(directories("9:pids:/\n", b"33 30 0:29 /\n\n- - -\n"), []);
    }

    /// A directory that looks like a version 2 group with two processes in it.
    fn version_two(controllers: &str) -> (tempfile::TempDir, OwnGroups) {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("own");
        fs::create_dir_all(own.join("gatevisor-x")).unwrap();
        fs::write(own.join("cgroup.controllers"), controllers).unwrap();
        fs::write(own.join("cgroup.subtree_control"), "").unwrap();
        let all = vec![OwnGroup {
            directory: own.join(SUPERVISOR),
            version: Version::Two,
            controllers: Vec::new(),
        }];
        (root, OwnGroups { all })
    }

    #[test]
    fn in_version_two_the_controller_is_handed_down_and_the_bounds_are_set() {
        let (root, places) = version_two("cpu memory pids\n");
        let own = root.path().join("own");
        for (bound, number, file, text) in [
            (Bound::Pids, 7, "pids.max", "7"),
            (Bound::Memory, 1 << 30, "memory.max", "1073741824"),
            (Bound::MemoryHigh, 1 << 29, "memory.high", "536870912"),
            (Bound::CpuPercent, 150, "cpu.max", "150000 100000"),
        ] {
            fs::write(own.join("gatevisor-x").join(file), "").unwrap();
            fs::write(own.join("cgroup.subtree_control"), "").unwrap();
            let leaf = places.leaf(bound, "gatevisor-x").unwrap();
            assert_eq!(leaf, Leaf { path: own.join("gatevisor-x"), version: Version::Two });
            leaf.set(bound, number).unwrap();
            assert_eq!(fs::read_to_string(leaf.path.join(file)).unwrap(), text);
            let handed = fs::read_to_string(own.join("cgroup.subtree_control")).unwrap();
            assert!(handed.starts_with('+'), "{handed}");
        }
    }

    #[test]
    fn a_controller_that_nobody_offers_is_named() {
        let (_root, places) = version_two("cpu\n");
        let cannot = places.leaf(Bound::Pids, "gatevisor-x").unwrap_err();
        assert_eq!(cannot.setting, "cgroup/pids");
        assert!(
            cannot.remedy.starts_with("no control group here offers the controller `pids`; "),
            "{cannot:?}"
        );
        assert!(OwnGroups::default().leaf(Bound::Memory, "gatevisor-x").is_err());
    }
}
