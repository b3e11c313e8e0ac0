//! Which of the containers that have the same home runs its gateways: the one that holds the lock of the home.
//!
//! *Lives here:* the lock. *Does not live here:* what follows from having it or not.
//!
//! It is held by an open file, so it ends with the process that has it, however that ends, and nobody has to clean up.
//!
//! **Source:** L-23; flock(2).

use std::os::fd::OwnedFd;
use std::path::Path;

use gatevisor_sys::{Errno, file};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat};

/// The file in the home.
pub const FILE: &str = gatevisor_gateways::profile::LOCK;

/// Makes the file of the lock, as the agent's user; one that is there stays.
pub fn make(home: &Path) -> Result<(), Errno> {
    let home = file::open_directory(CWD, home)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(&home, FILE, flags, Mode::from_raw_mode(0o644)).map(|_| ())
}

/// Returns the lock, which is held until it is closed, here and in whatever this process becomes; `None` where another
/// process has it.
pub fn try_take(home: &Path) -> Result<Option<OwnedFd>, Errno> {
    let fd = open(home)?;
    match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(fd)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Waits for the lock, for as long as another process has it, and returns it.
pub fn take(home: &Path) -> Result<OwnedFd, Errno> {
    let fd = open(home)?;
    loop {
        match flock(&fd, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(fd),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn open(home: &Path) -> Result<OwnedFd, Errno> {
    let home = file::open_directory(CWD, home)?;
    // Not close-on-exec: the supervisor that this process becomes goes on holding it.
    let fd = openat(&home, FILE, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&fd)?.st_mode).is_file() { Ok(fd) } else { Err(Errno::INVAL) }
}

#[cfg(test)]
mod tests {
    use super::{FILE, make, take, try_take};
    use std::os::unix::fs::symlink;

    #[test]
    fn one_has_it_and_the_next_when_that_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(try_take(dir.path()).is_err(), "nobody made it");
        make(dir.path()).unwrap();
        make(dir.path()).unwrap();
        let first = try_take(dir.path()).unwrap().unwrap();
        assert!(try_take(dir.path()).unwrap().is_none());
        let home = dir.path().to_owned();
        let waiting = std::thread::spawn(move || take(&home).map(|_| ()));
        drop(first);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn a_link_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        symlink("elsewhere", dir.path().join(FILE)).unwrap();
        assert!(make(dir.path()).is_err() && try_take(dir.path()).is_err());
        assert!(!dir.path().join("elsewhere").exists());
    }
}
