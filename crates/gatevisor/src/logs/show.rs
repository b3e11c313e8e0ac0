//! How a line of a log is printed.
//!
//! *Lives here:* labels, colours, JSON. *Does not live here:* which lines; escaping (`crate::out`).

use std::borrow::Cow;
use std::cell::RefCell;

use anstyle::AnsiColor;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_logreader::{Clock, Directory, LogLine, Time};
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::exit::CommandError;
use crate::out::{Page, Text, colour};

/// Colours of the labels; red is for errors.
const COLOURS: [AnsiColor; 10] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::Yellow,
    AnsiColor::BrightCyan,
    AnsiColor::BrightGreen,
    AnsiColor::BrightMagenta,
    AnsiColor::BrightBlue,
    AnsiColor::BrightYellow,
];

/// The form of printed lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineStyle {
    /// One object a line.
    Json,
    /// With terminal commands and hidden characters written out.
    Escaped,
    /// As they are in the file.
    Raw,
}

/// Length of a stamp without the zone, as it is in a file: `2026-11-20 10:00:00.000000000`.
const STAMP: usize = 29;

/// Seconds within which no zone changes.
const QUARTER: i64 = 900;

/// Prints lines of some profiles.
#[derive(Debug)]
pub struct Printer {
    look: LineStyle,
    profiles: Vec<LogOwner>,
}

/// A line as a JSON object; a map for each line would cost more than everything else.
#[derive(Serialize)]
struct JsonLine<'a> {
    time: Option<String>,
    profile: &'a str,
    service: &'a str,
    stream: &'a str,
    text: Cow<'a, str>,
}

/// The profile of a line.
#[derive(Debug)]
struct LogOwner {
    service: String,
    /// The label of its lines.
    label: Text,
    /// The zone of its stamps.
    zone: Zone,
}

/// A zone, with its last written form: looking it up for each line would cost more than everything
/// else.
#[derive(Debug)]
struct Zone {
    zone: TimeZone,
    /// It applies to one quarter of an hour, within which no zone changes.
    written: RefCell<Option<(i64, String)>>,
}

impl Zone {
    const fn new(zone: TimeZone) -> Self {
        Self { zone, written: RefCell::new(None) }
    }

    /// Passes the written form of the zone to `to`: `Z`, or its offset from UTC.
    fn write(&self, time: Time, to: impl FnOnce(&str)) {
        let quarter = time.seconds.div_euclid(QUARTER);
        let mut written = self.written.borrow_mut();
        if written.as_ref().is_none_or(|(known, _)| *known != quarter) {
            *written = timestamp(time).map(|at| (quarter, zone_of(at, &self.zone)));
        }
        to(written.as_ref().map_or("", |(_, zone)| zone));
    }
}

impl Printer {
    /// Returns a printer for the lines of these profiles, which are numbered in this order.
    pub fn new(look: LineStyle, names: &[ProfileName], directories: &[Directory]) -> Self {
        let width = names.iter().map(|name| name.as_str().len()).max().unwrap_or(0);
        let label = |name: &ProfileName| match look {
            LineStyle::Escaped | LineStyle::Raw if names.len() > 1 => {
                let padded = format!("{:width$}", name.as_str());
                Text::default().styled(colour(colour_of(name.as_str())), padded).and(" | ")
            }
            LineStyle::Escaped | LineStyle::Raw | LineStyle::Json => Text::default(),
        };
        let source = |(name, directory): (&ProfileName, &Directory)| LogOwner {
            service: name.service_entry(),
            label: label(name),
            zone: Zone::new(zone(directory.clock)),
        };
        Self { look, profiles: names.iter().zip(directories).map(source).collect() }
    }

    /// Adds a line to the page.
    pub fn print(&self, line: &LogLine<'_>, page: &mut Page) -> Result<(), CommandError> {
        let Some(LogOwner { service, label, zone }) = self.profiles.get(line.index) else { return Ok(()) };
        match self.look {
            LineStyle::Json => page.json(&JsonLine {
                time: line.entry.time.and_then(rfc_3339),
                profile: line.label,
                service,
                stream: line.entry.stream.name(),
                text: String::from_utf8_lossy(line.text()),
            })?,
            LineStyle::Raw => {
                page.text(label);
                page.raw(line.bytes);
            }
            LineStyle::Escaped => {
                page.text(label);
                print_head(line, zone, page);
                page.escaped(line.text());
            }
        }
        page.end_line();
        Ok(())
    }
}

/// Returns the zone of stamps without a zone.
pub fn zone(clock: Clock) -> TimeZone {
    match clock {
        Clock::Utc => TimeZone::UTC,
        Clock::Local => TimeZone::system(),
    }
}

/// Prints the head of a line: its stamp with the zone that the file leaves out, so that the printed
/// stamp can be passed to `--since` anywhere.
fn print_head(line: &LogLine<'_>, zone: &Zone, page: &mut Page) {
    let head = line.head();
    let dated =
        head.split_at_checked(STAMP).filter(|(stamp, _)| stamp.is_ascii() && !stamp.starts_with(b"@"));
    match (line.entry.time, dated) {
        (Some(time), Some((stamp, rest))) => {
            zone.write(time, |zone| page.dimmed(&[stamp, zone.as_bytes(), rest]));
        }
        _ => page.dimmed(&[head]),
    }
}

/// Returns the written form of a zone: `Z`, or its offset from UTC.
fn zone_of(at: jiff::Timestamp, zone: &TimeZone) -> String {
    if *zone == TimeZone::UTC {
        "Z".to_owned()
    } else {
        at.to_zoned(zone.clone()).strftime("%:z").to_string()
    }
}

fn timestamp(time: Time) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(time.seconds, i32::try_from(time.nanos).ok()?).ok()
}

/// Returns a colour that is always the same for the same name, whichever other names are shown.
fn colour_of(name: &str) -> AnsiColor {
    // FNV-1a.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let number = usize::try_from(hash >> 32).unwrap_or(0) % COLOURS.len();
    COLOURS.get(number).copied().unwrap_or(AnsiColor::Cyan)
}

/// Returns a moment in UTC with all its nanoseconds.
fn rfc_3339(time: Time) -> Option<String> {
    Some(timestamp(time)?.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_written_as_it_is_at_each_time_and_looked_up_once_a_quarter_of_an_hour() {
        let zone = Zone::new(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        let written = |seconds: i64| {
            let mut text = String::new();
            zone.write(Time { seconds, nanos: 5 }, |zone| zone.clone_into(&mut text));
            text
        };
        // The clocks were changed at 01:00 UTC on 2026-03-29.
        let change = 1_774_746_000;
        let seen = [-1, 0, -1, -900, 899, 900].map(|after| written(change + after));
        assert_eq!(seen, ["+01:00", "+02:00", "+01:00", "+01:00", "+02:00", "+02:00"]);
    }

    #[test]
    fn a_profile_keeps_its_colour() {
        assert_eq!(colour_of("coder"), colour_of("coder"));
        let names = ["default", "coder", "writer", "researcher", "ops"];
        let some: std::collections::BTreeSet<_> = names.map(|name| format!("{:?}", colour_of(name))).into();
        assert!(some.len() > 2, "{some:?}");
    }
}
