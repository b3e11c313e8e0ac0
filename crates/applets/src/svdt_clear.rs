//! `s6-svdt-clear`: forgets the deaths of a service.

use std::ffi::OsString;
use std::path::Path;

use gatevisor_wire::files;
use rustix::fs::Mode;

use crate::talk::SYSTEM;
use crate::{Fatal, Outcome};

pub(crate) const USAGE: &str = "s6-svdt-clear servicedir";

/// Replaces the death tally by an empty one. There are no options, as under s6.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svdt-clear.html>
pub(crate) fn run(words: &[OsString]) -> Outcome {
    let dir = Path::new(words.first().ok_or(Fatal::Usage)?);
    let file = dir.join(files::DEATH_TALLY);
    let wrong = |errno: rustix::io::Errno| {
        let why = std::io::Error::from(errno);
        Fatal::new(SYSTEM, format!("cannot clear death tally `{}`: {why}", file.display()))
    };
    let (Some(parent), Some(name)) = (file.parent(), file.file_name().and_then(|name| name.to_str())) else {
        return Err(Fatal::Usage);
    };
    let parent = gatevisor_client::open_directory(parent).map_err(wrong)?;
    let mode = Mode::from_raw_mode(0o644);
    gatevisor_sys::file::replace(&parent, name, &format!("{name}.new"), b"", mode).map_err(wrong)?;
    Ok(0)
}
