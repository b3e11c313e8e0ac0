//! Walks a tree that somebody else owns and changes meanwhile.
//!
//! *Lives here:* the one recursion of the project: which directories are entered, read and returned
//! to.
//! *Does not live here:* which descriptors are held meanwhile (`levels`), and what is done with an
//! entry (`remove`, `give`, `measure`).
//!
//! A walk is a loop over levels of directories. However deep the tree is, the walk holds few
//! descriptors: those of the nearest levels, and of the top. It comes back to a level further up
//! through `..`, and recognizes it by its numbers. If it does not, the tree was moved, and the walk
//! goes on at the nearest level that it still holds. No directory on another mount is entered, and
//! no mount point is changed. No name is looked up twice: the directory that was opened is the one
//! that is entered.
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

/// The most problems and the most mounts that are reported. If there are more, the whole tree is
/// wrong.
const MOST_TOLD: usize = 20;
/// The most times that a level is read again because the walk could not come back from below.
const MOST_LOST: u32 = 16;
/// The most directories that are remembered as impossible to empty.
const MOST_KEPT: usize = 10_000;

/// How far a walk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalkProgress {
    /// Entries that were looked at; again if a directory was read again.
    pub entries: u64,
    /// Entries that were changed or removed.
    pub changed: u64,
}

/// The result of a walk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalkReport {
    /// How far it came.
    pub progress: WalkProgress,
    /// Mount points, relative to the top; they were left alone.
    pub mounts: Vec<PathBuf>,
    /// The first failures and refusals.
    pub problems: Vec<Problem>,
    /// Whether it was stopped before its end.
    pub is_stopped: bool,
}

/// An entry that could not be dealt with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}`: {why}", path.display())]
pub struct Problem {
    /// Its path relative to the top; `…` stands for components that are not remembered.
    pub path: PathBuf,
    /// Why it was left as it is.
    pub why: Wrong,
}

impl Problem {
    fn of(name: &CStr, why: Wrong) -> Self {
        Self { path: path_of(name), why }
    }
}

impl WalkReport {
    /// Adds the result of a walk over a subdirectory.
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

/// Why an entry could not be dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It has other names, which may be anywhere, and their makers need not own it.
    #[error("it has other names")]
    OtherNames,
    /// It is a device. A user must not get a device by being given the directory that contains it.
    #[error("it is a device")]
    Device,
    /// It was moved during the walk, so the walk did not find the way back.
    #[error("it was moved meanwhile")]
    Moved,
    /// The kernel refused.
    #[error(transparent)]
    Errno(#[from] Errno),
}

/// What the walk does after a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalkStep {
    /// The entry is entered, if it is a directory.
    Enter,
    /// The entry stays as it is.
    Pass,
    /// The entry was changed, and is entered if it is a directory.
    Changed,
    /// The entry is on another mount, and is left alone.
    Foreign,
    /// The entry is gone. The directory is read again at its end, because the next entry may have
    /// been missed.
    Gone,
}

/// What is done with the entries of a walk.
pub trait Visitor {
    /// Deals with an entry, before its contents.
    fn visit(&mut self, entry: &WalkEntry<'_>) -> Result<WalkStep, Wrong>;

    /// Deals with a directory that was entered and in which nothing is left; returns whether it is
    /// gone.
    fn leave(&mut self, _parent: BorrowedFd<'_>, _name: &CStr) -> bool {
        false
    }

    /// Returns whether a directory that may not be entered or changed gets all rights for its
    /// owner.
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
    /// Returns the directory that contains it.
    pub const fn parent(&self) -> BorrowedFd<'_> {
        self.parent
    }

    /// Returns its name.
    pub const fn name(&self) -> &CStr {
        self.name
    }

    /// Returns the kind that the directory's list gives for it, if it gives one.
    pub const fn kind(&self) -> FileType {
        self.kind
    }

    /// Returns how many directories of the tree are above it.
    pub fn depth(&self) -> usize {
        self.levels.depth()
    }

    /// Returns its path relative to the top.
    pub fn path(&self) -> PathBuf {
        self.levels.path_of(self.name)
    }

    /// Looks at the file that has its name now; `None` if that is on another mount.
    pub fn glance(&self) -> Result<Option<FileInfo>, Errno> {
        Ok(Some(glance(self.parent, self.name)?).filter(|seen| self.is_on_its_mount(seen)))
    }

    /// Opens the file that has its name now, so that exactly this file can be changed; `None` if
    /// that is on another mount.
    pub fn pin(&self) -> Result<Option<(OwnedFd, FileInfo)>, Errno> {
        let fd = pinned(self.parent, self.name)?;
        let seen = look(&fd)?;
        Ok(self.is_on_its_mount(&seen).then_some((fd, seen)))
    }

    fn is_on_its_mount(&self, seen: &FileInfo) -> bool {
        self.levels.here().is_on_mount_of(seen)
    }
}

/// Walks trees for as long as a closure allows.
pub struct Walker<'a> {
    going: &'a mut dyn FnMut(&WalkProgress) -> bool,
    resolver: Resolver,
}

impl<'a> Walker<'a> {
    /// Returns a walker that asks `going` before each entry whether to go on.
    pub fn new(going: &'a mut dyn FnMut(&WalkProgress) -> bool) -> Self {
        Self { going, resolver: Resolver::STRICT }
    }

    /// Returns a walker that does not use openat2, as if the kernel or a filter did not have it.
    #[must_use]
    pub fn by_steps(self) -> Self {
        Self { resolver: self.resolver.by_steps(), ..self }
    }

    /// Shows each entry below `top` to the visitor.
    ///
    /// # Errors
    /// The top itself cannot be read. The report has everything that goes wrong below it.
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

/// What one walk needs on every level.
struct WalkRun<'r> {
    levels: Levels,
    report: WalkReport,
    /// Directories that were not empty when they were left. They are not entered again.
    kept: HashSet<(u64, u64)>,
    lost: u32,
    visitor: &'r mut dyn Visitor,
    going: &'r mut dyn FnMut(&WalkProgress) -> bool,
    resolver: Resolver,
}

impl WalkRun<'_> {
    /// Visits one entry, or leaves one directory; returns whether there is more to do.
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

    /// Enters an entry that is a directory on this mount.
    fn enter(&mut self, name: &CStr, kind: FileType) {
        // It counts as left until it has been emptied.
        self.levels.note_left();
        if !(kind.is_dir() || kind == FileType::Unknown) {
            return;
        }
        match self.open(name) {
            Ok((_, seen)) if self.kept.contains(&(seen.device, seen.inode)) => {}
            Ok((entries, seen)) => self.levels.push(name, entries, seen),
            Err(RefusalReason::OtherMount | RefusalReason::UnknownMount) => self.mount(name),
            Err(RefusalReason::Errno(errno)) if errno != Errno::NOENT => self.problem(name, errno.into()),
            // The name belongs to something else by now, or to nothing.
            Err(_) => {}
        }
    }

    fn open(&self, name: &CStr) -> Result<(Dir, FileInfo), RefusalReason> {
        let parent = self.levels.descriptor().ok_or(RefusalReason::Errno(Errno::BADF))?;
        let opened = child::open(self.resolver, parent, name, self.visitor.opens_up());
        let (directory, seen) = opened?;
        Ok((Dir::new(directory).map_err(RefusalReason::Errno)?, seen))
    }

    /// Leaves a directory that was read to its end; returns whether there is one above.
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
            // Its name is forgotten; the walk meets it again, empty, when this directory is read
            // again.
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
