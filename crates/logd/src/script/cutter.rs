//! Cuts bytes into lines of limited length.
//!
//! *Lives here:* cutting any chunking of a stream. No I/O.
//! *Does not live here:* the processing of a line.

use memchr::memchr;

/// Cuts a stream into lines.
#[derive(Debug)]
pub(super) struct Cutter {
    /// The beginning of the unfinished line.
    begun: Vec<u8>,
    limit: usize,
}

impl Cutter {
    /// Returns a cutter for lines of at most `limit` bytes, without their newlines.
    pub(super) const fn new(limit: usize) -> Self {
        Self { begun: Vec::new(), limit }
    }

    /// Returns whether a line has begun and not ended.
    pub(super) const fn is_mid_line(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Handles the next bytes, and passes each line that is complete or too long to `take`, without
    /// its newline.
    pub(super) fn feed(&mut self, chunk: &[u8], take: &mut impl FnMut(&[u8])) {
        let mut rest = chunk;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            rest = after.get(1..).unwrap_or_default();
            if self.begun.is_empty() {
                let last = self.cut(line, take);
                take(last);
            } else {
                self.begin(line, take);
                self.finish(take);
            }
        }
        if !rest.is_empty() {
            self.begin(rest, take);
        }
    }

    /// Ends the unfinished line, whatever it holds.
    pub(super) fn finish(&mut self, take: &mut impl FnMut(&[u8])) {
        let mut line = std::mem::take(&mut self.begun);
        take(&line);
        line.clear();
        self.begun = line;
    }

    /// Adds to the unfinished line, and passes on the bytes that exceed the limit.
    fn begin(&mut self, bytes: &[u8], take: &mut impl FnMut(&[u8])) {
        let mut line = std::mem::take(&mut self.begun);
        line.extend_from_slice(bytes);
        let left = self.cut(&line, take).len();
        line.drain(..line.len().saturating_sub(left));
        self.begun = line;
    }

    /// Passes on the part of a line that exceeds the limit, and returns the rest, which is not
    /// empty unless the line is.
    fn cut<'a>(&self, line: &'a [u8], take: &mut impl FnMut(&[u8])) -> &'a [u8] {
        let mut rest = line;
        while rest.len() > self.limit
            && let Some((piece, after)) = rest.split_at_checked(self.limit)
        {
            take(piece);
            rest = after;
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::Cutter;
    use proptest::prelude::*;

    fn lines(limit: usize, chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut cutter = Cutter::new(limit);
        let mut out = Vec::new();
        let mut take = |line: &[u8]| out.push(line.to_vec());
        for chunk in chunks {
            cutter.feed(chunk, &mut take);
        }
        if cutter.is_mid_line() {
            cutter.finish(&mut take);
        }
        out
    }

    #[test]
    fn lines_are_cut_where_they_are_too_long() {
        let text = |parts: &[&str]| parts.iter().map(|p| p.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(
            lines(3, &[b"a\n\nabc\nabcd\nabcdef\n"]),
            text(&["a", "", "abc", "abc", "d", "abc", "def"])
        );
        assert_eq!(lines(3, &[b"ab", b"c", b"\n", b"abc", b"d", b"e"]), text(&["abc", "abc", "de"]));
    }

    proptest! {
        #[test]
        fn how_the_bytes_arrive_does_not_matter(
            text in proptest::collection::vec(prop_oneof![1 => Just(b'\n'), 4 => any::<u8>()], 0..200),
            limit in 1..20_usize,
            size in 1..50_usize,
        ) {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            let cut = lines(limit, &chunks);
            prop_assert_eq!(&cut, &lines(limit, &[&text]));
            prop_assert!(cut.iter().all(|line| line.len() <= limit));
            let mut without: Vec<u8> = cut.concat();
            without.retain(|b| *b != b'\n');
            let mut expected = text.clone();
            expected.retain(|b| *b != b'\n');
            prop_assert_eq!(without, expected);
        }
    }
}
