//! `s6-svok`: tells whether a service is supervised.

use std::ffi::OsString;

use gatevisor_client::ServiceDir;
use gatevisor_paths::look;
use gatevisor_wire::exit::Exit;
use gatevisor_wire::files;
use rustix::fs::{FileType, OFlags};

use crate::{AppletOutcome, Fatal};

pub(crate) const USAGE: &str = "s6-svok servicedir";

/// Prints nothing; the exit code is the answer. There are no options, as under s6.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svok.html>
pub(crate) fn run(words: &[OsString]) -> AppletOutcome {
    let dir = ServiceDir::new(words.first().ok_or(Fatal::Usage)?);
    match dir.supervised() {
        Ok(supervised) => Ok(if supervised { Exit::Done } else { Exit::No }.code()),
        // No supervisor reads something other than a FIFO.
        Err(_) if is_something_else(&dir) => Ok(Exit::No.code()),
        Err(error) => Err(unknown(&dir, &error)),
    }
}

/// Returns whether something other than a FIFO has the name of the control FIFO.
fn is_something_else(dir: &ServiceDir) -> bool {
    let found = dir.open(files::CONTROL, OFlags::PATH).and_then(look);
    found.is_ok_and(|found| found.kind() != FileType::Fifo)
}

/// Returns the failure for an applet that cannot find out whether a service is supervised.
pub(crate) fn unknown(dir: &ServiceDir, error: &std::io::Error) -> Fatal {
    Fatal::new(Exit::System, format!("cannot open control FIFO `{}`: {error}", dir.control_path().display()))
}
