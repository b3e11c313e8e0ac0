//! `s6-sleep`: waits.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::io::Errno;

use gatevisor_wire::exit::Exit;

use crate::arguments::{Arguments, number};
use crate::{Fatal, Outcome};

pub(crate) const USAGE: &str = "s6-sleep [ -m ] duration";

/// Waits so many seconds, or milliseconds with `-m`.
///
/// **Source:** <https://skarnet.org/software/s6-portable-utils/s6-sleep.html>
pub(crate) fn run(words: &[OsString]) -> Outcome {
    let arguments = Arguments::parse(words, b"m", b"")?;
    let amount = u64::from(number(Some(arguments.first()?))?);
    let duration = if arguments.options.is_empty() {
        Duration::from_secs(amount)
    } else {
        Duration::from_millis(amount)
    };
    let end = Instant::now().checked_add(duration);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [], timeout.as_ref()) {
            Ok(_) => return Ok(0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Fatal::new(Exit::System, format!("cannot wait: {errno}"))),
        }
    }
}
