//! *Lives here:* opening control FIFOs and reading small files, neither of which may ever wait.
//!
//! *Does not live here:* what is in them.

use gatevisor_sys::file;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, FileType, Mode, OFlags, fstat, open},
    io::{Errno, write},
};
use std::{io, os::fd::OwnedFd, path::Path};

/// The most bytes that a pipe takes in one piece.
///
/// **Source:** Linux `pipe(7)`, `PIPE_BUF`.
const WHOLE: usize = 4096;

/// Returns the control FIFO open for writing, or `None` if nobody reads it or there is none.
pub(crate) fn control(fifo: &Path) -> io::Result<Option<OwnedFd>> {
    // A link instead of the FIFO could make a client with more authority write elsewhere.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match open(fifo, flags, Mode::empty()) {
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
    let bytes = file::read_small(CWD, path, &mut buffer)?;
    Ok((bytes.len() < N).then(|| bytes.to_vec()))
}
