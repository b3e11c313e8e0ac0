//! *Lives here:* opening control FIFOs and reading small files below an opened directory. Neither
//! ever waits.
//!
//! *Does not live here:* their content, and the way to the directory (`gatevisor_paths::by_path`).

use gatevisor_paths::by_path;
use gatevisor_sys::clock::remaining;
use gatevisor_sys::file;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, OFlags, fstat},
    io::{Errno, write},
};
use std::{
    cell::RefCell,
    ffi::OsStr,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

/// The most bytes that a pipe takes in one piece.
///
/// **Source:** Linux `pipe(7)`, `PIPE_BUF`.
const WHOLE: usize = 4096;

thread_local! {
    /// Room for files that are read. Some may be long, nearly all are short, and a look at all
    /// services reads many.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// An opened directory, borrowed or owned.
#[derive(Debug)]
pub enum HeldDir<'a> {
    /// The caller owns the descriptor.
    Borrowed(BorrowedFd<'a>),
    /// This value owns the descriptor.
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

/// Opens the file at a path below another user's directory; a link at the path's end is not
/// followed.
pub(crate) fn file_in(directory: &impl AsFd, path: &'static str, access: OFlags) -> Result<OwnedFd, Errno> {
    Ok(by_path::rules().open(directory, path, access | OFlags::NOFOLLOW)?)
}

/// Returns the control FIFO at a path below a directory, opened for writing, or `None` if nobody
/// reads it or it does not exist.
///
/// A link in place of the FIFO could make a client with more rights write elsewhere.
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

/// Returns whether an open control FIFO still has a reader.
pub(crate) fn is_read(control: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(control, PollFlags::empty())];
    let at_once = Timespec::default();
    // If even this poll fails, the wait that follows reports it.
    poll(&mut fds, Some(&at_once)).is_err() || fds.iter().all(|fd| !fd.revents().contains(PollFlags::ERR))
}

/// Waits until an open control FIFO has no reader any more, or the deadline has passed.
pub(crate) fn until_unread(control: &OwnedFd, deadline: Option<Instant>) {
    while is_read(control) {
        let left = remaining(deadline);
        if left == Some(Timespec::default()) {
            return;
        }
        let _ = poll(&mut [PollFd::new(control, PollFlags::empty())], left.as_ref());
    }
}

/// Writes commands to an open control FIFO. An error of kind `BrokenPipe` means that the reader has
/// gone.
pub(crate) fn send(control: &OwnedFd, commands: &[u8]) -> io::Result<()> {
    for whole in commands.chunks(WHOLE) {
        // Up to PIPE_BUF bytes are written completely or not at all.
        while let Err(errno) = write(control, whole) {
            if errno != Errno::INTR {
                return Err(errno.into());
            }
        }
    }
    Ok(())
}

/// Returns the bytes of a regular file below a directory, or `None` if there are more than `N - 1`.
pub(crate) fn small<const N: usize>(
    directory: &impl AsFd,
    path: &'static str,
) -> Result<Option<Vec<u8>>, Errno> {
    small_with_file::<N>(directory, path).map(|(bytes, _)| bytes)
}

/// Does the same, and returns the opened file with the bytes.
pub(crate) fn small_with_file<const N: usize>(
    directory: &impl AsFd,
    path: &'static str,
) -> Result<(Option<Vec<u8>>, OwnedFd), Errno> {
    let parent = || {
        let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
        Ok(by_path::rules().open(directory, folder, OFlags::PATH | OFlags::DIRECTORY)?)
    };
    let file = file_in(directory, path, OFlags::RDONLY)?;
    let bytes = ROOM.with_borrow_mut(|room| {
        if room.len() < N {
            room.resize(N, 0);
        }
        let bytes = file::read_opened(&file, parent, room.get_mut(..N).unwrap_or_default())?;
        Ok::<_, Errno>((bytes.len() < N).then(|| bytes.to_vec()))
    })?;
    Ok((bytes, file))
}

/// Returns the bytes of a regular file in a directory, or `None` if there are more than `most - 1`.
pub(crate) fn small_named(folder: &impl AsFd, name: &OsStr, most: usize) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer = vec![0; most];
    let bytes = file::read_small(folder, name, &mut buffer)?;
    Ok((bytes.len() < most).then(|| bytes.to_vec()))
}
