//! One line of a log file: its time, its stream, and its text.
//!
//! *Lives here:* parsing stamps of every format that s6-log or we write, and the mark of a stream.
//! No I/O.
//! *Does not live here:* writing them.

use std::time::SystemTime;

use gatevisor_wire::tai::{HEX_SIZE, Tai64n};
use jiff::tz::TimeZone;

use gatevisor_wire::log_directory::STDERR_MARK;

/// Length of an ISO stamp without the spaces after it.
const ISO: usize = 29;
/// Seconds within which no zone changes more than once.
const QUARTER: i64 = 900;

/// A moment of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

impl Time {
    /// The earliest time.
    pub const FIRST: Self = Self { seconds: i64::MIN, nanos: 0 };

    /// Returns the present.
    pub fn now() -> Self {
        Tai64n::now_from(SystemTime::now()).into()
    }
}

impl From<Tai64n> for Time {
    fn from(stamp: Tai64n) -> Self {
        let (seconds, nanos) = stamp.to_unix();
        Self { seconds, nanos }
    }
}

/// The meaning of a date and time without a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// The time zone of the stamps that s6-log writes.
    #[default]
    Utc,
    /// The time of the system's zone.
    Local,
}

/// The output of a service to which a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputName {
    /// Standard output; also standard error if the two are not distinguished.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputName {
    /// Returns the name of the output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The stamp and the output of a line, and where its text begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineParts {
    /// When it was written, if it has a stamp.
    pub time: Option<Time>,
    /// The output to which it was written.
    pub stream: OutputName,
    /// The index at which its text begins.
    pub text: usize,
}

impl LineParts {
    /// The parts of an empty line.
    pub const NOTHING: Self = Self { time: None, stream: OutputName::Stdout, text: 0 };
}

/// Parses lines.
#[derive(Debug)]
pub(crate) struct Parser {
    zone: Option<TimeZone>,
    /// A quarter of an hour of local time with its offset from UTC. Most lines are in the same
    /// quarter as the line before.
    quarter: Option<(i64, i64)>,
}

impl Parser {
    /// Returns a parser for lines whose stamps are of this clock.
    pub fn new(clock: Clock) -> Self {
        let zone = match clock {
            Clock::Utc => None,
            Clock::Local => Some(TimeZone::system()),
        };
        Self { zone, quarter: None }
    }

    /// Returns the parts of a line.
    pub fn parse(&mut self, line: &[u8]) -> LineParts {
        let (time, stamp) = match self.stamp(line) {
            Some((time, length)) => (Some(time), length),
            None => (None, 0),
        };
        let (stream, mark) = mark(line.get(stamp..).unwrap_or_default());
        LineParts { time, stream, text: stamp.saturating_add(mark) }
    }

    /// Returns the time at the beginning of a line, and its length including spaces.
    fn stamp(&mut self, line: &[u8]) -> Option<(Time, usize)> {
        if line.first() == Some(&b'@') {
            let end = HEX_SIZE.saturating_add(1);
            let time = Tai64n::parse_hex(line.get(1..end)?)?.into();
            return Some((time, end.saturating_add(usize::from(line.get(end) == Some(&b' ')))));
        }
        let (seconds, nanos) = civil(line.first_chunk()?)?;
        let spaces = line.iter().skip(ISO).take(2).take_while(|byte| **byte == b' ').count();
        let time = Time { seconds: seconds.saturating_sub(self.offset(seconds)), nanos };
        Some((time, ISO.saturating_add(spaces)))
    }

    /// Returns the offset of a local time from UTC.
    fn offset(&mut self, seconds: i64) -> i64 {
        let Some(zone) = &self.zone else { return 0 };
        let quarter = seconds.div_euclid(QUARTER);
        match self.quarter {
            Some((known, offset)) if known == quarter => offset,
            _ => {
                let offset = offset_of(zone, quarter.saturating_mul(QUARTER));
                self.quarter = Some((quarter, offset));
                offset
            }
        }
    }
}

/// Returns the offset of a zone from UTC at a local time; if a local time occurs twice, it is the
/// earlier one.
fn offset_of(zone: &TimeZone, local: i64) -> i64 {
    let Ok(as_utc) = jiff::Timestamp::from_second(local) else { return 0 };
    let civil = TimeZone::UTC.to_datetime(as_utc);
    zone.to_timestamp(civil).map_or(0, |at| local.saturating_sub(at.as_second()))
}

/// Returns the stream according to the mark in the text of a line, and the length of the mark.
fn mark(text: &[u8]) -> (OutputName, usize) {
    if text.starts_with(STDERR_MARK) {
        (OutputName::Stderr, STDERR_MARK.len())
    } else {
        (OutputName::Stdout, 0)
    }
}

/// Returns the seconds since 1970 by its own clock, and the nanoseconds, of an ISO stamp.
fn civil(stamp: &[u8; ISO]) -> Option<(i64, u32)> {
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
    Some((days * 86_400 + in_day, u32::try_from(number(20, 29)?).ok()?))
}

/// Returns the number of days from 1970-01-01 to a date of the Gregorian calendar.
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
    use gatevisor_logd::directory::stamp::Stamper;
    use gatevisor_slot::Timestamp;
    use proptest::prelude::*;

    fn utc(line: &[u8]) -> LineParts {
        Parser::new(Clock::Utc).parse(line)
    }

    #[test]
    fn a_line_without_a_stamp_is_all_text() {
        for line in [
            "",
            "x",
            "@4000",
            "@zz0000000000002500000000 x",
            "2026-11-20 23:34:05",
            "2026-11-20T23:34:05.123456789  x",
            "2026-11-20 23:34:05.12345678x  x",
        ] {
            let entry = utc(line.as_bytes());
            assert_eq!((entry.time, entry.text), (None, 0), "{line}");
        }
    }

    #[test]
    fn the_text_keeps_its_own_spaces() {
        for (line, text) in [
            ("2026-11-20 23:34:05.123456789    two", "  two"),
            ("2026-11-20 23:34:05.123456789", ""),
            ("2026-11-20 23:34:05.123456789 x", "x"),
            ("@400000006b00d912075bcd15  one", " one"),
            ("@400000006b00d912075bcd15", ""),
        ] {
            let entry = utc(line.as_bytes());
            assert!(entry.time.is_some());
            assert_eq!(&line[entry.text..], text);
        }
    }

    #[test]
    fn a_local_time_is_the_earlier_one_when_the_clock_shows_it_twice() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let mut parser = Parser { zone: Some(zone), quarter: None };
        let mut seconds = |line: &str| parser.parse(line.as_bytes()).time.unwrap().seconds;
        assert_eq!(seconds("2024-03-31 01:59:59.000000000  x"), 1_711_846_799);
        assert_eq!(seconds("2024-03-31 03:00:00.000000000  x"), 1_711_846_800);
        assert_eq!(seconds("2024-10-27 02:30:00.000000000  x"), 1_729_989_000);
        assert_eq!(seconds("2024-10-27 03:00:00.000000000  x"), 1_729_994_400);
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
                let entry = utc(&line);
                prop_assert_eq!(entry.time, Some(Time { seconds, nanos }));
                prop_assert_eq!(&line[entry.text..], b"text");
            }
        }

        #[test]
        fn no_line_is_too_strange(line in "[0-9@: .-]{0,40}") {
            let _ = utc(line.as_bytes());
            let _ = Parser::new(Clock::Local).parse(line.as_bytes());
        }
    }
}
