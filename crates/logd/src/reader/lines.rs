//! Lines of one file, forwards from an offset, and the offset of its last lines.
//!
//! *Lives here:* a buffer over a descriptor. *Does not live here:* which file comes next.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use memchr::{memchr, memrchr_iter};
use rustix::io::{Errno, pread};

/// Bytes read at once.
const BLOCK: usize = 64 << 10;
/// Longest piece of a line that is given at once.
const LONGEST: usize = 1 << 20;

/// Reads the lines of a file that may grow.
#[derive(Debug)]
pub(crate) struct LineReader {
    file: OwnedFd,
    /// Where in the file the buffer ends.
    offset: u64,
    buffer: Vec<u8>,
    /// Where in the buffer the next line begins.
    next: usize,
    /// How far the buffer was searched for a newline in vain.
    searched: usize,
}

impl LineReader {
    /// Returns a reader whose first line begins at `offset`.
    pub fn new(file: OwnedFd, offset: u64) -> Self {
        Self { file, offset, buffer: Vec::new(), next: 0, searched: 0 }
    }

    /// Returns the file.
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Returns the file, which is read no further.
    pub fn into_file(self) -> OwnedFd {
        self.file
    }

    /// Returns the bytes of a line that [`LineReader::next`] or [`LineReader::rest`] found.
    pub fn line(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    /// Returns the next whole line without its newline, or `None` while there is none.
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

    /// Returns what follows the last newline, if anything, and counts it as read.
    pub fn rest(&mut self) -> Option<Range<usize>> {
        let rest = self.next..self.buffer.len();
        self.next = rest.end;
        self.searched = rest.end;
        (!rest.is_empty()).then_some(rest)
    }

    /// Reads on; returns whether anything came.
    fn fill(&mut self) -> Result<bool, Errno> {
        self.buffer.drain(..self.next.min(self.buffer.len()));
        self.searched = self.searched.saturating_sub(self.next);
        self.next = 0;
        self.buffer.reserve(BLOCK);
        let n = loop {
            match pread(&self.file, rustix::buffer::spare_capacity(&mut self.buffer), self.offset) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        self.offset = self.offset.saturating_add(u64::try_from(n).unwrap_or(0));
        Ok(n > 0)
    }
}

/// Where the last lines of a file begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The offset of the first of them.
    pub offset: u64,
    /// How many there are, at most as many as wanted.
    pub lines: usize,
}

/// Returns where the last `wanted` lines of a file begin.
///
/// What follows the last newline is a line only if `counts_rest`; otherwise reading begins so that it comes whole.
pub(crate) fn tail(file: impl AsFd, wanted: usize, counts_rest: bool) -> Result<Tail, Errno> {
    let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
    let has_rest = size > 0 && read_exact(&file, size.saturating_sub(1), 1)? != b"\n";
    let rest_counts = has_rest && counts_rest;
    if wanted == 0 && (counts_rest || !has_rest) {
        return Ok(Tail { offset: size, lines: 0 });
    }
    // The newline before the first wanted line is this many newlines from the end.
    let target = if rest_counts { wanted } else { wanted.saturating_add(1) };
    let mut seen: usize = 0;
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(u64::try_from(BLOCK).unwrap_or(u64::MAX));
        let block = read_exact(&file, start, usize::try_from(end.saturating_sub(start)).unwrap_or(BLOCK))?;
        for at in memrchr_iter(b'\n', &block) {
            seen = seen.saturating_add(1);
            if seen == target {
                let offset = start.saturating_add(u64::try_from(at).unwrap_or(0)).saturating_add(1);
                return Ok(Tail { offset, lines: wanted });
            }
        }
        end = start;
    }
    Ok(Tail { offset: 0, lines: seen.saturating_add(usize::from(rest_counts)) })
}

/// Reads `len` bytes at `offset`, or fewer if the file is shorter.
fn read_exact(file: impl AsFd, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len];
    let mut filled: usize = 0;
    while let Some(room) = bytes.get_mut(filled..)
        && !room.is_empty()
    {
        match pread(&file, room, offset.saturating_add(u64::try_from(filled).unwrap_or(0))) {
            Ok(0) => break,
            Ok(n) => filled = filled.saturating_add(n),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn file_of(bytes: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn lines_from(bytes: &[u8], offset: u64) -> Vec<Vec<u8>> {
        let mut reader = LineReader::new(file_of(bytes).into(), offset);
        let mut lines = Vec::new();
        while let Some(range) = reader.next().unwrap() {
            lines.push(reader.line(range).to_vec());
        }
        lines.extend(reader.rest().map(|range| reader.line(range).to_vec()));
        lines
    }

    #[test]
    fn the_last_lines_begin_where_they_begin() {
        let text = b"one\ntwo\nthree\n";
        for (wanted, offset, lines) in [(0, 14, 0), (1, 8, 1), (2, 4, 2), (3, 0, 3), (9, 0, 3)] {
            for counts_rest in [true, false] {
                assert_eq!(tail(file_of(text), wanted, counts_rest).unwrap(), Tail { offset, lines });
            }
        }
        let text = b"one\ntwo\nrest";
        for (wanted, offset, lines) in [(0, 12, 0), (1, 8, 1), (2, 4, 2), (9, 0, 3)] {
            assert_eq!(tail(file_of(text), wanted, true).unwrap(), Tail { offset, lines }, "{wanted}");
        }
        for (wanted, offset, lines) in [(0, 8, 0), (1, 4, 1), (2, 0, 2), (9, 0, 2)] {
            assert_eq!(tail(file_of(text), wanted, false).unwrap(), Tail { offset, lines }, "{wanted}");
        }
        assert_eq!(tail(file_of(b""), 5, true).unwrap(), Tail { offset: 0, lines: 0 });
        assert_eq!(tail(file_of(b"rest"), 0, false).unwrap(), Tail { offset: 0, lines: 0 });
    }

    #[test]
    fn a_file_may_grow_in_the_middle_of_a_line() {
        let file = file_of(b"one\ntw");
        let mut reader = LineReader::new(file.try_clone().unwrap().into(), 0);
        let line = |reader: &mut LineReader| {
            reader.next().unwrap().map(|range| String::from_utf8(reader.line(range).to_vec()).unwrap())
        };
        assert_eq!(line(&mut reader).as_deref(), Some("one"));
        assert_eq!(line(&mut reader), None);
        (&file).write_all(b"o\n\n").unwrap();
        assert_eq!(line(&mut reader).as_deref(), Some("two"));
        assert_eq!(line(&mut reader).as_deref(), Some(""));
        assert_eq!(line(&mut reader), None);
        assert_eq!(reader.rest(), None);
    }

    #[test]
    fn a_line_without_an_end_is_given_in_pieces() {
        let lines = lines_from(&vec![b'x'; 3 * LONGEST + 7], 0);
        assert!(lines.len() > 2 && lines.iter().all(|line| line.len() <= LONGEST + BLOCK));
        assert_eq!(lines.concat().len(), 3 * LONGEST + 7);
    }

    proptest! {
        #[test]
        fn reading_from_the_tail_gives_the_last_lines(
            text in "([a-c]{0,5}\n){0,30}[a-c]{0,5}",
            long in 0..3usize,
            wanted in 0..40usize,
            counts_rest in any::<bool>(),
        ) {
            // Some of the lines are longer than a block.
            let text = format!("{}\n{text}", "x".repeat(long * 50_000)).into_bytes();
            let found = tail(file_of(&text), wanted, counts_rest).unwrap();
            let mut all: Vec<Vec<u8>> = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            let rest = all.pop().filter(|rest| !rest.is_empty());
            let counted = all.len() + usize::from(rest.is_some() && counts_rest);
            all.extend(rest.clone());
            let lines = wanted.min(counted);
            prop_assert_eq!(found.lines, lines);
            let extra = usize::from(rest.is_some() && !counts_rest);
            prop_assert_eq!(lines_from(&text, found.offset), all[all.len() - lines - extra..].to_vec());
        }
    }
}
