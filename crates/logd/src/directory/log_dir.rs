//! A log directory that this process writes, kept as s6-log does.
//!
//! *Lives here:* opening a directory with leftovers, writing, rotating, closing. Everything goes
//! through one descriptor of the directory, so that files never go to two directories if the
//! directory is renamed or replaced meanwhile.
//! *Does not live here:* the reaction to a failure (the sink and s6-log's script decide), when to
//! rotate (`rotation` decides), and the differences between the daemon and s6-log (`keeper`).
//!
//! **Source:** s6-log, "Logdirs". One difference: an archive is renamed straight from `current`
//! instead of by way of `previous`; a crash in between leaves either a `current` that was closed
//! cleanly, or none, and both are what every reader of such directories expects. A `previous` or
//! `processed` that s6-log left is archived as s6-log would.

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
    CURRENT, OPEN_MODE, PREVIOUS, created_at, ends_with_newline, is_regular, make_directories, seal,
};
use super::keeper::Keeper;
use super::limits::LogLimits;
use super::lock::DirectoryLock;
use super::position::{FilePosition, Nobody, ProgressObserver};
use super::rotation::{Fill, Full, NextStep, is_due, next_step};

/// A log directory that this process writes.
#[derive(Debug)]
pub struct LogDir {
    // It is closed before the lock, which is the next field, is released.
    current: Option<OwnedFd>,
    /// The identity of `current`; its length in here is not used.
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
    /// Opens the directory `path` (relative to `base` unless absolute) for writing, and makes it if
    /// it is missing.
    ///
    /// A `current` that was not closed cleanly is archived as `.u`, as in s6-log.
    pub fn open(base: BorrowedFd<'_>, path: &Path, limits: LogLimits, now: Tai64n) -> Result<Self, DirError> {
        Self::open_again(base, path, limits, now, &[])
    }

    /// Does the same as [`LogDir::open`], except that a `current` that is one of `ours` is
    /// continued at its end, even within a line: a process before us wrote it, and we know what it
    /// was about to write.
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

    /// Does the same as [`LogDir::open_again`] for an existing directory and with given rules.
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
        // There may be archives from before a crash, or from before compression was requested.
        opened.compress();
        if opened.fill.mid_line && !is_ours && keeper.completes_lines() {
            // Another writer closed it cleanly within a line. Our lines do not continue that line.
            opened.write(b"\n", now).map_err(|unwritten| unwritten.error)?;
        }
        Ok(opened)
    }

    /// Writes `bytes`, and rotates between lines according to the limits.
    ///
    /// # Errors
    /// Tells how many bytes are in the file nevertheless. The rest can be tried again.
    pub fn write(&mut self, bytes: &[u8], now: Tai64n) -> Result<(), Unwritten> {
        self.write_from(0, bytes, now, &mut Nobody)
    }

    /// Does the same as [`LogDir::write`] for `bytes` of which the first `written` are in the file
    /// already, and reports each step.
    ///
    /// # Errors
    /// Tells how many bytes are in the file nevertheless, including those before `written`.
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

    /// Performs the next step with waiting bytes: reports the end of `current`, and then writes
    /// some of them, or rotates.
    ///
    /// Returns how many bytes it wrote, 0 if it rotated, and `None` if there is nothing to do.
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
            // The system permits no longer file than this one, whatever our own limit is.
            Err(error) if error.is_of_a_full_file() && self.fill.len > 0 => {}
            Err(error) => return Err(error),
        }
        announce(self.end());
        self.rotate(now).map(|()| Some(0))
    }

    /// Returns whether `current` is full, so that there is something to do even without waiting
    /// bytes.
    pub fn is_full(&self) -> bool {
        next_step(self.fill, self.full, &[]).is_some()
    }

    /// Returns whether `current` is empty.
    pub const fn is_empty(&self) -> bool {
        self.fill.len == 0
    }

    /// Returns the directory.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Makes an archive of another file of the directory, and deletes surplus archives.
    pub fn archive(&self, name: &str, now: Tai64n) -> Result<(), Errno> {
        put_away(&self.directory, name, true, self.keeper, now)?;
        trim(&self.directory, self.keeper, self.limits)
    }

    /// Does the same as [`LogDir::finish`], and releases the directory.
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

    /// Returns whether somebody removed `current`, so that bytes written to it would be lost.
    pub fn is_gone(&self) -> bool {
        self.current.as_ref().is_some_and(|fd| fstat(fd).is_ok_and(|stat| stat.st_nlink == 0))
    }

    /// Returns how many of `bytes` are in `current` from the marked place on, if `current` is the
    /// marked file.
    ///
    /// # Errors
    /// Those of reading `current`.
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

    /// Returns the last error of compressing archives, once.
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
            self.begun = created_at(&current).unwrap_or(stat.st_mtime);
        }
        self.file = FilePosition::of(&stat);
        self.current = Some(current);
        Ok(())
    }

    /// Archives `current`, unless that is done already, and begins another one.
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
                    // It will be written again, so it is not closed.
                    let _ = fchmod(current, OPEN_MODE);
                    return Err(DirError::at(DirStep::PutAway)(errno));
                }
            }
            self.current = None;
            // Archives that cannot be deleted now are deleted at the next rotation.
            let _ = trim(&self.directory, self.keeper, self.limits);
            self.compress();
        }
        self.open_current()
    }

    /// Returns the next name of `current`.
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
    fn the_leftovers_of_a_crash_are_archived_as_unclean() {
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
        // After a crash before the first line, there is nothing worth an archive.
        fs::write(temp.path().join("current"), b"").unwrap();
        drop(open(temp.path()).unwrap());
        assert_eq!(archived(temp.path()).len(), 1);
    }

    #[test]
    fn the_leftovers_of_s6_log_in_the_middle_of_a_rotation_are_archived() {
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
        // Complete output of a processor replaces `previous`.
        put("previous", 0o744);
        put("processed", 0o744);
        drop(open(temp.path()).unwrap());
        let archives = archived(temp.path());
        assert_eq!(fs::read(&archives[2]).unwrap(), b"processed");
        assert!(is_archive(&archives[2], "s"));
        // `previous` has its archive's name already.
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
        // A file that another writer closed within a line is completed as well, before our lines
        // begin.
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
        // A leftover that was not closed cleanly is archived by renaming it, whatever it is.
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
