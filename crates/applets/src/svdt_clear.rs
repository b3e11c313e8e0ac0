//! `s6-svdt-clear`: forgets the deaths of a service.

use std::ffi::OsString;

use gatevisor_client::ServiceDir;
use gatevisor_wire::exit::Exit;
use gatevisor_wire::files;
use rustix::fs::{Mode, OFlags};

use crate::{AppletOutcome, Fatal};

pub(crate) const USAGE: &str = "s6-svdt-clear servicedir";

/// The death tally within `supervise/`.
const TALLY: &str = "death_tally";

/// Replaces the death tally by an empty one. There are no options, as under s6.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svdt-clear.html>
pub(crate) fn run(words: &[OsString]) -> AppletOutcome {
    let dir = ServiceDir::new(words.first().ok_or(Fatal::Usage)?);
    let file = dir.path().join(files::DEATH_TALLY);
    let wrong = |errno: rustix::io::Errno| {
        let why = std::io::Error::from(errno);
        Fatal::new(Exit::System, format!("cannot clear death tally `{}`: {why}", file.display()))
    };
    let supervise = dir.open(files::SUPERVISE, OFlags::PATH | OFlags::DIRECTORY).map_err(wrong)?;
    let mode = Mode::from_raw_mode(0o644);
    gatevisor_sys::file::replace(&supervise, TALLY, "death_tally.new", b"", mode).map_err(wrong)?;
    Ok(0)
}
