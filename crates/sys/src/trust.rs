//! Finds out who, besides root, may change what a path leads to.
//!
//! *Lives here:* following a path from `/` step by step, and judging each step by its descriptor.
//! *Does not live here:* what callers do with the answer (`environment`, `process`, the boot).
//!
//! A path is root's alone if every directory on it, and the file at its end, belongs to root and
//! nobody else can write to it. A symbolic link is followed only if it is root's and lies in such a
//! directory. A directory with the sticky bit does not count as root's alone, because others may
//! make new names in it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, Stat, StatxAttributes, StatxFlags, fstat,
    fstatfs, openat, readlinkat, statx,
};
use rustix::io::Errno;

use crate::user::User;

/// The most links that are followed before a path is taken for a circle; the same number as in the
/// kernel.
const MOST_LINKS: u32 = 40;
/// Write permission for the group and for everybody.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Write permission for everybody.
const WRITABLE_BY_ALL: u32 = 0o002;

/// The owner shown for files whose owner has no number in this user namespace.
const UNMAPPED: u32 = 65534;

/// Why root does not rely on a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// It depends on the working directory.
    #[error("it is no absolute path")]
    Relative,
    /// A step belongs to this user.
    #[error("`{}` belongs to uid {uid}", step.display())]
    Owner {
        /// The path up to the step.
        step: PathBuf,
        /// The user number of its owner.
        uid: u32,
    },
    /// A step is root's, and others may write to it.
    #[error("`{}` may be written to by others than root", .0.display())]
    Writable(PathBuf),
    /// A step is a link that this user made.
    #[error("`{}` is a symbolic link of uid {uid}", step.display())]
    Link {
        /// The path up to the step.
        step: PathBuf,
        /// The user number of the link's owner.
        uid: u32,
    },
    /// A step is in `/proc`, where a name can lead into another process's view of the file system.
    #[error("`{}` is in a file system of processes", .0.display())]
    OfProcesses(PathBuf),
    /// The kernel refused a step.
    #[error("`{}`: {errno}", step.display())]
    Errno {
        /// The path up to the step.
        step: PathBuf,
        /// The kernel's error.
        errno: Errno,
    },
}

/// The end of a path that was followed.
#[derive(Debug)]
pub struct Arrival {
    /// The file at the end, opened only to be looked at; `None` if there is none.
    pub node: Option<(OwnedFd, Stat)>,
    /// Why a directory on the way is not trusted.
    pub way: Option<Distrust>,
    /// Why the file at the end is not trusted.
    pub end: Option<Distrust>,
}

impl Arrival {
    /// Returns the first reason not to trust the path as a whole.
    pub fn distrust(self) -> Result<(), Distrust> {
        self.way.or(self.end).map_or(Ok(()), Err)
    }
}

/// Returns an error if anybody but root may change what the path leads to, or make something there.
pub fn root_only(path: &Path) -> Result<(), Distrust> {
    follow(path)?.distrust()
}

/// Returns an error if this user may change what the path leads to, or make something there.
///
/// Files of third users are accepted: a directory that an operator mounted has the user numbers of
/// another machine.
pub fn out_of_reach_of(user: &User, path: &Path) -> Result<(), Distrust> {
    follow_against(path, Against::User(user))?.distrust()
}

/// The users who must not control a path.
#[derive(Clone, Copy)]
enum Against<'a> {
    EverybodyButRoot,
    User(&'a User),
}

impl Against<'_> {
    fn owner(self, uid: u32) -> bool {
        match self {
            Self::EverybodyButRoot => uid != 0 && !is_nobody_here(uid),
            Self::User(user) => uid == user.uid,
        }
    }

    fn may_write(self, stat: &Stat) -> bool {
        let others = match self {
            Self::User(user) if !user.groups.contains(&stat.st_gid) => WRITABLE_BY_ALL,
            Self::User(_) | Self::EverybodyButRoot => WRITABLE_BY_OTHERS,
        };
        stat.st_mode & others != 0
    }

    fn judge(self, step: &Path, stat: &Stat) -> Option<Distrust> {
        if self.owner(stat.st_uid) {
            return Some(Distrust::Owner { step: step.to_owned(), uid: stat.st_uid });
        }
        self.may_write(stat).then(|| Distrust::Writable(step.to_owned()))
    }
}

/// Follows a path to its end.
///
/// # Errors
/// The path is relative, has a step in `/proc`, or has a link that is not root's or lies in a
/// directory that others may write to.
pub fn follow(path: &Path) -> Result<Arrival, Distrust> {
    follow_against(path, Against::EverybodyButRoot)
}

fn follow_against(path: &Path, against: Against<'_>) -> Result<Arrival, Distrust> {
    if !path.is_absolute() {
        return Err(Distrust::Relative);
    }
    let mut walk = Walk::begin(against)?;
    let mut steps = steps(path);
    while let Some(step) = steps.pop() {
        match walk.take(&step)? {
            StepOutcome::Step => {}
            StepOutcome::Missing => return Ok(Arrival { node: None, way: walk.end_as_way(), end: None }),
            StepOutcome::Link(target) => {
                if target.is_absolute() {
                    walk.restart();
                }
                steps.extend(self::steps(&target));
            }
        }
    }
    walk.arrive()
}

/// Returns whether a file is a mount point, which in a container only its operator can make.
pub fn is_mount(node: impl AsFd) -> bool {
    let found = statx(node, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE);
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Returns whether a user is outside this user namespace. No process in here can be that user.
///
/// **Source:** `user_namespaces(7)`, *Unmapped user and group IDs*.
fn is_nobody_here(uid: u32) -> bool {
    if uid != UNMAPPED {
        return false;
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let covers = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().unwrap_or_default());
        let (first, _, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(first <= u64::from(uid) && u64::from(uid) < first.saturating_add(count))
    };
    !map.is_empty() && !map.lines().any(|line| covers(line).unwrap_or(true))
}

/// Returns the components of a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let named = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut steps: Vec<OsString> = named.collect();
    steps.reverse();
    steps
}

/// One directory, or the end, of a walk.
struct OpenedStep {
    fd: OwnedFd,
    path: PathBuf,
}

/// A walk along a path, with all the directories that it came through.
struct Walk<'a> {
    against: Against<'a>,
    opened: Vec<OpenedStep>,
    /// The first reason not to trust a directory that was left again, through `..` or a link.
    left: Option<Distrust>,
    links: u32,
}

/// The kind of a step.
enum StepOutcome {
    Step,
    Missing,
    Link(PathBuf),
}

impl<'a> Walk<'a> {
    fn begin(against: Against<'a>) -> Result<Self, Distrust> {
        let path = PathBuf::from("/");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, "/", flags, Mode::empty())
            .map_err(|errno| Distrust::Errno { step: path.clone(), errno })?;
        Ok(Self { against, opened: vec![OpenedStep { fd, path }], left: None, links: 0 })
    }

    /// Returns the first reason not to trust a directory on the way.
    fn end_as_way(&self) -> Option<Distrust> {
        self.left.clone().or_else(|| self.opened.iter().find_map(|step| step.distrust(self.against)))
    }

    /// Goes back to `/`.
    fn restart(&mut self) {
        self.left = self.end_as_way();
        self.opened.truncate(1);
    }

    fn take(&mut self, step: &OsStr) -> Result<StepOutcome, Distrust> {
        if step == ".." {
            self.left = self.end_as_way();
            if self.opened.len() > 1 {
                self.opened.pop();
            }
            return Ok(StepOutcome::Step);
        }
        let Some(here) = self.opened.last() else { return Ok(StepOutcome::Missing) };
        let path = here.path.join(step);
        let failed = |errno| Distrust::Errno { step: path.clone(), errno };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(&here.fd, step, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(StepOutcome::Missing),
            opened => opened.map_err(failed)?,
        };
        if fstatfs(&fd).map_err(failed)?.f_type == PROC_SUPER_MAGIC {
            return Err(Distrust::OfProcesses(path));
        }
        let stat = fstat(&fd).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode).is_symlink() {
            return self.link(&fd, &stat, path).map(StepOutcome::Link);
        }
        self.opened.push(OpenedStep { fd, path });
        Ok(StepOutcome::Step)
    }

    /// Returns the target of a link, unless anybody but root may have made the link.
    fn link(&mut self, fd: &OwnedFd, stat: &Stat, path: PathBuf) -> Result<PathBuf, Distrust> {
        if self.against.owner(stat.st_uid) {
            return Err(Distrust::Link { step: path, uid: stat.st_uid });
        }
        if let Some(distrust) = self.end_as_way() {
            return Err(distrust);
        }
        self.links = self.links.saturating_add(1);
        let failed = |errno| Distrust::Errno { step: path.clone(), errno };
        if self.links > MOST_LINKS {
            return Err(failed(Errno::LOOP));
        }
        let target = readlinkat(fd, "", Vec::new()).map_err(failed)?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    fn arrive(mut self) -> Result<Arrival, Distrust> {
        let Some(OpenedStep { fd, path }) = self.opened.pop() else {
            return Ok(Arrival { node: None, way: self.left, end: None });
        };
        let way = self.end_as_way();
        let stat = fstat(&fd).map_err(|errno| Distrust::Errno { step: path.clone(), errno })?;
        let end = self.against.judge(&path, &stat);
        Ok(Arrival { node: Some((fd, stat)), way, end })
    }
}

impl OpenedStep {
    fn distrust(&self, against: Against<'_>) -> Option<Distrust> {
        match fstat(&self.fd) {
            Ok(stat) => against.judge(&self.path, &stat),
            Err(errno) => Some(Distrust::Errno { step: self.path.clone(), errno }),
        }
    }
}

/// Returns whether a directory of a user's programs belongs to the user of this process.
///
/// For a directory that does not exist, the answer is about the directory in which it would be
/// made.
pub fn is_own(directory: &Path) -> bool {
    if !directory.is_absolute() || directory.as_os_str().as_bytes().contains(&b':') {
        return false;
    }
    let existing =
        directory.ancestors().find_map(|path| rustix::fs::stat(path).ok().map(|stat| (path, stat)));
    let ours = rustix::process::geteuid().as_raw();
    existing.is_some_and(|(path, stat)| {
        // A volume that an orchestrator shares through its group is still root's.
        let is_shared = stat.st_uid == 0
            && stat.st_mode & 0o002 == 0
            && rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
        stat.st_uid == ours || is_shared
    })
}

#[cfg(test)]
mod tests {
    use super::{Distrust, follow, is_mount, out_of_reach_of, root_only};
    use crate::user::User;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    #[test]
    fn directories_of_the_system_are_roots_alone() {
        for path in
            ["/", "/usr/bin", "/usr/bin/env", "/nonexistent", "/usr/bin/nonexistent/x", "/usr/../usr/./bin/"]
        {
            assert_eq!(root_only(Path::new(path)), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_directory_that_others_may_write_to_spoils_what_is_below_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        for below in [dir.path().to_owned(), dir.path().join("nothing"), dir.path().join("nothing/below")] {
            root_only(&below).unwrap_err();
        }
        for relative in ["", ".", "usr/bin", "../usr/bin"] {
            assert_eq!(root_only(Path::new(relative)), Err(Distrust::Relative), "{relative}");
        }
        let in_proc = root_only(Path::new("/proc/self/root/usr/bin"));
        assert_eq!(in_proc, Err(Distrust::OfProcesses("/proc".into())));
    }

    /// A directory that only root may change, for tests that root runs.
    fn roots_own() -> Option<tempfile::TempDir> {
        rustix::process::geteuid().is_root().then(|| tempfile::tempdir_in("/var").unwrap())
    }

    fn open(path: &Path) {
        fs::create_dir_all(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn links_of_roots_are_followed_and_judged_where_they_lead_to() {
        let Some(dir) = roots_own() else { return };
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| dir.path().join(name);
        open(&path("bin"));
        open(&path("agent/bin"));
        symlink("bin", path("to-bin")).unwrap();
        symlink(path("agent/bin"), path("to-agent")).unwrap();
        symlink("circle", path("circle")).unwrap();
        assert_eq!(root_only(&path("to-bin")), Ok(()));
        assert_eq!(root_only(&path("to-agent")), Ok(()));
        assert!(matches!(root_only(&path("circle")), Err(Distrust::Errno { .. })));
        std::os::unix::fs::chown(path("agent"), Some(4711), None).unwrap();
        let of_agent = Err(Distrust::Owner { step: path("agent"), uid: 4711 });
        assert_eq!(root_only(&path("to-agent")), of_agent);
        assert_eq!(root_only(&path("agent/../bin")), of_agent);
        assert_eq!(root_only(&path("agent/nothing")), of_agent);
        symlink("../bin", path("agent/link")).unwrap();
        assert_eq!(root_only(&path("agent/link")), of_agent);
        std::os::unix::fs::lchown(path("to-bin"), Some(4711), None).unwrap();
        assert_eq!(root_only(&path("to-bin")), Err(Distrust::Link { step: path("to-bin"), uid: 4711 }));
    }

    #[test]
    fn the_end_of_a_path_is_judged_separately_from_the_way_to_it() {
        let Some(dir) = roots_own() else { return };
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        std::os::unix::fs::chown(&file, Some(4711), None).unwrap();
        let arrival = follow(&file).unwrap();
        assert_eq!((arrival.way, arrival.end), (None, Some(Distrust::Owner { step: file, uid: 4711 })));
    }

    #[test]
    fn what_a_user_may_change_is_in_its_reach_and_what_third_users_may_is_not() {
        let Some(dir) = roots_own() else { return };
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let user =
            User { uid: 4711, gid: 4712, name: b"u".to_vec(), home: b"/".to_vec(), groups: vec![4712] };
        let file = dir.path().join("hook");
        fs::write(&file, "").unwrap();
        for (uid, gid, mode, is_safe) in [
            (0, 0, 0o755, true),
            (1000, 1000, 0o775, true),
            (1000, 1000, 0o777, false),
            (4711, 0, 0o755, false),
            (0, 4712, 0o755, true),
            (0, 4712, 0o775, false),
        ] {
            std::os::unix::fs::chown(&file, Some(uid), Some(gid)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(out_of_reach_of(&user, &file).is_ok(), is_safe, "{uid}:{gid} {mode:o}");
        }
        open(&dir.path().join("open"));
        fs::set_permissions(dir.path().join("open"), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(out_of_reach_of(&user, &dir.path().join("open/nothing")).is_err());
    }

    #[test]
    fn what_something_was_mounted_on_is_a_mount() {
        let node = |path: &str| follow(Path::new(path)).unwrap().node.unwrap().0;
        assert!(is_mount(node("/")));
        assert!(!is_mount(node("/usr/bin/env")));
    }
}
