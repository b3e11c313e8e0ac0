//! A log directory of a script: its waiting bytes, new attempts, and the processor of its archives.
//!
//! *Lives here:* s6-log's order of `previous`, `processed` and `state` around a processor; a step
//! that fails is tried again after a while.
//! *Does not live here:* the lines, and the directory itself (`directory`), which the log daemon
//! keeps with the same code.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gatevisor_slot::Compress;
use gatevisor_sys::clock::monotonic_ms;
use rustix::fs::{AtFlags, Mode, OFlags, fchmod, fsync, mkdir, openat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

use super::parser::LogdirSpec;
use super::processor;
use crate::directory::{DirError, DirStep, Keeper, LogDir, LogLimits};
use crate::time::BatchTime;

/// Mode of a file that was synced and closed.
const CLOSED_MODE: Mode = Mode::from_raw_mode(0o744);

/// The failed operation in s6-log's words, and the reason.
#[derive(Debug)]
pub(super) struct DirectoryError {
    pub doing: String,
    pub errno: Errno,
}

/// The progress of a processor with an archived file: the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RotationPhase {
    Writing,
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
    files: LogDir,
    phase: RotationPhase,
    /// Whether a rotation was requested and is not done yet.
    rotates: bool,
    /// When the next attempt after a failure is due, in monotonic milliseconds.
    retry_at_ms: Option<u64>,
    /// The bytes that wait to be written.
    pub(super) held: Vec<u8>,
}

impl<'a> ScriptDirectory<'a> {
    /// Opens the directory, makes it if it is missing, but not its parents, and archives the
    /// leftovers of a crash.
    pub(super) fn open(spec: &'a LogdirSpec) -> Result<Self, DirectoryError> {
        let path = path_of(&spec.path).to_owned();
        match mkdir(&path, Mode::from_raw_mode(0o2700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(in_s6_words(DirStep::Make, errno, &path)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| in_s6_words(DirStep::Open, errno, &path))?;
        let keeper =
            Keeper::S6Log { tolerance: spec.tolerance.into(), has_processor: spec.processor.is_some() };
        let limits = LogLimits {
            size: spec.size.into(),
            keep: spec.keep,
            total: if spec.total == 0 { u64::MAX } else { spec.total },
            period_s: None,
            compress: Compress::None,
        };
        let files = LogDir::in_directory(directory, keeper, limits, BatchTime::now().tai(), &[])
            .map_err(|error| of_directory(error, &path))?;
        let phase = RotationPhase::Writing;
        Ok(Self { spec, path, files, phase, rotates: false, retry_at_ms: None, held: Vec::new() })
    }

    /// Returns whether no work is left.
    pub(super) fn is_settled(&self) -> bool {
        let waits = !self.held.is_empty() || self.rotates || self.files.is_full();
        !waits && matches!(self.phase, RotationPhase::Writing | RotationPhase::Closed)
    }

    /// Returns whether the directory was closed cleanly.
    pub(super) fn is_closed(&self) -> bool {
        self.phase == RotationPhase::Closed
    }

    /// Returns when to call [`ScriptDirectory::advance`] again, in monotonic milliseconds.
    pub(super) fn retry_at_ms(&self) -> Option<u64> {
        self.retry_at_ms
    }

    /// Rotates a nonempty file, unless a rotation is in progress.
    pub(super) fn rotate(&mut self) {
        self.rotates |= self.phase == RotationPhase::Writing && !self.files.is_empty();
    }

    /// Does as much as possible now: rotates, and writes the held bytes.
    pub(super) fn advance(&mut self) -> Result<(), DirectoryError> {
        if self.is_resting() {
            return Ok(());
        }
        self.retry_at_ms = None;
        let done = self.try_advance();
        self.rest_after(done)
    }

    /// Closes the file cleanly once everything else is done.
    pub(super) fn close(&mut self) -> Result<(), DirectoryError> {
        if !self.is_settled() || self.is_resting() {
            return Ok(());
        }
        let closed = self.files.finish(BatchTime::now().tai());
        if closed.is_ok() {
            self.phase = RotationPhase::Closed;
        }
        let closed = closed.map_err(|error| of_directory(error, &self.path));
        self.rest_after(closed)
    }

    fn is_resting(&self) -> bool {
        self.retry_at_ms.is_some_and(|at| at > monotonic_ms())
    }

    /// Schedules another attempt if an operation failed.
    fn rest_after<T>(&mut self, done: Result<T, DirectoryError>) -> Result<T, DirectoryError> {
        if done.is_err() {
            self.retry_at_ms = Some(monotonic_ms().saturating_add(u64::from(self.spec.cooldown_ms)));
        }
        done
    }

    /// Checks whether the processor has ended, and returns a message about that, if there is one.
    pub(super) fn reap(&mut self) -> Option<String> {
        let RotationPhase::Processing(pid) = self.phase else { return None };
        let status = match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => status,
            Ok(None) | Err(Errno::INTR) => return None,
            // Another process reaped it, so its output cannot be trusted.
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

    fn try_advance(&mut self) -> Result<(), DirectoryError> {
        loop {
            match self.phase {
                RotationPhase::Processing(_) | RotationPhase::Closed => return Ok(()),
                RotationPhase::Writing => {
                    if !self.write()? {
                        return Ok(());
                    }
                }
                phase => self.phase = self.process(phase)?,
            }
        }
    }

    /// Writes the held bytes, or rotates if that was requested; returns whether there is more to
    /// do, because `current` was archived.
    fn write(&mut self) -> Result<bool, DirectoryError> {
        let now = BatchTime::now().tai();
        let mut written: usize = 0;
        let outcome = loop {
            let step = if self.rotates {
                self.files.rotate(now).map(|()| Some(0))
            } else {
                self.files.advance(self.held.get(written..).unwrap_or_default(), now, &mut |_| ())
            };
            match step {
                Ok(Some(0)) => {
                    self.rotates = false;
                    if self.spec.processor.is_some() {
                        self.phase = RotationPhase::Process;
                    }
                    break Ok(true);
                }
                Ok(Some(n)) => written = written.saturating_add(n),
                Ok(None) => break Ok(false),
                Err(error) => break Err(of_directory(error, &self.path)),
            }
        };
        self.held.drain(..written.min(self.held.len()));
        outcome
    }

    /// Performs one step of a processor's work and returns the next one.
    fn process(&self, phase: RotationPhase) -> Result<RotationPhase, DirectoryError> {
        let dir = self.files.directory();
        let (next, doing, name, done) = match phase {
            RotationPhase::Process => match self.spec.processor.as_ref() {
                Some(processor) => match processor::start(processor, dir) {
                    Ok(pid) => (RotationPhase::Processing(pid), "", "", Ok(())),
                    Err(errno) => (RotationPhase::Process, "fork processor for", "", Err(errno)),
                },
                None => (RotationPhase::Writing, "", "", Ok(())),
            },
            RotationPhase::SyncProcessed => {
                let done = self.open_written("processed").and_then(|file| {
                    sync(&file)?;
                    fchmod(&file, CLOSED_MODE)
                });
                (RotationPhase::SyncState, "sync", "processed", done)
            }
            RotationPhase::SyncState => {
                let done = self.open_written("newstate").and_then(|file| sync(&file));
                (RotationPhase::ForgetPrevious, "sync", "newstate", done)
            }
            RotationPhase::ForgetPrevious => {
                let done = match unlinkat(dir, "previous", AtFlags::empty()) {
                    Err(Errno::NOENT) => Ok(()),
                    other => other,
                };
                (RotationPhase::RenameState, "unlink", "previous", done)
            }
            RotationPhase::RenameState => {
                let done = renameat(dir, "newstate", dir, "state");
                (RotationPhase::ArchiveProcessed, "rename", "newstate", done)
            }
            RotationPhase::ArchiveProcessed => {
                let done = self.files.archive("processed", BatchTime::now().tai());
                (RotationPhase::Writing, "finish", "processed", done)
            }
            RotationPhase::Writing | RotationPhase::Processing(_) | RotationPhase::Closed => {
                (phase, "", "", Ok(()))
            }
        };
        let doing = || format!("{doing} {}/{name}", self.path.display());
        done.map_err(|errno| DirectoryError { doing: doing(), errno }).map(|()| next)
    }

    /// Opens a file of the directory that a processor has written; makes it if it is missing.
    fn open_written(&self, name: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::APPEND
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let file = openat(self.files.directory(), name, flags, Mode::from_raw_mode(0o644))?;
        let stat = rustix::fs::fstat(&file)?;
        let is_regular = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
        if is_regular { Ok(file) } else { Err(Errno::INVAL) }
    }
}

fn sync(file: &OwnedFd) -> Result<(), Errno> {
    match fsync(file) {
        // Some file systems have nothing to sync.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        other => other,
    }
}

/// Returns s6-log's message for an error of its log directory.
fn of_directory(error: DirError, path: &Path) -> DirectoryError {
    match error {
        DirError::Locked => {
            DirectoryError { doing: format!("lock {}/lock", path.display()), errno: Errno::BUSY }
        }
        DirError::Gone => in_s6_words(DirStep::PutAway, Errno::NOENT, path),
        DirError::System { step, source } => in_s6_words(step, source, path),
    }
}

fn in_s6_words(step: DirStep, errno: Errno, path: &Path) -> DirectoryError {
    let path = path.display();
    let doing = match step {
        DirStep::Make => format!("mkdir {path}"),
        DirStep::Open | DirStep::Lock => format!("open {path}/lock"),
        DirStep::Recover => format!("put away what a crash left in {path}"),
        DirStep::OpenCurrent => format!("open {path}/current"),
        DirStep::Read => format!("read {path}/current"),
        DirStep::Write => format!("write to {path}/current"),
        DirStep::Sync => format!("fd_sync {path}/current"),
        DirStep::Seal => format!("fd_chmod {path}/current to 0744"),
        DirStep::PutAway => format!("rename {path}/current"),
    };
    DirectoryError { doing, errno }
}

/// Returns the path in a directive that names a file.
pub(super) fn path_of(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}
