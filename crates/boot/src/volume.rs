//! Which of the containers that have the same home runs its gateways: the one that holds the lock of the home.
//!
//! *Lives here:* taking the lock, and hearing when its file loses its name. *Does not live here:* whether gateways may start
//! (`gatevisor_slot::home_lock`), and what else follows from having it or not.
//!
//! It is held by an open file, so it ends with the process that has it, however that ends, and nobody has to clean up.
//! Who owns the home can move the file away, and make another: then the lock is that of the file that has the name, and
//! whoever holds the old one holds nothing.
//!
//! **Source:** L-23; flock(2), inotify(7).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use gatevisor_paths::look::pinned;
use gatevisor_paths::{OpenHome, Resolver, by_path, look};
pub use gatevisor_slot::home_lock::{FILE, LockFile, current};
use gatevisor_sys::Errno;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, renameat};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::geteuid;

/// What happens to a file that loses its name. The last name that goes changes its number of names first.
const RENAMED: WatchFlags = WatchFlags::MOVE_SELF.union(WatchFlags::DELETE_SELF).union(WatchFlags::ATTRIB);
/// Its permissions.
const MODE: Mode = Mode::from_raw_mode(0o644);
/// How often a file that is replaced while it is opened is opened again.
const LOOKS: usize = 100;
/// Bytes of events that are read at once.
const EVENTS: usize = 4096;

/// A lock that is held until this is dropped, here and in whatever this process becomes.
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

    /// Has whatever this process becomes go on holding it.
    pub fn survive(&self) -> Result<(), Errno> {
        fcntl_setfd(&self.file, FdFlags::empty())
    }
}

/// Makes the file of the lock, as the agent's user; one that is there stays. What is there and is no file is set aside: nobody
/// could lock it, and so everybody would run the gateways. A file that its owner has closed to itself is opened up.
pub fn make(home: &impl AsFd) -> Result<(), Errno> {
    let create = || {
        let file = Resolver::STRICT.create(home, FILE, OFlags::WRONLY, MODE)?;
        LockFile::of(file)
    };
    let Err(errno) = create() else { return Ok(()) };
    let held = pinned(home, FILE)?;
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

/// Returns the lock; `None` where another process has it.
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

/// Waits for the lock, for as long as another process has it, and returns it; `None` where the file that was waited for
/// has lost its name meanwhile.
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

/// Returns the lock of a file that was locked, if that still has its name.
fn named(home: &impl AsFd, file: OwnedFd) -> Result<Option<HeldHomeLock>, Errno> {
    let identity = LockFile::of(&file)?;
    match current(home) {
        Ok(now) if now == identity => Ok(Some(HeldHomeLock { file, identity })),
        Ok(_) | Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens the file that has the name. A file system of another machine locks only what is open for writing.
fn open(home: &impl AsFd) -> Result<OwnedFd, Errno> {
    let open = |access| Resolver::STRICT.open(home, FILE, access).map_err(Errno::from);
    let file = match open(OFlags::RDWR) {
        Err(Errno::ACCESS | Errno::ROFS) => open(OFlags::RDONLY)?,
        opened => opened?,
    };
    LockFile::of(&file).map(|_| file)
}

/// Hears when the file that has the name of the lock loses it.
#[derive(Debug)]
pub struct LockFileWatch {
    inotify: OwnedFd,
}

impl LockFileWatch {
    /// Listens to the file that has the name now.
    pub fn new(home: &OpenHome) -> Result<Self, Errno> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let flags = RENAMED.union(WatchFlags::DONT_FOLLOW);
        by_path::watch(&inotify, home.path().join(FILE), flags)?;
        Ok(Self { inotify })
    }

    /// Waits until something is heard, which only says that it is worth a look.
    pub fn wait(&self) -> Result<(), Errno> {
        match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let mut reader = inotify::Reader::new(self.inotify.as_fd(), &mut buffer);
        loop {
            match reader.next() {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
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
    fn one_has_it_and_the_next_when_that_one_is_gone() {
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
    fn what_is_no_file_is_no_lock_and_is_set_aside() {
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
    fn who_holds_a_file_that_was_moved_away_hears_of_it_and_can_tell() {
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
    fn who_waited_for_a_file_that_was_moved_away_has_nothing() {
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
