//! Cuts a stream into pieces to be shown: whole lines, and parts of lines that are too long.
//!
//! *Lives here:* a splitter that works on any chunking of a stream. No I/O.
//! *Does not live here:* the source and the destination of the bytes; lines for the file
//! (`pipeline::stamping`).

use memchr::memchr;

/// The longest line in bytes that is shown in one piece.
pub const SHOWN: usize = 8192;

/// A line, or a part of a line that is too long to be shown as a whole; without its newline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The part that arrived before.
    pub kept: &'a [u8],
    /// The part that arrived now.
    pub fresh: &'a [u8],
    /// Whether the beginning of the line was in an earlier piece.
    pub continued: bool,
    /// Whether the end of the line will be in a later piece.
    pub continues: bool,
}

/// The output of [`Showing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shred<'a> {
    /// A piece to be shown.
    Piece(Piece<'a>),
    /// The end of a line whose beginning is lost, and which is not shown.
    LostEnd,
}

/// Cuts a stream into pieces to be shown: whole lines, and parts of lines longer than [`SHOWN`]
/// bytes.
#[derive(Debug, Default)]
pub struct Showing {
    kept: Vec<u8>,
    continued: bool,
    /// Whether the unfinished line is not shown, because its beginning is lost.
    lost: bool,
}

impl Showing {
    /// Returns the state at the beginning of a stream.
    pub const fn new() -> Self {
        Self { kept: Vec::new(), continued: false, lost: false }
    }

    /// Returns the state in the middle of a line that must not be shown.
    pub const fn after_a_loss() -> Self {
        Self { kept: Vec::new(), continued: false, lost: true }
    }

    /// Returns whether the last line has no end yet.
    pub fn is_mid_line(&self) -> bool {
        !self.kept.is_empty() || self.continued || self.lost
    }

    /// Handles the next bytes of the stream, and passes each completed piece to `show`.
    pub fn feed(&mut self, chunk: &[u8], show: &mut impl FnMut(Shred<'_>)) {
        let mut rest = chunk;
        if self.lost {
            let Some(newline) = memchr(b'\n', rest) else { return };
            rest = rest.get(newline.saturating_add(1)..).unwrap_or_default();
            self.lost = false;
            show(Shred::LostEnd);
        }
        while !rest.is_empty() {
            let newline = memchr(b'\n', rest);
            let body = newline.unwrap_or(rest.len());
            let room = SHOWN.saturating_sub(self.kept.len());
            if body > room {
                let (fresh, after) = rest.split_at_checked(cut_before(rest, room)).unwrap_or((rest, &[]));
                self.show(fresh, true, show);
                rest = after;
            } else if newline.is_some() {
                let (fresh, after) = rest.split_at_checked(body).unwrap_or((rest, &[]));
                self.show(fresh, false, show);
                rest = after.get(1..).unwrap_or_default();
            } else {
                self.kept.extend_from_slice(rest);
                rest = &[];
            }
        }
    }

    /// Ends the stream, and passes the rest of a line without a newline to `show`.
    pub fn finish(&mut self, show: &mut impl FnMut(Shred<'_>)) {
        if std::mem::take(&mut self.lost) {
            show(Shred::LostEnd);
        } else if !self.kept.is_empty() || self.continued {
            self.show(&[], false, show);
        }
    }

    fn show(&mut self, fresh: &[u8], continues: bool, show: &mut impl FnMut(Shred<'_>)) {
        show(Shred::Piece(Piece { kept: &self.kept, fresh, continued: self.continued, continues }));
        self.continued = continues;
        if self.kept.capacity() > 0 {
            // Most lines arrive completely, so the memory for parts is rarely needed again.
            self.kept = Vec::new();
        }
    }
}

/// Returns where to cut `bytes`: at `most` or up to three bytes before, so that no UTF-8 character
/// is cut.
fn cut_before(bytes: &[u8], most: usize) -> usize {
    let is_inside = |at: usize| bytes.get(at).is_some_and(|b| b & 0b1100_0000 == 0b1000_0000);
    let better = (most.saturating_sub(3)..=most).rev().find(|&at| !is_inside(at));
    better.filter(|&at| at > 0).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool, bool)> {
        let mut showing = Showing::new();
        let mut pieces = Vec::new();
        let mut show = |shred: Shred<'_>| match shred {
            Shred::Piece(p) => pieces.push(([p.kept, p.fresh].concat(), p.continued, p.continues)),
            Shred::LostEnd => panic!("nothing is lost"),
        };
        for chunk in chunks {
            showing.feed(chunk, &mut show);
        }
        showing.finish(&mut show);
        pieces
    }

    #[test]
    fn only_whole_lines_are_shown() {
        let line = |text: &str| (text.as_bytes().to_vec(), false, false);
        assert_eq!(shown(&[b"a\nb", b"c\n", b"\nd"]), [line("a"), line("bc"), line(""), line("d")]);
        assert_eq!(shown(&[]), []);
        assert_eq!(shown(&[b"a\n"]), [line("a")]);
    }

    #[test]
    fn a_line_whose_beginning_is_lost_is_not_shown() {
        let mut showing = Showing::after_a_loss();
        let mut said = Vec::new();
        let mut show = |shred: Shred<'_>| {
            said.push(match shred {
                Shred::Piece(p) => String::from_utf8([p.kept, p.fresh].concat()).unwrap(),
                Shred::LostEnd => "(end)".to_owned(),
            });
        };
        showing.feed(b"the rest", &mut show);
        assert!(showing.is_mid_line());
        showing.feed(b" of it\nwhole\npart", &mut show);
        showing.finish(&mut show);
        let mut showing = Showing::after_a_loss();
        showing.finish(&mut show);
        showing.finish(&mut show);
        assert_eq!(said, ["(end)", "whole", "part", "(end)"]);
    }

    #[test]
    fn a_long_line_is_shown_in_marked_pieces() {
        let exact = vec![b'x'; SHOWN];
        assert_eq!(shown(&[&exact, b"\n"]), [(exact.clone(), false, false)]);
        let mut long = vec![b'x'; SHOWN * 2 + 5];
        long.push(b'\n');
        let pieces: Vec<(usize, bool, bool)> =
            shown(&[&long]).into_iter().map(|(text, a, b)| (text.len(), a, b)).collect();
        assert_eq!(pieces, [(SHOWN, false, true), (SHOWN, true, true), (5, true, false)]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let long = "ü".repeat(SHOWN);
        for first in [1, 2, 3, 4095, 4096] {
            let (one, two) = long.as_bytes().split_at(first);
            let pieces = shown(&[b"x", one, two]);
            assert!(pieces.iter().all(|(text, ..)| std::str::from_utf8(text).is_ok()), "{first}");
        }
        // Bytes that are not UTF-8 are cut, too.
        let odd = vec![0x80; SHOWN + 1];
        assert_eq!(shown(&[&odd]).iter().map(|(t, ..)| t.len()).collect::<Vec<_>>(), [SHOWN, 1]);
    }

    fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![3 => Just(b'\n'), 5 => Just(b'a'), 1 => any::<u8>()];
        let small = proptest::collection::vec(byte, 0..40);
        let large = (0..20_000usize, any::<u8>()).prop_map(|(n, b)| vec![b; n]);
        proptest::collection::vec(prop_oneof![4 => small, 1 => large], 0..12)
    }

    proptest! {
        #[test]
        fn pieces_joined_are_the_stream_whatever_the_chunks(chunks in chunks()) {
            let borrowed: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let mut joined = Vec::new();
            let mut continues_before = false;
            for (text, continued, continues) in shown(&borrowed) {
                prop_assert!(text.len() <= SHOWN);
                prop_assert_eq!(continued, continues_before);
                continues_before = continues;
                joined.extend_from_slice(&text);
                if !continues {
                    joined.push(b'\n');
                }
            }
            let mut whole = chunks.concat();
            if whole.last().is_some_and(|b| *b != b'\n') {
                whole.push(b'\n');
            }
            prop_assert_eq!(joined, whole);
        }
    }
}
