//! Walking a tree that somebody else owns, and changes meanwhile.
//!
//! *Lives here:* the one recursion of the project: which directory is entered, read, and come back to.
//! *Does not live here:* what is held meanwhile (`levels`), what is done with an entry (`remove`, `give`, `measure`).
//!
//! A walk is a loop over levels of directories. It holds few descriptors however deep the tree is: those of the levels
//! next to it, and of the top. To a level further up it comes back through `..`, and knows it again by its numbers; where
//! it does not, the tree was moved, and the walk goes on at the nearest level that it still holds. No directory on another
//! mount is entered, and no entry that is one is changed. Names are not looked at twice: what is entered is what was opened.
//!
//! **Source:** openat2(2), readdir(3), `d_off` in getdents64(2).

mod child;
mod give;
mod levels;
mod measure;
mod remove;

use std::collections::HashSet;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{Dir, FileType};
use rustix::io::Errno;

use crate::look::{FileInfo, glance, look, pinned};
use crate::resolve::{RefusalReason, Resolver};
use levels::Levels;

pub use measure::Measured;
pub use remove::Remover;

/// Troubles and mounts that are told of; with more, something is wrong with the whole tree.
const MOST_TOLD: usize = 20;
/// How often a level is read again because the walk could not come back to one below it.
const MOST_LOST: u32 = 16;
/// Directories that are remembered as not to be emptied.
const MOST_KEPT: usize = 10_000;

/// How far a walk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalkProgress {
    /// Entries looked at, again where a directory was read again.
    pub entries: u64,
    /// Entries that were changed, or are gone.
    pub changed: u64,
}

/// What came of a walk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalkReport {
    /// How far it came.
    pub progress: WalkProgress,
    /// Where other file systems are mounted, relative to the top; they were left alone.
    pub mounts: Vec<PathBuf>,
    /// What failed or was refused, the first of it.
    pub problems: Vec<Problem>,
    /// Whether it was stopped before its end.
    pub is_stopped: bool,
}

/// An entry with which something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}`: {why}", path.display())]
pub struct Problem {
    /// Where it was, relative to the top; components that are not remembered are `…`.
    pub path: PathBuf,
    /// What is wrong.
    pub why: Wrong,
}

impl Problem {
    fn of(name: &CStr, why: Wrong) -> Self {
        Self { path: path_of(name), why }
    }
}

impl WalkReport {
    /// Adds what came of a walk over a directory of this one.
    fn append(&mut self, name: &CStr, below: Self) {
        let within = |path: PathBuf| path_of(name).join(path);
        let WalkProgress { entries, changed } = &mut self.progress;
        *entries = entries.saturating_add(below.progress.entries);
        *changed = changed.saturating_add(below.progress.changed);
        self.mounts.extend(below.mounts.into_iter().map(within));
        let problems = below.problems.into_iter();
        self.problems.extend(problems.map(|Problem { path, why }| Problem { path: within(path), why }));
        self.is_stopped |= below.is_stopped;
    }
}

fn path_of(name: &CStr) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(name.to_bytes()))
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// One of its other names may be anywhere, and whoever made one need not own it.
    #[error("it has other names")]
    OtherNames,
    /// It is a device, which a user must not get by being given what lies in a directory.
    #[error("it is a device")]
    Device,
    /// It was moved while it was walked, so the walk did not find back.
    #[error("it was moved meanwhile")]
    Moved,
    /// The kernel refused.
    #[error(transparent)]
    Errno(#[from] Errno),
}

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalkStep {
    /// It is entered, if it is a directory.
    Enter,
    /// It stays as it is.
    Pass,
    /// It was changed, and is entered, if it is a directory.
    Changed,
    /// It is on another mount, and is left alone.
    Foreign,
    /// It is no more. The directory is read again at its end, as what is next may have been missed.
    Gone,
}

/// What is done on a walk.
pub trait Visitor {
    /// Does something with an entry, before what is in it.
    fn visit(&mut self, entry: &WalkEntry<'_>) -> Result<WalkStep, Wrong>;

    /// Does something with a directory that was entered, and that nothing is left in; returns whether it is gone.
    fn leave(&mut self, _parent: BorrowedFd<'_>, _name: &CStr) -> bool {
        false
    }

    /// Returns whether a directory that may not be entered or changed is to be opened up for its owner.
    fn opens_up(&self) -> bool {
        false
    }
}

/// An entry of a directory of the tree.
#[derive(Debug)]
pub struct WalkEntry<'w> {
    levels: &'w Levels,
    parent: BorrowedFd<'w>,
    name: &'w CStr,
    kind: FileType,
}

impl WalkEntry<'_> {
    /// Returns the directory that it is in.
    pub const fn parent(&self) -> BorrowedFd<'_> {
        self.parent
    }

    /// Returns its name there.
    pub const fn name(&self) -> &CStr {
        self.name
    }

    /// Returns what kind of file the directory says it is, if it says so.
    pub const fn kind(&self) -> FileType {
        self.kind
    }

    /// Returns how many directories of the tree it is in.
    pub fn depth(&self) -> usize {
        self.levels.depth()
    }

    /// Returns where it is, relative to the top.
    pub fn path(&self) -> PathBuf {
        self.levels.path_of(self.name)
    }

    /// Looks at what has its name now; `None` where that is on another mount.
    pub fn glance(&self) -> Result<Option<FileInfo>, Errno> {
        Ok(Some(glance(self.parent, self.name)?).filter(|seen| self.is_on_its_mount(seen)))
    }

    /// Opens what has its name now, so that exactly that can be changed; `None` where that is on another mount.
    pub fn pin(&self) -> Result<Option<(OwnedFd, FileInfo)>, Errno> {
        let fd = pinned(self.parent, self.name)?;
        let seen = look(&fd)?;
        Ok(self.is_on_its_mount(&seen).then_some((fd, seen)))
    }

    fn is_on_its_mount(&self, seen: &FileInfo) -> bool {
        self.levels.here().is_on_mount_of(seen)
    }
}

/// Walks trees, for as long as a closure says so.
pub struct Walker<'a> {
    going: &'a mut dyn FnMut(&WalkProgress) -> bool,
    resolver: Resolver,
}

impl<'a> Walker<'a> {
    /// Returns one that asks `going` before each entry whether to go on.
    pub fn new(going: &'a mut dyn FnMut(&WalkProgress) -> bool) -> Self {
        Self { going, resolver: Resolver::STRICT }
    }

    /// Returns one that does without openat2, as where the kernel or a filter does not have it.
    #[must_use]
    pub fn by_steps(self) -> Self {
        Self { resolver: self.resolver.by_steps(), ..self }
    }

    /// Shows each entry below `top` to the visitor.
    ///
    /// # Errors
    /// The top itself cannot be read. Whatever goes wrong below it is in the report.
    pub fn walk(&mut self, top: impl AsFd, visitor: &mut dyn Visitor) -> Result<WalkReport, Errno> {
        let seen = look(&top)?;
        let levels = Levels::new(Dir::read_from(&top)?, seen);
        let (report, kept) = (WalkReport::default(), HashSet::new());
        let going = &mut *self.going;
        let mut run = WalkRun { levels, report, kept, lost: 0, visitor, going, resolver: self.resolver };
        while run.step() {}
        Ok(run.report)
    }
}

/// One walk.
struct WalkRun<'r> {
    levels: Levels,
    report: WalkReport,
    /// Directories that are not empty when they are left, so that they are not entered again.
    kept: HashSet<(u64, u64)>,
    lost: u32,
    visitor: &'r mut dyn Visitor,
    going: &'r mut dyn FnMut(&WalkProgress) -> bool,
    resolver: Resolver,
}

impl WalkRun<'_> {
    /// Looks at one entry, or comes back from one directory; returns whether there is more to do.
    fn step(&mut self) -> bool {
        if !(self.going)(&self.report.progress) {
            self.report.is_stopped = true;
            return false;
        }
        match self.levels.read() {
            Some(Ok(entry)) => self.entry(entry.file_name(), entry.file_type()),
            Some(Err(errno)) => self.problem(c".", errno.into()),
            None => return self.ends(),
        }
        true
    }

    fn entry(&mut self, name: &CStr, kind: FileType) {
        if name == c"." || name == c".." {
            return;
        }
        let progress = &mut self.report.progress;
        progress.entries = progress.entries.saturating_add(1);
        let Some(parent) = self.levels.descriptor() else { return };
        let entry = WalkEntry { levels: &self.levels, parent, name, kind };
        let step = self.visitor.visit(&entry);
        if matches!(step, Ok(WalkStep::Changed | WalkStep::Gone)) {
            progress.changed = progress.changed.saturating_add(1);
        }
        match step {
            Ok(WalkStep::Gone) => self.levels.note_gone(),
            Ok(WalkStep::Pass) => self.levels.note_left(),
            Ok(WalkStep::Foreign) => {
                self.levels.note_left();
                self.mount(name);
            }
            Ok(WalkStep::Enter | WalkStep::Changed) => self.enter(name, kind),
            Err(Wrong::Errno(Errno::NOENT)) => {}
            Err(wrong) => {
                self.levels.note_left();
                self.problem(name, wrong);
            }
        }
    }

    /// Goes into a directory, where the entry is one of this mount.
    fn enter(&mut self, name: &CStr, kind: FileType) {
        // Until it is left empty.
        self.levels.note_left();
        if !(kind.is_dir() || kind == FileType::Unknown) {
            return;
        }
        match self.open(name) {
            Ok((_, seen)) if self.kept.contains(&(seen.device, seen.inode)) => {}
            Ok((entries, seen)) => self.levels.push(name, entries, seen),
            Err(RefusalReason::OtherMount | RefusalReason::UnknownMount) => self.mount(name),
            Err(RefusalReason::Errno(errno)) if errno != Errno::NOENT => self.problem(name, errno.into()),
            // Something else has the name by now, or nothing.
            Err(_) => {}
        }
    }

    fn open(&self, name: &CStr) -> Result<(Dir, FileInfo), RefusalReason> {
        let parent = self.levels.descriptor().ok_or(RefusalReason::Errno(Errno::BADF))?;
        let opened = child::open(self.resolver, parent, name, self.visitor.opens_up());
        let (directory, seen) = opened?;
        Ok((Dir::new(directory).map_err(RefusalReason::Errno)?, seen))
    }

    /// Comes back from a directory that was read to its end; returns whether there is one to come back to.
    fn ends(&mut self) -> bool {
        if self.levels.reads_again() {
            return true;
        }
        let is_empty = self.levels.is_left_empty();
        let here = *self.levels.here();
        if !is_empty && self.kept.len() < MOST_KEPT {
            self.kept.insert((here.device, here.inode));
        }
        let Some(left) = self.levels.leave() else { return false };
        match left {
            levels::LeftLevel::Lost => self.find_back(),
            levels::LeftLevel::Named(name) if is_empty => {
                let gone = self.levels.descriptor().is_some_and(|parent| self.visitor.leave(parent, &name));
                if gone {
                    self.report.progress.changed = self.report.progress.changed.saturating_add(1);
                    self.levels.note_gone();
                }
            }
            // Its name is forgotten; it is met again, empty, when this one is read again.
            levels::LeftLevel::Nameless if is_empty => self.levels.note_gone(),
            levels::LeftLevel::Named(_) | levels::LeftLevel::Nameless => {}
        }
        true
    }

    /// Goes on at the nearest level that is held.
    fn find_back(&mut self) {
        self.problem(c"", Wrong::Moved);
        self.lost = self.lost.saturating_add(1);
        self.levels.drop_closed();
        if self.lost < MOST_LOST {
            self.levels.note_gone();
        }
    }

    fn mount(&mut self, name: &CStr) {
        let path = self.levels.path_of(name);
        if self.report.mounts.len() < MOST_TOLD && !self.report.mounts.contains(&path) {
            self.report.mounts.push(path);
        }
    }

    fn problem(&mut self, name: &CStr, why: Wrong) {
        let problem = Problem { path: self.levels.path_of(name), why };
        if self.report.problems.len() < MOST_TOLD && !self.report.problems.contains(&problem) {
            self.report.problems.push(problem);
        }
    }
}
