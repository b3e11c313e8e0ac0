//! A log daemon that cannot work: said once, published for whoever asks, and no reason for its services to stand still.
//!
//! *Lives here:* `.s6-svscan/logging/UID`, and making room in pipes that nobody reads, so that services can go on; what is
//! dropped is counted and said. *Does not live here:* when a daemon counts as unable to work (`gatevisor-core`).

use std::os::fd::OwnedFd;
use std::rc::Rc;

use gatevisor_sys::{Errno, file};
use gatevisor_wire::log_error::LogError;
use rustix::fs::{AtFlags, Mode, mkdirat, unlinkat};
use rustix::io::ioctl_fionread;
use rustix::pipe::{SpliceFlags, splice};

use crate::directory;
use crate::logging::LogPipe;
use crate::refusals;
use crate::stderr_log::say;
use crate::supervisor::{Supervisor, Timer};

/// The directory, in `.s6-svscan`.
const LOGGING: &str = "logging";
/// What a note is called until it is whole.
const UNFINISHED: &str = ".new";
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
/// Milliseconds between two looks at pipes that nobody reads.
const LOOK_MS: u64 = 250;
/// Bytes with which a pipe is soon full.
const NEARLY_FULL: u64 = 32 << 10;

/// What is known of a daemon's failing.
#[derive(Debug, Default)]
pub(crate) struct LogDaemonFailure {
    /// It was said, and the pipes are looked at.
    is_known: bool,
    /// Bytes that were dropped since it worked.
    dropped: u64,
}

impl Supervisor {
    /// Returns whether a log daemon cannot work.
    pub(crate) fn is_failing(&mut self, number: u32) -> bool {
        self.logging.daemon(number).is_some_and(|daemon| daemon.history.is_failing())
    }

    /// Takes in that a daemon has ended; says and publishes it where it cannot work.
    pub(crate) fn log_daemon_fails(&mut self, number: u32, how: &str) {
        let now = self.now;
        let Some(daemon) = self.logging.daemon(number) else { return };
        if !daemon.history.is_failing() || std::mem::replace(&mut daemon.failure.is_known, true) {
            return;
        }
        let uid = daemon.owner.as_ref().map_or_else(directory::our_user, |owner| owner.uid);
        let times = daemon.history.failures();
        let reason = format!(
            "the log daemon of uid {uid} cannot work: {how}, {times} times in a row; what its services print is lost"
        );
        say!("warning: {reason}; trying again every ten seconds");
        let log_error = LogError { since: now.wall, reason };
        if let Err(errno) = publish(&self.scandir, uid, &log_error) {
            say!("warning: cannot publish that: {errno}");
        }
        self.drop_released(number);
        self.make_room_in_pipes(number);
    }

    /// Takes in that a daemon works.
    pub(crate) fn log_daemon_works(&mut self, number: u32) {
        let Some(daemon) = self.logging.daemon(number) else { return };
        daemon.history.works();
        let failure = std::mem::take(&mut daemon.failure);
        if failure.is_known {
            let uid = daemon.owner.as_ref().map_or_else(directory::our_user, |owner| owner.uid);
            say!(
                "the log daemon of uid {uid} works again; {} bytes of its services are lost",
                failure.dropped
            );
            withdraw(&self.scandir, uid);
        }
    }

    /// Drops something of what is in full pipes of a daemon that cannot work, so that no service stands still for it.
    pub(crate) fn make_room_in_pipes(&mut self, number: u32) {
        if !self.is_failing(number) {
            return;
        }
        let pipes = self.logging.pipes.values().filter(|pipe| pipe.daemon == number);
        let dropped = pipes.map(|pipe| drop_from(pipe, &self.null, NEARLY_FULL)).fold(0, u64::saturating_add);
        if let Some(daemon) = self.logging.daemon(number) {
            daemon.failure.dropped = daemon.failure.dropped.saturating_add(dropped);
        }
        self.wake_at(self.now.tick.after(LOOK_MS), Timer::Unread(number));
    }

    /// Lets go of the pipes that a daemon which cannot work should let go of.
    pub(crate) fn drop_released(&mut self, number: u32) {
        let releasing = self.logging.pipes.iter().filter(|(_, pipe)| pipe.daemon == number && pipe.releasing);
        let releasing: Vec<(Rc<[u8]>, u32)> =
            releasing.map(|(name, pipe)| (Rc::clone(name), pipe.number)).collect();
        for (name, pipe_number) in releasing {
            let lost = self.logging.pipes.get(&name).map_or(0, |pipe| drop_from(pipe, &self.null, 1));
            if lost > 0 {
                let shown = String::from_utf8_lossy(&name);
                say!("warning: {shown}: {lost} bytes in the log pipe are lost: no log daemon works");
            }
            self.released(number, pipe_number);
        }
    }
}

/// Drops what is in those pipes of a service that hold at least `at_least` bytes; returns how much that was.
fn drop_from(pipe: &LogPipe, null: &OwnedFd, at_least: u64) -> u64 {
    let readers = std::iter::once(&pipe.reader).chain(pipe.stderr.as_ref().map(|stderr| &stderr.reader));
    let mut dropped = 0_u64;
    for reader in readers {
        let waiting = ioctl_fionread(reader).unwrap_or(0);
        if waiting >= at_least
            && let Ok(length) = usize::try_from(waiting)
            && let Ok(n) = splice(reader, None, null, None, length, SpliceFlags::NONBLOCK)
        {
            dropped = dropped.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        }
    }
    dropped
}

/// Opens the directory of notes; only we may write to the one that it is in, so nobody can have it lead elsewhere.
fn open(scandir: &OwnedFd) -> Result<OwnedFd, Errno> {
    let svscan = file::open_directory(scandir, gatevisor_wire::files::SVSCAN)?;
    match mkdirat(&svscan, LOGGING, DIRECTORY_MODE) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    file::open_directory(&svscan, LOGGING)
}

fn publish(scandir: &OwnedFd, uid: u32, log_error: &LogError) -> Result<(), Errno> {
    let directory = open(scandir)?;
    file::publish(&directory, uid.to_string().as_bytes(), UNFINISHED, &log_error.encode(), FILE_MODE)
}

/// Removes what an earlier supervisor published in this `.s6-svscan`.
pub(crate) fn forget_all(svscan: &OwnedFd) {
    if let Ok(directory) = file::open_directory(svscan, LOGGING) {
        let _ = refusals::empty(&directory);
    }
}

fn withdraw(scandir: &OwnedFd, uid: u32) {
    if let Ok(directory) = open(scandir) {
        let _ = unlinkat(&directory, uid.to_string(), AtFlags::empty());
    }
}
