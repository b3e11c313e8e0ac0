//! The lock that shows whether the supervisor of this container is alive, on a file that the agent
//! cannot move.
//!
//! *Lives here:* taking the lock, and asking who has it. *Does not live here:* what follows from
//! the answer (`gatevisor health`).
//!
//! The agent may rename the scandir and what is in it, so neither shows whether the supervisor is
//! alive.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use gatevisor_sys::{Errno, file};
use gatevisor_wire::Pid;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, fcntl_lock, openat};
use rustix::process::{Flock, FlockType, fcntl_getlk};

/// The directory below the one of all run-time files.
const DIRECTORY: &str = "s6";
/// The file in that directory.
const FILE: &str = "supervisor";

/// Takes the lock. It is held until this process ends, whatever program it becomes.
///
/// # Errors
/// Another process has the lock, or the file cannot be made.
pub fn announce(root: &Path) -> io::Result<OwnedFd> {
    let directory = file::open_directory(CWD, root.join(DIRECTORY).as_path())?;
    // Not close-on-exec: the supervisor that this process becomes must hold the lock.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fd = openat(&directory, FILE, flags, Mode::from_raw_mode(0o644))?;
    fcntl_lock(&fd, FlockOperation::NonBlockingLockExclusive)?;
    Ok(fd)
}

/// Returns the process that supervises the container with its run-time files below `root`.
///
/// # Errors
/// No supervisor has ever taken the lock.
pub fn supervisor(root: &Path) -> io::Result<Option<Pid>> {
    let path = root.join(DIRECTORY).join(FILE);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(CWD, &path, flags, Mode::empty())?;
    let held =
        fcntl_getlk(&fd, &Flock::from(FlockType::WriteLock))?.filter(|held| held.typ == FlockType::WriteLock);
    held.map(|held| held.pid.and_then(|pid| Pid::new(pid.as_raw_nonzero().get())).ok_or(Errno::SRCH))
        .transpose()
        .map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::{announce, supervisor};

    #[test]
    fn a_supervisor_that_announced_itself_is_found_until_it_ends() {
        let root = tempfile::tempdir().unwrap();
        assert!(supervisor(root.path()).is_err(), "nobody ever did");
        std::fs::create_dir(root.path().join("s6")).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let path = root.path().to_owned();
        let child = gatevisor_sys::process::fork_child(|| {
            let held = announce(&path);
            let _ = std::io::Write::write_all(&mut writer, if held.is_ok() { b"y" } else { b"n" });
            let _ = rustix::event::poll(&mut [], None);
            0
        })
        .unwrap();
        let mut said = [0];
        std::io::Read::read_exact(&mut { reader }, &mut said).unwrap();
        assert_eq!(&said, b"y");
        let found = supervisor(root.path()).unwrap().unwrap();
        assert_eq!(found.get(), child.as_raw_nonzero().get());
        rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
        rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty()).unwrap();
        assert_eq!(supervisor(root.path()).unwrap(), None);
    }
}
