//! *Lives here:* where the watcher's files are, and writing them.
//!
//! *Does not live here:* what is in them (see `record`).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use gatevisor_slot::restart_reason;
use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::file;
use rustix::fs::{AtFlags, Mode, OFlags, fstat, mkdirat, openat, statat, unlinkat};
use rustix::io::{Errno, pwrite};

use super::record::{LiveRecord, LiveRestart, MAX_BYTES, WatcherPulse};
use super::tally::ProbeCounts;
use crate::files::{ReadFileError, read_bounded};

/// The directory of the watcher in a scandir. Supervisors skip names that begin with a dot.
pub const DIRECTORY: &str = ".live";
/// The watcher's own line, in that directory. No service has this name, because it begins with a
/// dot.
const PULSE: &str = ".watcher";
/// The file that the watcher keeps locked as long as it runs.
const LOCK: &str = ".lock";
/// The counts of questions, in a directory of their own below that one: who waits for a record
/// shall not be woken for a count.
const COUNTS: &str = ".counts";
const PROBES: &str = "probes";
/// The most bytes of them that are read: 100 of each of 10,000 services.
const PROBES_BYTES: usize = 1_000_000;
/// The name of a file until it is complete.
const NEW: &str = ".new";
/// The file in the `data` of a service directory that says why a process of the service was ended.
const RESTARTED: &str = "live-restart";
/// The same file's path in the service directory.
pub const DATA_RESTARTED: &str = "data/live-restart";
const MODE: Mode = Mode::from_raw_mode(0o644);

/// Why a watcher cannot publish its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BeatError {
    /// Another file has the name of the lock that it holds, or none has.
    LockLost,
    /// A system call failed.
    System(Errno),
}

impl From<Errno> for BeatError {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

/// Writes the watcher's files.
#[derive(Debug)]
pub(super) struct Publisher {
    path: PathBuf,
    directory: OwnedFd,
    pulse: Option<OwnedFd>,
    epoch: u64,
    lock: OwnedFd,
}

impl Publisher {
    /// Begins to publish in a scandir; `None` if another watcher does.
    pub fn new(scandir: &Path) -> Result<Option<Self>, Errno> {
        let path = directory(scandir);
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let scandir = by_path::open(scandir, OFlags::RDONLY | OFlags::DIRECTORY)?;
        match mkdirat(&scandir, DIRECTORY, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let directory = openat(&scandir, DIRECTORY, flags, Mode::empty())?;
        let Some(lock) = file::lock(&directory, LOCK)? else { return Ok(None) };
        Ok(Some(Self { path, directory, pulse: None, epoch: new_epoch(), lock }))
    }

    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns whether the lock that is held has its name. If not, another watcher may have locked
    /// what has that name now.
    fn holds_lock(&self) -> Result<bool, Errno> {
        let named = by_path::open(&self.path, OFlags::PATH | OFlags::DIRECTORY)
            .and_then(|directory| statat(directory, LOCK, AtFlags::SYMLINK_NOFOLLOW));
        let own = fstat(&self.lock)?;
        match named {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Reports that the watcher is at work.
    pub fn beat(&mut self) -> Result<(), BeatError> {
        if !self.holds_lock()? {
            return Err(BeatError::LockLost);
        }
        let pulse = WatcherPulse { epoch: self.epoch, pid: own_pid(), beat_ms: monotonic_ms() }.encode();
        if let Some(fd) = &self.pulse
            && fstat(fd)?.st_nlink > 0
        {
            // One call, so that a reader finds either all of the old line or all of the new one.
            pwrite(fd, pulse.as_bytes(), 0)?;
            return Ok(());
        }
        let published = file::publish(&self.directory, PULSE, NEW, pulse.as_bytes(), MODE);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || openat(&self.directory, PULSE, flags, Mode::empty());
        match published {
            // The line of an earlier watcher has its blocks on the disk already.
            Err(errno) if file::is_full(errno) => {
                let fd = open()?;
                pwrite(&fd, pulse.as_bytes(), 0)?;
                self.pulse = Some(fd);
            }
            published => {
                published?;
                self.pulse = Some(open()?);
            }
        }
        Ok(())
    }

    /// Publishes the record of a service.
    pub fn record(&self, service: &str, record: &LiveRecord) -> Result<(), Errno> {
        let Ok(bytes) = serde_json::to_vec(record) else { return Err(Errno::INVAL) };
        file::publish(&self.directory, service, NEW, &bytes, MODE)
    }

    /// Publishes the counts of questions. Returns whether they are published.
    pub fn probes(&self, bytes: &[u8]) -> bool {
        match mkdirat(&self.directory, COUNTS, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(_) => return false,
        }
        let counts = file::open_directory(&self.directory, COUNTS);
        counts.is_ok_and(|counts| file::publish(counts, PROBES, NEW, bytes, MODE).is_ok())
    }

    /// Removes the record of a service.
    pub fn forget(&self, service: &str) {
        let _ = unlinkat(&self.directory, service, AtFlags::empty());
    }
}

/// Writes in a service directory why its process is about to be ended.
pub(super) fn restarted(service: &Path, restarted: &LiveRestart) -> Result<(), Errno> {
    let words = format!("ended at {}, because it did not respond: {}", restarted.at, restarted.reason);
    restart_reason::leave(service, &words)?;
    let service = by_path::open(service, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let data = file::open_directory(&service, "data")?;
    let Ok(bytes) = serde_json::to_vec(restarted) else { return Err(Errno::INVAL) };
    file::publish(data.as_fd(), RESTARTED, ".live-restart.new", &bytes, MODE)
}

/// Returns why the watcher last ended a process of a service.
pub(super) fn last_restarted(service: &Path) -> Option<LiveRestart> {
    let bytes = read_bounded(&service.join(DATA_RESTARTED), MAX_BYTES).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// Returns the directory in which a scandir's watcher publishes.
pub fn directory(scandir: &Path) -> PathBuf {
    scandir.join(DIRECTORY)
}

/// Returns the line of a scandir's watcher.
pub fn beat_of(scandir: &Path) -> Option<WatcherPulse> {
    seen_beat(scandir).ok().flatten()
}

/// Like [`beat_of`], but a refused look is an error.
pub(super) fn seen_beat(scandir: &Path) -> io::Result<Option<WatcherPulse>> {
    Ok(seen(scandir, PULSE)?.and_then(|bytes| WatcherPulse::decode(&bytes)))
}

/// Returns how many questions the gateways of a scandir have answered, by service. What cannot be
/// read counts as none.
pub fn probe_counts(scandir: &Path) -> BTreeMap<String, ProbeCounts> {
    let bytes = read_bounded(&directory(scandir).join(COUNTS).join(PROBES), PROBES_BYTES).ok().flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Returns the record that a watcher has published for a service.
pub(super) fn record_of(scandir: &Path, service: &str) -> Option<LiveRecord> {
    seen_record(scandir, service).ok().flatten()
}

/// Like [`record_of`], but a refused look is an error.
pub(super) fn seen_record(scandir: &Path, service: &str) -> io::Result<Option<LiveRecord>> {
    Ok(seen(scandir, service)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Returns the content of a file of the watcher, if it has any. Only a refused look is an error.
fn seen(scandir: &Path, file: &str) -> io::Result<Option<Vec<u8>>> {
    match read_bounded(&scandir.join(DIRECTORY).join(file), MAX_BYTES) {
        Ok(bytes) => Ok(bytes),
        Err(ReadFileError::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Err(_) => Ok(None),
    }
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Returns a number that no other watcher had: no other has both this time and this process number.
fn new_epoch() -> u64 {
    let (seconds, nanoseconds) = gatevisor_sys::clock::wall();
    let wall = seconds.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(u64::from(nanoseconds));
    wall.rotate_left(8) ^ u64::from(own_pid().cast_unsigned())
}
