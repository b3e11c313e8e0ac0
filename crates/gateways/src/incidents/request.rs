//! What is to be collected about a gateway.
//!
//! *Lives here:* the request. *Does not live here:* collecting (`incidents`).

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use gatevisor_wire::Pid;
use jiff::Timestamp;

/// The most bytes of one line of text, such as a reason.
const LINE_BYTES: usize = 512;

/// A command, with everything filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// Where it is executed.
    pub directory: PathBuf,
    /// Milliseconds that it may take.
    pub timeout_ms: u64,
}

/// What is to be collected, and about whom.
pub struct IncidentRequest<'a> {
    /// The logs of the profile's home; the incident is made in `incidents` below.
    pub logs: &'a Path,
    /// The profile's name.
    pub name: &'a str,
    /// Its slot in the scandir.
    pub service: &'a Path,
    /// The process that the evidence is about.
    pub pid: Pid,
    /// When the process began. Another process with its number is not evidence.
    pub start_ticks: u64,
    /// Why, on one line.
    pub reason: &'a str,
    /// The results of the probes, the oldest first, one line each.
    pub history: &'a [String],
    /// The command of the agent definition that prints evidence.
    pub command: Option<&'a Evidence>,
    /// The time of the incident.
    pub at: Timestamp,
    /// The files with the profile's variables. Their secrets are replaced.
    pub environment_files: &'a [PathBuf],
    /// Writes the last lines of the gateway's log.
    pub log: &'a dyn Fn(&mut dyn Write),
}

/// Returns any text as one line of bounded length.
pub(super) fn line_of(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LINE_BYTES).collect()
}
