//! The tree that the bytes describe, and the sentinel beside it.
//!
//! *Lives here:* making the tree, describing its content, removing its mounts. *Does not live
//! here:* what is tried in it.
#![expect(clippy::print_stderr, reason = "a target says what it cannot show")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use gatevisor_paths::look;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use tempfile::TempDir;

pub const AGENT: u32 = 12_345;
/// Tells that this process has a mount name space of its own.
const MAY_MOUNT: &str = "GATEVISOR_FUZZ_MAY_MOUNT";
/// The most mounts, because mounts cost more than everything else.
const MOST_MOUNTS: usize = 2;
/// The most directories made at once: deeper than a walk holds descriptors.
const MOST_DEPTH: u8 = 90;

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns whether files may be given to a user. Root of a user name space without other users
/// cannot.
pub fn may_give() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let bed = tempfile::tempdir().expect("a directory is made");
        let may = is_root() && lchown(bed.path(), Some(AGENT), Some(AGENT)).is_ok();
        if !may {
            eprintln!("not shown: what is somebody else's, as this process can give nothing away");
        }
        may
    })
}

/// Returns whether something may be mounted. Prints a message once if not.
fn may_mount() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let may = std::env::var_os(MAY_MOUNT).is_some();
        if !may {
            eprintln!("not shown: mounts, as this process has no mount name space of its own");
        }
        may
    })
}

/// The description of an entry, in which a change is visible.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub path: PathBuf,
    owner: (u32, u32),
    mode: u32,
    content: Vec<u8>,
}

/// A directory with `tree`, the sentinel `outside`, and `aside`, where a hostile agent puts what it
/// replaces.
pub struct Tree {
    root: PathBuf,
    here: PathBuf,
    last: PathBuf,
    /// All mounts in order, and which of them are on the tree's own mount.
    mounted: Vec<PathBuf>,
    own_mounts: Vec<PathBuf>,
    /// Removed last.
    _bed: TempDir,
}

impl Drop for Tree {
    fn drop(&mut self) {
        for path in self.mounted.iter().rev() {
            let _ = unmount(path, UnmountFlags::DETACH);
        }
    }
}

impl Tree {
    pub fn new() -> Self {
        let bed =
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory is made");
        let root = bed.path().canonicalize().expect("it is there");
        for path in ["tree", "aside", "outside", "outside/d", "outside/n1"] {
            fs::create_dir(root.join(path)).expect("it is new");
        }
        for file in ["outside/n0", "outside/d/n0"] {
            fs::write(root.join(file), "precious").expect("it is new");
        }
        let top = root.join("tree");
        let (mounted, own_mounts) = (Vec::new(), Vec::new());
        Self { root, here: top.clone(), last: top, mounted, own_mounts, _bed: bed }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn top(&self) -> PathBuf {
        self.root.join("tree")
    }

    pub fn outside(&self) -> PathBuf {
        self.root.join("outside")
    }

    /// Returns the mounts that a walk of the tree meets.
    pub fn mounts(&self) -> &[PathBuf] {
        &self.own_mounts
    }

    /// Changes the tree. Leaves out what already exists, or may not be made.
    pub fn obey(&mut self, order: u8, mut next: impl FnMut() -> u8) {
        let byte = next();
        let path = self.here.join(format!("n{}", byte % 12));
        let is_made = match order {
            0 | 1 => self.enters(&path),
            2 => return self.goes_up(),
            // An existing entry may be a link, or a FIFO that would block.
            3 => fs::File::create_new(&path).map(drop),
            4 => symlink(self.target(next()), &path),
            5 => fs::hard_link(self.other_name(byte), &path),
            6 => chain(&path, next() % MOST_DEPTH),
            7 => self.links(&path, next() % 24, next()),
            8 => return self.gives(byte),
            9 => return self.opens(byte),
            10 => return self.mounts_on(&path, byte & 16 == 16),
            _ => mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).map_err(Into::into),
        };
        if is_made.is_ok() && fs::symlink_metadata(&path).is_ok() {
            self.last = path;
        }
    }

    fn enters(&mut self, path: &Path) -> std::io::Result<()> {
        if fs::symlink_metadata(path).is_err() {
            fs::create_dir(path)?;
        }
        if fs::symlink_metadata(path)?.is_dir() && !self.is_outside(path) {
            path.clone_into(&mut self.here);
        }
        Ok(())
    }

    /// Returns whether `outside` is mounted there.
    fn is_outside(&self, path: &Path) -> bool {
        let there = fs::metadata(path).map(|seen| (seen.dev(), seen.ino())).ok();
        there == fs::metadata(self.outside()).map(|seen| (seen.dev(), seen.ino())).ok()
    }

    fn goes_up(&mut self) {
        if self.here != self.top() {
            self.here.pop();
        }
    }

    fn target(&self, byte: u8) -> PathBuf {
        let name = format!("n{}", byte / 16 % 12);
        match byte % 12 {
            0 | 1 => name.into(),
            2 => format!("../{name}").into(),
            3 => "..".into(),
            4 => ".".into(),
            5 => self.outside(),
            6 => self.outside().join(name),
            7 => self.top().join(name),
            8 => "/proc/self/root".into(),
            9 => "/".into(),
            10 => "../../outside".into(),
            _ => "none/../none".into(),
        }
    }

    /// Returns the file that gets a further name: one outside, or the last one that was made.
    fn other_name(&self, byte: u8) -> PathBuf {
        if byte & 16 == 16 { self.last.clone() } else { self.outside().join("n0") }
    }

    /// Makes a chain of links with a target at its end.
    fn links(&self, path: &Path, many: u8, end: u8) -> std::io::Result<()> {
        let mut target = self.target(end);
        for number in 0..many {
            let link = format!("l{number}");
            symlink(&target, self.here.join(&link))?;
            target = link.into();
        }
        symlink(target, path)
    }

    /// Gives the last entry that was made, or the directory, to another user.
    fn gives(&self, byte: u8) {
        let uid = [0, AGENT, AGENT, 54_321][usize::from(byte % 4)];
        let path = if byte & 16 == 16 { &self.here } else { &self.last };
        // If the sentinel has this file too, the agent may not give it away.
        let is_alone = fs::symlink_metadata(path).is_ok_and(|seen| seen.is_dir() || seen.nlink() == 1);
        if may_give() && is_alone && *path != self.top() {
            let _ = lchown(path, Some(uid), Some(uid));
        }
    }

    fn opens(&self, byte: u8) {
        let modes: &[u32] =
            if is_root() { &[0o755, 0o775, 0o1777, 0, 0o500] } else { &[0o755, 0o775, 0o1777] };
        if let Some(&mode) = modes.get(usize::from(byte) % modes.len()) {
            let _ = fs::set_permissions(&self.here, fs::Permissions::from_mode(mode));
        }
    }

    fn mounts_on(&mut self, path: &Path, is_bind: bool) {
        if self.mounted.len() >= MOST_MOUNTS || !may_mount() || fs::create_dir(path).is_err() {
            return;
        }
        let is_own = mount_of(&self.here) == mount_of(&self.top());
        let outside = self.outside();
        let made = if is_bind {
            mount_bind(&outside, path)
        } else {
            mount("tmpfs", path, "tmpfs", MountFlags::empty(), None)
        };
        made.expect("who has a mount name space may mount in it");
        self.mounted.push(path.to_owned());
        if is_own {
            self.own_mounts.push(path.to_owned());
        }
        if !is_bind {
            path.clone_into(&mut self.here);
        }
    }

    /// Describes everything that no walk may touch: what is outside, and what is on other mounts.
    pub fn elsewhere(&self) -> Vec<Found> {
        let mut found = Vec::new();
        tell(&self.outside(), &mut found);
        for mount in &self.own_mounts {
            tell(mount, &mut found);
        }
        found.sort();
        found
    }

    /// Describes everything.
    pub fn whole(&self) -> Vec<Found> {
        let mut found = Vec::new();
        tell(&self.root, &mut found);
        found
    }

    /// Counts the entries of the tree on its own mount, and all entries.
    pub fn counted(&self) -> (u64, u64) {
        let mut found = Vec::new();
        tell(&self.top(), &mut found);
        let is_own = |found: &&Found| !self.own_mounts.iter().any(|mount| found.path.starts_with(mount));
        // The top directory is no entry.
        let own = found.iter().filter(is_own).count().saturating_sub(1);
        (u64::try_from(own).unwrap_or(u64::MAX), u64::try_from(found.len()).unwrap_or(u64::MAX))
    }

    /// Returns whether another user decides what is in this directory.
    pub fn is_theirs(&self, path: &Path) -> bool {
        let is_ours =
            |seen: &fs::Metadata| seen.uid() == 0 && (seen.mode() & 0o022 == 0 || seen.mode() & 0o1000 != 0);
        path.starts_with(&self.root) && !fs::symlink_metadata(path).is_ok_and(|seen| is_ours(&seen))
    }
}

fn mount_of(path: &Path) -> Option<u64> {
    let opened = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    look(opened.ok()?).ok()?.mount
}

/// Makes nested directories.
fn chain(path: &Path, depth: u8) -> std::io::Result<()> {
    fs::create_dir(path)?;
    let mut path = path.to_owned();
    for _ in 0..depth {
        path.push("d");
        fs::create_dir(&path)?;
    }
    Ok(())
}

fn tell(path: &Path, found: &mut Vec<Found>) {
    let Ok(seen) = fs::symlink_metadata(path) else { return };
    let content = if seen.is_file() { fs::read(path).unwrap_or_default() } else { Vec::new() };
    found.push(Found { path: path.to_owned(), owner: (seen.uid(), seen.gid()), mode: seen.mode(), content });
    if seen.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            tell(&entry.path(), found);
        }
    }
}
