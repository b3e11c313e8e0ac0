//! Giving the agent what is below its home. No link is followed, and the home's volume is not left.
//!
//! *Lives here:* which parts of the home are given, and what is reported. *Does not live here:*
//! which trees (the agent definition), the walk and what must not be given away
//! (`gatevisor-paths`).
//!
//! Root does this in directories that others write to at the same time. So it goes through the
//! descriptor of the home, and only if nobody but root decides where the path of the home leads.
//!
//! **Source:** STG-7 to STG-13, L-20; openat(2), chown(2).

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use gatevisor_paths::walk::{WalkProgress, WalkReport, Wrong};
use gatevisor_paths::{OpenHome, RefusalReason, Resolver, Walker};
use rustix::fs::{Gid, Uid};

/// Entries between two reports of progress: at first, and later.
const REPORT_EVERY: (u64, u64) = (10_000, 100_000);
/// The most complaints that are kept. If there are more, the whole tree is wrong.
const COMPLAINTS: usize = 20;

/// Looks at trees and files of one home, and gives to one user what belongs to another.
pub struct Repair<'a> {
    home: &'a OpenHome,
    owner: (u32, u32),
    done: WalkProgress,
    complaints: Vec<String>,
    progress: &'a mut dyn FnMut(String),
    until: Option<Instant>,
    is_stopped: bool,
}

/// The result of a repair.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairOutcome {
    /// Entries that were looked at.
    pub looked_at: u64,
    /// Entries that have a new owner.
    pub changed: u64,
    /// What was refused or failed. The boot goes on.
    pub complaints: Vec<String>,
}

impl<'a> Repair<'a> {
    /// Begins in a home that `owner`, a user and a group, shall have. It stops at `until`, and
    /// calls `progress` now and then.
    ///
    /// # Errors
    /// A sentence for people: somebody other than root decides where the path leads.
    pub fn new(
        home: &'a OpenHome,
        owner: (u32, u32),
        until: Option<Instant>,
        progress: &'a mut dyn FnMut(String),
    ) -> Result<Self, String> {
        home.above().map_err(|above| {
            format!("refusing to change owners in `{}`, because {above}", home.path().display())
        })?;
        let (done, complaints) = (WalkProgress::default(), Vec::new());
        Ok(Self { home, owner, done, complaints, progress, until, is_stopped: false })
    }

    /// Returns whether the home itself belongs to somebody else.
    pub fn home_is_foreign(&self) -> bool {
        self.home.owner().is_ok_and(|(uid, _)| uid != self.owner.0)
    }

    /// Gives the home itself, and nothing in it, to the user.
    pub fn home(&mut self) {
        self.done.entries = self.done.entries.saturating_add(1);
        let (uid, gid) = self.owner;
        match rustix::fs::fchown(self.home, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
            Ok(()) => self.done.changed = self.done.changed.saturating_add(1),
            Err(errno) => {
                self.complain(format!("cannot give `{}` to its user: {errno}", self.home.path().display()));
            }
        }
    }

    /// Gives everything in the tree at `path`, and its root, to the user.
    pub fn tree(&mut self, path: &str) {
        self.give(path, true);
    }

    /// Gives the file at `path` to the user, if there is one.
    pub fn file(&mut self, path: &str) {
        self.give(path, false);
    }

    fn give(&mut self, path: &str, is_tree: bool) {
        let Some((parent, name)) = self.parent_of(path) else { return };
        let before = self.done;
        let whole = self.home.path().display().to_string();
        let (progress, until) = (&mut *self.progress, self.until);
        let mut going = |now: &WalkProgress| {
            let entries = before.entries.saturating_add(now.entries);
            let changed = before.changed.saturating_add(now.changed);
            if now.entries > 0 && is_reported(entries) {
                progress(format!(
                    "owners: looked at {entries} entries of `{whole}`, changed {changed} so far"
                ));
            }
            until.is_none_or(|until| Instant::now() < until)
        };
        let mut walker = Walker::new(&mut going);
        let report = if is_tree {
            walker.give(&parent, &name, self.owner)
        } else {
            walker.give_entry(&parent, &name, self.owner)
        };
        self.add(path, report);
    }

    /// Opens the directory that holds the last part of `path`; `None` if it does not exist, or is a
    /// link.
    fn parent_of(&mut self, path: &str) -> Option<(OwnedFd, CString)> {
        let found = Resolver::STRICT.parent(self.home, path).and_then(|(parent, name)| {
            // The named entry itself must not be a link either.
            let own = Resolver::STRICT.open(&parent, name, rustix::fs::OFlags::PATH);
            own.map(|_| (parent, name))
        });
        match found {
            Ok((parent, name)) => CString::new(OsStr::as_bytes(name)).ok().map(|name| (parent, name)),
            Err(error) if error.is_missing() => None,
            Err(error) => {
                self.refuse(path, error.reason);
                None
            }
        }
    }

    fn refuse(&mut self, path: &str, reason: RefusalReason) {
        let full = self.home.path().join(path);
        let full = full.display();
        self.complain(match reason {
            RefusalReason::Link(_)
            | RefusalReason::MagicLink
            | RefusalReason::TooManyLinks
            | RefusalReason::NotADirectory => {
                format!("refusing to change the owner of `{full}`: a symbolic link or a file is in the way")
            }
            RefusalReason::OtherMount => self.foreign(Path::new(path)),
            reason => format!("cannot change the owner of `{full}`: {reason}"),
        });
    }

    fn foreign(&self, path: &Path) -> String {
        format!(
            "`{}` is another file system, whose owners are left as they are; where the agent shall have it, change \
             its owner there",
            self.home.path().join(path).display()
        )
    }

    /// Returns the result.
    pub fn finish(self) -> RepairOutcome {
        RepairOutcome {
            looked_at: self.done.entries,
            changed: self.done.changed,
            complaints: self.complaints,
        }
    }

    fn add(&mut self, path: &str, report: WalkReport) {
        self.done.entries = self.done.entries.saturating_add(report.progress.entries);
        self.done.changed = self.done.changed.saturating_add(report.progress.changed);
        // The report is relative to the directory that the entry is in.
        let parent = Path::new(path).parent().unwrap_or(Path::new(""));
        for mount in report.mounts {
            let text = self.foreign(&parent.join(mount));
            self.complain(text);
        }
        for problem in report.problems {
            let at = self.home.path().join(parent).join(problem.path);
            let refusal = match problem.why {
                Wrong::OtherNames | Wrong::Device => "refusing to",
                Wrong::Moved | Wrong::Errno(_) => "cannot",
            };
            self.complain(format!("{refusal} change the owner of `{}`: {}", at.display(), problem.why));
        }
        if report.is_stopped && !std::mem::replace(&mut self.is_stopped, true) {
            let entries = self.done.entries;
            self.complain(format!(
                "looking for entries that are not the agent's took too long, and stopped in `{path}` after {entries} of them"
            ));
        }
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

#[cfg(test)]
mod tests {
    use super::Repair;
    use gatevisor_paths::OpenHome;
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

    fn repaired(home: &Path, work: impl FnOnce(&mut Repair<'_>)) -> super::RepairOutcome {
        let mut silent = |_| ();
        let home = OpenHome::open(home).unwrap();
        let mut repair = Repair::new(&home, AGENT, None, &mut silent).unwrap();
        work(&mut repair);
        repair.finish()
    }

    #[test]
    fn files_of_others_are_given_to_the_agent_and_the_agents_own_are_left() {
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
    fn nothing_is_given_away_where_somebody_else_decides_where_the_home_is() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (data, home) = (dir.path().join("data"), dir.path().join("data/a/apt"));
        fs::create_dir_all(&home).unwrap();
        chown(&data, Some(10_000), None).unwrap();
        let (found, mut silent) = (OpenHome::open(&home).unwrap(), |_| ());
        let refused = Repair::new(&found, AGENT, None, &mut silent).map(drop).unwrap_err();
        let expected = format!(
            "refusing to change owners in `{}`, because `{}` belongs to uid 10000",
            home.display(),
            data.display()
        );
        assert_eq!(refused, expected);
    }

    #[test]
    fn a_repair_stops_when_its_time_is_over_and_reports_that() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("t/a")).unwrap();
        let (home, mut silent) = (OpenHome::open(dir.path()).unwrap(), |_| ());
        let mut repair = Repair::new(&home, AGENT, Some(std::time::Instant::now()), &mut silent).unwrap();
        repair.tree("t");
        repair.tree("none");
        let outcome = repair.finish();
        let said = |line: &String| line.contains("took too long, and stopped in `t`");
        assert_eq!(
            outcome.complaints.iter().filter(|line| said(line)).count(),
            1,
            "{:?}",
            outcome.complaints
        );
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
    fn no_tree_is_too_deep() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("t").join(["d"; 500].join("/"));
        fs::create_dir_all(&deep).unwrap();
        let outcome = repaired(dir.path(), |repair| repair.tree("t"));
        assert_eq!((outcome.complaints.len(), outcome.changed, owner(&deep)), (0, 501, 10_000));
    }
}
