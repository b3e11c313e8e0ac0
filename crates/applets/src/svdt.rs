//! `s6-svdt`: lists the deaths of a service.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use gatevisor_wire::{files, tally};
use rustix::fs::OFlags;

use crate::arguments::{Arguments, number};
use crate::svstat::signal_name;
use crate::talk::{SYSTEM, print};
use crate::{Fatal, Outcome};

pub(crate) const USAGE: &str = "s6-svdt [ -S | -s ] [ -n maxentries ] servicedir";

/// Lists the last deaths, oldest first: when, and the exit code or the signal, by name or by number.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svdt.html>
pub(crate) fn run(words: &[OsString]) -> Outcome {
    let arguments = Arguments::parse(words, b"Ss", b"n")?;
    let mut numbers = false;
    let mut most = tally::MAX;
    for (letter, value) in &arguments.options {
        match letter {
            b'n' => most = usize::try_from(number(*value)?).unwrap_or(tally::MAX),
            letter => numbers = *letter == b's',
        }
    }
    let file = Path::new(arguments.first()?).join(files::DEATH_TALLY);
    let wrong = |why: &dyn std::fmt::Display| {
        Fatal::new(SYSTEM, format!("cannot read death tally `{}`: {why}", file.display()))
    };
    let bytes = read(&file).map_err(|error| wrong(&error))?;
    let deaths = tally::decode_all(&bytes).map_err(|error| wrong(&error))?;
    let mut out = String::new();
    for death in deaths.iter().skip(deaths.len().saturating_sub(most)) {
        let _ = match death.signal {
            0 => writeln!(out, "{} exitcode {}", death.at, death.exit_code),
            signal if numbers => writeln!(out, "{} signal {signal}", death.at),
            signal => writeln!(out, "{} signal {}", death.at, signal_name(signal)),
        };
    }
    print(&out)
}

/// Returns the tally's bytes; none where the service has never been supervised.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A FIFO in its place would be waited for.
    let nonblock = OFlags::NONBLOCK.bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(nonblock).open(file) {
        Ok(opened) if opened.metadata()?.is_file() => {
            // One death more than a tally may hold, so that too many are noticed.
            let room = u64::try_from((tally::MAX.saturating_add(1)).saturating_mul(tally::SIZE)).unwrap_or(0);
            opened.take(room).read_to_end(&mut bytes)?;
            Ok(bytes)
        }
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_dir_above(file) => Ok(bytes),
        Err(error) => Err(error),
    }
}

fn is_dir_above(file: &Path) -> bool {
    file.parent().is_some_and(Path::is_dir)
}
