//! Reads the lines of one file forwards from an offset.
//!
//! *Lives here:* a buffer over an input.
//! *Does not live here:* which file comes next, and where its last lines begin.

use std::ops::Range;
use std::os::fd::OwnedFd;

use memchr::memchr;
use rustix::io::Errno;

use crate::input::{InputError, LogInput};

/// The longest piece of a line that is given at once.
pub(crate) const LONGEST: usize = 1 << 20;

/// Reads the lines of a file that may grow.
#[derive(Debug)]
pub(crate) struct LineReader {
    input: LogInput,
    buffer: Vec<u8>,
    /// The offset in the file at which the buffer begins.
    start: u64,
    /// The index in the buffer at which the next line begins.
    next: usize,
    /// The part of the buffer, up to this index, that has no newline.
    searched: usize,
    damage: Option<String>,
}

impl LineReader {
    /// Returns a reader whose first line begins at `offset`, where the input begins.
    pub fn new(input: LogInput, offset: u64) -> Self {
        Self { input, start: offset, buffer: Vec::new(), next: 0, searched: 0, damage: None }
    }

    /// Returns the file, unless it is compressed.
    pub fn file(&self) -> Option<&OwnedFd> {
        self.input.file()
    }

    /// Returns the file, unless it is compressed, and ends the reader.
    pub fn into_file(self) -> Option<OwnedFd> {
        self.input.into_file()
    }

    /// Returns the offset of the next line in the file.
    pub fn offset(&self) -> u64 {
        self.start.saturating_add(u64::try_from(self.next).unwrap_or(0))
    }

    /// Returns, once, why the file could not be read to its end.
    pub fn take_damage(&mut self) -> Option<String> {
        self.damage.take()
    }

    /// Returns the bytes of a line that [`LineReader::next`] or [`LineReader::rest`] found.
    pub fn line(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    /// Returns the next complete line without its newline, or `None` if there is none.
    pub fn next(&mut self) -> Result<Option<Range<usize>>, Errno> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = memchr(b'\n', unsearched) {
                let end = self.searched.saturating_add(at);
                let line = self.next..end;
                self.next = end.saturating_add(1);
                self.searched = self.next;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len().saturating_sub(self.next) >= LONGEST {
                return Ok(self.rest());
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Returns the bytes after the last newline, if there are any, and counts them as read.
    pub fn rest(&mut self) -> Option<Range<usize>> {
        let rest = self.next..self.buffer.len();
        self.next = rest.end;
        self.searched = rest.end;
        (!rest.is_empty()).then_some(rest)
    }

    /// Reads more; returns whether there was anything.
    fn fill(&mut self) -> Result<bool, Errno> {
        let read = self.next.min(self.buffer.len());
        self.buffer.drain(..read);
        self.start = self.start.saturating_add(u64::try_from(read).unwrap_or(0));
        self.searched = self.searched.saturating_sub(self.next);
        self.next = 0;
        match self.input.read_into(&mut self.buffer) {
            Ok(n) => Ok(n > 0),
            Err(InputError::System(errno)) => Err(errno),
            Err(InputError::Damaged(why)) => {
                self.damage = Some(why);
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Form;
    use std::io::Write;

    fn reader_of(file: std::fs::File) -> LineReader {
        LineReader::new(LogInput::new(file.into(), Form::Plain, 0), 0)
    }

    #[test]
    fn a_file_may_grow_in_the_middle_of_a_line() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"one\ntw").unwrap();
        let mut reader = reader_of(file.reopen().unwrap());
        let line = |reader: &mut LineReader| {
            reader.next().unwrap().map(|range| String::from_utf8(reader.line(range).to_vec()).unwrap())
        };
        assert_eq!(line(&mut reader).as_deref(), Some("one"));
        assert_eq!(line(&mut reader), None);
        file.write_all(b"o\n\n").unwrap();
        assert_eq!(reader.offset(), 4);
        assert_eq!(line(&mut reader).as_deref(), Some("two"));
        assert_eq!(reader.offset(), 8);
        assert_eq!(line(&mut reader).as_deref(), Some(""));
        assert_eq!(line(&mut reader), None);
        assert_eq!(reader.rest(), None);
    }

    #[test]
    fn a_line_without_an_end_is_given_in_pieces() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![b'x'; 3 * LONGEST + 7]).unwrap();
        let mut reader = reader_of(file);
        let mut pieces = Vec::new();
        while let Some(range) = reader.next().unwrap() {
            pieces.push(range.len());
        }
        pieces.extend(reader.rest().map(|range| range.len()));
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| *piece <= LONGEST + (64 << 10)));
        assert_eq!(pieces.iter().sum::<usize>(), 3 * LONGEST + 7);
    }
}
