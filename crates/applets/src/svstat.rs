//! `s6-svstat`: shows the state of a service.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use gatevisor_client::{ServiceDir, StatusError};
use gatevisor_wire::exit::Exit;
use gatevisor_wire::{Pid, files, signal, status::Status, tai::Tai64n};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::arguments::Arguments;
use crate::fatal::print;
use crate::svok::unknown;
use crate::{AppletOutcome, Fatal};

pub(crate) const USAGE: &str = "s6-svstat [ -uwNrpgest | -o up,wantedup,normallyup,ready,paused,pid,pgid,exitcode,\
                                signal,signum,updownsince,readysince,updownfor,readyfor ] [ -n ] servicedir";

/// The most fields that are printed.
const MAX_FIELDS: usize = 16;

/// A field that can be printed alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Up,
    WantedUp,
    NormallyUp,
    Ready,
    Paused,
    Pid,
    Pgid,
    ExitCode,
    Signal,
    SignalNumber,
    UpDownSince,
    ReadySince,
    UpDownFor,
    ReadyFor,
}

/// Every field, with its name for `-o`, and its option if it has one.
const FIELDS: [(Field, &str, Option<u8>); 14] = [
    (Field::Up, "up", Some(b'u')),
    (Field::WantedUp, "wantedup", Some(b'w')),
    (Field::NormallyUp, "normallyup", Some(b'N')),
    (Field::Ready, "ready", Some(b'r')),
    (Field::Paused, "paused", None),
    (Field::Pid, "pid", Some(b'p')),
    (Field::Pgid, "pgid", Some(b'g')),
    (Field::ExitCode, "exitcode", Some(b'e')),
    (Field::Signal, "signal", Some(b's')),
    (Field::SignalNumber, "signum", None),
    (Field::UpDownSince, "updownsince", None),
    (Field::ReadySince, "readysince", None),
    (Field::UpDownFor, "updownfor", Some(b't')),
    (Field::ReadyFor, "readyfor", None),
];

/// Prints one line: the state in words, or the requested fields.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svstat.html>, in the form of s6 2.11.
pub(crate) fn run(words: &[OsString]) -> AppletOutcome {
    let flags: Vec<u8> = FIELDS.iter().filter_map(|(_, _, option)| *option).chain([b'n']).collect();
    let arguments = Arguments::parse(words, &flags, b"o")?;
    let mut numbers = false;
    let mut fields = Vec::new();
    for (option, value) in &arguments.options {
        match (option, value) {
            (b'n', _) => numbers = true,
            (_, Some(names)) => named(names, &mut fields)?,
            (option, None) => {
                let known = FIELDS.iter().find(|(_, _, own)| *own == Some(*option)).ok_or(Fatal::Usage)?;
                add(&mut fields, known.0)?;
            }
        }
    }
    let named = ServiceDir::new(arguments.first()?);
    let dir = named.held().unwrap_or(named);
    let status = read(&dir)?;
    let shown =
        ShownStatus { now: Tai64n::now_from(SystemTime::now()), normally_up: normally_up(&dir)?, status };
    let line = if fields.is_empty() {
        shown.words(numbers)
    } else {
        let values: Vec<String> = fields.iter().map(|field| shown.field(*field)).collect();
        values.join(" ")
    };
    print(&format!("{line}\n"))
}

fn add(fields: &mut Vec<Field>, field: Field) -> Result<(), Fatal> {
    if fields.len() >= MAX_FIELDS {
        return Err(Fatal::new(Exit::Usage, "too many option fields"));
    }
    fields.push(field);
    Ok(())
}

/// Adds the fields of a list such as `up,pid`; a comma at its end is allowed.
fn named(list: &OsStr, fields: &mut Vec<Field>) -> Result<(), Fatal> {
    let list = list.as_bytes();
    if list.is_empty() {
        return Ok(());
    }
    let list = list.strip_suffix(b",").unwrap_or(list);
    for name in list.split(|&byte| byte == b',') {
        match FIELDS.iter().find(|(_, known, _)| known.as_bytes() == name) {
            Some((field, _, _)) => add(fields, *field)?,
            None if name.is_empty() => return Err(Fatal::new(Exit::Usage, "invalid null option field")),
            None => {
                let message = format!("invalid option field: {}", OsStr::from_bytes(name).display());
                return Err(Fatal::new(Exit::Usage, message));
            }
        }
    }
    Ok(())
}

/// Reads the status of a supervised service.
fn read(dir: &ServiceDir) -> Result<Status, Fatal> {
    match dir.supervised() {
        Err(error) => Err(unknown(dir, &error)),
        Ok(false) if !dir.is_there() => {
            let error = StatusError::Missing { dir: dir.path().into() };
            Err(Fatal::of(Exit::System, &error, error.hint()))
        }
        Ok(false) => Err(Fatal::new(
            Exit::No,
            format!(
                "cannot read status of `{}`: its supervisor is not running; is this service in a scandir that is?",
                dir.path().display()
            ),
        )),
        Ok(true) => dir.status().map_err(|error| Fatal::of(Exit::System, &error, error.hint())),
    }
}

fn normally_up(dir: &ServiceDir) -> Result<bool, Fatal> {
    match dir.open(files::DOWN, OFlags::PATH) {
        // A link that we cannot follow also counts as existing, as it does for the supervisor.
        Ok(_) | Err(Errno::LOOP | Errno::XDEV) => Ok(false),
        Err(Errno::NOENT) => Ok(true),
        Err(errno) => {
            let down = dir.path().join(files::DOWN);
            let why = io::Error::from(errno);
            Err(Fatal::new(Exit::System, format!("cannot look at `{}`: {why}", down.display())))
        }
    }
}

/// Returns the name of a signal in the form of s6's tools.
pub(crate) fn signal_name(number: u8) -> &'static str {
    match signal::name(number) {
        // This signal has two names, and s6 prints the other.
        Some("SIGIO") => "SIGPOLL",
        Some(name) => name,
        None => "SIG???",
    }
}

/// A status, and the time of the look.
#[derive(Debug)]
struct ShownStatus {
    status: Status,
    now: Tai64n,
    normally_up: bool,
}

impl ShownStatus {
    fn seconds_since(&self, then: Tai64n) -> u64 {
        self.now.since(then).map_or(0, |age| age.as_secs())
    }

    fn exit_code(&self) -> Option<u8> {
        self.status.last.exit_code().filter(|_| !self.status.is_up())
    }

    fn signal(&self) -> Option<u8> {
        self.status.last.signal().filter(|_| !self.status.is_up())
    }

    fn field(&self, field: Field) -> String {
        let status = &self.status;
        let number = |value: Option<i32>| value.unwrap_or(-1).to_string();
        match field {
            Field::Up => status.is_up().to_string(),
            Field::WantedUp => status.want_up.to_string(),
            Field::NormallyUp => self.normally_up.to_string(),
            Field::Ready => (status.pid.is_some() && status.ready).to_string(),
            Field::Paused => status.paused.to_string(),
            // A service leads its session, so its group has the same number.
            Field::Pid | Field::Pgid => number(status.pid.filter(|_| status.is_up()).map(Pid::get)),
            Field::ExitCode => number(self.exit_code().map(i32::from)),
            Field::Signal => self.signal().map_or("NA", signal_name).to_owned(),
            Field::SignalNumber => number(self.signal().map(i32::from)),
            Field::UpDownSince => status.changed.min(self.now).to_string(),
            Field::ReadySince => status.ready_at.to_string(),
            Field::UpDownFor => self.seconds_since(status.changed).to_string(),
            Field::ReadyFor => self.seconds_since(status.ready_at).to_string(),
        }
    }

    /// Returns the state in words.
    ///
    /// If the service is down, the word `up` is never followed by a space, because callers search
    /// for `up ` to see that it runs.
    fn words(&self, numbers: bool) -> String {
        let status = &self.status;
        if status.never_started() {
            // s6 2.12 and newer end the line here, including the blank.
            return "down (not started yet) ".to_owned();
        }
        let mut out = match (status.pid.filter(|_| status.is_up()), self.signal()) {
            (Some(pid), _) => format!("up (pid {pid}) "),
            (None, Some(signal)) if numbers => format!("down (signal {signal}) "),
            (None, Some(signal)) => format!("down (signal {}) ", signal_name(signal)),
            (None, None) => format!("down (exitcode {}) ", self.exit_code().unwrap_or_default()),
        };
        let _ = write!(out, "{} seconds", self.seconds_since(status.changed));
        let up = status.is_up();
        for (said, words) in [
            (up && !self.normally_up, ", normally down"),
            (!up && self.normally_up, ", normally up"),
            (up && status.paused, ", paused"),
            (!up && status.want_up, ", want up"),
            (up && !status.want_up, ", want down"),
        ] {
            if said {
                out.push_str(words);
            }
        }
        if status.ready {
            let _ = write!(out, ", ready {} seconds", self.seconds_since(status.ready_at));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{FIELDS, ShownStatus, USAGE, named, signal_name};
    use crate::Fatal;
    use gatevisor_wire::{Pid, status::Status, tai::Tai64n, wait::WaitStatus};
    use std::ffi::OsStr;

    fn shown(pid: i32, flags: [bool; 4], raw: i32, normally_up: bool) -> ShownStatus {
        let [paused, finishing, want_up, ready] = flags;
        ShownStatus {
            status: Status {
                changed: Tai64n::from_unix(1000, 500_000_000),
                ready_at: Tai64n::from_unix(1002, 0),
                pid: Pid::new(pid),
                last: WaitStatus::from_raw(raw),
                paused,
                finishing,
                want_up,
                ready,
            },
            now: Tai64n::from_unix(1010, 0),
            normally_up,
        }
    }

    #[test]
    fn a_state_in_words() {
        for (shown, words) in [
            (shown(7, [false, false, true, false], 0, true), "up (pid 7) 9 seconds"),
            (
                shown(7, [true, false, false, true], 0, false),
                "up (pid 7) 9 seconds, normally down, paused, want down, ready 8 seconds",
            ),
            (shown(0, [false, false, false, false], 0x0300, false), "down (exitcode 3) 9 seconds"),
            (
                shown(0, [false, false, true, true], 9, true),
                "down (signal SIGKILL) 9 seconds, normally up, want up, ready 8 seconds",
            ),
            (shown(9, [false, true, true, false], 40, false), "down (signal SIG???) 9 seconds, want up"),
            (shown(0, [true, false, true, true], 0, true), "down (not started yet) "),
        ] {
            assert_eq!(shown.words(false), words);
        }
        assert_eq!(shown(0, [false; 4], 9, false).words(true), "down (signal 9) 9 seconds");
    }

    #[test]
    fn a_down_line_never_holds_up_and_a_space() {
        for flags in 0..16 {
            for (pid, normally_up) in [(0, true), (0, false), (7, true), (7, false)] {
                let shown = shown(pid, [1, 2, 4, 8].map(|bit| flags & bit != 0), 15, normally_up);
                let line = format!("{}\n", shown.words(false));
                assert_eq!(line.contains("up "), shown.status.is_up(), "{line}");
                assert_eq!(line.starts_with("up (pid 7) "), shown.status.is_up(), "{line}");
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_back_shows_no_age() {
        let mut shown = shown(7, [false, false, true, true], 0, true);
        shown.now = Tai64n::from_unix(900, 0);
        assert_eq!(shown.words(false), "up (pid 7) 0 seconds, ready 0 seconds");
    }

    #[test]
    fn a_list_of_fields_names_each_field_once() {
        let mut fields = Vec::new();
        let all: Vec<&str> = FIELDS.iter().map(|(_, name, _)| *name).collect();
        assert_eq!(named(OsStr::new(&all.join(",")), &mut fields), Ok(()));
        assert_eq!(fields, FIELDS.map(|(field, _, _)| field));
        assert_eq!(named(OsStr::new("up,pid,"), &mut fields), Ok(()));
        for (list, message) in [
            ("bogus", "invalid option field: bogus"),
            (",", "invalid null option field"),
            ("up,,pid", "invalid null option field"),
        ] {
            assert_eq!(named(OsStr::new(list), &mut Vec::new()), Err(Fatal::new(100, message)), "{list}");
        }
        assert_eq!(named(OsStr::new("up"), &mut fields), Err(Fatal::new(100, "too many option fields")));
        assert!(USAGE.contains(&format!("-o {} ]", all.join(","))), "{USAGE}");
    }

    #[test]
    fn every_signal_has_the_name_that_s6_gives_it() {
        for (number, name) in
            [(15, "SIGTERM"), (29, "SIGPOLL"), (31, "SIGSYS"), (0, "SIG???"), (34, "SIG???")]
        {
            assert_eq!(signal_name(number), name);
        }
    }
}
