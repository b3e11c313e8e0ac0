//! `s6-svdt`: lists the deaths of a service.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};

use gatevisor_client::ServiceDir;
use gatevisor_wire::exit::Exit;
use gatevisor_wire::{files, tally};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::arguments::{Arguments, number};
use crate::fatal::print;
use crate::svstat::signal_name;
use crate::{AppletOutcome, Fatal};

pub(crate) const USAGE: &str = "s6-svdt [ -S | -s ] [ -n maxentries ] servicedir";

/// Lists the last deaths, oldest first: the time, and the exit code or the signal, by name or by
/// number.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svdt.html>
pub(crate) fn run(words: &[OsString]) -> AppletOutcome {
    let arguments = Arguments::parse(words, b"Ss", b"n")?;
    let mut numbers = false;
    let mut most = tally::MAX;
    for (option, value) in &arguments.options {
        match option {
            b'n' => most = usize::try_from(number(*value)?).unwrap_or(tally::MAX),
            option => numbers = *option == b's',
        }
    }
    let dir = ServiceDir::new(arguments.first()?);
    let file = dir.path().join(files::DEATH_TALLY);
    let wrong = |why: &dyn std::fmt::Display| {
        Fatal::new(Exit::System, format!("cannot read death tally `{}`: {why}", file.display()))
    };
    let bytes = read(&dir).map_err(|error| wrong(&error))?;
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

/// Returns the tally's bytes; none if the service was never supervised.
fn read(dir: &ServiceDir) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match dir.open(files::DEATH_TALLY, OFlags::RDONLY).map(File::from) {
        Ok(opened) if opened.metadata()?.is_file() => {
            // There is room for one death more than allowed, so that too many are noticed.
            let room = u64::try_from((tally::MAX.saturating_add(1)).saturating_mul(tally::SIZE)).unwrap_or(0);
            opened.take(room).read_to_end(&mut bytes)?;
            Ok(bytes)
        }
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
        Err(Errno::NOENT) if dir.open(files::SUPERVISE, OFlags::PATH | OFlags::DIRECTORY).is_ok() => {
            Ok(bytes)
        }
        Err(errno) => Err(errno.into()),
    }
}
