//! Gives a tree to a user.
//!
//! *Lives here:* changing the owners that differ.
//! *Does not live here:* which trees are given, and to whom.
//!
//! The file that was opened and examined is the file that is changed. A link is left alone, and so
//! is a file with a second name, because that may be anywhere, and its maker need not own the file.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Uid, chownat};
use rustix::io::Errno;

use super::{Levels, Problem, Visitor, WalkEntry, WalkReport, WalkStep, Walker, Wrong, child};
use crate::look::{FileInfo, look};
use crate::resolve::RefusalReason;

struct Giver {
    uid: u32,
    gid: u32,
}

impl Visitor for Giver {
    fn visit(&mut self, entry: &WalkEntry<'_>) -> Result<WalkStep, Wrong> {
        match entry.glance()? {
            None => return Ok(WalkStep::Foreign),
            Some(seen) if !self.wants(&seen) => return Ok(WalkStep::Enter),
            Some(_) => {}
        }
        let Some((fd, seen)) = entry.pin()? else { return Ok(WalkStep::Foreign) };
        if !self.wants(&seen) {
            return Ok(WalkStep::Enter);
        }
        refuse(&seen)?;
        self.give(fd)?;
        Ok(WalkStep::Changed)
    }
}

impl Giver {
    fn wants(&self, seen: &FileInfo) -> bool {
        seen.uid != self.uid && !seen.is_link()
    }

    fn give(&self, fd: impl AsFd) -> Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        chownat(fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
    }
}

/// Refuses files that must not be given away, whatever directory they are in.
fn refuse(seen: &FileInfo) -> Result<(), Wrong> {
    match seen.kind() {
        FileType::Directory => Ok(()),
        FileType::BlockDevice | FileType::CharacterDevice => Err(Wrong::Device),
        _ if seen.has_other_names => Err(Wrong::OtherNames),
        _ => Ok(()),
    }
}

impl Walker<'_> {
    /// Gives the entry `name` of a directory, and everything in it on the same mount, to a user and
    /// a group, as far as it belongs to others. It need not exist.
    ///
    /// Paths in the report are relative to `parent`.
    pub fn give(&mut self, parent: impl AsFd, name: &CStr, (uid, gid): (u32, u32)) -> WalkReport {
        let parent = parent.as_fd();
        let mut giver = Giver { uid, gid };
        let mut report = self.give_entry(parent, name, (uid, gid));
        if !report.mounts.is_empty() {
            return report;
        }
        match child::open(self.resolver, parent, name, false) {
            Ok((directory, _)) => match self.walk(directory, &mut giver) {
                Ok(below) => report.append(name, below),
                Err(errno) => report.problems.push(Problem::of(name, errno.into())),
            },
            Err(RefusalReason::Errno(errno)) if errno != Errno::NOENT => {
                report.problems.push(Problem::of(name, errno.into()));
            }
            // It does not exist, or is not a directory.
            Err(_) => {}
        }
        report
    }

    /// Gives only the entry `name` of a directory to a user and a group.
    pub fn give_entry(&mut self, parent: impl AsFd, name: &CStr, (uid, gid): (u32, u32)) -> WalkReport {
        let mut report = WalkReport::default();
        let given = look(&parent).and_then(|seen| Ok(Levels::new(Dir::read_from(&parent)?, seen)));
        let visited = given.map_err(Wrong::from).and_then(|levels| {
            let (parent, kind) = (parent.as_fd(), FileType::Unknown);
            Giver { uid, gid }.visit(&WalkEntry { levels: &levels, parent, name, kind })
        });
        report.progress.entries = 1;
        match visited {
            Ok(WalkStep::Changed) => report.progress.changed = 1,
            Ok(WalkStep::Foreign) => report.mounts.push(super::path_of(name)),
            Ok(_) => {}
            Err(Wrong::Errno(Errno::NOENT)) => report.progress.entries = 0,
            Err(wrong) => report.problems.push(Problem::of(name, wrong)),
        }
        report
    }
}
