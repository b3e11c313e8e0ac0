//! When a line was written, as its stamp says.
//!
//! *Lives here:* reading stamps of every format that is written, ours and s6-log's. No I/O.
//! *Does not live here:* writing them.

use gatevisor_wire::tai::{HEX_SIZE, Tai64n};

/// Orders lines by the moment in their stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    seconds: i64,
    nanos: u32,
}

impl Key {
    /// Comes before every other.
    pub const FIRST: Self = Self { seconds: i64::MIN, nanos: 0 };

    /// Returns the key of a line, or `None` if it bears no stamp.
    ///
    /// A local time is taken for UTC, since a line does not say its zone.
    pub fn of(line: &[u8]) -> Option<Self> {
        if line.first() == Some(&b'@') {
            let (seconds, nanos) = Tai64n::parse_hex(line.get(1..=HEX_SIZE)?)?.to_unix();
            return Some(Self { seconds, nanos });
        }
        let stamp: &[u8; 29] = line.first_chunk()?;
        let separators = [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':'), (19, b'.')];
        if !separators.iter().all(|(at, expected)| stamp.get(*at) == Some(expected)) {
            return None;
        }
        let number = |from: usize, to: usize| {
            stamp.get(from..to)?.iter().try_fold(0i64, |sum, byte| {
                let digit = char::from(*byte).to_digit(10)?;
                sum.checked_mul(10)?.checked_add(i64::from(digit))
            })
        };
        let days = days_since_1970(number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hours, minutes, seconds) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let in_day = hours * 3600 + minutes * 60 + seconds;
        Some(Self { seconds: days * 86_400 + in_day, nanos: u32::try_from(number(20, 29)?).ok()? })
    }
}

/// Returns the day that a date of the Gregorian calendar is, counted from 1970-01-01.
///
/// **Source:** Howard Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Stamper;
    use gatevisor_slot::Timestamp;
    use proptest::prelude::*;

    #[test]
    fn a_line_without_a_stamp_has_no_key() {
        for line in [
            "",
            "x",
            "@4000",
            "@zz0000000000002500000000 x",
            "2026-11-20 23:34:05",
            "2026-11-20T23:34:05.123456789  x",
            "2026-11-20 23:34:05.12345678x  x",
        ] {
            assert_eq!(Key::of(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_stamp_is_read_as_the_moment_it_was_written_for(
            seconds in 0..253_402_300_800i64,
            nanos in 0..1_000_000_000u32,
        ) {
            let mut stamper = Stamper::new();
            for format in [Timestamp::IsoUtc, Timestamp::Tai64n] {
                let line = [stamper.stamp(format, seconds, nanos).as_bytes(), b"text"].concat();
                prop_assert_eq!(Key::of(&line), Some(Key { seconds, nanos }));
            }
        }

        #[test]
        fn no_line_is_too_strange(line in "[0-9@: .-]{0,40}") {
            let _ = Key::of(line.as_bytes());
        }
    }
}
