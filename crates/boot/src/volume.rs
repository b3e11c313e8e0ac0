//! Which of the containers that have the same home runs its gateways: the one that holds the lock of the home.
//!
//! *Lives here:* the lock. *Does not live here:* what follows from having it or not.
//!
//! It is held by an open file, so it ends with the process that has it, however that ends, and nobody has to clean up.
//!
//! **Source:** L-23; flock(2).

use std::os::fd::{AsFd, OwnedFd};

use gatevisor_paths::{Errno, Resolver, look};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::{FdFlags, fcntl_setfd};

/// The file in the home.
pub const FILE: &str = gatevisor_gateways::profile::LOCK;

/// Makes the file of the lock, as the agent's user; one that is there stays.
pub fn make(home: impl AsFd) -> Result<(), Errno> {
    Ok(Resolver::STRICT.create(home, FILE, OFlags::WRONLY, Mode::from_raw_mode(0o644)).map(drop)?)
}

/// Returns the lock, which is held until it is closed, here and in whatever this process becomes; `None` where another
/// process has it.
pub fn try_take(home: impl AsFd) -> Result<Option<OwnedFd>, Errno> {
    let fd = open(home)?;
    match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(fd)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Waits for the lock, for as long as another process has it, and returns it.
pub fn take(home: impl AsFd) -> Result<OwnedFd, Errno> {
    let fd = open(home)?;
    loop {
        match flock(&fd, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(fd),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn open(home: impl AsFd) -> Result<OwnedFd, Errno> {
    let fd = Resolver::STRICT.open(home, FILE, OFlags::RDONLY)?;
    if !look(&fd)?.kind().is_file() {
        return Err(Errno::INVAL);
    }
    // The supervisor that this process becomes goes on holding it.
    fcntl_setfd(&fd, FdFlags::empty())?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::{FILE, make, take, try_take};
    use gatevisor_paths::OpenHome;
    use std::os::unix::fs::symlink;

    #[test]
    fn one_has_it_and_the_next_when_that_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let home = OpenHome::open(dir.path()).unwrap();
        assert!(try_take(&home).is_err(), "nobody made it");
        make(&home).unwrap();
        make(&home).unwrap();
        let first = try_take(&home).unwrap().unwrap();
        assert!(try_take(&home).unwrap().is_none());
        let waiting = std::thread::spawn(move || take(&home).map(|_| ()));
        drop(first);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn a_link_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        symlink("elsewhere", dir.path().join(FILE)).unwrap();
        let home = OpenHome::open(dir.path()).unwrap();
        assert!(make(&home).is_err() && try_take(&home).is_err());
        assert!(!dir.path().join("elsewhere").exists());
    }
}
