//! `s6-sleep`: waits.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use rustix::event::poll;
use rustix::io::Errno;

use gatevisor_sys::clock::remaining;
use gatevisor_wire::exit::Exit;

use crate::arguments::{Arguments, number};
use crate::{AppletOutcome, Fatal};

pub(crate) const USAGE: &str = "s6-sleep [ -m ] duration";

/// Waits this many seconds, or milliseconds with `-m`.
///
/// **Source:** <https://skarnet.org/software/s6-portable-utils/s6-sleep.html>
pub(crate) fn run(words: &[OsString]) -> AppletOutcome {
    let arguments = Arguments::parse(words, b"m", b"")?;
    let amount = u64::from(number(Some(arguments.first()?))?);
    let duration = if arguments.options.is_empty() {
        Duration::from_secs(amount)
    } else {
        Duration::from_millis(amount)
    };
    let end = Instant::now().checked_add(duration);
    loop {
        match poll(&mut [], remaining(end).as_ref()) {
            Ok(_) => return Ok(0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Fatal::new(Exit::System, format!("cannot wait: {errno}"))),
        }
    }
}
