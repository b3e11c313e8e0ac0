//! *Lives here:* one subscriber in an event fifodir: its FIFO from creation to removal, and the
//! events that arrive.
//!
//! *Does not live here:* what the events mean for a wait (`waiting`).

use crate::ServiceDir;
use gatevisor_sys::clock::remaining;
use gatevisor_wire::{
    event::{self, ServiceEvent},
    files,
    tai::Tai64n,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
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

/// The characters in the names of subscribers' FIFOs.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The owner reads and writes; a notifier may write, whichever user it runs as.
const MODE: Mode = Mode::from_raw_mode(0o622);
/// Bytes of events that are read at a time.
const ROOM: usize = 256;

/// Receives the events of one service, from its creation on.
///
/// Its FIFO is removed when it is dropped, even if the directory has been renamed meanwhile.
///
/// **Source:** <https://skarnet.org/software/s6/ftrig.html>, `ftrig1_make` of s6 2.11.
#[derive(Debug)]
pub struct Subscription {
    fifo: OwnedFd,
    entry: SubscriptionFifo,
    received: VecDeque<u8>,
}

/// An entry of a directory that is unlinked on drop.
#[derive(Debug)]
struct SubscriptionFifo {
    dir: OwnedFd,
    name: Vec<u8>,
}

impl Drop for SubscriptionFifo {
    fn drop(&mut self) {
        // A notifier that finds no reader removes the FIFO, too. In either case it is gone.
        let _ = unlinkat(&self.dir, OsStr::from_bytes(&self.name), AtFlags::empty());
    }
}

impl Subscription {
    /// Makes a subscriber in the event fifodir of a service.
    ///
    /// The system's: `NotFound` if there is no such fifodir, `PermissionDenied` for a user who may
    /// not make entries in it.
    pub fn subscribe(service: &ServiceDir) -> io::Result<Self> {
        // The fifodir's group may make entries but not list them, so the fifodir cannot be opened
        // for reading.
        Self::in_fifodir(service.open(files::EVENT, OFlags::PATH | OFlags::DIRECTORY)?)
    }

    /// Makes a subscriber in an opened fifodir.
    pub fn in_fifodir(dir: OwnedFd) -> io::Result<Self> {
        let name = event::subscriber_name(Tai64n::now_from(SystemTime::now()), random()?);
        // Notifiers skip names with a dot, so they never find a FIFO that nobody reads yet.
        let dotted = [b".", &name[..]].concat();
        mkfifoat(&dir, OsStr::from_bytes(&dotted), Mode::RUSR | Mode::WUSR)?;
        let mut entry = SubscriptionFifo { dir, name: dotted };
        // It is opened for writing, too: while there is a writer, there is no end of file. Linux
        // allows both on one descriptor.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo = openat(&entry.dir, OsStr::from_bytes(&entry.name), flags, Mode::empty())?;
        // The owner of the directory may have replaced it by another FIFO or by a second name of
        // one.
        let stat = fstat(&fifo)?;
        let is_made = FileType::from_raw_mode(stat.st_mode).is_fifo()
            && stat.st_nlink == 1
            && stat.st_uid == geteuid().as_raw();
        if !is_made {
            return Err(Errno::PERM.into());
        }
        // The umask affects a mode given at creation, so the mode is set here.
        fchmod(&fifo, MODE)?;
        renameat(&entry.dir, OsStr::from_bytes(&entry.name), &entry.dir, OsStr::from_bytes(&name))?;
        entry.name = name.to_vec();
        Ok(Self { fifo, entry, received: VecDeque::new() })
    }

    /// Returns the name of the FIFO in the fifodir.
    pub fn name(&self) -> &OsStr {
        OsStr::from_bytes(&self.entry.name)
    }

    /// Returns the next event that has already arrived, or `None`. Never waits.
    ///
    /// Bytes that stand for no event are skipped. Before polling the descriptor, call this until it
    /// returns `None`.
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

    /// Returns the next event, and waits for it until `deadline`, or without limit. `None` means
    /// that the deadline has passed.
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

impl AsFd for Subscription {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fifo.as_fd()
    }
}

/// Returns random letters and digits.
fn random() -> io::Result<[u8; event::RANDOM_SIZE]> {
    let mut chance = [0u8; event::RANDOM_SIZE];
    let count = getrandom(&mut chance, GetRandomFlags::empty())?;
    if count < chance.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // 256 is not a multiple of 62, so eight characters are a little likelier. That does no harm:
    // names need not be secret.
    let mut out = [b'0'; event::RANDOM_SIZE];
    for (to, from) in out.iter_mut().zip(chance) {
        *to = ALPHABET.get(usize::from(from) % ALPHABET.len()).copied().unwrap_or(b'0');
    }
    Ok(out)
}
