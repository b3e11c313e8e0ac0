//! The destinations of lines that are not log directories.
//!
//! *Lives here:* standard output, with bytes held back while nobody reads it; status files.
//! *Does not live here:* which lines go there.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use memchr::memrchr;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::{Errno, write};

/// The most bytes that a writable pipe accepts without blocking.
const PIECE: usize = 4096;

/// Standard output.
#[derive(Debug)]
pub(super) struct Stdout<'a> {
    fd: BorrowedFd<'a>,
    pub(super) held: Vec<u8>,
    /// Whether it is a regular file, which accepts everything.
    takes_all: bool,
    gone: bool,
}

impl<'a> Stdout<'a> {
    pub(super) fn new(fd: BorrowedFd<'a>) -> Self {
        let takes_all =
            fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        Self { fd, held: Vec::new(), takes_all, gone: false }
    }

    /// Returns whether it will never have a reader again.
    pub(super) const fn is_gone(&self) -> bool {
        self.gone
    }

    pub(super) const fn fd(&self) -> BorrowedFd<'a> {
        self.fd
    }

    /// Writes the held bytes, as far as that does not block; short lines are written whole.
    ///
    /// # Errors
    /// It is closed. Held bytes are discarded, and so will be later ones.
    pub(super) fn flush(&mut self) -> Result<(), Errno> {
        let mut written: usize = 0;
        let outcome = loop {
            let rest = self.held.get(written..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            let piece = if self.takes_all { rest } else { piece_of(rest) };
            match self.ready().and_then(|ready| if ready { write(self.fd, piece) } else { Ok(0) }) {
                Ok(0) | Err(Errno::AGAIN) => break Ok(()),
                Ok(n) => written = written.saturating_add(n),
                Err(Errno::INTR) => {}
                Err(errno) => break Err(errno),
            }
        };
        if written == self.held.len() {
            self.held.clear();
        } else {
            self.held.drain(..written);
        }
        if outcome.is_err() {
            self.gone = true;
            self.held = Vec::new();
        }
        outcome
    }

    fn ready(&self) -> Result<bool, Errno> {
        if self.takes_all {
            return Ok(true);
        }
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::from_borrowed_fd(self.fd, PollFlags::OUT)];
        Ok(poll(&mut fds, Some(&now))? > 0)
    }
}

impl AsFd for Stdout<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}

/// Returns the first lines that fit into a piece, or a piece of the first line.
fn piece_of(bytes: &[u8]) -> &[u8] {
    let fits = bytes.get(..PIECE).unwrap_or(bytes);
    memrchr(b'\n', fits).and_then(|end| bytes.get(..=end)).unwrap_or(fits)
}

/// Replaces a status file by this text, cut or padded with newlines to `size` bytes unless `size`
/// is 0.
pub(super) fn write_status(file: &Path, mut text: Vec<u8>, size: usize) -> Result<(), Errno> {
    if size > 0 {
        text.resize(size, b'\n');
    }
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = rustix::fs::open(&new, flags, Mode::from_raw_mode(0o666))?;
    gatevisor_sys::file::write_all(opened, &text).and_then(|()| rustix::fs::rename(&new, file)).inspect_err(
        |_| {
            let _ = rustix::fs::unlink(&new);
        },
    )
}

#[cfg(test)]
mod tests {
    use super::{PIECE, piece_of, write_status};
    use std::fs;

    #[test]
    fn pieces_are_whole_lines_where_lines_are_short() {
        assert_eq!(piece_of(b"a\nb\nc"), b"a\nb\n");
        assert_eq!(piece_of(b"abc"), b"abc");
        let mut long = vec![b'x'; PIECE + 5];
        assert_eq!(piece_of(&long).len(), PIECE);
        long[10] = b'\n';
        assert_eq!(piece_of(&long).len(), 11);
    }

    #[test]
    fn a_status_file_has_its_size() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("status");
        for (size, expected) in [(5, "abcde"), (9, "abcdefgh\n"), (11, "abcdefgh\n\n\n"), (0, "abcdefgh\n")] {
            write_status(&file, b"abcdefgh\n".to_vec(), size).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), expected);
        }
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    }
}
