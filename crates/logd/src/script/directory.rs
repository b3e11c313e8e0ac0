//! A log directory, rotated as s6-log rotates it.
//!
//! *Lives here:* `current`, `previous`, `processed`, `state` and the archives; each step of a rotation, tried again
//! after a while where it fails. *Does not live here:* the lines.
//!
//! The daemon's own log directories (`logdir`) have other rules: they rotate before a line that does not fit, know no
//! processor, and may go without a file for a while.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use gatevisor_sys::clock::monotonic_ms;
use memchr::memchr;
use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, chmodat, fchmod, fstat, fsync, mkdir, openat, renameat, statat, unlinkat,
};
use rustix::io::{Errno, write};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::parser::LogdirSpec;
use super::processor;
use crate::time::BatchTime;
use gatevisor_wire::log_directory::Archive;

const OPEN_MODE: Mode = Mode::from_raw_mode(0o644);
const CLOSED_MODE: Mode = Mode::from_raw_mode(0o744);

/// What could not be done, in s6-log's words, and why.
#[derive(Debug)]
pub(super) struct DirectoryError {
    pub doing: String,
    pub errno: Errno,
}

/// How far a rotation is. Each is what is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RotationPhase {
    Writing,
    Sync,
    Rename,
    Renew,
    Mark,
    Archive,
    Process,
    Processing(Pid),
    SyncProcessed,
    SyncState,
    ForgetPrevious,
    RenameState,
    ArchiveProcessed,
    Closed,
}

/// A log directory that this process writes.
#[derive(Debug)]
pub(super) struct ScriptDirectory<'a> {
    spec: &'a LogdirSpec,
    path: PathBuf,
    handle: OwnedFd,
    current: OwnedFd,
    len: u64,
    mid_line: bool,
    phase: RotationPhase,
    /// When the next attempt is due, in monotonic milliseconds, after one that failed.
    retry_at_ms: Option<u64>,
    /// What waits to be written.
    pub(super) held: Vec<u8>,
    // Released last.
    _lock: OwnedFd,
}

impl<'a> ScriptDirectory<'a> {
    /// Opens the directory, making it if need be but not those above it, and puts away what a crash left.
    pub(super) fn open(spec: &'a LogdirSpec) -> Result<Self, DirectoryError> {
        use std::os::unix::ffi::OsStrExt;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&spec.path));
        let failed = |doing: &str, name: &str| {
            let place = if name.is_empty() { path.clone() } else { path.join(name) };
            let doing = format!("{doing} {}", place.display());
            move |errno| DirectoryError { doing, errno }
        };
        match mkdir(&path, Mode::from_raw_mode(0o2700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("mkdir", "")(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&path, flags, Mode::empty()).map_err(failed("open", "lock"))?;
        let lock = gatevisor_sys::file::lock(&directory, "lock").map_err(failed("open", "lock"))?;
        let lock = lock.ok_or(Errno::BUSY).map_err(failed("lock", "lock"))?;
        let was_closed = is_closed(&directory, "current").map_err(failed("stat", "current"))?;
        if !was_closed {
            recover(&directory, spec).map_err(failed("put away what a crash left in", ""))?;
        }
        let current = open_current(&directory).map_err(failed("open", "current"))?;
        let stat = fstat(&current).map_err(failed("stat", "current"))?;
        let len = u64::try_from(stat.st_size).unwrap_or(0);
        Ok(Self {
            spec,
            path,
            handle: directory,
            current,
            len,
            mid_line: false,
            phase: RotationPhase::Writing,
            retry_at_ms: None,
            held: Vec::new(),
            _lock: lock,
        })
    }

    /// Returns whether nothing is left to be done.
    pub(super) fn is_settled(&self) -> bool {
        self.held.is_empty() && matches!(self.phase, RotationPhase::Writing | RotationPhase::Closed)
    }

    /// Returns whether the directory was closed cleanly.
    pub(super) fn is_closed(&self) -> bool {
        self.phase == RotationPhase::Closed
    }

    /// Returns when [`ScriptDirectory::advance`] is worth calling again, in monotonic milliseconds.
    pub(super) fn retry_at_ms(&self) -> Option<u64> {
        self.retry_at_ms
    }

    /// Rotates a file that is not empty, unless that is under way.
    pub(super) fn rotate(&mut self) {
        if self.phase == RotationPhase::Writing && self.len > 0 {
            self.phase = RotationPhase::Sync;
        }
    }

    /// Does as much as can be done now: rotates, and writes what is held.
    pub(super) fn advance(&mut self) -> Result<(), DirectoryError> {
        if self.retry_at_ms.is_some_and(|at| at > monotonic_ms()) {
            return Ok(());
        }
        self.retry_at_ms = None;
        let done = self.try_advance();
        if done.is_err() {
            self.retry_at_ms = Some(monotonic_ms().saturating_add(u64::from(self.spec.cooldown_ms)));
        }
        done
    }

    /// Closes the file cleanly once everything else is done.
    pub(super) fn close(&mut self) -> Result<(), DirectoryError> {
        if !self.is_settled() || self.retry_at_ms.is_some_and(|at| at > monotonic_ms()) {
            return Ok(());
        }
        let closed =
            sync(&self.current).map_err(|errno| self.error("fd_sync", "current", errno)).and_then(|()| {
                fchmod(&self.current, CLOSED_MODE)
                    .map_err(|errno| self.error("fd_chmod", "current to 0744", errno))
            });
        match closed {
            Ok(()) => self.phase = RotationPhase::Closed,
            Err(_) => {
                self.retry_at_ms = Some(monotonic_ms().saturating_add(u64::from(self.spec.cooldown_ms)));
            }
        }
        closed
    }

    /// Learns whether the processor has ended, and returns what there is to say about that.
    pub(super) fn reap(&mut self) -> Option<String> {
        let RotationPhase::Processing(pid) = self.phase else { return None };
        let status = match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => status,
            Ok(None) | Err(Errno::INTR) => return None,
            // Somebody else took its end from us; its output cannot be trusted.
            Err(_) => return Some(self.process_again("crashed")),
        };
        if status.exit_status() == Some(0) {
            self.phase = RotationPhase::SyncProcessed;
            return None;
        }
        Some(self.process_again(if status.signaled() { "crashed" } else { "failed" }))
    }

    fn process_again(&mut self, how: &str) -> String {
        self.phase = RotationPhase::Process;
        self.retry_at_ms = Some(monotonic_ms().saturating_add(u64::from(self.spec.cooldown_ms)));
        format!("processor {how} in {}", self.path.display())
    }

    fn error(&self, doing: &str, name: &str, errno: Errno) -> DirectoryError {
        DirectoryError { doing: format!("{doing} {}/{name}", self.path.display()), errno }
    }

    fn try_advance(&mut self) -> Result<(), DirectoryError> {
        loop {
            match self.phase {
                RotationPhase::Processing(_) | RotationPhase::Closed => return Ok(()),
                RotationPhase::Writing if self.held.is_empty() => return Ok(()),
                // Found larger than it may be.
                RotationPhase::Writing if self.len >= u64::from(self.spec.size) && !self.mid_line => {
                    self.phase = RotationPhase::Sync;
                }
                RotationPhase::Writing => self.write()?,
                phase => self.phase = self.take(phase)?,
            }
        }
    }

    /// Writes what is held, up to the line at which the file is full.
    fn write(&mut self) -> Result<(), DirectoryError> {
        let full_at = u64::from(self.spec.size.saturating_sub(self.spec.tolerance));
        let mut written: usize = 0;
        let mut outcome = Ok(());
        while let Some(rest) = self.held.get(written..).filter(|rest| !rest.is_empty()) {
            let missing =
                usize::try_from(full_at.saturating_sub(self.len).saturating_sub(1)).unwrap_or(usize::MAX);
            let end = rest.get(missing..).and_then(|late| memchr(b'\n', late));
            let end = end.map_or(rest.len(), |at| missing.saturating_add(at).saturating_add(1));
            let piece = rest.get(..end).unwrap_or(rest);
            match write(&self.current, piece) {
                Ok(0) => outcome = Err(Errno::IO),
                Ok(n) => {
                    self.len = self.len.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
                    self.mid_line = piece.get(..n).and_then(<[u8]>::last) != Some(&b'\n');
                    written = written.saturating_add(n);
                }
                Err(Errno::INTR) => {}
                Err(errno) => outcome = Err(errno),
            }
            if !self.mid_line && self.len >= full_at && written > 0 {
                self.phase = RotationPhase::Sync;
            }
            if outcome.is_err() || self.phase != RotationPhase::Writing {
                break;
            }
        }
        if written == self.held.len() {
            self.held.clear();
        } else {
            self.held.drain(..written);
        }
        outcome.map_err(|errno| self.error("write to", "current", errno))
    }

    /// Takes one step of a rotation and returns the next.
    fn take(&mut self, phase: RotationPhase) -> Result<RotationPhase, DirectoryError> {
        let dir = &self.handle;
        let (next, doing, name, done) = match phase {
            RotationPhase::Sync => (RotationPhase::Rename, "fd_sync", "current", sync(&self.current)),
            RotationPhase::Rename => {
                (RotationPhase::Renew, "rename", "current", renameat(dir, "current", dir, "previous"))
            }
            RotationPhase::Renew => {
                let opened = open_current(dir).map(|current| {
                    self.current = current;
                    self.len = 0;
                });
                (RotationPhase::Mark, "open", "current", opened)
            }
            RotationPhase::Mark => {
                let next = if self.spec.processor.is_some() {
                    RotationPhase::Process
                } else {
                    RotationPhase::Archive
                };
                (next, "chmod", "previous", chmodat(dir, "previous", CLOSED_MODE, AtFlags::empty()))
            }
            RotationPhase::Archive => {
                (RotationPhase::Writing, "finish", "previous", put_away(dir, self.spec, "previous", true))
            }
            RotationPhase::Process => match self.spec.processor.as_ref() {
                Some(processor) => match processor::start(processor, dir.as_fd()) {
                    Ok(pid) => (RotationPhase::Processing(pid), "", "", Ok(())),
                    Err(errno) => (RotationPhase::Process, "fork processor for", "", Err(errno)),
                },
                None => (RotationPhase::Archive, "", "", Ok(())),
            },
            RotationPhase::SyncProcessed => {
                let done = open_written(dir, "processed").and_then(|file| {
                    sync(&file)?;
                    fchmod(&file, CLOSED_MODE)
                });
                (RotationPhase::SyncState, "sync", "processed", done)
            }
            RotationPhase::SyncState => (
                RotationPhase::ForgetPrevious,
                "sync",
                "newstate",
                open_written(dir, "newstate").and_then(|file| sync(&file)),
            ),
            RotationPhase::ForgetPrevious => {
                (RotationPhase::RenameState, "unlink", "previous", forget(dir, "previous"))
            }
            RotationPhase::RenameState => (
                RotationPhase::ArchiveProcessed,
                "rename",
                "newstate",
                renameat(dir, "newstate", dir, "state"),
            ),
            RotationPhase::ArchiveProcessed => {
                (RotationPhase::Writing, "finish", "processed", put_away(dir, self.spec, "processed", true))
            }
            RotationPhase::Writing | RotationPhase::Processing(_) | RotationPhase::Closed => {
                (phase, "", "", Ok(()))
            }
        };
        done.map_err(|errno| self.error(doing, name, errno)).map(|()| next)
    }
}

fn open_current(directory: &OwnedFd) -> Result<OwnedFd, Errno> {
    let current = open_written(directory, "current")?;
    fchmod(&current, OPEN_MODE)?;
    Ok(current)
}

/// Opens a regular file to append to it, making it if need be.
fn open_written(directory: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::APPEND
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, OPEN_MODE)?;
    if is_regular(&fstat(&file)?) { Ok(file) } else { Err(Errno::INVAL) }
}

fn is_regular(stat: &rustix::fs::Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file()
}

fn sync(file: &OwnedFd) -> Result<(), Errno> {
    match fsync(file) {
        // Some file systems have nothing to sync.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        other => other,
    }
}

fn look(directory: &OwnedFd, name: &str) -> Result<Option<rustix::fs::Stat>, Errno> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Returns whether a file is there and its owner's execute bit says that it was closed cleanly.
fn is_closed(directory: &OwnedFd, name: &str) -> Result<bool, Errno> {
    let found = look(directory, name)?;
    Ok(found.is_some_and(|stat| is_regular(&stat) && Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR)))
}

fn forget(directory: &OwnedFd, name: &str) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Puts away what a writer left that did not close cleanly.
fn recover(directory: &OwnedFd, spec: &LogdirSpec) -> Result<(), Errno> {
    forget(directory, "state")?;
    forget(directory, "newstate")?;
    if is_closed(directory, "processed")? {
        // A processor had finished, so its output stands for `previous`.
        forget(directory, "previous")?;
        put_away(directory, spec, "processed", true)?;
    } else {
        forget(directory, "processed")?;
        put_away(directory, spec, "previous", false)?;
    }
    put_away(directory, spec, "current", false)?;
    open_written(directory, "state").map(drop)
}

/// Makes an archive of a file, if it is there, and deletes those that are too many or too large.
fn put_away(directory: &OwnedFd, spec: &LogdirSpec, name: &str, safe: bool) -> Result<(), Errno> {
    let Some(found) = look(directory, name)? else { return Ok(()) };
    if found.st_nlink > 1 {
        // s6-log links before it unlinks, so the other link is the archive.
        forget(directory, name)?;
    } else {
        let present = archives(directory)?;
        let archive = Archive::next(BatchTime::now().tai(), &present, safe);
        renameat(directory, name, directory, archive.name())?;
    }
    trim(directory, spec)
}

fn archives(directory: &OwnedFd) -> Result<Vec<Archive>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        found.extend(Archive::parse(entry?.file_name().to_bytes()));
    }
    Ok(found)
}

/// Deletes the oldest archives; one that cannot be deleted is tried again at the next rotation.
fn trim(directory: &OwnedFd, spec: &LogdirSpec) -> Result<(), Errno> {
    let mut present = archives(directory)?;
    present.sort_unstable();
    let sizes: Vec<u64> = present
        .iter()
        .map(|archive| statat(directory, archive.name(), AtFlags::SYMLINK_NOFOLLOW).map_or(0, |s| s.st_size))
        .map(|size| u64::try_from(size).unwrap_or(0))
        .collect();
    let mut total: u64 = sizes.iter().sum();
    let mut count = u64::try_from(present.len()).unwrap_or(u64::MAX);
    for (archive, size) in present.iter().zip(sizes) {
        if count <= u64::from(spec.keep) && (spec.total == 0 || total <= spec.total) {
            break;
        }
        let _ = unlinkat(directory, archive.name(), AtFlags::empty());
        total = total.saturating_sub(size);
        count = count.saturating_sub(1);
    }
    Ok(())
}

/// Returns the path of a directive that names a file.
pub(super) fn path_of(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}
