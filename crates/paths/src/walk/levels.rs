//! The directories between the top of a walk and its present place.
//!
//! *Lives here:* which of them are held by a descriptor, and coming back to the others.
//! *Does not live here:* what the walk does in them.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{Dir, DirEntry, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::look::{FileInfo, look};

/// Levels held by a descriptor besides the top: those next to the present place.
const HELD: usize = 32;
/// Levels whose names are always kept, to tell people the place.
const NAMED: usize = 8;

/// One directory, and how far it has been read.
#[derive(Debug)]
struct Level {
    entries: Option<Dir>,
    seen: FileInfo,
    /// The position at which reading goes on.
    offset: i64,
    name: Option<CString>,
    /// Whether an entry has gone since the directory was last read from its beginning.
    has_gone: bool,
    /// Whether an entry stays, as far as the directory has been read.
    has_left: bool,
}

/// The directories from the top down to the present place. There is always the top.
#[derive(Debug)]
pub struct Levels {
    top: Level,
    below: Vec<Level>,
}

/// How a level was left.
#[derive(Debug)]
pub enum LeftLevel {
    /// The walk is in the directory above again, where the left one has this name.
    Named(CString),
    /// The walk is in the directory above again, but the name of the left one is not remembered.
    Nameless,
    /// The directory above does not exist any more.
    Lost,
}

impl Level {
    const fn new(entries: Dir, seen: FileInfo, name: Option<CString>) -> Self {
        Self { entries: Some(entries), seen, offset: 0, name, has_gone: false, has_left: false }
    }
}

impl Levels {
    pub const fn new(top: Dir, seen: FileInfo) -> Self {
        Self { top: Level::new(top, seen, None), below: Vec::new() }
    }

    fn last(&self) -> &Level {
        self.below.last().unwrap_or(&self.top)
    }

    fn last_mut(&mut self) -> &mut Level {
        self.below.last_mut().unwrap_or(&mut self.top)
    }

    /// Returns what the present directory is.
    pub fn here(&self) -> &FileInfo {
        &self.last().seen
    }

    /// Returns how many directories the walk is in.
    pub fn depth(&self) -> usize {
        self.below.len().saturating_add(1)
    }

    /// Returns the descriptor of the present directory.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.last().entries.as_ref().and_then(|entries| entries.fd().ok())
    }

    /// Reads the next entry of the present directory.
    pub fn read(&mut self) -> Option<Result<DirEntry, Errno>> {
        let level = self.last_mut();
        let entry = level.entries.as_mut()?.read()?;
        if let Ok(entry) = &entry {
            level.offset = entry.offset();
        }
        Some(entry)
    }

    /// Notes that an entry is gone.
    pub fn note_gone(&mut self) {
        self.last_mut().has_gone = true;
    }

    /// Notes that an entry stays.
    pub fn note_left(&mut self) {
        self.last_mut().has_left = true;
    }

    /// Starts reading the directory anew if an entry has gone from it; returns whether it did.
    ///
    /// It is opened anew: after a seek to a position near the end that was not read to, ext4 does
    /// not find the beginning again.
    pub fn reads_again(&mut self) -> bool {
        let level = self.last_mut();
        if !std::mem::take(&mut level.has_gone) {
            return false;
        }
        let Some(Ok(entries)) = level.entries.as_ref().map(|entries| Dir::read_from(entries.fd()?)) else {
            return false;
        };
        level.entries = Some(entries);
        level.has_left = false;
        true
    }

    /// Returns whether the last complete reading found no entry that stays.
    pub fn is_left_empty(&self) -> bool {
        !self.last().has_left
    }

    /// Enters a directory.
    pub fn push(&mut self, name: &CStr, entries: Dir, seen: FileInfo) {
        self.below.push(Level::new(entries, seen, Some(name.to_owned())));
        if let Some(index) = self.below.len().checked_sub(HELD.saturating_add(1))
            && let Some(level) = self.below.get_mut(index)
        {
            level.entries = None;
            if index >= NAMED {
                level.name = None;
            }
        }
    }

    /// Goes back to the directory above; `None` at the top.
    pub fn leave(&mut self) -> Option<LeftLevel> {
        let Level { entries, name, .. } = self.below.pop()?;
        let above = self.last_mut();
        if above.entries.is_none() {
            let Some(found) = entries.as_ref().and_then(|child| above_of(child, &above.seen)) else {
                return Some(LeftLevel::Lost);
            };
            above.entries = reopened(found, above.offset);
            if above.entries.is_none() {
                return Some(LeftLevel::Lost);
            }
        }
        Some(name.map_or(LeftLevel::Nameless, LeftLevel::Named))
    }

    /// Forgets the deepest levels up to the nearest one that is held.
    pub fn drop_closed(&mut self) {
        while self.below.last().is_some_and(|level| level.entries.is_none()) {
            self.below.pop();
        }
    }

    /// Returns the path of the entry `name` of this directory, relative to the top.
    pub fn path_of(&self, name: &CStr) -> PathBuf {
        let mut path = PathBuf::new();
        let mut is_cut = false;
        for level in &self.below {
            match &level.name {
                Some(name) => path.push(OsStr::from_bytes(name.to_bytes())),
                None if !is_cut => path.push("…"),
                None => {}
            }
            is_cut = level.name.is_none();
        }
        if !matches!(name.to_bytes(), b"" | b".") {
            path.push(OsStr::from_bytes(name.to_bytes()));
        }
        path
    }
}

/// Opens the parent of a directory, if it is still the known one.
fn above_of(child: &Dir, known: &FileInfo) -> Option<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let above = openat(child.fd().ok()?, "..", flags, Mode::empty()).ok()?;
    if !look(&above).ok()?.is_same(known) {
        return None;
    }
    Dir::new(above).ok()
}

/// Continues reading at an offset.
fn reopened(mut entries: Dir, offset: i64) -> Option<Dir> {
    entries.seek(offset).ok()?;
    Some(entries)
}
