//! Reads one log directory as one stream.
//!
//! *Lives here:* the order of its files, and distinguishing files by their inodes, so that a
//! rotation during a look neither hides nor repeats a file.
//! *Does not live here:* when to look.
//!
//! A file that was read as `current` gets an archive's name later. Its descriptor is kept until
//! that name is seen, because no other file can have its inode while it is open. If the archive was
//! compressed before its name was seen, it is recognized by its contents.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use rustix::fs::{AtFlags, OFlags, fstat, statat};
use rustix::io::Errno;

use crate::entry::{LineParts, Parser, Time};
use crate::input::{InputError, LogInput};
use crate::lines::LineReader;
use crate::names::{Archives, Form, Inode, OpenedFile, found, list, open, open_archive};
use crate::pick::{Judge, Pick};
use crate::tail::{Tail, tail};
use crate::{Directory, LogReadError};
use gatevisor_wire::log_directory::Archive;

/// How often a directory is looked at again because it was rotated meanwhile. After that, the last
/// look counts.
const LOOKS: usize = 100;

/// A file to be read.
#[derive(Debug)]
enum Next {
    /// It is open already.
    Open(OpenedFile, StartPosition),
    /// It is opened when its turn comes. It may be gone by then.
    Archive(Archive, StartPosition),
}

/// The place in a file at which reading begins.
#[derive(Debug, Clone, Copy, Default)]
struct StartPosition {
    offset: u64,
    /// The time of the line before it.
    before: Option<Time>,
}

/// One log directory.
#[derive(Debug)]
pub(crate) struct DirectoryReader {
    label: String,
    path: PathBuf,
    /// The identity of the directory that was read last, to notice a replacement.
    directory: Option<Inode>,
    /// The archives at the last look.
    known: BTreeSet<Archive>,
    queue: VecDeque<Next>,
    reading: Option<OpenLog>,
    /// Files that were read to their end and have not been seen under an archive's name yet.
    done: Vec<OpenedFile>,
    /// Whether no more lines are awaited in the last file.
    is_final: bool,
    line: Range<usize>,
    entry: LineParts,
    judge: Judge,
    /// Files that could not be read completely, with the reasons.
    damaged: Vec<(String, String)>,
}

#[derive(Debug)]
struct OpenLog {
    lines: LineReader,
    inode: Inode,
    /// Its name in a report of damage.
    name: String,
    is_archive: bool,
    /// Whether it was removed, so that nobody can add to it.
    is_removed: bool,
}

/// The contents of a directory at one moment.
struct DirectoryListing {
    directory: OwnedFd,
    inode: Inode,
    archives: Archives,
    previous: Option<OpenedFile>,
    current: Option<OpenedFile>,
}

impl DirectoryReader {
    /// Returns a reader of a directory.
    pub fn new(directory: &Directory, pick: Pick) -> Self {
        Self {
            label: directory.label.clone(),
            path: directory.path.clone(),
            directory: None,
            known: BTreeSet::new(),
            queue: VecDeque::new(),
            reading: None,
            done: Vec::new(),
            is_final: false,
            line: 0..0,
            entry: LineParts::NOTHING,
            judge: Judge::new(pick, Parser::new(directory.clock)),
            damaged: Vec::new(),
        }
    }

    /// Returns the label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the error for a failure of reading this directory.
    pub fn error(&self, errno: Errno) -> LogReadError {
        LogReadError::Read { label: self.label.clone(), path: self.path.clone(), source: errno.into() }
    }

    /// Places the reader before the last `wanted` of the chosen lines (`None`: before all).
    ///
    /// When following, a last line without a newline is not given before it has one.
    pub fn begin(&mut self, wanted: Option<usize>, follow: bool) -> Result<(), Errno> {
        self.is_final = !follow;
        let Some(look) = self.look()? else { return Ok(()) };
        self.directory = Some(look.inode);
        self.known = look.archives.keys().copied().collect();
        let newest = look.archives.keys().next_back().map(|archive| archive.stamp.into());
        let mut missing = wanted;
        // It goes backwards until there are enough lines. Every file after an archive was written
        // after the time in the archive's name.
        if let Some(current) = look.current
            && (follow || !self.is_too_late(newest))
        {
            let place = self.place(&current, &mut missing, !follow)?;
            self.queue.push_front(Next::Open(current, place));
        }
        let previous = look.previous.as_ref().map(|opened| opened.inode);
        if let Some(previous) = look.previous
            && !self.is_too_late(newest)
        {
            let place = self.place(&previous, &mut missing, true)?;
            self.queue.push_front(Next::Open(previous, place));
        }
        let mut archives = look.archives.keys().rev().copied().peekable();
        while let Some(archive) = archives.next() {
            // It was archived at the time in its name, and none of its lines are later.
            let too_early = self.judge.pick().since.is_some_and(|since| Time::from(archive.stamp) < since);
            if missing == Some(0) || too_early {
                break;
            }
            if self.is_too_late(archives.peek().map(|older| older.stamp.into())) {
                continue;
            }
            let Some(file) = open_archive(&look.directory, archive)? else { continue };
            if Some(file.inode) == previous {
                // s6-log links before it unlinks.
                continue;
            }
            let place = self.place(&file, &mut missing, true)?;
            // It is closed again, because a long history has more files than a process may open.
            self.queue.push_front(Next::Archive(archive, place));
        }
        self.judge.before = None;
        Ok(())
    }

    /// Returns whether everything after this time is too late to be chosen.
    fn is_too_late(&self, after: Option<Time>) -> bool {
        self.judge.pick().until.zip(after).is_some_and(|(until, after)| after > until)
    }

    /// Returns where reading of a file begins, and subtracts its lines from those that are missing.
    fn place(
        &mut self,
        file: &OpenedFile,
        missing: &mut Option<usize>,
        counts_rest: bool,
    ) -> Result<StartPosition, Errno> {
        let Tail { offset, lines, before, is_beginning } =
            tail(file, *missing, &mut self.judge, counts_rest)?;
        *missing = missing.map(|missing| missing.saturating_sub(lines));
        if is_beginning {
            *missing = Some(0);
        }
        Ok(StartPosition { offset, before })
    }

    /// Finds the next chosen line; returns whether there is one. [`DirectoryReader::line`] returns
    /// it.
    pub fn next_line(&mut self) -> Result<bool, Errno> {
        loop {
            let Some(reading) = &mut self.reading else {
                if self.open_next()? {
                    continue;
                }
                return Ok(false);
            };
            let mut found = reading.lines.next()?;
            // Once another file follows, nothing more is written to this one.
            let followed = !self.queue.is_empty() || reading.is_removed;
            if found.is_none() && (followed || self.is_final || reading.lines.file().is_none()) {
                found = reading.lines.rest();
            }
            if let Some(why) = reading.lines.take_damage() {
                self.damaged.push((reading.name.clone(), why));
            }
            match found {
                Some(line) => {
                    let (entry, is_wanted) = self.judge.judge(reading.lines.line(line.clone()));
                    if is_wanted {
                        self.line = line;
                        self.entry = entry;
                        return Ok(true);
                    }
                }
                None if followed => self.retire(),
                None => return Ok(false),
            }
        }
    }

    /// Returns the line that was found last, without its newline.
    pub fn line(&self) -> &[u8] {
        self.reading.as_ref().map_or(&[], |reading| reading.lines.line(self.line.clone()))
    }

    /// Returns the parts of the line that was found last.
    pub const fn entry(&self) -> LineParts {
        self.entry
    }

    /// Returns, each once, the files that could not be read completely, with the reasons.
    pub fn take_damaged(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.damaged)
    }

    /// Checks whether `current` is a different file from the one that was read to its end; returns
    /// whether there is more to read.
    pub fn look_for_more(&mut self) -> Result<bool, Errno> {
        if let Some(reading) = &self.reading
            && self.inode_of_current()? == Some(reading.inode)
        {
            return Ok(false);
        }
        // This is checked before the look: a file that was removed by now has its other name, if it
        // has one, at the next look.
        let removed_by_now = self.removed();
        if let Some(look) = self.look()? {
            self.append_fresh(look)?;
        }
        let removed = self.note_removed(&removed_by_now);
        Ok(removed || !self.queue.is_empty())
    }

    fn append_fresh(&mut self, look: DirectoryListing) -> Result<(), Errno> {
        if self.directory != Some(look.inode) {
            // Another directory has the name now, and nothing in it was read.
            self.directory = Some(look.inode);
            self.known.clear();
            // The files of the other directory will not appear here.
            self.done.clear();
            if let Some(reading) = &mut self.reading {
                reading.is_archive = true;
            }
        }
        let seen: BTreeSet<Archive> = look.archives.keys().copied().collect();
        let fresh: Vec<Archive> = seen.difference(&self.known).copied().collect();
        self.known = seen;
        for archive in fresh {
            // It is opened at once, because a fast writer may delete it before its turn comes.
            match open_archive(&look.directory, archive)? {
                Some(opened) if opened.form == Form::Compressed => {
                    let again = || open_archive(&look.directory, archive);
                    if !self.recognise(again)? {
                        self.append(opened);
                    }
                }
                Some(opened) => self.append(opened),
                None => {}
            }
        }
        for opened in [look.previous, look.current].into_iter().flatten() {
            self.append(opened);
        }
        Ok(())
    }

    /// Queues a file, unless it is queued, is being read, or was read.
    fn append(&mut self, opened: OpenedFile) {
        if let Some(reading) = self.reading.as_mut().filter(|reading| reading.inode == opened.inode) {
            reading.is_archive |= opened.is_archive;
            return;
        }
        if self.done.iter().any(|done| done.inode == opened.inode) {
            if opened.is_archive {
                // Its name is known now, and names are not read twice.
                self.done.retain(|done| done.inode != opened.inode);
            }
            return;
        }
        for next in &mut self.queue {
            if let Next::Open(queued, _) = next
                && queued.inode == opened.inode
            {
                queued.is_archive |= opened.is_archive;
                return;
            }
        }
        self.queue.push_back(Next::Open(opened, StartPosition::default()));
    }

    /// Finds the kept file that became this compressed archive, and notes that its name was seen;
    /// returns whether there is one.
    fn recognise(&mut self, open: impl Fn() -> Result<Option<OpenedFile>, Errno>) -> Result<bool, Errno> {
        let is_it = |file: &OwnedFd| match open()? {
            // A file that was not removed has a name of its own.
            Some(archive) if is_removed(file) => same_contents(file, archive),
            _ => Ok(false),
        };
        for (index, done) in self.done.iter().enumerate() {
            if is_it(&done.file)? {
                self.done.remove(index);
                return Ok(true);
            }
        }
        if let Some(reading) = self.reading.as_mut().filter(|reading| !reading.is_archive)
            && let Some(file) = reading.lines.file()
            && is_it(file)?
        {
            reading.is_archive = true;
            return Ok(true);
        }
        for next in &mut self.queue {
            if let Next::Open(queued, _) = next
                && !queued.is_archive
                && is_it(&queued.file)?
            {
                queued.is_archive = true;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the kept files that have no name any more.
    fn removed(&self) -> Vec<Inode> {
        let done = self.done.iter().filter(|done| is_removed(&done.file)).map(|done| done.inode);
        let reading = self.reading.iter().filter(|reading| reading.lines.file().is_some_and(is_removed));
        done.chain(reading.map(|reading| reading.inode)).collect()
    }

    /// Closes files that were removed, which also releases their directory.
    ///
    /// Returns whether the file that is being read is one of them. It is read to its end once more.
    fn note_removed(&mut self, removed: &[Inode]) -> bool {
        self.done.retain(|done| !removed.contains(&done.inode));
        match &mut self.reading {
            Some(reading) if !reading.is_removed => {
                reading.is_removed = removed.contains(&reading.inode);
                reading.is_removed
            }
            _ => false,
        }
    }

    fn open_next(&mut self) -> Result<bool, Errno> {
        let Some(next) = self.queue.pop_front() else { return Ok(false) };
        let (opened, place, name) = match next {
            Next::Open(opened, place) => (opened, place, String::new()),
            Next::Archive(archive, place) => {
                let found = match self.open_directory()? {
                    Some(directory) => open_archive(&directory, archive)?,
                    None => None,
                };
                match found {
                    Some(opened) => (opened, place, archive.name()),
                    // It was deleted meanwhile, so the next one is tried.
                    None => return Ok(!self.queue.is_empty()),
                }
            }
        };
        let OpenedFile { file, inode, form, is_archive } = opened;
        let StartPosition { offset, before } = place;
        // A line without a stamp belongs to the one before it in the same file.
        self.judge.before = before;
        let lines = LineReader::new(LogInput::new(file, form, offset), offset);
        self.reading = Some(OpenLog { lines, inode, name, is_archive, is_removed: false });
        Ok(true)
    }

    /// Keeps the file that was read to its end.
    fn retire(&mut self) {
        if let Some(OpenLog { lines, inode, is_archive: false, is_removed: false, .. }) = self.reading.take()
            && let Some(file) = lines.into_file()
        {
            self.done.push(OpenedFile { file, inode, form: Form::Plain, is_archive: false });
        }
    }

    fn open_directory(&self) -> Result<Option<OwnedFd>, Errno> {
        found(by_path::open(&self.path, OFlags::RDONLY | OFlags::DIRECTORY))
    }

    fn inode_of_current(&self) -> Result<Option<Inode>, Errno> {
        let directory = by_path::directory(&self.path);
        let stat = directory.and_then(|it| statat(it, "current", AtFlags::SYMLINK_NOFOLLOW));
        Ok(found(stat)?.map(|stat| (stat.st_dev, stat.st_ino)))
    }

    /// Returns the contents of the directory at a moment without a rotation.
    fn look(&self) -> Result<Option<DirectoryListing>, Errno> {
        let Some(directory) = self.open_directory()? else { return Ok(None) };
        let stat = fstat(&directory)?;
        let inode = (stat.st_dev, stat.st_ino);
        let mut looks = 0;
        loop {
            looks += 1;
            let current = open(&directory, "current")?;
            let previous = open(&directory, "previous")?;
            let archives = list(&directory)?;
            let still = open(&directory, "current")?.map(|opened| opened.inode);
            let same = still == current.as_ref().map(|opened| opened.inode);
            // A list that was made while a file was renamed may have both names, or neither. If two
            // lists are equal, each file is in them once.
            let stable = same && list(&directory)? == archives;
            if stable || looks >= LOOKS {
                return Ok(Some(DirectoryListing { directory, inode, archives, previous, current }));
            }
        }
    }
}

/// Returns whether a file has no name any more.
fn is_removed(file: &OwnedFd) -> bool {
    fstat(file).is_ok_and(|stat| stat.st_nlink == 0)
}

/// Returns whether a compressed archive has the contents of a file.
fn same_contents(file: &OwnedFd, archive: OpenedFile) -> Result<bool, Errno> {
    let mut plain = LogInput::Plain { file: rustix::io::fcntl_dupfd_cloexec(file, 0)?, offset: 0 };
    let mut packed = LogInput::new(archive.file, archive.form, 0);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    loop {
        for (input, bytes) in [(&mut plain, &mut ours), (&mut packed, &mut theirs)] {
            if bytes.is_empty() {
                match input.read_into(bytes) {
                    Ok(_) => {}
                    Err(InputError::System(errno)) => return Err(errno),
                    Err(InputError::Damaged(_)) => return Ok(false),
                }
            }
        }
        let common = ours.len().min(theirs.len());
        if common == 0 {
            return Ok(ours.len() == theirs.len());
        }
        if ours.get(..common) != theirs.get(..common) {
            return Ok(false);
        }
        ours.drain(..common);
        theirs.drain(..common);
    }
}
