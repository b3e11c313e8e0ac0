//! Times in people's notation.
//!
//! *Lives here:* parsing the argument of `--since` and `--until`.
//! *Does not live here:* the clock.

use gatevisor_logreader::Time;
use gatevisor_wire::tai::Tai64n;
use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

/// The accepted forms, for messages.
pub const EXAMPLES: &str = "a date and time (`2026-11-20`, `2026-11-20 10:00`, `2026-11-20T10:00:00Z`), \
     a time of today (`10:00`), `today`, `yesterday`, how long ago (`10m`, `2h30m`, `1d`), or a line's own stamp";

/// Length of a stamp in a log file, with nanoseconds and without a zone.
const STAMP: usize = "2026-11-20 10:00:00.000000000".len();

/// Returns the time that `text` means at the time `now`, or `None` if it is invalid.
///
/// A text without a zone is in the zone of `now`. But a stamp that was copied from a log file is in
/// the zone of the log's clock, `log`.
pub fn moment(text: &str, now: &Zoned, log: &TimeZone) -> Option<Time> {
    let text = text.trim();
    if let Some(hex) = text.strip_prefix('@') {
        return Tai64n::parse_hex(hex.as_bytes()).map(Time::from);
    }
    let at = named(text, now)
        .or_else(|| text.parse().ok())
        .or_else(|| stamp(text, log))
        .or_else(|| local(text, now))
        .or_else(|| ago(text, now))?;
    let nanos = at.subsec_nanosecond();
    // Before 1970 both parts are negative. Nothing was logged then, so the second is enough.
    Some(Time { seconds: at.as_second(), nanos: u32::try_from(nanos).unwrap_or(0) })
}

fn named(text: &str, now: &Zoned) -> Option<Timestamp> {
    let day = match text {
        "now" => return Some(now.timestamp()),
        "today" => now.date(),
        "yesterday" => now.date().yesterday().ok()?,
        _ => return None,
    };
    Some(day.to_zoned(now.time_zone().clone()).ok()?.timestamp())
}

/// Parses a stamp of a log file.
fn stamp(text: &str, log: &TimeZone) -> Option<Timestamp> {
    let is_stamp = text.len() == STAMP && text.as_bytes().get(10) == Some(&b' ');
    let at: civil::DateTime = is_stamp.then(|| text.parse().ok())??;
    Some(at.to_zoned(log.clone()).ok()?.timestamp())
}

/// Parses a date, a date with a time, or a time of today.
fn local(text: &str, now: &Zoned) -> Option<Timestamp> {
    let at = match text.parse::<civil::DateTime>() {
        Ok(at) => at,
        // Four digits are not a time, although ISO 8601 allows that.
        Err(_) if text.contains(':') => now.date().to_datetime(text.parse::<civil::Time>().ok()?),
        Err(_) => return None,
    };
    Some(at.to_zoned(now.time_zone().clone()).ok()?.timestamp())
}

/// Parses a length of time before now.
fn ago(text: &str, now: &Zoned) -> Option<Timestamp> {
    let span: Span = text.parse().ok()?;
    Some(now.checked_sub(span.abs()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(text: &str) -> Option<String> {
        let now: Zoned = "2026-11-20T12:34:56.5+01:00[+01:00]".parse().unwrap();
        let Time { seconds, nanos } = moment(text, &now, &TimeZone::UTC)?;
        Some(Timestamp::new(seconds, i32::try_from(nanos).unwrap()).unwrap().to_string())
    }

    #[test]
    fn a_moment_may_be_written_in_many_ways() {
        for (text, expected) in [
            ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z"),
            ("2026-11-20T10:00:00.25+02:00", "2026-11-20T08:00:00.25Z"),
            ("2026-11-20 10:00Z", "2026-11-20T10:00:00Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("2026-11-20 10:00", "2026-11-20T09:00:00Z"),
            (" 2026-11-20 10:00:05.5 ", "2026-11-20T09:00:05.5Z"),
            ("10:00", "2026-11-20T09:00:00Z"),
            ("now", "2026-11-20T11:34:56.5Z"),
            ("today", "2026-11-19T23:00:00Z"),
            ("yesterday", "2026-11-18T23:00:00Z"),
            ("10m", "2026-11-20T11:24:56.5Z"),
            ("-10m", "2026-11-20T11:24:56.5Z"),
            ("10m ago", "2026-11-20T11:24:56.5Z"),
            ("2h30m", "2026-11-20T09:04:56.5Z"),
            ("2h 30m", "2026-11-20T09:04:56.5Z"),
            ("2026-11-20 10:00:00.123456789Z", "2026-11-20T10:00:00.123456789Z"),
            ("2026-11-20 10:00:00.123456789+05:30", "2026-11-20T04:30:00.123456789Z"),
            ("2026-11-20 10:00:00.123456789", "2026-11-20T10:00:00.123456789Z"),
            ("2026-11-20 10:00:00.123456", "2026-11-20T09:00:00.123456Z"),
            ("90s", "2026-11-20T11:33:26.5Z"),
            ("1d", "2026-11-19T11:34:56.5Z"),
            ("2 weeks", "2026-11-06T11:34:56.5Z"),
            ("PT10M", "2026-11-20T11:24:56.5Z"),
            ("@400000006b00d912075bcd15", "2026-11-20T23:34:05.123456789Z"),
        ] {
            assert_eq!(meant(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_time_is_refused() {
        for text in [
            "",
            "soon",
            "10",
            "1000",
            "2026-13-01",
            "2026-02-30",
            "25:00",
            "10 m 5",
            "@4000",
            "tomorrow?",
            "-",
        ] {
            assert_eq!(meant(text), None, "{text}");
        }
    }
}
