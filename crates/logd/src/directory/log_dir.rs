//! A log directory that this process writes, as s6-log keeps one.
//!
//! *Lives here:* opening what somebody else left, writing, rotating, closing. Everything goes through one descriptor of
//! the directory, so a directory that is renamed or replaced under us is never half one and half another.
//! *Does not live here:* what to do when it fails (the sink and s6-log's script decide), when to rotate (`rotation`
//! decides), and what the daemon and s6-log do otherwise (`keeper`).
//!
//! **Source:** s6-log, "Logdirs". One difference: an archive is renamed straight from `current` instead of by way of
//! `previous`; a crash in between leaves either a `current` that was closed cleanly, or none, and both are what
//! every reader of such directories expects. A `previous` or `processed` that s6-log left is put away as it would.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use gatevisor_paths::by_path;
use gatevisor_slot::Compress;
use gatevisor_wire::log_directory::Archive;
use gatevisor_wire::tai::Tai64n;
use rustix::fs::{AtFlags, OFlags, fchmod, fstat, openat, statat};
use rustix::io::{Errno, pread, write};

use super::archives::{next_archive, put_away, recover, trim};
use super::compress::{Compression, hold_names};
use super::error::{DirError, DirStep, Unwritten};
use super::files::{
    CURRENT, OPEN_MODE, PREVIOUS, birth, ends_with_newline, is_regular, make_directories, seal,
};
use super::keeper::Keeper;
use super::limits::LogLimits;
use super::lock::DirectoryLock;
use super::position::{FilePosition, Nobody, ProgressObserver};
use super::rotation::{Fill, Full, NextStep, is_due, next_step};

/// A log directory that this process writes.
#[derive(Debug)]
pub struct LogDir {
    // Closed before the lock is released, which follows it here.
    current: Option<OwnedFd>,
    /// `current`, whatever its length.
    file: FilePosition,
    directory: OwnedFd,
    fill: Fill,
    /// When the first byte of `current` was written, in seconds since 1970.
    begun: i64,
    keeper: Keeper,
    limits: LogLimits,
    full: Full,
    compression: Option<Compression>,
    _lock: DirectoryLock,
}

impl LogDir {
    /// Opens the directory `path` (relative to `base` unless absolute) for writing, making it if need be.
    ///
    /// A `current` that was not closed cleanly is put away as `.u`, as s6-log does.
    pub fn open(base: BorrowedFd<'_>, path: &Path, limits: LogLimits, now: Tai64n) -> Result<Self, DirError> {
        Self::open_again(base, path, limits, now, &[])
    }

    /// Opens a directory as [`LogDir::open`] does, except that a `current` that is one of `ours` is continued where it ends,
    /// within a line, too: a process before us wrote it, and we know what it was about to write.
    pub fn open_again(
        base: BorrowedFd<'_>,
        path: &Path,
        limits: LogLimits,
        now: Tai64n,
        ours: &[FilePosition],
    ) -> Result<Self, DirError> {
        make_directories(base, path).map_err(DirError::at(DirStep::Make))?;
        let directory = by_path::open_from(base, path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(DirError::at(DirStep::Open))?;
        Self::in_directory(directory, Keeper::Daemon, limits, now, ours)
    }

    /// Opens a directory that is there, to keep it by somebody's rules; otherwise as [`LogDir::open_again`] does.
    pub fn in_directory(
        directory: OwnedFd,
        keeper: Keeper,
        limits: LogLimits,
        now: Tai64n,
        ours: &[FilePosition],
    ) -> Result<Self, DirError> {
        let lock = DirectoryLock::take(&directory, keeper.is_alone())?;
        let held = hold_names();
        let current = statat(&directory, CURRENT, AtFlags::SYMLINK_NOFOLLOW);
        let is_ours =
            current.is_ok_and(|stat| is_regular(&stat) && ours.iter().any(|mark| mark.is_of_the_file(&stat)));
        if !is_ours {
            recover(&directory, keeper, limits, now).map_err(DirError::at(DirStep::Recover))?;
        }
        drop(held);
        let compression = (limits.compress == Compress::Zstd).then(Compression::new);
        let mut opened = Self {
            current: None,
            file: FilePosition::default(),
            directory,
            fill: Fill { len: 0, mid_line: false, has_grown: false },
            begun: now.to_unix().0,
            keeper,
            limits,
            full: keeper.full(limits.size),
            compression,
            _lock: lock,
        };
        opened.open_current()?;
        // Archives that were put away before a crash, or before compression was asked for.
        opened.compress();
        if opened.fill.mid_line && !is_ours && keeper.completes_lines() {
            // Somebody closed it cleanly within a line; ours does not continue theirs.
            opened.write(b"\n", now).map_err(|unwritten| unwritten.error)?;
        }
        Ok(opened)
    }

    /// Writes `bytes`, rotating between lines as the limits say.
    ///
    /// # Errors
    /// Says how many bytes are in the file all the same; the rest can be tried again.
    pub fn write(&mut self, bytes: &[u8], now: Tai64n) -> Result<(), Unwritten> {
        self.write_from(0, bytes, now, &mut Nobody)
    }

    /// Writes `bytes` as [`LogDir::write`] does, of which the first `written` are in the file already, and reports each step.
    ///
    /// # Errors
    /// Says how many bytes are in the file all the same, those before `written` included.
    pub fn write_from(
        &mut self,
        mut written: usize,
        bytes: &[u8],
        now: Tai64n,
        observer: &mut dyn ProgressObserver,
    ) -> Result<(), Unwritten> {
        if let Some(period_s) = self.limits.period_s {
            let seconds = now.to_unix().0;
            if self.fill.len == 0 {
                self.begun = seconds;
            } else if bytes.len() > written && is_due(self.fill, self.begun, seconds, period_s) {
                observer.at_end(self.end(), written);
                self.rotate(now).map_err(|error| Unwritten { written, error })?;
                self.begun = seconds;
            }
        }
        loop {
            let waiting = bytes.get(written..).unwrap_or_default();
            match self.advance(waiting, now, &mut |end| observer.at_end(end, written)) {
                Ok(Some(n)) => written = written.saturating_add(n),
                Ok(None) => return Ok(()),
                Err(error) => return Err(Unwritten { written, error }),
            }
        }
    }

    /// Does what comes next with bytes that wait: writes some of them, or rotates, and says first where `current` ends.
    ///
    /// Returns how many it wrote, 0 where it rotated; `None` where there is nothing to do.
    pub fn advance(
        &mut self,
        waiting: &[u8],
        now: Tai64n,
        announce: &mut dyn FnMut(FilePosition),
    ) -> Result<Option<usize>, DirError> {
        let Some(step) = next_step(self.fill, self.full, waiting) else { return Ok(None) };
        let done = match step {
            NextStep::Rotate => Ok(0),
            NextStep::Write(n) => self.write_some(waiting.get(..n).unwrap_or_default(), announce),
        };
        match done {
            Ok(n @ 1..) => return Ok(Some(n)),
            Ok(_) => {}
            // A file may be no longer than this one is, whatever our own limit says.
            Err(error) if error.is_of_a_full_file() && self.fill.len > 0 => {}
            Err(error) => return Err(error),
        }
        announce(self.end());
        self.rotate(now).map(|()| Some(0))
    }

    /// Returns whether there is something to do although no bytes wait: `current` is full.
    pub fn is_full(&self) -> bool {
        next_step(self.fill, self.full, &[]).is_some()
    }

    /// Returns whether nothing is in `current`.
    pub const fn is_empty(&self) -> bool {
        self.fill.len == 0
    }

    /// Returns the directory.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Makes an archive of another file of the directory, and deletes those that are too many.
    pub fn archive(&self, name: &str, now: Tai64n) -> Result<(), Errno> {
        put_away(&self.directory, name, true, self.keeper, now)?;
        trim(&self.directory, self.keeper, self.limits)
    }

    /// Does what [`LogDir::finish`] does, and lets go of the directory.
    pub fn close(mut self, now: Tai64n) -> Result<(), DirError> {
        self.finish(now)
    }

    /// Ends the last line, syncs, and marks `current` as closed cleanly. It can be tried again.
    pub fn finish(&mut self, now: Tai64n) -> Result<(), DirError> {
        if self.fill.mid_line && self.keeper.completes_lines() {
            self.write(b"\n", now).map_err(|unwritten| unwritten.error)?;
        }
        match &self.current {
            Some(current) => seal(current),
            None => Ok(()),
        }
    }

    /// Returns whether somebody removed `current`, so that what is written now would be lost.
    pub fn is_gone(&self) -> bool {
        self.current.as_ref().is_some_and(|fd| fstat(fd).is_ok_and(|stat| stat.st_nlink == 0))
    }

    /// Returns how many of `bytes` are in `current` from the marked place on, if that is the marked file.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn found_at(&self, mark: FilePosition, bytes: &[u8]) -> Result<usize, DirError> {
        let failed = DirError::at(DirStep::Read);
        let Some(current) = &self.current else { return Ok(0) };
        let stat = fstat(current).map_err(&failed)?;
        if !mark.is_of_the_file(&stat) {
            return Ok(0);
        }
        let mut found: usize = 0;
        let mut block = [0; 4096];
        loop {
            let at = mark.length.saturating_add(u64::try_from(found).unwrap_or(u64::MAX));
            let n = match pread(current, &mut block, at) {
                Ok(n) => n,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            let there = block.iter().take(n);
            let same = there.zip(bytes.get(found..).unwrap_or_default()).take_while(|(a, b)| a == b).count();
            found = found.saturating_add(same);
            if same < block.len() {
                return Ok(found);
            }
        }
    }

    /// Returns what went wrong when archives were compressed, once.
    pub fn complaint(&self) -> Option<String> {
        self.compression.as_ref().and_then(Compression::complaint)
    }

    fn compress(&self) {
        if let Some(compression) = &self.compression {
            compression.request(&self.directory);
        }
    }

    fn write_some(
        &mut self,
        bytes: &[u8],
        announce: &mut dyn FnMut(FilePosition),
    ) -> Result<usize, DirError> {
        if self.current.is_none() {
            self.open_current()?;
        }
        announce(self.end());
        let Some(current) = &self.current else { return Err(DirError::Gone) };
        let n = loop {
            match write(current, bytes) {
                Ok(0) => return Err(DirError::at(DirStep::Write)(Errno::IO)),
                Ok(n) => break n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(DirError::at(DirStep::Write)(errno)),
            }
        };
        self.fill.len = self.fill.len.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        self.fill.has_grown = true;
        self.fill.mid_line = bytes.get(..n).and_then(<[u8]>::last).is_some_and(|b| *b != b'\n');
        Ok(n)
    }

    fn end(&self) -> FilePosition {
        FilePosition { length: self.fill.len, ..self.file }
    }

    fn open_current(&mut self) -> Result<(), DirError> {
        let failed = DirError::at(DirStep::OpenCurrent);
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::APPEND
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let current = openat(&self.directory, CURRENT, flags, OPEN_MODE).map_err(&failed)?;
        let stat = fstat(&current).map_err(&failed)?;
        if !is_regular(&stat) || gatevisor_sys::file::is_borrowed(&self.directory, &stat) {
            return Err(failed(Errno::INVAL));
        }
        fchmod(&current, OPEN_MODE).map_err(&failed)?;
        let len = u64::try_from(stat.st_size).unwrap_or(0);
        let mid_line = len > 0 && self.keeper.completes_lines() && !ends_with_newline(&current);
        self.fill = Fill { len, mid_line, has_grown: false };
        if len > 0 && self.limits.period_s.is_some() {
            self.begun = birth(&current).unwrap_or(stat.st_mtime);
        }
        self.file = FilePosition::of(&stat);
        self.current = Some(current);
        Ok(())
    }

    /// Puts `current` away, unless that is done already, and begins another one.
    pub fn rotate(&mut self, now: Tai64n) -> Result<(), DirError> {
        if let Some(current) = &self.current {
            seal(current)?;
            let _held = hold_names();
            let renamed = self
                .next_name(now)
                .and_then(|name| rustix::fs::renameat(&self.directory, CURRENT, &self.directory, name));
            match renamed {
                Ok(()) => {}
                Err(Errno::NOENT) => return Err(DirError::Gone),
                Err(errno) => {
                    // It is written on, so it is not closed.
                    let _ = fchmod(current, OPEN_MODE);
                    return Err(DirError::at(DirStep::PutAway)(errno));
                }
            }
            self.current = None;
            // What is deleted too late is deleted at the next rotation.
            let _ = trim(&self.directory, self.keeper, self.limits);
            self.compress();
        }
        self.open_current()
    }

    /// Returns what `current` is called next.
    fn next_name(&self, now: Tai64n) -> Result<String, Errno> {
        if self.keeper.has_processor() {
            return Ok(PREVIOUS.to_owned());
        }
        next_archive(&self.directory, now, true).map(Archive::name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    const LIMITS: LogLimits =
        LogLimits { size: 20, keep: 3, total: u64::MAX, period_s: None, compress: Compress::None };

    fn at(seconds: i64) -> Tai64n {
        Tai64n::from_unix(seconds, 0)
    }

    fn open(path: &Path) -> Result<LogDir, DirError> {
        LogDir::open(rustix::fs::CWD, path, LIMITS, at(1000))
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn archived(path: &Path) -> Vec<PathBuf> {
        let is_archive = |n: &String| n.starts_with('@');
        names(path).into_iter().filter(is_archive).map(|n| path.join(n)).collect()
    }

    fn is_archive(path: &Path, suffix: &str) -> bool {
        path.extension().is_some_and(|found| found == suffix)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_directory_is_made_with_its_parents_and_closed_cleanly() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b/c");
        let mut dir = open(&path).unwrap();
        dir.write(b"one\n", at(1)).unwrap();
        assert_eq!(names(&path), ["current", "lock", "state"]);
        assert_eq!((mode(&path), mode(&path.join("current"))), (0o755, 0o644));
        dir.close(at(2)).unwrap();
        assert_eq!(mode(&path.join("current")), 0o744);
        assert_eq!(fs::read(path.join("current")).unwrap(), b"one\n");
    }

    #[test]
    fn a_directory_closed_cleanly_is_continued() {
        let temp = tempfile::tempdir().unwrap();
        for line in ["one\n", "two\n"] {
            let mut dir = open(temp.path()).unwrap();
            dir.write(line.as_bytes(), at(1)).unwrap();
            dir.close(at(1)).unwrap();
        }
        assert_eq!(fs::read(temp.path().join("current")).unwrap(), b"one\ntwo\n");
        assert_eq!(archived(temp.path()).len(), 0);
    }

    #[test]
    fn what_a_crash_left_is_put_away_as_unclean() {
        let temp = tempfile::tempdir().unwrap();
        let mut dir = open(temp.path()).unwrap();
        dir.write(b"torn", at(1)).unwrap();
        drop(dir);
        let mut dir = open(temp.path()).unwrap();
        dir.write(b"new\n", at(1)).unwrap();
        let archives = archived(temp.path());
        assert_eq!(archives.len(), 1);
        assert!(is_archive(&archives[0], "u"));
        assert_eq!(fs::read(&archives[0]).unwrap(), b"torn");
        drop(dir);
        // A crash before the first line leaves nothing worth an archive.
        fs::write(temp.path().join("current"), b"").unwrap();
        drop(open(temp.path()).unwrap());
        assert_eq!(archived(temp.path()).len(), 1);
    }

    #[test]
    fn what_s6_log_left_in_the_middle_of_a_rotation_is_put_away() {
        let temp = tempfile::tempdir().unwrap();
        let put = |name: &str, mode: u32| {
            fs::write(temp.path().join(name), name).unwrap();
            fs::set_permissions(temp.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        put("previous", 0o744);
        put("newstate", 0o644);
        put("current", 0o644);
        drop(open(temp.path()).unwrap());
        let contents: Vec<Vec<u8>> = archived(temp.path()).iter().map(|p| fs::read(p).unwrap()).collect();
        assert_eq!(contents, [b"previous".to_vec(), b"current".to_vec()]);
        assert!(!names(temp.path()).iter().any(|n| n == "previous" || n == "newstate"));
        // Processed output that is complete stands for `previous`.
        put("previous", 0o744);
        put("processed", 0o744);
        drop(open(temp.path()).unwrap());
        let archives = archived(temp.path());
        assert_eq!(fs::read(&archives[2]).unwrap(), b"processed");
        assert!(is_archive(&archives[2], "s"));
        // `previous` already has its archive's name.
        put("previous", 0o744);
        fs::hard_link(temp.path().join("previous"), temp.path().join("@400000000000ffff00000000.s")).unwrap();
        drop(open(temp.path()).unwrap());
        assert!(!temp.path().join("previous").exists());
    }

    #[test]
    fn archives_are_named_sealed_and_counted() {
        let temp = tempfile::tempdir().unwrap();
        let mut dir = open(temp.path()).unwrap();
        for number in 0..6i64 {
            dir.write(format!("line number {number} is x\n").as_bytes(), at(2000 + number)).unwrap();
        }
        let archives = archived(temp.path());
        assert_eq!(archives.len(), 3);
        assert!(archives.iter().all(|p| mode(p) == 0o744 && is_archive(p, "s")));
        assert_eq!(fs::read(&archives[0]).unwrap(), b"line number 2 is x\n");
        assert_eq!(fs::read(temp.path().join("current")).unwrap(), b"line number 5 is x\n");
        assert_eq!(mode(&temp.path().join("current")), 0o644);
    }

    #[test]
    fn one_directory_has_one_writer() {
        let temp = tempfile::tempdir().unwrap();
        let dir = open(temp.path()).unwrap();
        assert_eq!(open(temp.path()).unwrap_err(), DirError::Locked);
        drop(dir);
        assert!(open(temp.path()).is_ok());
    }

    #[test]
    fn a_removed_current_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        let mut dir = open(temp.path()).unwrap();
        dir.write(b"0123456789\n", at(1)).unwrap();
        assert!(!dir.is_gone());
        fs::remove_file(temp.path().join("current")).unwrap();
        assert!(dir.is_gone());
        let unwritten = dir.write(b"0123456789\n", at(1)).unwrap_err();
        assert_eq!(unwritten, Unwritten { written: 0, error: DirError::Gone });
    }

    #[test]
    fn a_last_line_without_a_newline_gets_one() {
        let temp = tempfile::tempdir().unwrap();
        let mut dir = open(temp.path()).unwrap();
        dir.write(b"a\0\xffb", at(1)).unwrap();
        dir.close(at(1)).unwrap();
        assert_eq!(fs::read(temp.path().join("current")).unwrap(), b"a\0\xffb\n");
        // One that somebody else closed without does, too, before ours begin.
        fs::write(temp.path().join("current"), b"theirs").unwrap();
        let mut dir = open(temp.path()).unwrap();
        dir.write(b"ours\n", at(1)).unwrap();
        assert_eq!(fs::read(temp.path().join("current")).unwrap(), b"theirs\nours\n");
    }

    #[test]
    fn neither_a_link_nor_a_fifo_is_written() {
        let temp = tempfile::tempdir().unwrap();
        let victim = temp.path().join("victim");
        fs::write(&victim, b"kept").unwrap();
        let path = temp.path().join("log");
        fs::create_dir(&path).unwrap();
        std::os::unix::fs::symlink(&victim, path.join("current")).unwrap();
        // An unclean leftover, whatever it is, is put away by renaming it.
        let mut dir = open(&path).unwrap();
        dir.write(b"line\n", at(1)).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
        drop(dir);
        fs::remove_file(path.join("lock")).unwrap();
        std::os::unix::fs::symlink(&victim, path.join("lock")).unwrap();
        assert!(matches!(open(&path), Err(DirError::System { source: Errno::LOOP, .. })));
    }

    #[test]
    fn a_directory_that_cannot_be_made_says_why() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("file"), b"").unwrap();
        let error = open(&temp.path().join("file/log")).unwrap_err();
        assert_eq!(error.to_string(), "cannot make the directory (errno 20)");
        assert!(!error.is_refusal_of_the_disk());
        assert!(DirError::at(DirStep::Write)(Errno::NOSPC).is_refusal_of_the_disk());
    }
}
