//! *Lives here:* opening control FIFOs and reading small files, neither of which may ever wait, and the way to either.
//!
//! *Does not live here:* what is in them.

use gatevisor_paths::home::root_of_a_process;
use gatevisor_paths::{Links, Mounts, Resolver};
use gatevisor_sys::file;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, Mode, OFlags, fstat, open, openat},
    io::{Errno, write},
    process::geteuid,
};
use std::{
    ffi::OsStr,
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf, absolute},
    time::Instant,
};

/// The most bytes that a pipe takes in one piece.
///
/// **Source:** Linux `pipe(7)`, `PIPE_BUF`.
const WHOLE: usize = 4096;

/// Returns the directory that a path leads through last, held without being read, and the path's last component.
///
/// Whoever owns a directory on the way can put a link there. Root follows those only that are root's or belong to the owner of
/// their target, as the supervisor does: what root makes or writes at the end of the way would be somewhere else otherwise.
pub fn parent(path: &Path) -> Result<(OwnedFd, &OsStr), Errno> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory(parent.unwrap_or(Path::new("."))).map(|parent| (parent, name))
}

/// Returns a directory, held without being read, to which root is led as to one in [`parent`].
pub fn directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if !geteuid().is_root() {
        return open(path, flags, Mode::empty());
    }
    let path = absolute(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    let resolver = Resolver::READING.following(Links::RootsOrOwnersOfTarget);
    let opened = |before: OwnedFd, below: &Path, resolver: Resolver| {
        resolver.open(before, below, OFlags::PATH | OFlags::DIRECTORY).map_err(|error| error.errno())
    };
    if let Some((root, below)) = root_of_a_process(&path) {
        let resolver = resolver.crossing(Mounts::All);
        return if below.as_os_str().is_empty() { Ok(root) } else { opened(root, below, resolver) };
    }
    let parts: Vec<Component<'_>> = path.components().collect();
    // What `..` means depends on what is before it, which is the caller's own choice.
    let begin = parts.iter().rposition(|part| matches!(part, Component::ParentDir | Component::RootDir));
    let (before, below) =
        parts.split_at_checked(begin.map_or(0, |at| at.saturating_add(1))).unwrap_or_default();
    let before = open(before.iter().collect::<PathBuf>(), flags, Mode::empty())?;
    if below.is_empty() {
        return Ok(before);
    }
    opened(before, &below.iter().collect::<PathBuf>(), resolver)
}

/// Returns the control FIFO open for writing, or `None` if nobody reads it or there is none.
pub(crate) fn control(fifo: &Path) -> io::Result<Option<OwnedFd>> {
    // A link instead of the FIFO could make a client with more authority write elsewhere.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = parent(fifo).and_then(|(parent, name)| openat(parent, name, flags, Mode::empty()));
    let fd = match opened {
        Ok(fd) => fd,
        Err(Errno::NXIO | Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    if FileType::from_raw_mode(fstat(&fd)?.st_mode).is_fifo() {
        Ok(Some(fd))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a FIFO"))
    }
}

/// Returns whether somebody still reads an open control FIFO.
pub(crate) fn is_read(control: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(control, PollFlags::empty())];
    let at_once = Timespec::default();
    // If even this fails, the wait that follows will say so.
    poll(&mut fds, Some(&at_once)).is_err() || fds.iter().all(|fd| !fd.revents().contains(PollFlags::ERR))
}

/// Waits until nobody reads an open control FIFO any more, or the deadline has passed.
pub(crate) fn until_unread(control: &OwnedFd, deadline: Option<Instant>) {
    while is_read(control) {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return;
        }
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let _ = poll(&mut [PollFd::new(control, PollFlags::empty())], timeout.as_ref());
    }
}

/// Writes commands to an open control FIFO; an error of kind `BrokenPipe` says that the reader has gone.
pub(crate) fn send(control: &OwnedFd, commands: &[u8]) -> io::Result<()> {
    for whole in commands.chunks(WHOLE) {
        // Up to PIPE_BUF bytes go in whole or not at all.
        while let Err(errno) = write(control, whole) {
            if errno != Errno::INTR {
                return Err(errno.into());
            }
        }
    }
    Ok(())
}

/// Returns the bytes of a regular file, or `None` if it has more than `N - 1`.
pub(crate) fn small<const N: usize>(path: &Path) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer = vec![0; N];
    let (parent, name) = parent(path)?;
    let bytes = file::read_small(parent, name, &mut buffer)?;
    Ok((bytes.len() < N).then(|| bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::unix::fs::{lchown, symlink},
    };

    #[test]
    fn root_is_led_by_links_of_its_own_and_of_the_owner_of_their_target_and_by_no_others() {
        if !geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let agent = 54_321;
        let [roots, agents, slot] = ["roots", "agents", "slot"].map(|name| temp.path().join(name));
        for made in [&roots, &agents, &slot] {
            fs::create_dir(made).unwrap();
        }
        lchown(&agents, Some(agent), Some(agent)).unwrap();
        let link = |target: &Path, owner: u32| {
            let at = slot.join("event");
            let _ = fs::remove_file(&at);
            symlink(target, &at).unwrap();
            lchown(&at, Some(owner), Some(owner)).unwrap();
            directory(&at)
        };
        assert_eq!(link(&roots, agent).unwrap_err(), Errno::LOOP);
        assert!(link(&roots, 0).is_ok() && link(&agents, 0).is_ok() && link(&agents, agent).is_ok());
        // Nor is it led through such a link, or by one with other words for the same way.
        assert_eq!(link(temp.path(), agent).unwrap_err(), Errno::LOOP);
        assert_eq!(directory(&slot.join("event/roots")).unwrap_err(), Errno::LOOP);
        assert_eq!(parent(&slot.join("event/roots/file")).unwrap_err(), Errno::LOOP);
        assert!(directory(&slot.join("../roots")).is_ok());
        assert_eq!(directory(&slot.join("../slot/event")).unwrap_err(), Errno::LOOP);
        assert!(directory(Path::new("/")).is_ok() && directory(Path::new(".")).is_ok());
    }
}
