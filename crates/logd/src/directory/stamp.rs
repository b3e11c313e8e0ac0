//! The stamp of a line in a log file.
//!
//! *Lives here:* the text of a moment in each format; the part that changes once a second is
//! cached.
//! *Does not live here:* the clock; the caller passes the time of the batch.

use gatevisor_slot::Timestamp;
use gatevisor_wire::tai::Tai64n;
use jiff::tz::TimeZone;

/// The longest stamp: a date, a time with nine decimal digits, two blanks.
const LONGEST: usize = 31;
const SECONDS_PER_DAY: i64 = 86_400;
/// 9999-12-31 23:59:59; later years would need more digits.
const LAST_SECOND: i64 = 253_402_300_799;

/// The text of a stamp.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Stamp {
    /// The stamp of a format without stamps.
    pub const EMPTY: Self = Self { bytes: [0; LONGEST], len: 0 };

    /// Returns the bytes, including blanks.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Makes stamps. It remembers the last second, because most moments are in the same second as the
/// one before.
#[derive(Debug)]
pub struct Stamper {
    utc: Iso,
    local: Option<(TimeZone, Iso)>,
}

impl Stamper {
    /// Returns a stamper for the system's time zone.
    pub fn new() -> Self {
        Self { utc: Iso::EMPTY, local: None }
    }

    /// Returns the stamp of a moment, in seconds since 1970 and nanoseconds.
    pub fn stamp(&mut self, format: Timestamp, seconds: i64, nanos: u32) -> Stamp {
        match format {
            Timestamp::None => Stamp::EMPTY,
            Timestamp::Tai64n => tai(seconds, nanos),
            Timestamp::IsoUtc => self.utc.stamp(seconds, nanos, |_| 0),
            Timestamp::IsoLocal => {
                // The zone is read from the system only if it is needed.
                let (zone, iso) = self.local.get_or_insert_with(|| (TimeZone::system(), Iso::EMPTY));
                iso.stamp(seconds, nanos, |s| offset(zone, s))
            }
        }
    }
}

impl Default for Stamper {
    fn default() -> Self {
        Self::new()
    }
}

fn offset(zone: &TimeZone, seconds: i64) -> i64 {
    jiff::Timestamp::from_second(seconds).map_or(0, |at| i64::from(zone.to_offset(at).seconds()))
}

fn tai(seconds: i64, nanos: u32) -> Stamp {
    let mut stamp = Stamp { len: 26, ..Stamp::EMPTY };
    let hex = Tai64n::from_unix(seconds, nanos).hex();
    let text = [&b"@"[..], &hex, b" "].concat();
    for (to, from) in stamp.bytes.iter_mut().zip(text) {
        *to = from;
    }
    stamp
}

/// The text of the last second.
#[derive(Debug)]
struct Iso {
    second: Option<i64>,
    stamp: Stamp,
}

impl Iso {
    const EMPTY: Self =
        Self { second: None, stamp: Stamp { bytes: *b"0000-00-00 00:00:00.000000000  ", len: LONGEST } };

    fn stamp(&mut self, seconds: i64, nanos: u32, offset: impl Fn(i64) -> i64) -> Stamp {
        let bytes = &mut self.stamp.bytes;
        if self.second != Some(seconds) {
            self.second = Some(seconds);
            write_second(bytes, seconds.saturating_add(offset(seconds)).clamp(0, LAST_SECOND));
        }
        put(bytes, 20, 9, u64::from(nanos.min(999_999_999)));
        self.stamp
    }
}

fn write_second(bytes: &mut [u8; LONGEST], seconds: i64) {
    let day = seconds.div_euclid(SECONDS_PER_DAY);
    let in_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let (year, month, day) = civil(day);
    let fields = [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, in_day / 3600),
        (14, 2, in_day / 60 % 60),
        (17, 2, in_day % 60),
    ];
    for (at, width, value) in fields {
        put(bytes, at, width, u64::try_from(value).unwrap_or(0));
    }
}

/// Writes `value` as `width` decimal digits.
fn put(bytes: &mut [u8], at: usize, width: usize, mut value: u64) {
    for byte in bytes.iter_mut().skip(at).take(width).rev() {
        *byte = b'0'.wrapping_add(u8::try_from(value % 10).unwrap_or(0));
        value /= 10;
    }
}

/// Returns year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Years begin in March here, so that the leap day is the last day of a year; 400 years are 146 097
/// days.
///
/// **Source:** Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day.saturating_add(719_468);
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era.saturating_mul(400) + i64::from(month <= 2);
    (year, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(stamper: &mut Stamper, format: Timestamp, seconds: i64, nanos: u32) -> String {
        String::from_utf8(stamper.stamp(format, seconds, nanos).as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn an_iso_stamp_is_a_date_a_time_and_two_spaces() {
        let table = [
            (0, 0, "1970-01-01 00:00:00.000000000  "),
            (1, 1, "1970-01-01 00:00:01.000000001  "),
            (951_782_399, 999_999_999, "2000-02-28 23:59:59.999999999  "),
            (951_782_400, 0, "2000-02-29 00:00:00.000000000  "),
            (1_709_251_200, 5, "2024-03-01 00:00:00.000000005  "),
            (1_795_217_645, 123_456_789, "2026-11-20 23:34:05.123456789  "),
            (4_107_542_400, 0, "2100-03-01 00:00:00.000000000  "),
            (253_402_300_799, 0, "9999-12-31 23:59:59.000000000  "),
            // Even an impossible time has the right width.
            (i64::MAX, u32::MAX, "9999-12-31 23:59:59.999999999  "),
            (-1, 0, "1970-01-01 00:00:00.000000000  "),
        ];
        let mut stamper = Stamper::new();
        for (seconds, nanos, expected) in table {
            assert_eq!(text(&mut stamper, Timestamp::IsoUtc, seconds, nanos), expected);
        }
    }

    #[test]
    fn the_second_is_cached_and_the_nanoseconds_are_not() {
        let mut stamper = Stamper::new();
        assert_eq!(text(&mut stamper, Timestamp::IsoUtc, 60, 999_999_999), "1970-01-01 00:01:00.999999999  ");
        assert_eq!(text(&mut stamper, Timestamp::IsoUtc, 60, 7), "1970-01-01 00:01:00.000000007  ");
        assert_eq!(text(&mut stamper, Timestamp::IsoUtc, 59, 7), "1970-01-01 00:00:59.000000007  ");
    }

    #[test]
    fn a_local_stamp_follows_the_zone_through_the_year() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let mut stamper = Stamper { utc: Iso::EMPTY, local: Some((zone, Iso::EMPTY)) };
        assert_eq!(
            text(&mut stamper, Timestamp::IsoLocal, 1_711_846_799, 0),
            "2024-03-31 01:59:59.000000000  "
        );
        assert_eq!(
            text(&mut stamper, Timestamp::IsoLocal, 1_711_846_800, 0),
            "2024-03-31 03:00:00.000000000  "
        );
    }

    #[test]
    fn a_tai64n_stamp_is_what_s6_writes() {
        let mut stamper = Stamper::new();
        assert_eq!(text(&mut stamper, Timestamp::Tai64n, 0, 0), "@400000000000002500000000 ");
        assert_eq!(
            text(&mut stamper, Timestamp::Tai64n, 1_795_217_645, 123_456_789),
            "@400000006b00d912075bcd15 "
        );
        assert_eq!(text(&mut stamper, Timestamp::None, 5, 5), "");
    }

    proptest! {
        #[test]
        fn every_date_is_the_calendars(seconds in 0..LAST_SECOND, nanos in 0..1_000_000_000u32) {
            let at = jiff::Timestamp::new(seconds, i32::try_from(nanos).unwrap()).unwrap();
            let expected = at.strftime("%Y-%m-%d %H:%M:%S.%9f  ").to_string();
            prop_assert_eq!(text(&mut Stamper::new(), Timestamp::IsoUtc, seconds, nanos), expected);
        }
    }
}
