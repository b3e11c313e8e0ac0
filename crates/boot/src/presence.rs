//! What shows that the supervisor of this container lives: a lock on a file that the agent cannot move away.
//!
//! *Lives here:* taking it, and asking who has it. *Does not live here:* what follows from the answer (`gatevisor health`).
//!
//! The scandir and what is in it are the agent's to rename, so neither tells anything about the supervisor.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use gatevisor_sys::{Errno, file};
use gatevisor_wire::Pid;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, fcntl_lock, openat};
use rustix::process::{Flock, FlockType, fcntl_getlk};

/// The directory below that of all run-time files.
const DIRECTORY: &str = "s6";
/// The file in it.
const FILE: &str = "supervisor";

/// Takes the lock, which is held until this process ends, whatever it becomes.
///
/// # Errors
/// Another process has it, or the file cannot be made.
pub fn announce(root: &Path) -> io::Result<OwnedFd> {
    let directory = file::open_directory(CWD, root.join(DIRECTORY).as_path())?;
    // Not close-on-exec: the supervisor that this process becomes goes on holding it.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fd = openat(&directory, FILE, flags, Mode::from_raw_mode(0o644))?;
    fcntl_lock(&fd, FlockOperation::NonBlockingLockExclusive)?;
    Ok(fd)
}

/// Returns which process supervises the container that has its run-time files there.
///
/// # Errors
/// No supervisor ever said that it is there.
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
    fn whoever_announced_itself_is_found_until_it_ends() {
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
