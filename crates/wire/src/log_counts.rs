//! What a log daemon has done with a service's lines so far: the file `log/counts` of the service
//! directory.
//!
//! *Lives here:* the bytes of the file. *Does not live here:* reading and writing it.
//!
//! The file is ours; s6 has none. It is replaced in one step, some seconds after lines have come.
//! Each line is a word and a number. Words that a reader does not know are for later versions.

/// The name of the file, in `log/` of a service directory.
pub const FILE: &str = "counts";
/// The longest file in bytes.
pub const MAX_BYTES: usize = 512;

/// What a log daemon has done with a service's lines since the service directory was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogCounts {
    /// Lines that ended in the log.
    pub lines: u64,
    /// Bytes that were written into the log, with time stamps.
    pub bytes: u64,
    /// Lines that are missing in the log because it could not be written.
    pub missing: u64,
    /// How often lines began to be missing.
    pub gaps: u64,
}

impl LogCounts {
    /// Returns the counts in the order of their words.
    pub const fn numbers(self) -> [u64; 4] {
        [self.lines, self.bytes, self.missing, self.gaps]
    }

    /// Returns the counts from the result of [`LogCounts::numbers`].
    pub const fn from_numbers([lines, bytes, missing, gaps]: [u64; 4]) -> Self {
        Self { lines, bytes, missing, gaps }
    }

    /// Returns the counts of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let (ours, theirs) = (self.numbers(), other.numbers());
        let mut sums = ours;
        for (sum, more) in sums.iter_mut().zip(theirs) {
            *sum = sum.saturating_add(more);
        }
        Self::from_numbers(sums)
    }

    /// Returns the bytes of the file.
    pub fn encode(self) -> Vec<u8> {
        let lines = WORDS.iter().zip(self.numbers()).map(|(word, number)| format!("{word} {number}\n"));
        lines.collect::<String>().into_bytes()
    }

    /// Returns the counts of a file, or `None` if the file is not ours.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let mut numbers = [None; 4];
        for line in text.split('\n') {
            let (word, number) = line.split_once(' ')?;
            let known = WORDS.iter().zip(&mut numbers).find(|(known, _)| **known == word);
            let Some((_, place)) = known else { continue };
            // A number has no sign, so that each has one form.
            let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
            *place = Some(number.parse().ok().filter(|_| is_plain)?);
        }
        let [lines, bytes, missing, gaps] = numbers;
        Some(Self { lines: lines?, bytes: bytes?, missing: missing?, gaps: gaps? })
    }
}

const WORDS: [&str; 4] = ["lines", "bytes", "missing", "gaps"];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COUNTS: LogCounts = LogCounts { lines: 3, bytes: 90, missing: 2, gaps: 1 };

    #[test]
    fn each_count_has_a_line() {
        assert_eq!(COUNTS.encode(), b"lines 3\nbytes 90\nmissing 2\ngaps 1\n");
        assert_eq!(LogCounts::decode(b"gaps 1\nlines 3\nlater x y\nbytes 90\nmissing 2\n"), Some(COUNTS));
        assert_eq!(
            COUNTS.plus(LogCounts { lines: u64::MAX, gaps: 1, ..LogCounts::default() }),
            LogCounts { lines: u64::MAX, gaps: 2, ..COUNTS }
        );
    }

    #[test]
    fn a_file_that_is_not_ours_is_ignored() {
        let table: [&[u8]; 6] = [
            b"",
            b"lines 3\nbytes 90\nmissing 2\ngaps 1",
            b"lines 3\nbytes 90\nmissing 2\n",
            b"lines +3\nbytes 90\nmissing 2\ngaps 1\n",
            b"lines 99999999999999999999\nbytes 90\nmissing 2\ngaps 1\n",
            b"lines 3\n\nbytes 90\nmissing 2\ngaps 1\n",
        ];
        for bytes in table {
            assert_eq!(LogCounts::decode(bytes), None, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn every_count_comes_back(numbers in any::<[u64; 4]>()) {
            let counts = LogCounts::from_numbers(numbers);
            prop_assert!(counts.encode().len() <= MAX_BYTES);
            prop_assert_eq!(LogCounts::decode(&counts.encode()), Some(counts));
        }

        #[test]
        fn no_file_is_too_strange(bytes in any::<Vec<u8>>()) {
            let _ = LogCounts::decode(&bytes);
        }
    }
}
