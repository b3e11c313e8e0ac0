//! *Lives here:* asking a gateway to take no new work, and taking the request back, in each way
//! that an agent definition can name.
//!
//! *Does not live here:* deciding when.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gatevisor_paths::by_path;
use gatevisor_slot::expand::expand;
use gatevisor_wire::control::{Control, ControlSignal};
use gatevisor_wire::policy::one_line;
use jiff::Timestamp;
use rustix::fs::{AtFlags, Mode, unlinkat};
use rustix::io::Errno;

use crate::agent::{DrainDefinition, DrainMarker, Placeholders, fill};
use crate::files::{open_directory, random_suffix, read_bounded};
use crate::incidents::{
    Evidence, PartEnd, PartLimits, PartOutput, RunningPart, become_command, start_bounded,
};
use crate::manager::{ScandirManager, restart_control};
use crate::ports;
use crate::profile::ProfileName;

/// The most bytes of a marker that are read.
const MARKER_BYTES: usize = 64 << 10;
/// The most bytes of a command's output that are kept.
pub(super) const OUTPUT_BYTES: usize = 256 << 10;

/// A gateway, and the way in which it is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct DrainTarget<'a> {
    pub manager: &'a ScandirManager,
    pub name: &'a ProfileName,
    pub drain: &'a DrainDefinition,
}

impl DrainTarget<'_> {
    /// Asks the gateway with this process to take no new work, if its definition has no command for
    /// that. `by` tells people who asks.
    pub fn ask(&self, pid: i32, by: &str) -> Result<(), String> {
        if let Some(marker) = &self.drain.marker {
            return self.write(marker, pid, by);
        }
        self.drain.signal.as_ref().map_or(Ok(()), |signals| self.signal(&signals.begin))
    }

    /// Takes the request back, in no more than so long. Returns whether there was one, as far as
    /// that can be seen.
    pub fn take_back(&self, limit: Duration) -> Result<bool, String> {
        if let Some(marker) = &self.drain.marker {
            return remove(&self.home(), &marker.file).map_err(|errno| {
                format!("cannot remove `{}`: {}", self.file(marker).display(), words(errno))
            });
        }
        if let Some(commands) = &self.drain.command {
            let limit = limit.min(Duration::from_millis(commands.timeout_ms));
            return self.start(&commands.end, limit)?.wait().map(|_| true);
        }
        let end = self.drain.signal.as_ref().and_then(|signals| signals.end.as_deref());
        end.map_or(Ok(false), |signal| self.signal(signal).map(|()| true))
    }

    /// Returns the file with which another program asks this gateway to drain, if there is one and
    /// we do not ask.
    pub fn asked_by_another(&self, pid: i32) -> Option<PathBuf> {
        let file = self.file(self.drain.marker.as_ref()?);
        let bytes = read_bounded(&file, MARKER_BYTES).ok().flatten()?;
        let is_of_now = !self.drain.marker.as_ref()?.content.contains("{epoch}")
            || String::from_utf8_lossy(&bytes).contains(&epoch(pid));
        is_of_now.then_some(file)
    }

    pub fn home(&self) -> PathBuf {
        self.manager.home().profile_dir(self.name)
    }

    fn file(&self, marker: &DrainMarker) -> PathBuf {
        self.home().join(&marker.file)
    }

    /// Replaces the file atomically. It is not synced, because it is short-lived.
    fn write(&self, marker: &DrainMarker, pid: i32, by: &str) -> Result<(), String> {
        let content = content(&marker.content, &epoch(pid), by, Timestamp::now());
        let failed =
            |why: &dyn std::fmt::Display| format!("cannot write `{}`: {why}", self.file(marker).display());
        let parent = open_directory(&self.home()).map_err(|error| failed(&error))?;
        let temporary = format!(".{}.{}", marker.file, random_suffix());
        let mode = Mode::from_raw_mode(0o644);
        gatevisor_sys::file::replace(parent.as_fd(), &marker.file, &temporary, content.as_bytes(), mode)
            .map_err(|errno| failed(&words(errno)))
    }

    fn signal(&self, name: &str) -> Result<(), String> {
        let control = restart_control(name).unwrap_or(Control::Signal(ControlSignal::Continue));
        self.manager.slot(self.name).send(&[control]).map_err(|error| error.to_string())
    }

    /// Starts a command of the definition.
    pub fn start(&self, argv: &[String], limit: Duration) -> Result<AskingProcess, String> {
        let argv = argv.iter().map(|text| self.expanded(text)).collect::<Result<Vec<OsString>, String>>()?;
        let shown = argv.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let evidence = Evidence { argv, directory: self.home(), timeout_ms: milliseconds(limit) };
        let told = self.environment();
        let told: Vec<(&str, String)> = told.iter().map(|(name, value)| (&**name, value.clone())).collect();
        AskingProcess::start(format!("`{shown}`"), limit, |output| {
            let _why = become_command(&evidence, &told, &output);
            i32::from(gatevisor_wire::exit::Exit::NotExecutable.code())
        })
    }

    /// Returns the variables that the definition sets for a gateway.
    fn environment(&self) -> Vec<(String, String)> {
        let agent = self.manager.agent();
        let home = (agent.home_variable(), self.manager.home().root().display().to_string());
        let given = agent.gateway.environment.iter();
        let given = given
            .filter_map(|(name, text)| Some((name.clone(), self.expanded(text).ok()?.into_string().ok()?)));
        std::iter::once(home).chain(given).collect()
    }

    /// Returns a text of the definition with its placeholders filled in, as at a start of the
    /// gateway.
    pub fn expanded(&self, text: &str) -> Result<OsString, String> {
        let variable = self.manager.agent().home_variable();
        let unfilled = |why: &dyn std::fmt::Display| format!("`{text}` cannot be filled in: {why}");
        let filled =
            fill(text, &Placeholders::new(self.name, &variable)).map_err(|error| unfilled(&error))?;
        let values = ports::variables(self.manager, self.name);
        let root = self.manager.home().root();
        let filled = expand(&filled, &|name| {
            if name == variable {
                return Some(root.into());
            }
            let own = values.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            own.or_else(|| std::env::var_os(name))
        });
        filled.map_err(|error| unfilled(&error))
    }
}

/// A process that asks a gateway something. It is killed when this value is dropped.
#[derive(Debug)]
pub(super) struct AskingProcess {
    part: RunningPart,
    /// What it is, as text.
    shown: String,
    limit: Duration,
}

impl AskingProcess {
    /// Starts a process that does `job` in no more than so long.
    pub fn start(shown: String, limit: Duration, job: impl FnOnce(OwnedFd) -> i32) -> Result<Self, String> {
        let now = Instant::now();
        let limits = PartLimits { until: now.checked_add(limit).unwrap_or(now), bytes: OUTPUT_BYTES };
        match start_bounded(limits, job) {
            Ok(part) => Ok(Self { part, shown, limit }),
            Err(errno) => Err(format!("{shown} cannot be executed: {}", words(errno))),
        }
    }

    /// Returns the descriptor that becomes readable when there is something to look at, and when
    /// the time is over.
    pub fn news(&self) -> (&OwnedFd, Instant) {
        (self.part.news(), self.part.until())
    }

    /// Returns what it has printed, or why it has failed, if it has ended or its time is over.
    pub fn answer(&mut self) -> Option<Result<Vec<u8>, String>> {
        let output = self.part.advance()?;
        Some(self.result(output))
    }

    /// Waits for its end. Returns what it has printed, or why it has failed.
    pub fn wait(mut self) -> Result<Vec<u8>, String> {
        let output = self.part.wait();
        self.result(output)
    }

    fn result(&self, output: PartOutput) -> Result<Vec<u8>, String> {
        let shown = &self.shown;
        match output.end {
            PartEnd::Code(0) => Ok(output.bytes),
            PartEnd::Code(code) => Err(format!("{shown} exited with {code}{}", last_line(&output.bytes))),
            PartEnd::Signal(signal) => Err(format!("{shown} was ended by signal {signal}")),
            PartEnd::TooLong => Err(format!("{shown} printed more than {OUTPUT_BYTES} bytes")),
            PartEnd::Late => Err(format!("{shown} did not end in {} ms", milliseconds(self.limit))),
            PartEnd::Failed(errno) => Err(format!("{shown} cannot be executed: {}", words(errno))),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the last line that a command printed, to be said after its exit code.
fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line.map_or_else(String::new, |line| format!(": {}", one_line(line)))
}

/// Removes a file from a directory, and returns whether it was there.
pub(super) fn remove(directory: &Path, file: &str) -> Result<bool, Errno> {
    let directory = match by_path::directory(directory) {
        Err(Errno::NOENT) => return Ok(false),
        other => other?,
    };
    match unlinkat(directory, file, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Returns the content of a marker. A JSON text stays valid, whatever is filled in.
fn content(template: &str, epoch: &str, by: &str, now: Timestamp) -> String {
    let text = |value: &str| {
        let quoted = serde_json::to_string(value).unwrap_or_default();
        quoted.trim_matches('"').to_owned()
    };
    let now = now.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string();
    template
        .trim_start()
        .replace("{epoch}", &text(epoch))
        .replace("{now}", &now)
        .replace("{principal}", &text(&format!("gatevisor: {by}")))
}

/// Returns a text that distinguishes this start of the machine or container from every other start,
/// as a process in it sees them: the boot id of the kernel, and the start of process 1.
fn epoch(pid: i32) -> String {
    // A gateway in a container of its own sees another process 1, if it has its own /proc.
    let as_seen = |path: &str| {
        let read = |path: &str| read_bounded(Path::new(path), MARKER_BYTES).ok().flatten();
        let bytes = read(&format!("/proc/{pid}/root{path}")).or_else(|| read(path));
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    };
    let boot = as_seen("/proc/sys/kernel/random/boot_id");
    let first = as_seen("/proc/1/stat");
    let began = first.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19));
    format!("{}:{}", boot.trim(), began.unwrap_or_default())
}

pub(super) fn words(errno: Errno) -> String {
    gatevisor_wire::exit::error_chain(&errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatevisor_wire::policy::REASON_MAX;
    use insta::assert_snapshot;

    #[test]
    fn what_a_failed_command_said_last_is_one_line() {
        assert_eq!(last_line(b"Error:\n  it is busy \n\n"), ": it is busy");
        assert_eq!(last_line(b" \n"), "");
        assert_eq!(last_line(&[b'a'; 1000]).len(), REASON_MAX + ": ".len());
    }

    #[test]
    fn a_marker_says_which_start_of_the_machine_it_is_for_and_who_asks() {
        let now = Timestamp::from_second(1_780_000_000).unwrap();
        let template = "{\"at\": \"{now}\", \"by\": \"{principal}\", \"epoch\": \"{epoch}\"}\n";
        let text = content(template, "boot:7", "a \"b\"\n{now}", now);
        assert_snapshot!(text, @r#"{"at": "2026-05-28T20:26:40.000000+00:00", "by": "gatevisor: a \"b\"\n{now}", "epoch": "boot:7"}"#);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["by"], "gatevisor: a \"b\"\n{now}");
        let epoch = epoch(std::process::id().cast_signed());
        let (boot, began) = epoch.split_once(':').unwrap();
        assert_eq!(boot.len(), 36, "{epoch}");
        assert!(began.parse::<u64>().is_ok(), "{epoch}");
    }
}
