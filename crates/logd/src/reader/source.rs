//! One log directory, read as the one stream that it once was.
//!
//! *Lives here:* the order of its files, and telling a file from another by its inode, so that a rotation in the
//! middle of looking neither hides nor repeats one. *Does not live here:* when to look.
//!
//! A file that was read as `current` gets an archive's name later. Its descriptor is kept until that name is seen:
//! as long as it is open, no other file can have its inode.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use super::ReadError;
use super::lines::{LineReader, tail};
use crate::logdir::archives;
use crate::rotation::Archive;

/// How often a directory is looked at again because it was rotated meanwhile, before its present state is taken.
const LOOKS: usize = 100;

type Inode = (u64, u64);

/// A file that is to be read.
#[derive(Debug)]
enum Next {
    /// It is open.
    Open(Opened, u64),
    /// It is opened when its turn comes; it may be gone by then.
    Archive(Archive, u64),
}

/// A file of the directory.
#[derive(Debug)]
struct Opened {
    file: OwnedFd,
    inode: Inode,
    /// It will not be met under another name: it was opened by its archive's, or has left the directory.
    is_archive: bool,
}

/// One log directory.
#[derive(Debug)]
pub(crate) struct Source {
    label: String,
    path: PathBuf,
    /// The directory that was last read, to notice another one in its place.
    directory: Option<Inode>,
    /// The archives that were there at the last look.
    known: BTreeSet<Archive>,
    queue: VecDeque<Next>,
    reading: Option<Reading>,
    /// Read to the end, and not seen under an archive's name yet.
    done: Vec<Opened>,
    /// The last file ends where it ends; nobody waits for more.
    is_final: bool,
    line: Range<usize>,
}

#[derive(Debug)]
struct Reading {
    lines: LineReader,
    inode: Inode,
    is_archive: bool,
    /// It was removed, so nobody else will find more in it.
    is_removed: bool,
}

/// What a directory holds, seen at one moment.
struct Look {
    directory: OwnedFd,
    inode: Inode,
    archives: BTreeSet<Archive>,
    previous: Option<Opened>,
    current: Option<Opened>,
}

impl Source {
    /// Returns the source that reads the directory `path`.
    pub fn new(label: String, path: PathBuf) -> Self {
        Self {
            label,
            path,
            directory: None,
            known: BTreeSet::new(),
            queue: VecDeque::new(),
            reading: None,
            done: Vec::new(),
            is_final: false,
            line: 0..0,
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

    /// Returns the error that reading this directory failed with.
    pub fn error(&self, errno: Errno) -> ReadError {
        ReadError::Read { label: self.label.clone(), path: self.path.clone(), source: errno.into() }
    }

    /// Places the source before the last `wanted` lines (`None`: before all).
    ///
    /// When following, a last line without a newline is not given before it has one.
    pub fn begin(&mut self, wanted: Option<usize>, follow: bool) -> Result<(), Errno> {
        self.is_final = !follow;
        let Some(look) = self.look()? else { return Ok(()) };
        self.directory = Some(look.inode);
        self.known.clone_from(&look.archives);
        let mut missing = wanted.unwrap_or(usize::MAX);
        // Backwards, until there are enough lines.
        if let Some(current) = look.current {
            self.prepend(current, &mut missing, !follow)?;
        }
        let previous = look.previous.as_ref().map(|opened| opened.inode);
        if let Some(previous) = look.previous {
            self.prepend(previous, &mut missing, true)?;
        }
        for archive in look.archives.iter().rev() {
            if missing == 0 {
                break;
            }
            let Some(file) = open(&look.directory, archive.name())? else { continue };
            if Some(file.inode) == previous {
                // s6-log links before it unlinks.
                continue;
            }
            let found =
                if wanted.is_none() { 0 } else { tail(&file.file, missing, true)?.take(&mut missing) };
            // Closed again: a long history has more files than a process may have open.
            self.queue.push_front(Next::Archive(*archive, found));
        }
        Ok(())
    }

    fn prepend(&mut self, file: Opened, missing: &mut usize, counts_rest: bool) -> Result<(), Errno> {
        let offset =
            if *missing == usize::MAX { 0 } else { tail(&file.file, *missing, counts_rest)?.take(missing) };
        self.queue.push_front(Next::Open(file, offset));
        Ok(())
    }

    /// Finds the next line; returns whether there is one. It is then [`Source::line`].
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
            if found.is_none() && (followed || self.is_final) {
                found = reading.lines.rest();
            }
            match found {
                Some(line) => {
                    self.line = line;
                    return Ok(true);
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

    /// Looks whether `current` is another file than the one that was read to its end; returns whether there is more
    /// to read.
    pub fn look_for_more(&mut self) -> Result<bool, Errno> {
        if let Some(reading) = &self.reading
            && self.inode_of_current()? == Some(reading.inode)
        {
            return Ok(false);
        }
        if let Some(look) = self.look()? {
            self.append_fresh(look)?;
        }
        let removed = self.note_removed();
        Ok(removed || !self.queue.is_empty())
    }

    fn append_fresh(&mut self, look: Look) -> Result<(), Errno> {
        if self.directory != Some(look.inode) {
            // Another directory under the same name: nothing in it was read.
            self.directory = Some(look.inode);
            self.known.clear();
            // What was read of the other one will not turn up here.
            self.done.clear();
            if let Some(reading) = &mut self.reading {
                reading.is_archive = true;
            }
        }
        let fresh: Vec<Archive> = look.archives.difference(&self.known).copied().collect();
        self.known = look.archives;
        for archive in fresh {
            // Opened at once: a writer that is faster than we are may delete it before its turn comes.
            if let Some(opened) = open(&look.directory, archive.name())? {
                self.append(Opened { is_archive: true, ..opened });
            }
        }
        for opened in [look.previous, look.current].into_iter().flatten() {
            self.append(opened);
        }
        Ok(())
    }

    /// Queues a file, unless it is queued, is being read, or was.
    fn append(&mut self, opened: Opened) {
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
        self.queue.push_back(Next::Open(opened, 0));
    }

    /// Lets go of files that were removed, which also lets their directory go.
    ///
    /// Returns whether the file that is being read was found to be one: it is read to its end once more.
    fn note_removed(&mut self) -> bool {
        let is_removed = |file: &OwnedFd| fstat(file).is_ok_and(|stat| stat.st_nlink == 0);
        self.done.retain(|done| !is_removed(&done.file));
        match &mut self.reading {
            Some(reading) if !reading.is_removed => {
                reading.is_removed = is_removed(reading.lines.file());
                reading.is_removed
            }
            _ => false,
        }
    }

    fn open_next(&mut self) -> Result<bool, Errno> {
        let Some(next) = self.queue.pop_front() else { return Ok(false) };
        let (opened, offset) = match next {
            Next::Open(opened, offset) => (opened, offset),
            Next::Archive(archive, offset) => {
                let found = match self.open_directory()? {
                    Some(directory) => open(&directory, archive.name())?,
                    None => None,
                };
                match found {
                    Some(opened) => (Opened { is_archive: true, ..opened }, offset),
                    // Deleted since; the next one, then.
                    None => return Ok(!self.queue.is_empty()),
                }
            }
        };
        let Opened { file, inode, is_archive } = opened;
        let lines = LineReader::new(file, offset);
        self.reading = Some(Reading { lines, inode, is_archive, is_removed: false });
        Ok(true)
    }

    /// Puts away the file that was read to its end.
    fn retire(&mut self) {
        if let Some(Reading { lines, inode, is_archive: false, is_removed: false }) = self.reading.take() {
            self.done.push(Opened { file: lines.into_file(), inode, is_archive: false });
        }
    }

    fn open_directory(&self) -> Result<Option<OwnedFd>, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        found(rustix::fs::open(&self.path, flags, Mode::empty()))
    }

    fn inode_of_current(&self) -> Result<Option<Inode>, Errno> {
        let stat = statat(rustix::fs::CWD, self.path.join("current"), AtFlags::SYMLINK_NOFOLLOW);
        Ok(found(stat)?.map(|stat| (stat.st_dev, stat.st_ino)))
    }

    /// Returns what the directory holds, such that no file was rotated while we looked.
    fn look(&self) -> Result<Option<Look>, Errno> {
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
            // Without a `current` nothing tells one moment between two files from the next, and a list that was made
            // across both may have a later archive and lack an earlier one. Two equal lists have neither.
            let stable = same && (still.is_some() || list(&directory)? == archives);
            if stable || looks >= LOOKS {
                return Ok(Some(Look { directory, inode, archives, previous, current }));
            }
        }
    }
}

fn list(directory: &OwnedFd) -> Result<BTreeSet<Archive>, Errno> {
    match archives(directory) {
        // The directory was removed; what we hold is empty.
        Err(Errno::NOENT) => Ok(BTreeSet::new()),
        other => Ok(other?.into_iter().collect()),
    }
}

impl super::lines::Tail {
    /// Takes the lines that were found off those that are missing, and returns the offset.
    fn take(self, missing: &mut usize) -> u64 {
        *missing = missing.saturating_sub(self.lines);
        self.offset
    }
}

fn open(directory: impl AsFd, name: impl rustix::path::Arg) -> Result<Option<Opened>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Some(file) = found(openat(directory, name, flags, Mode::empty()))? else { return Ok(None) };
    let stat = fstat(&file)?;
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    Ok(regular.then_some(Opened { file, inode: (stat.st_dev, stat.st_ino), is_archive: false }))
}

/// Turns "there is none" into `None`; a symbolic link where a file belongs is none, either.
fn found<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}
