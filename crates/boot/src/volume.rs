//! The lock of the home. Of several containers and supervisors of `gatevisor up` with the same
//! home, the one that holds it runs the gateways.
//!
//! *Lives here:* taking the lock, and learning when its file loses its name. *Does not live here:*
//! whether gateways may start (`gatevisor_slot::home_lock`), and what else follows from having it
//! or not.
//!
//! An open file holds the lock, so the lock ends with its process, and nobody has to clean up. The
//! owner of the home can move the file away and make another. Then the file that has the name
//! counts, and the holder of the old one holds nothing.
//!
//! **Source:** L-23; flock(2), inotify(7).

use std::os::fd::{AsFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use gatevisor_paths::look::pinned;
use gatevisor_paths::{OpenHome, Resolver, by_path, look};
pub use gatevisor_slot::home_lock::{FILE, LockFile, current};
use gatevisor_sys::Errno;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, renameat};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::geteuid;

/// What happens to a file that loses its name. When the last name goes, the number of names changes
/// first.
const RENAMED: WatchFlags = WatchFlags::MOVE_SELF.union(WatchFlags::DELETE_SELF).union(WatchFlags::ATTRIB);
/// The mode that the lock's file is made with, and gets back if its owner has closed it.
const MODE: Mode = Mode::from_raw_mode(0o644);
/// How often a file that is replaced while it is being opened is opened again.
const LOOKS: usize = 100;

/// A lock that is held until this is dropped, by this process and by the program that it becomes.
#[derive(Debug)]
pub struct HeldHomeLock {
    file: OwnedFd,
    identity: LockFile,
}

impl HeldHomeLock {
    /// Returns which file is locked.
    pub const fn identity(&self) -> LockFile {
        self.identity
    }

    /// Lets the program that this process becomes hold the lock too.
    pub fn survive(&self) -> Result<(), Errno> {
        fcntl_setfd(&self.file, FdFlags::empty())
    }
}

/// Makes the file of the lock, as the agent's user; one that is there stays. What is there and is
/// no file is set aside: nobody could lock it, and so everybody would run the gateways. A file that
/// its owner has closed to itself is opened up.
pub fn make(home: &impl AsFd) -> Result<(), Errno> {
    let create = || {
        let file = Resolver::STRICT.create(home, FILE, OFlags::WRONLY, MODE)?;
        LockFile::of(file)
    };
    let Err(errno) = create() else { return Ok(()) };
    let held = match pinned(home, FILE) {
        // What counts is why it could not be made.
        Err(Errno::NOENT) => return Err(errno),
        held => held?,
    };
    let found = look(&held)?;
    if !found.kind().is_file() {
        let aside = format!("{FILE}.{}-{}", std::process::id(), unix_nanoseconds());
        renameat(home, FILE, home, aside)?;
    } else if errno == Errno::ACCESS && found.uid == geteuid().as_raw() {
        by_path::change_mode(held, MODE)?;
    } else {
        return Err(errno);
    }
    create().map(drop)
}

fn unix_nanoseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// Returns the lock; `None` if another process has it.
pub fn try_take(home: &impl AsFd) -> Result<Option<HeldHomeLock>, Errno> {
    for _ in 0..LOOKS {
        let file = open(home)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        if let Some(lock) = named(home, file)? {
            return Ok(Some(lock));
        }
    }
    Err(Errno::AGAIN)
}

/// Waits for the lock, for as long as another process has it, and returns it; `None` where the file
/// that was waited for has lost its name meanwhile.
pub fn take(home: &impl AsFd) -> Result<Option<HeldHomeLock>, Errno> {
    let file = open(home)?;
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return named(home, file),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Returns the lock of a file that was locked, if the file still has its name.
fn named(home: &impl AsFd, file: OwnedFd) -> Result<Option<HeldHomeLock>, Errno> {
    let identity = LockFile::of(&file)?;
    match current(home) {
        Ok(now) if now == identity => Ok(Some(HeldHomeLock { file, identity })),
        Ok(_) | Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens the file that has the name. A network file system locks only a file that is open for
/// writing.
fn open(home: &impl AsFd) -> Result<OwnedFd, Errno> {
    let open = |access| Resolver::STRICT.open(home, FILE, access).map_err(Errno::from);
    let file = match open(OFlags::RDWR) {
        Err(Errno::ACCESS | Errno::ROFS) => open(OFlags::RDONLY)?,
        opened => opened?,
    };
    LockFile::of(&file).map(|_| file)
}

/// Watches the file that has the name of the lock, until the file loses that name.
#[derive(Debug)]
pub struct LockFileWatch {
    inotify: Inotify,
}

impl LockFileWatch {
    /// Begins to watch the file that has the name now.
    pub fn new(home: &OpenHome) -> Result<Self, Errno> {
        let inotify = Inotify::new()?;
        let flags = RENAMED.union(WatchFlags::DONT_FOLLOW);
        by_path::watch(&inotify, home.path().join(FILE), flags)?;
        Ok(Self { inotify })
    }

    /// Waits until the kernel reports something; the caller then looks what it was.
    pub fn wait(&self) -> Result<(), Errno> {
        match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        self.inotify.read(|_| {})
    }
}

#[cfg(test)]
mod tests {
    use super::{FILE, LockFileWatch, current, make, take, try_take};
    use gatevisor_paths::OpenHome;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    #[test]
    fn one_container_has_the_lock_and_the_next_gets_it_when_that_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let home = OpenHome::open(dir.path()).unwrap();
        assert!(try_take(&home).is_err(), "nobody made it");
        make(&home).unwrap();
        make(&home).unwrap();
        let first = try_take(&home).unwrap().unwrap();
        assert!(try_take(&home).unwrap().is_none());
        let waiting = std::thread::spawn(move || take(&home).map(|lock| lock.is_some()));
        drop(first);
        assert!(waiting.join().unwrap().unwrap());
    }

    #[test]
    fn something_that_is_no_file_is_no_lock_and_is_set_aside() {
        let makes: [fn(&Path); 3] = [
            |path| symlink("elsewhere", path).unwrap(),
            |path| fs::create_dir_all(path.join("full")).unwrap(),
            |path| rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap(),
        ];
        for put in makes {
            let dir = tempfile::tempdir().unwrap();
            put(&dir.path().join(FILE));
            let home = OpenHome::open(dir.path()).unwrap();
            assert!(try_take(&home).is_err());
            make(&home).unwrap();
            assert!(try_take(&home).unwrap().is_some());
            assert!(!dir.path().join("elsewhere").exists());
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is removed");
        }
    }

    fn move_away(home: &Path) {
        fs::rename(home.join(FILE), home.join("away")).unwrap();
    }

    #[test]
    fn the_holder_of_a_lock_file_that_was_moved_away_is_notified_and_can_tell() {
        let dir = tempfile::tempdir().unwrap();
        let home = &OpenHome::open(dir.path()).unwrap();
        make(home).unwrap();
        let lock = try_take(home).unwrap().unwrap();
        assert_eq!(current(home).unwrap(), lock.identity());
        for replace in [
            |home: &Path| move_away(home),
            |home: &Path| fs::remove_file(home.join(FILE)).unwrap(),
            |home: &Path| {
                fs::write(home.join("other"), "").unwrap();
                fs::rename(home.join("other"), home.join(FILE)).unwrap();
            },
        ] {
            let vigil = LockFileWatch::new(home).unwrap();
            replace(home.path());
            vigil.wait().unwrap();
            make(home).unwrap();
            assert_ne!(current(home).unwrap(), lock.identity());
        }
        assert!(try_take(home).unwrap().is_some(), "the new one is anybody's");
    }

    #[test]
    fn a_container_that_waited_for_a_file_that_was_moved_away_has_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let home = OpenHome::open(dir.path()).unwrap();
        make(&home).unwrap();
        let held = try_take(&home).unwrap().unwrap();
        let opened = super::open(&home).unwrap();
        move_away(home.path());
        make(&home).unwrap();
        drop(held);
        assert!(super::named(&home, opened).unwrap().is_none());
    }
}
