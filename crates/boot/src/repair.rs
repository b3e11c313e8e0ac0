//! Giving the agent what is below its home, without ever following a link.
//!
//! *Lives here:* walking trees by descriptors and changing owners, mismatches only.
//! *Does not live here:* which trees (the agent definition).
//!
//! Root does this in directories that others write to while it works. So each step opens one name below a descriptor,
//! looks at what it opened, and changes exactly that: a name that became a link meanwhile leads nowhere.
//!
//! **Source:** STG-7 to STG-13, L-20; openat(2), chown(2).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fstat, openat, statat};
use rustix::io::Errno;

/// Directories in each other that are entered at the most: each holds a descriptor.
const DEEPEST: usize = 400;
/// Entries between two reports of progress at first, and when there are many.
const REPORT_EVERY: (u64, u64) = (10_000, 100_000);
/// Complaints that are kept; with more, something is wrong with the whole tree.
const COMPLAINTS: usize = 20;

/// Looks at trees and files of one home, and gives to one user what belongs to another.
pub struct Repair<'a> {
    home: OwnedFd,
    path: &'a Path,
    uid: u32,
    gid: u32,
    looked_at: u64,
    changed: u64,
    complaints: Vec<String>,
    progress: &'a mut dyn FnMut(String),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Entries that were looked at.
    pub looked_at: u64,
    /// Entries that have another owner now.
    pub changed: u64,
    /// What was refused or failed; the boot goes on.
    pub complaints: Vec<String>,
}

impl<'a> Repair<'a> {
    /// Opens the home at `path`, whose user shall be `uid` with `gid`. `progress` is told now and then how far it is.
    ///
    /// # Errors
    /// A sentence for people: there is no such directory, or it is a symbolic link.
    pub fn new(
        path: &'a Path,
        (uid, gid): (u32, u32),
        progress: &'a mut dyn FnMut(String),
    ) -> Result<Self, String> {
        match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if kind(&stat).is_symlink() => {
                return Err(format!(
                    "refusing to change owners in `{}`: it is a symbolic link",
                    path.display()
                ));
            }
            _ => {}
        }
        let home = open_directory(CWD, path)
            .map_err(|errno| format!("cannot change owners in `{}`: {errno}", path.display()))?;
        let complaints = Vec::new();
        Ok(Self { home, path, uid, gid, looked_at: 0, changed: 0, complaints, progress })
    }

    /// Returns whether the home itself belongs to somebody else.
    pub fn home_is_foreign(&self) -> bool {
        fstat(&self.home).is_ok_and(|stat| stat.st_uid != self.uid)
    }

    /// Gives the home itself, and nothing in it, to the user.
    pub fn home(&mut self) {
        self.looked_at = self.looked_at.saturating_add(1);
        match rustix::fs::fchown(&self.home, self.owner().0, self.owner().1) {
            Ok(()) => self.changed = self.changed.saturating_add(1),
            Err(errno) => {
                self.complain(format!("cannot give `{}` to its user: {errno}", self.path.display()));
            }
        }
    }

    /// Gives everything in the tree at `path`, and its root, to the user.
    pub fn tree(&mut self, path: &str) {
        let Some((parent, name)) = self.parent_of(path) else { return };
        self.entry(parent.as_fd(), name, path);
        let top = match open_directory(&parent, name) {
            // It does not exist, is no directory, or is a link, which was said.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return,
            Err(errno) => return self.complain(format!("cannot look into `{path}`: {errno}")),
            Ok(top) => top,
        };
        let mut open = Vec::new();
        self.enter(top, path, &mut open);
        while let Some(directory) = open.last_mut() {
            let Some(Ok(entry)) = directory.read() else {
                open.pop();
                continue;
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Ok(parent) = directory.fd() else { continue };
            if self.child(parent, name, path)
                && let Ok(inner) = open_directory(parent, name)
            {
                self.enter(inner, path, &mut open);
            }
        }
    }

    /// Gives the file at `path` to the user, if there is one.
    pub fn file(&mut self, path: &str) {
        if let Some((parent, name)) = self.parent_of(path) {
            self.entry(parent.as_fd(), name, path);
        }
    }

    /// Returns what was done.
    pub fn finish(self) -> Outcome {
        Outcome { looked_at: self.looked_at, changed: self.changed, complaints: self.complaints }
    }

    fn enter(&mut self, directory: OwnedFd, path: &str, open: &mut Vec<Dir>) {
        if open.len() >= DEEPEST {
            return self.complain(format!("`{path}` has more than {DEEPEST} directories in each other"));
        }
        match Dir::new(directory) {
            Ok(directory) => open.push(directory),
            Err(errno) => self.complain(format!("cannot read a directory in `{path}`: {errno}")),
        }
    }

    /// Looks at an entry in a tree, and returns whether it is a directory to go into.
    fn child(&mut self, parent: BorrowedFd<'_>, name: &CStr, tree: &str) -> bool {
        self.looked_at = self.looked_at.saturating_add(1);
        if is_reported(self.looked_at) {
            let line = format!(
                "owners: looked at {} entries of `{}`, changed {} so far",
                self.looked_at,
                self.path.display(),
                self.changed
            );
            (self.progress)(line);
        }
        let Ok(stat) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
        if stat.st_uid != self.uid {
            let shown = || format!("{tree}/…/{}", name.to_string_lossy());
            self.give(parent, name, shown);
        }
        kind(&stat).is_dir()
    }

    /// Looks at an entry that was named, and says where it is a link.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &str, path: &str) {
        self.looked_at = self.looked_at.saturating_add(1);
        let Ok(stat) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
        if kind(&stat).is_symlink() {
            self.refuse(path);
        } else if stat.st_uid != self.uid {
            self.give(parent, name, || path.to_owned());
        }
    }

    /// Gives one entry to the user, after another look at what it really is.
    fn give(&mut self, parent: BorrowedFd<'_>, name: impl rustix::path::Arg, shown: impl Fn() -> String) {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let attempt = openat(parent, name, flags, Mode::empty()).and_then(|fd| {
            let stat = fstat(&fd)?;
            Ok((fd, stat))
        });
        let (fd, stat) = match attempt {
            Err(Errno::NOENT) => return,
            Err(errno) => return self.complain(format!("cannot look at `{}`: {errno}", shown())),
            Ok(found) => found,
        };
        let kind = kind(&stat);
        if kind.is_symlink() || stat.st_uid == self.uid {
            return;
        }
        if kind.is_file() && stat.st_nlink > 1 {
            // One of its other names may be outside, and whoever could make a name for it need not own it.
            return self
                .complain(format!("refusing to change the owner of `{}`: it has other names", shown()));
        }
        let (uid, gid) = self.owner();
        match chownat(&fd, "", uid, gid, AtFlags::EMPTY_PATH) {
            Ok(()) => self.changed = self.changed.saturating_add(1),
            Err(errno) => self.complain(format!("cannot give `{}` to its user: {errno}", shown())),
        }
    }

    /// Opens the directory that holds the last part of `path`, part by part; `None` where there is none, or a link.
    fn parent_of<'p>(&mut self, path: &'p str) -> Option<(OwnedFd, &'p str)> {
        let (parents, name) = path.rsplit_once('/').map_or(("", path), |(parents, name)| (parents, name));
        let mut at = match self.home.try_clone() {
            Ok(home) => home,
            Err(error) => {
                self.complain(format!("cannot look at `{path}`: {error}"));
                return None;
            }
        };
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            match statat(&at, part, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if kind(&stat).is_symlink() => {
                    self.refuse(path);
                    return None;
                }
                Ok(_) => {}
                Err(_) => return None,
            }
            at = open_directory(&at, part).ok()?;
        }
        Some((at, name))
    }

    fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    fn refuse(&mut self, path: &str) {
        let full = self.path.join(path);
        self.complain(format!(
            "refusing to change the owner of `{}`: a symbolic link is in the way",
            full.display()
        ));
    }

    fn complain(&mut self, what: String) {
        if self.complaints.len() < COMPLAINTS && !self.complaints.contains(&what) {
            self.complaints.push(what);
        }
    }
}

fn is_reported(entries: u64) -> bool {
    let (first, later) = REPORT_EVERY;
    entries.is_multiple_of(if entries < later { first } else { later })
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn open_directory(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    gatevisor_sys::file::open_directory(parent, name)
}

#[cfg(test)]
mod tests {
    use super::Repair;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, chown, symlink};
    use std::path::Path;

    const AGENT: (u32, u32) = (10_000, 10_000);

    /// Changing owners is what this module is for, and only root can.
    fn is_root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            println!("not shown: only root can change owners");
        }
        root
    }

    fn owner(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().uid()
    }

    fn repaired(home: &Path, work: impl FnOnce(&mut Repair<'_>)) -> super::Outcome {
        let mut silent = |_| ();
        let mut repair = Repair::new(home, AGENT, &mut silent).unwrap();
        work(&mut repair);
        repair.finish()
    }

    #[test]
    fn what_belongs_to_others_is_given_and_what_is_right_is_left() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        fs::create_dir_all(home.join("profiles/a/b/c")).unwrap();
        fs::write(home.join("profiles/a/b/c/deep"), "").unwrap();
        fs::write(home.join("profiles/mine"), "").unwrap();
        fs::write(home.join("secret"), "").unwrap();
        chown(home.join("profiles"), Some(10_000), Some(10_000)).unwrap();
        chown(home.join("profiles/mine"), Some(10_000), Some(77)).unwrap();
        let outcome = repaired(home, |repair| repair.tree("profiles"));
        assert_eq!(owner(&home.join("profiles/a/b/c/deep")), 10_000, "the top was right and this was not");
        assert_eq!(fs::metadata(home.join("profiles/mine")).unwrap().gid(), 77, "its owner was right");
        assert_eq!((owner(&home.join("secret")), owner(home)), (0, 0));
        assert_eq!((outcome.changed, outcome.looked_at), (4, 6));
        assert_eq!(repaired(home, |repair| repair.tree("profiles")).changed, 0);
        assert_eq!(repaired(home, |repair| repair.tree("none")).complaints, [""; 0]);
    }

    #[test]
    fn links_are_not_followed_wherever_they_are() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (home, outside) = (dir.path().join("home"), dir.path().join("outside"));
        fs::create_dir_all(outside.join("sub")).unwrap();
        fs::write(outside.join("file"), "").unwrap();
        fs::create_dir_all(home.join("logs")).unwrap();
        symlink(&outside, home.join("profiles")).unwrap();
        symlink(&outside, home.join("platforms")).unwrap();
        symlink(outside.join("file"), home.join("auth.json")).unwrap();
        symlink(&outside, home.join("logs/inner")).unwrap();
        fs::hard_link(outside.join("file"), home.join("logs/hard")).unwrap();
        let outcome = repaired(&home, |repair| {
            repair.tree("profiles");
            repair.tree("platforms/sub");
            repair.file("auth.json");
            repair.tree("logs");
        });
        for untouched in ["", "file", "sub"] {
            assert_eq!(owner(&outside.join(untouched)), 0, "{untouched}");
        }
        assert_eq!(owner(&home.join("logs/inner")), 0, "not the link either");
        assert_eq!(outcome.complaints.len(), 4, "{:?}", outcome.complaints);
        assert!(
            outcome.complaints.iter().all(|line| line.starts_with("refusing")),
            "{:?}",
            outcome.complaints
        );
        assert!(outcome.complaints[0].contains(&home.join("profiles").display().to_string()));
    }

    #[test]
    fn a_home_that_is_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink(dir.path().join("real"), dir.path().join("home")).unwrap();
        let mut silent = |_| ();
        let home = dir.path().join("home");
        let refused = Repair::new(&home, AGENT, &mut silent).map(|_| ()).unwrap_err();
        assert!(refused.starts_with("refusing to change owners in `"), "{refused}");
    }

    #[test]
    fn only_the_home_itself_is_given_with_it() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("foreign"), "").unwrap();
        let outcome = repaired(dir.path(), |repair| {
            assert!(repair.home_is_foreign());
            repair.home();
            assert!(!repair.home_is_foreign());
        });
        assert_eq!((owner(dir.path()), owner(&dir.path().join("foreign")), outcome.changed), (10_000, 0, 1));
    }

    #[test]
    fn progress_is_reported_often_at_first_and_seldom_later() {
        let told: Vec<u64> = (1..=400_000).filter(|&entries| super::is_reported(entries)).collect();
        assert_eq!(told[..3], [10_000, 20_000, 30_000]);
        assert_eq!(told[8..], [90_000, 100_000, 200_000, 300_000, 400_000]);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_said_and_is_no_danger() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("t").join(["d"; 500].join("/"));
        fs::create_dir_all(deep).unwrap();
        let outcome = repaired(dir.path(), |repair| repair.tree("t"));
        assert!(outcome.complaints.iter().any(|line| line.contains("400")), "{:?}", outcome.complaints);
    }
}
