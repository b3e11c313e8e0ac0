//! *Lives here:* one listener in an event fifodir: its FIFO from creation to removal, and the events that arrive.
//!
//! *Does not live here:* what the events mean for a waiting client (`waiting`).

use crate::ServiceDir;
use gatevisor_wire::{
    event::{self, ServiceEvent},
    files,
    tai::Tai64n,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{AtFlags, FileType, Mode, OFlags, fchmod, fstat, mkfifoat, openat, renameat, unlinkat},
    io::{Errno, read},
    process::geteuid,
    rand::{GetRandomFlags, getrandom},
};
use std::{
    collections::VecDeque,
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    time::{Instant, SystemTime},
};

/// What listeners' FIFOs are named from.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The owner reads and writes; every notifier may write, whoever it runs as.
const MODE: Mode = Mode::from_raw_mode(0o622);
/// How many events are read at a time.
const ROOM: usize = 256;

/// Receives the events of one service, from the moment it is made.
///
/// Its FIFO is removed when it is dropped, even where the directory has been renamed meanwhile.
///
/// **Source:** <https://skarnet.org/software/s6/ftrig.html>, `ftrig1_make` of s6 2.11.
#[derive(Debug)]
pub struct Listener {
    fifo: OwnedFd,
    entry: ListenerFifo,
    received: VecDeque<u8>,
}

/// An entry of a directory that is unlinked in the end.
#[derive(Debug)]
struct ListenerFifo {
    dir: OwnedFd,
    name: Vec<u8>,
}

impl Drop for ListenerFifo {
    fn drop(&mut self) {
        // A notifier removes it too, once it finds no reader; either way it is gone.
        let _ = unlinkat(&self.dir, OsStr::from_bytes(&self.name), AtFlags::empty());
    }
}

impl Listener {
    /// Makes a listener in the event fifodir of a service.
    ///
    /// Errors are the system's: `NotFound` where there is no such fifodir, `PermissionDenied` for who may not make
    /// entries in it.
    pub fn subscribe(service: &ServiceDir) -> io::Result<Self> {
        // The fifodir's group may make entries but not list them, so it cannot be opened for reading.
        Self::in_fifodir(service.open(files::EVENT, OFlags::PATH | OFlags::DIRECTORY)?)
    }

    /// Makes a listener in a fifodir that is held.
    pub fn in_fifodir(dir: OwnedFd) -> io::Result<Self> {
        let name = event::listener_name(Tai64n::now_from(SystemTime::now()), random()?);
        // Notifiers skip the dotted name, so they never find a FIFO that nobody reads yet.
        let dotted = [b".", &name[..]].concat();
        mkfifoat(&dir, OsStr::from_bytes(&dotted), Mode::RUSR | Mode::WUSR)?;
        let mut entry = ListenerFifo { dir, name: dotted };
        // Open for writing too: with a writer there is never an end of file. Linux allows both on one descriptor.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo = openat(&entry.dir, OsStr::from_bytes(&entry.name), flags, Mode::empty())?;
        // Whoever owns the directory may have put another FIFO or a second name of one in its place.
        let stat = fstat(&fifo)?;
        let is_made = FileType::from_raw_mode(stat.st_mode).is_fifo()
            && stat.st_nlink == 1
            && stat.st_uid == geteuid().as_raw();
        if !is_made {
            return Err(Errno::PERM.into());
        }
        // Not left to the umask, which a mode given at creation obeys.
        fchmod(&fifo, MODE)?;
        renameat(&entry.dir, OsStr::from_bytes(&entry.name), &entry.dir, OsStr::from_bytes(&name))?;
        entry.name = name.to_vec();
        Ok(Self { fifo, entry, received: VecDeque::new() })
    }

    /// Returns the name of the FIFO in the fifodir.
    pub fn name(&self) -> &OsStr {
        OsStr::from_bytes(&self.entry.name)
    }

    /// Returns the next event that has already arrived, or `None`; never waits.
    ///
    /// Bytes that are no events are skipped. Before polling the descriptor, call this until it returns `None`.
    pub fn try_next(&mut self) -> io::Result<Option<ServiceEvent>> {
        loop {
            while let Some(byte) = self.received.pop_front() {
                if let Some(event) = ServiceEvent::from_byte(byte) {
                    return Ok(Some(event));
                }
            }
            let mut buffer = [0; ROOM];
            match read(&self.fifo, &mut buffer) {
                Ok(count) => self.received.extend(buffer.iter().take(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Returns the next event, waiting for it until `deadline`, or for ever; `None` means that the deadline passed.
    pub fn next(&mut self, deadline: Option<Instant>) -> io::Result<Option<ServiceEvent>> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            let timeout = remaining(deadline);
            match poll(&mut [PollFd::new(&self.fifo, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) => return Ok(None),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fifo.as_fd()
    }
}

/// Returns the time that is left until `deadline`, or `None` for ever.
pub(crate) fn remaining(deadline: Option<Instant>) -> Option<Timespec> {
    let left = deadline?.saturating_duration_since(Instant::now());
    // What does not fit is longer than any machine runs.
    Timespec::try_from(left).ok()
}

/// Returns random letters and digits.
fn random() -> io::Result<[u8; event::RANDOM_SIZE]> {
    let mut chance = [0u8; event::RANDOM_SIZE];
    let count = getrandom(&mut chance, GetRandomFlags::empty())?;
    if count < chance.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // 256 is no multiple of 62, which makes eight characters a little likelier; names need not be secret.
    let mut out = [b'0'; event::RANDOM_SIZE];
    for (to, from) in out.iter_mut().zip(chance) {
        *to = ALPHABET.get(usize::from(from) % ALPHABET.len()).copied().unwrap_or(b'0');
    }
    Ok(out)
}
