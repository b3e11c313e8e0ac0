//! *Lives here:* opening control FIFOs and reading small files, neither of which may ever wait, below a directory that is held.
//!
//! *Does not live here:* what is in them, and the way to the directory (`gatevisor_paths::by_path`).

use gatevisor_paths::by_path;
use gatevisor_sys::file;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, OFlags, fstat},
    io::{Errno, write},
};
use std::{
    ffi::OsStr,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

/// The most bytes that a pipe takes in one piece.
///
/// **Source:** Linux `pipe(7)`, `PIPE_BUF`.
const WHOLE: usize = 4096;

/// A directory that is held: by whoever asks, or for as long as this is there.
#[derive(Debug)]
pub enum HeldDir<'a> {
    /// Held by somebody else.
    Borrowed(BorrowedFd<'a>),
    /// Held by this.
    Owned(OwnedFd),
}

impl AsFd for HeldDir<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Borrowed(fd) => *fd,
            Self::Owned(fd) => fd.as_fd(),
        }
    }
}

/// Opens the file itself, no link to one, at a path below a directory of somebody's.
pub(crate) fn file_in(directory: &impl AsFd, path: &'static str, access: OFlags) -> Result<OwnedFd, Errno> {
    Ok(by_path::rules().open(directory, path, access | OFlags::NOFOLLOW)?)
}

/// Returns the control FIFO at a path below a directory open for writing, or `None` if nobody reads it or there is none.
///
/// A link instead of the FIFO could make a client with more authority write elsewhere.
pub(crate) fn control(directory: &impl AsFd, path: &'static str) -> io::Result<Option<OwnedFd>> {
    let fd = match file_in(directory, path, OFlags::WRONLY) {
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

/// Returns the bytes of a regular file below a directory, or `None` if it has more than `N - 1`.
pub(crate) fn small<const N: usize>(
    directory: &impl AsFd,
    path: &'static str,
) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer = vec![0; N];
    let parent = || {
        let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
        Ok(by_path::rules().open(directory, folder, OFlags::PATH | OFlags::DIRECTORY)?)
    };
    let bytes = file::read_opened(&file_in(directory, path, OFlags::RDONLY)?, parent, &mut buffer)?;
    Ok((bytes.len() < N).then(|| bytes.to_vec()))
}

/// Returns the bytes of a regular file in a directory, or `None` if it has more than `most - 1`.
pub(crate) fn small_named(folder: &impl AsFd, name: &OsStr, most: usize) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer = vec![0; most];
    let bytes = file::read_small(folder, name, &mut buffer)?;
    Ok((bytes.len() < most).then(|| bytes.to_vec()))
}
