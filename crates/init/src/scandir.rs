//! The supervised scandir, held open.
//!
//! *Lives here:* making and locking it, its control FIFO, and which directory an entry leads to.
//! *Does not live here:* what is supervised under which name (`entries`), and the changes
//! (`scanner`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use gatevisor_core::entry::DirectoryIdentity;
use gatevisor_paths::Mounts;
use gatevisor_sys::{Errno, file};
use gatevisor_wire::files;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, mknodat, openat, statat, unlinkat};

use crate::StartError;
use crate::directory::{self, Refusal};
use crate::stderr_log::say;

/// The identity that stands for the target of a link whose owner may not choose the target. The
/// refusal is the same whether the target exists or not.
const NOBODYS: DirectoryIdentity = DirectoryIdentity { device: 0, inode: 0 };

/// The scandir, locked.
#[derive(Debug)]
pub(crate) struct Scandir {
    dir: OwnedFd,
    control: OwnedFd,
    /// Kept open only for its lock.
    _lock: OwnedFd,
    /// The same, if it could be locked: it tells clients that this is our supervisor.
    _ours_lock: Option<OwnedFd>,
    /// Which mounts in the scandir may be supervised.
    mounts: Mounts,
    /// The scandir and its `.s6-svscan`, which its owner could rename.
    own: [DirectoryIdentity; 2],
    /// Whether the last supervisor of the scandir did not end in order.
    follows_a_killed_one: bool,
}

impl Scandir {
    /// Makes the scandir if it is missing, and locks it; also returns its `.s6-svscan`.
    pub(crate) fn take(path: &Path) -> Result<(Self, OwnedFd), StartError> {
        let failed = |step| move |errno| StartError::Step { scandir: path.to_owned(), step, errno };
        let dir = directory::make_scandir(path).map_err(failed("opening the directory"))?;
        or_there(mkdirat(&dir, files::SVSCAN, Mode::from_raw_mode(0o700)))
            .map_err(failed("making .s6-svscan"))?;
        let svscan = file::open_directory(&dir, files::SVSCAN).map_err(failed("opening .s6-svscan"))?;
        let lock = file::lock_with_mode(&svscan, "lock", Mode::from_raw_mode(0o600))
            .map_err(failed("locking"))?
            .ok_or_else(|| StartError::AlreadyRunning(path.to_owned()))?;
        let ours_lock = take_own_lock(&svscan);
        let mode = Mode::from_raw_mode(0o600);
        or_there(mknodat(&svscan, "control", FileType::Fifo, mode, 0))
            .map_err(failed("making .s6-svscan/control"))?;
        let (control, _) = directory::open_fifo(&svscan, "control")
            .map_err(failed("opening .s6-svscan/control"))?
            .ok_or_else(|| failed(".s6-svscan/control is not a FIFO")(Errno::INVAL))?;
        let identity = |fd: &OwnedFd| fstat(fd).map(|stat| directory::identity(&stat));
        let own = [
            identity(&dir).map_err(failed("looking at the directory"))?,
            identity(&svscan).map_err(failed("looking at .s6-svscan"))?,
        ];
        let scandir = Self {
            mounts: directory::allowed_mounts(&dir),
            dir,
            control,
            _lock: lock,
            _ours_lock: ours_lock,
            own,
            follows_a_killed_one: begin(&svscan),
        };
        Ok((scandir, svscan))
    }

    /// Returns its control FIFO.
    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Returns whether users besides root may write to the control FIFO of a supervisor that root
    /// runs.
    pub(crate) fn is_open_to_others(&self) -> bool {
        rustix::process::geteuid().is_root()
            && fstat(&self.control)
                .is_ok_and(|stat| directory::ownership(&stat).is_open_to_others_than_root())
    }

    /// Returns its owner.
    pub(crate) fn owner(&self) -> u32 {
        fstat(&self.dir).map_or_else(|_| directory::our_user(), |stat| stat.st_uid)
    }

    /// Returns the owner of an entry; root if the entry does not exist.
    pub(crate) fn owner_of(&self, name: &[u8]) -> u32 {
        self.stat(name).map_or(0, |stat| stat.st_uid)
    }

    /// Returns what distinguishes it from every other scandir, also from a later one in its place.
    pub(crate) fn lasting_identity(&self) -> String {
        file::lasting_identity(&self.dir, "").unwrap_or_else(|_| "unknown".to_owned())
    }

    /// Returns whether a directory is the scandir itself or its control directory.
    pub(crate) fn is_own(&self, identity: DirectoryIdentity) -> bool {
        self.own.contains(&identity)
    }

    /// Returns whether the last supervisor of ours did not end in order.
    pub(crate) fn follows_a_killed_one(&self) -> bool {
        self.follows_a_killed_one
    }

    /// Returns the entry's kind and owner, without following a link.
    pub(crate) fn stat(&self, name: &[u8]) -> Option<Stat> {
        statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    /// Returns the directory to which an entry leads.
    pub(crate) fn identity(&self, name: &[u8]) -> Option<DirectoryIdentity> {
        self.identity_of(name, &self.stat(name)?)
    }

    /// Returns the directory to which the entry with this `stat` leads.
    pub(crate) fn identity_of(&self, name: &[u8], stat: &Stat) -> Option<DirectoryIdentity> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !kind.is_symlink() {
            return kind.is_dir().then(|| directory::identity(stat));
        }
        match self.open(name) {
            Ok(dir) => fstat(dir).ok().map(|stat| directory::identity(&stat)),
            Err(Refusal::Step { .. }) => None,
            Err(_) => Some(NOBODYS),
        }
    }

    /// Opens the directory of an entry. A link is followed only if its owner may choose the target.
    pub(crate) fn open(&self, name: &[u8]) -> Result<OwnedFd, Refusal> {
        directory::open_entry(&self.dir, self.mounts, name)
    }

    /// Notes that supervision has ended in order.
    pub(crate) fn end_in_order(&self) {
        let Some(name) = files::SVSCAN_UNFINISHED.rsplit('/').next() else { return };
        let svscan = file::open_directory(&self.dir, files::SVSCAN);
        let _ = svscan.and_then(|svscan| unlinkat(svscan, name, AtFlags::empty()));
    }
}

impl AsFd for Scandir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Notes that supervision of a scandir begins; returns whether our last one did not end in order.
fn begin(svscan: &OwnedFd) -> bool {
    let Some(name) = files::SVSCAN_UNFINISHED.rsplit('/').next() else { return false };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    openat(svscan, name, flags, Mode::from_raw_mode(0o600)).err() == Some(Errno::EXIST)
}

/// Takes the lock by which clients recognize our supervisor, under whatever name it runs.
fn take_own_lock(svscan: &OwnedFd) -> Option<OwnedFd> {
    let name = files::SVSCAN_OURS.rsplit('/').next()?;
    match file::lock(svscan, name) {
        Ok(Some(lock)) => return Some(lock),
        Ok(None) => say!("warning: another process holds `{}`", files::SVSCAN_OURS),
        Err(errno) => say!("warning: cannot lock `{}`: {errno}", files::SVSCAN_OURS),
    }
    None
}

/// Treats an existing file as success.
fn or_there(made: Result<(), Errno>) -> Result<(), Errno> {
    if made == Err(Errno::EXIST) { Ok(()) } else { made }
}
