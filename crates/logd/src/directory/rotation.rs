//! Decides when a log file is full, and which archives are deleted.
//!
//! *Lives here:* decisions, from numbers and names only.
//! *Does not live here:* the files, and the names of archives (`gatevisor-wire`).

use gatevisor_wire::log_directory::Archive;
use memchr::{memchr, memrchr};

/// The next step with bytes that wait for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// Write this many of them, at least one.
    Write(usize),
    /// Begin a new file first.
    Rotate,
}

/// The state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Its length in bytes.
    pub len: u64,
    /// Whether it ends in the middle of a line.
    pub mid_line: bool,
    /// Whether anything was written to it since it was opened.
    pub has_grown: bool,
}

/// The rule for when a file is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Before a line that would make it longer than this, in bytes.
    BeforeALineThatExceeds(u64),
    /// After a line that makes it at least `enough` bytes long; before a line if it had `size`
    /// bytes when it was opened.
    AfterALineThatReaches {
        /// The size in bytes at which an opened file is full.
        size: u64,
        /// The size in bytes at which a file that has grown is full.
        enough: u64,
    },
}

/// Returns the next step, or `None` if there is nothing to do. A file is never rotated within a
/// line.
pub fn next_step(fill: Fill, rule: Full, waiting: &[u8]) -> Option<NextStep> {
    match rule {
        Full::AfterALineThatReaches { size, enough } => {
            let is_full = !fill.mid_line
                && if fill.has_grown { fill.len >= enough } else { !waiting.is_empty() && fill.len >= size };
            if is_full { Some(NextStep::Rotate) } else { up_to(enough, fill, waiting) }
        }
        Full::BeforeALineThatExceeds(_) if waiting.is_empty() => None,
        Full::BeforeALineThatExceeds(limit) => Some(within(limit, fill, waiting)),
    }
}

/// Returns the step that writes waiting bytes, up to the end of the line that makes the file
/// `enough` bytes long.
fn up_to(enough: u64, fill: Fill, waiting: &[u8]) -> Option<NextStep> {
    let missing = usize::try_from(enough.saturating_sub(fill.len).saturating_sub(1)).unwrap_or(usize::MAX);
    let late = waiting.get(missing..).and_then(|late| memchr(b'\n', late));
    let end = late.map_or(waiting.len(), |at| missing.saturating_add(at).saturating_add(1));
    (end > 0).then_some(NextStep::Write(end))
}

/// Returns the next step with bytes that wait for a file of at most `limit` bytes.
///
/// The file exceeds `limit` only by finishing a line that it had begun, or by a line that no file
/// of this size can hold.
fn within(limit: u64, fill: Fill, waiting: &[u8]) -> NextStep {
    let room = usize::try_from(limit.saturating_sub(fill.len)).unwrap_or(usize::MAX);
    if waiting.len() <= room {
        return NextStep::Write(waiting.len());
    }
    let fits = waiting.get(..room).unwrap_or(waiting);
    if let Some(last_end) = memrchr(b'\n', fits) {
        return NextStep::Write(last_end.saturating_add(1));
    }
    if fill.len > 0 && !fill.mid_line {
        return NextStep::Rotate;
    }
    // The unfinished line, or the first line of an empty file: it must be written somewhere, as a
    // whole.
    let end = memchr(b'\n', waiting).map_or(waiting.len(), |at| at.saturating_add(1));
    NextStep::Write(end)
}

/// Returns whether a file that was begun at `begun` is old enough to be archived at `now`, both in
/// seconds.
///
/// An empty file is not, and an unfinished line is finished first. A clock that was set back counts
/// as no time.
pub fn is_due(fill: Fill, begun: i64, now: i64, period_s: u64) -> bool {
    let age = u64::try_from(now.saturating_sub(begun)).unwrap_or(0);
    fill.len > 0 && !fill.mid_line && age >= period_s
}

/// An archive and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    /// When it was archived, and whether it was synced: both are in its file name.
    pub archive: Archive,
    /// Its size on the disk in bytes, in whichever form it exists.
    pub size: u64,
}

/// Returns the archives to delete so that at most `keep` archives and at most `total` bytes remain;
/// oldest first.
pub fn surplus(present: &mut [Stored], keep: u32, total: u64) -> &[Stored] {
    present.sort_unstable();
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    let mut sum: u64 = 0;
    let fitting = present.iter().rev().take(keep).take_while(|stored| {
        sum = sum.saturating_add(stored.size);
        sum <= total
    });
    let remain = fitting.count();
    present.get(..present.len().saturating_sub(remain)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatevisor_wire::tai::Tai64n;
    use proptest::prelude::*;

    fn step(len: u64, mid_line: bool, waiting: &str) -> Option<NextStep> {
        next_step(
            Fill { len, mid_line, has_grown: true },
            Full::BeforeALineThatExceeds(10),
            waiting.as_bytes(),
        )
    }

    #[test]
    fn a_file_is_rotated_before_a_line_that_it_cannot_hold() {
        assert_eq!(step(0, false, ""), None);
        assert_eq!(step(10, false, ""), None, "a full file waits for the next line");
        assert_eq!(step(0, false, "123456789\n"), Some(NextStep::Write(10)));
        assert_eq!(step(5, false, "1234\n"), Some(NextStep::Write(5)));
        assert_eq!(step(5, false, "12345\n"), Some(NextStep::Rotate));
        assert_eq!(step(5, false, "1\n2345\n"), Some(NextStep::Write(2)));
        assert_eq!(step(10, false, "\n"), Some(NextStep::Rotate));
        assert_eq!(step(99, false, "\n"), Some(NextStep::Rotate), "found larger than it may be");
        assert_eq!(step(5, false, "123"), Some(NextStep::Write(3)), "the beginning of a line fits");
    }

    #[test]
    fn a_line_is_never_divided_between_files() {
        assert_eq!(step(10, true, "345\n67\n"), Some(NextStep::Write(4)));
        assert_eq!(step(10, true, "345"), Some(NextStep::Write(3)));
        assert_eq!(step(0, false, "a line that is too long\nb\n"), Some(NextStep::Write(24)));
        assert_eq!(step(0, false, "a line without an end"), Some(NextStep::Write(21)));
    }

    #[test]
    fn s6_log_rotates_after_the_line_with_which_a_file_is_full() {
        let full = Full::AfterALineThatReaches { size: 10, enough: 8 };
        let step = |len, mid_line, has_grown, waiting: &str| {
            next_step(Fill { len, mid_line, has_grown }, full, waiting.as_bytes())
        };
        assert_eq!(step(0, false, false, ""), None);
        assert_eq!(step(0, false, false, "12\n45\n78\n0\n"), Some(NextStep::Write(9)));
        assert_eq!(step(6, false, true, "7\n"), Some(NextStep::Write(2)));
        assert_eq!(step(8, false, true, ""), Some(NextStep::Rotate), "it does not wait for the next line");
        assert_eq!(step(8, true, true, ""), None);
        assert_eq!(step(8, true, true, "9\n1\n"), Some(NextStep::Write(2)), "never within a line");
        assert_eq!(step(9, false, false, "0\n2\n"), Some(NextStep::Write(2)), "it was found with less");
        assert_eq!(step(10, false, false, ""), None);
        assert_eq!(step(10, false, false, "1\n"), Some(NextStep::Rotate), "it was found too large");
    }

    fn stored(seconds: i64, size: u64) -> Stored {
        Stored { archive: Archive { stamp: Tai64n::from_unix(seconds, 0), safe: true }, size }
    }

    #[test]
    fn the_oldest_archives_go_first() {
        let mut present = [stored(3, 10), stored(1, 10), stored(2, 10)];
        assert_eq!(surplus(&mut present, 2, u64::MAX), [stored(1, 10)]);
        assert_eq!(surplus(&mut present, 3, u64::MAX), []);
        assert_eq!(
            surplus(&mut present, 0, u64::MAX),
            [stored(1, 10), stored(2, 10)].iter().copied().chain([stored(3, 10)]).collect::<Vec<_>>()
        );
        assert_eq!(surplus(&mut present, 3, 30), []);
        assert_eq!(surplus(&mut present, 3, 29), [stored(1, 10)]);
        assert_eq!(surplus(&mut present, 1, 29), [stored(1, 10), stored(2, 10)]);
        assert_eq!(
            surplus(&mut [stored(1, 10), stored(2, 99)], 9, 50).len(),
            2,
            "the newest alone is too large"
        );
        assert_eq!(surplus(&mut [], 0, 0), []);
    }

    #[test]
    fn a_file_is_put_away_when_it_is_old_and_not_empty_and_no_line_is_under_way() {
        let file = |len, mid_line| Fill { len, mid_line, has_grown: true };
        assert!(!is_due(file(5, false), 100, 159, 60));
        assert!(is_due(file(5, false), 100, 160, 60));
        assert!(!is_due(file(0, false), 100, 160, 60));
        assert!(!is_due(file(5, true), 100, 160, 60));
        assert!(!is_due(file(5, false), 100, -5, 60), "the clock was set back");
        assert!(!is_due(file(5, false), i64::MAX, i64::MIN, 1));
    }

    proptest! {
        #[test]
        fn the_newest_archives_that_fit_remain(
            sizes in proptest::collection::vec(0..50u64, 0..12),
            keep in 0..12u32,
            total in 0..300u64,
        ) {
            let mut present: Vec<Stored> = (0..).zip(&sizes).map(|(at, size)| stored(at, *size)).collect();
            let gone = surplus(&mut present, keep, total).len();
            let sum = |from: usize| sizes[from..].iter().sum::<u64>();
            prop_assert!(sizes.len() - gone <= keep as usize);
            prop_assert!(sum(gone) <= total);
            // One more would have been too many.
            prop_assert!(
                gone == 0 || sizes.len() - gone == keep as usize || sum(gone - 1) > total
            );
        }

        #[test]
        fn no_byte_is_lost_and_no_file_is_too_large(
            chunks in proptest::collection::vec("[a\n]{0,30}", 0..40),
            limit in 1..40u64,
            short_writes in any::<bool>(),
        ) {
            let mut files: Vec<Vec<u8>> = vec![Vec::new()];
            for chunk in &chunks {
                let mut waiting = chunk.as_bytes();
                loop {
                    let file = files.last_mut().unwrap();
                    let fill = Fill {
                        len: file.len() as u64,
                        mid_line: file.last().is_some_and(|b| *b != b'\n'),
                        has_grown: true,
                    };
                    match next_step(fill, Full::BeforeALineThatExceeds(limit), waiting) {
                        None => break,
                        Some(NextStep::Rotate) => {
                            prop_assert!(!fill.mid_line && fill.len > 0, "rotated within a line");
                            files.push(Vec::new());
                        }
                        Some(NextStep::Write(n)) => {
                            prop_assert!(n > 0);
                            // The kernel may write fewer bytes than it is given.
                            let n = if short_writes { n.div_ceil(2) } else { n };
                            file.extend_from_slice(&waiting[..n]);
                            waiting = &waiting[n..];
                        }
                    }
                }
            }
            prop_assert_eq!(files.concat(), chunks.concat().into_bytes());
            for file in files {
                let last_line = file.split_inclusive(|b| *b == b'\n').next_back().map_or(0, <[u8]>::len);
                prop_assert!(file.len() - last_line <= usize::try_from(limit).unwrap());
            }
        }
    }
}
