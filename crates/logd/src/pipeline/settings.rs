//! The settings in `log/run`, expanded with the daemon's environment.
//!
//! *Lives here:* reading the file below a service directory, and the settings if it cannot be read.
//! *Does not live here:* its format (`gatevisor-slot`).

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gatevisor_slot::{Forward, LogFile, Timestamp, expand, log::default_label, parse_log};
use gatevisor_wire::log_script::{LogScript, LogStamp};
use gatevisor_wire::name::ServiceName;
use rustix::io::Errno;

use super::compose::Spec;
use super::error_note;
use super::sink::{LogLocation, Sink};
use crate::directory::LogLimits;
use crate::time::BatchTime;
use gatevisor_wire::exit::error_chain;

const FILE: &str = "log/run";
/// More bytes than almost every file has. Allocating memory for the longest possible file costs
/// more than reading one.
const USUAL_BYTES: usize = 4096;

/// How a stream is kept and shown.
#[derive(Debug)]
pub(crate) struct LogSettings {
    pub label: Arc<str>,
    pub forward: Forward,
    pub timestamp: Timestamp,
    /// Which lines are kept and shown.
    pub spec: Spec,
    /// Where the lines are kept; `None` if that is unknown.
    pub sink: Option<Sink>,
}

/// The owner of the output on which lines are shown, from the viewpoint of the services' owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputOwner {
    /// The services' owner, who may print anything there.
    Own,
    /// Somebody else, who must be able to recognize whose lines these are.
    Foreign,
}

impl OutputOwner {
    /// Returns how lines are shown there if their settings say `wanted`.
    fn forward(self, wanted: Forward) -> Forward {
        match (self, wanted) {
            (Self::Foreign, Forward::Raw) => Forward::Label,
            _ => wanted,
        }
    }

    /// Returns the label of lines of `service` there if their settings say `wanted`.
    fn label(self, wanted: Option<&str>, service: &str) -> String {
        match (self, wanted) {
            (_, None) => service.to_owned(),
            (Self::Own, Some(wanted)) => wanted.to_owned(),
            (Self::Foreign, Some(wanted)) if wanted == service => service.to_owned(),
            (Self::Foreign, Some(wanted)) => format!("{service}/{}", word(wanted)),
        }
    }
}

/// Returns a text as one word, which cannot be mistaken for a label and a line.
fn word(text: &str) -> String {
    let is_plain =
        |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+' | '/' | '\\' | '{' | '}');
    text.chars().fold(String::new(), |mut word, c| {
        if is_plain(c) {
            word.push(c);
        } else {
            word.extend(c.escape_unicode());
        }
        word
    })
}

/// Why a service's lines are only shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("cannot read {FILE}")]
    Read(#[source] Errno),
    #[error("cannot use {FILE}")]
    Parse(#[from] gatevisor_slot::ParseError),
    #[error("cannot expand `directory`")]
    Expand(#[from] gatevisor_slot::ExpandError),
    #[error("`directory` expands to nothing")]
    Empty,
}

impl LogSettings {
    /// Returns the settings of the service with this directory.
    ///
    /// If a `log/run` cannot be used, no lines are lost: they are shown, and a warning tells why
    /// they are not kept.
    pub fn of_service(
        directory: Option<&OwnedFd>,
        name: &ServiceName,
        output: OutputOwner,
        warn: &mut dyn FnMut(String),
    ) -> Self {
        let open = || gatevisor_sys::file::open_directory(directory?, c"log").ok();
        let log = open();
        if let Some(log) = &log {
            // An earlier daemon left it. If the error lasts, it is noted again.
            error_note::remove(log);
        }
        let found = match directory {
            Some(directory) => read(directory),
            None => Err(SettingsError::Read(Errno::BADF)),
        };
        found.and_then(|file| Self::new(&file, &label_of(name), log, output)).unwrap_or_else(|error| {
            let label = label_of(name);
            if let Some(log) = open() {
                error_note::write(
                    log,
                    BatchTime::now().tai(),
                    format!("{}; lines are shown and not kept", error_chain(&error)),
                );
            }
            warn(format!("gatevisor: {label}: {}; lines are shown and not kept", error_chain(&error)));
            Self::shown(name)
        })
    }

    /// Returns the settings for lines that are only shown.
    pub fn shown(name: &ServiceName) -> Self {
        Self {
            label: label_of(name).into(),
            forward: Forward::Label,
            timestamp: Timestamp::IsoUtc,
            sink: None,
            spec: Spec::default(),
        }
    }

    /// Returns the settings of a service with this `log/run` file.
    ///
    /// `label` counts if the file names none, and always if the output is foreign. A relative
    /// directory is below `log`, the service's `log/`, as if `log/run` were a process of its own;
    /// without `log`, it is below the working directory.
    pub fn new(
        file: &LogFile,
        label: &str,
        log: Option<OwnedFd>,
        output: OutputOwner,
    ) -> Result<Self, SettingsError> {
        let path: OsString = expand(&file.directory, &|name| std::env::var_os(name))?;
        if path.is_empty() {
            return Err(SettingsError::Empty);
        }
        let label: Arc<str> = output.label(file.label.as_deref(), label).into();
        let path = PathBuf::from(path);
        let place = LogLocation { base: log, path };
        let limits = LogLimits {
            size: file.size,
            keep: file.keep,
            total: file.total.unwrap_or(u64::MAX),
            period_s: file.period_s,
            compress: file.compress,
        };
        let spec = Spec { patterns: file.patterns()?, rate: file.rate, ..Spec::default() };
        let sink = Sink::new(Arc::clone(&label), place, limits, file.forward != Forward::Off);
        let forward = output.forward(file.forward);
        Ok(Self { label, forward, timestamp: file.timestamp, sink: Some(sink), spec })
    }
}

/// Returns the settings file at `path`, and its owner's uid.
pub(crate) fn read_file(path: &Path) -> Result<(LogFile, u32), SettingsError> {
    let limit = u64::try_from(gatevisor_slot::file::MAX_BYTES).unwrap_or(u64::MAX);
    let read = gatevisor_slot::read_file(path, limit)
        .map_err(|error| SettingsError::Read(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    Ok((parse_log(&read.bytes)?, read.owner))
}

fn read(directory: impl AsFd) -> Result<LogFile, SettingsError> {
    let (folder, name) = FILE.split_once('/').unwrap_or((".", FILE));
    let folder = gatevisor_sys::file::open_directory(directory, folder).map_err(SettingsError::Read)?;
    let mut little = [0; USUAL_BYTES];
    let text = gatevisor_sys::file::read_small(&folder, name, &mut little).map_err(SettingsError::Read)?;
    if text.len() < USUAL_BYTES {
        return parse(text);
    }
    let mut buffer = vec![0; gatevisor_slot::file::MAX_BYTES.saturating_add(1)];
    parse(gatevisor_sys::file::read_small(folder, name, &mut buffer).map_err(SettingsError::Read)?)
}

fn parse(text: &[u8]) -> Result<LogFile, SettingsError> {
    match LogScript::from_file(text) {
        Some(script) => Ok(of_script(&script)),
        None => Ok(parse_log(text)?),
    }
}

/// Returns settings with the same meaning as a script of s6-log.
fn of_script(script: &LogScript<'_>) -> LogFile {
    LogFile {
        size: u64::from(script.size),
        keep: script.keep,
        total: script.total,
        timestamp: match script.stamp {
            LogStamp::None => Timestamp::None,
            LogStamp::Tai64n => Timestamp::Tai64n,
            LogStamp::IsoLocal => Timestamp::IsoLocal,
        },
        forward: if script.forward { Forward::Raw } else { Forward::Off },
        ..LogFile::new(script.directory)
    }
}

/// Returns the label of a service whose settings name none.
pub(crate) fn label_of(name: &ServiceName) -> String {
    // Labels go to terminals, so characters that a name may hold but a line may not are escaped.
    let shown = ServiceName::new(default_label(name.as_bytes()))
        .map_or_else(|_| name.to_string(), |short| short.to_string());
    word(&shown)
}
