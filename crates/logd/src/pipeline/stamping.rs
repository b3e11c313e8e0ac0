//! Puts stamps on the lines of a stream for the file, where nothing is lost.
//!
//! *Lives here:* a splitter that works on any chunking of a stream. No I/O.
//! *Does not live here:* the source and the destination of the bytes; lines that are shown
//! (`console::pieces`).

use memchr::memchr;

/// Puts a stamp before each line of a stream that goes into a file.
///
/// The stamp is put before the first byte of a line, so a line that arrives in parts has the time
/// of its first part. Otherwise no byte is added, lost or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamping {
    mid_line: bool,
}

impl Stamping {
    /// Returns the state at the beginning of a stream.
    pub const fn new() -> Self {
        Self { mid_line: false }
    }

    /// Returns the state in the middle of a line, or at the beginning of one.
    pub const fn at(mid_line: bool) -> Self {
        Self { mid_line }
    }

    /// Returns whether the stream stopped in the middle of a line.
    pub const fn is_mid_line(self) -> bool {
        self.mid_line
    }

    /// Appends `chunk` to `out`, with `stamp` before each line that begins in it.
    pub fn compose(&mut self, chunk: &[u8], stamp: &[u8], out: &mut Vec<u8>) {
        let Some(last) = chunk.last() else { return };
        if stamp.is_empty() {
            out.extend_from_slice(chunk);
            self.mid_line = *last != b'\n';
            return;
        }
        let mut rest = chunk;
        while !rest.is_empty() {
            if !self.mid_line {
                out.extend_from_slice(stamp);
            }
            let (line, after) = split_line(rest);
            out.extend_from_slice(line);
            self.mid_line = after.is_empty() && *last != b'\n';
            rest = after;
        }
    }
}

/// Splits after the first newline; without one, everything is the line.
pub(crate) fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr(b'\n', bytes).map_or(bytes.len(), |at| at.saturating_add(1));
    bytes.split_at_checked(end).unwrap_or((bytes, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn composed(chunks: &[&[u8]]) -> String {
        let mut stamping = Stamping::new();
        let mut out = Vec::new();
        for (number, chunk) in chunks.iter().enumerate() {
            stamping.compose(chunk, format!("<{number}>").as_bytes(), &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_line_bears_the_stamp_of_its_first_byte() {
        assert_eq!(composed(&[b"a\nb\n", b"c\n"]), "<0>a\n<0>b\n<1>c\n");
        assert_eq!(composed(&[b"a", b"", b"b\nc", b"\n", b"d\n"]), "<0>ab\n<2>c\n<4>d\n");
        assert_eq!(composed(&[b"\n\n", b"\n"]), "<0>\n<0>\n<1>\n");
        assert_eq!(composed(&[b"a\n", b"", b"b"]), "<0>a\n<2>b");
    }

    fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![3 => Just(b'\n'), 5 => Just(b'a'), 1 => any::<u8>()];
        let small = proptest::collection::vec(byte, 0..40);
        let large = (0..20_000usize, any::<u8>()).prop_map(|(n, b)| vec![b; n]);
        proptest::collection::vec(prop_oneof![4 => small, 1 => large], 0..12)
    }

    proptest! {
        #[test]
        fn stamps_are_all_that_a_file_adds(chunks in chunks()) {
            let whole = chunks.concat();
            let mut stamping = Stamping::new();
            let mut out = Vec::new();
            for chunk in &chunks {
                stamping.compose(chunk, b"\x01STAMP\x01", &mut out);
            }
            prop_assert_eq!(stamping.is_mid_line(), whole.last().is_some_and(|b| *b != b'\n'));
            let mut expected = Vec::new();
            for line in whole.split_inclusive(|b| *b == b'\n') {
                expected.extend_from_slice(b"\x01STAMP\x01");
                expected.extend_from_slice(line);
            }
            prop_assert_eq!(out, expected);
        }
    }
}
