//! `s6-log`: logs standard input according to a script.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gatevisor_logd::script::{self, S6LogOptions};
use gatevisor_wire::exit::Exit;

use crate::arguments::{Arguments, number};
use crate::{AppletOutcome, Fatal};

pub(crate) const USAGE: &str =
    "s6-log [ -d notif ] [ -q | -v ] [ -b ] [ -p ] [ -l linelimit ] [ -- ] logging_script";

/// The default number of bytes after which a line is cut.
const LINE_LIMIT: usize = 8192;
/// The smallest allowed number.
const LEAST_LINE_LIMIT: usize = 48;

/// Runs until standard input ends or a signal stops it.
///
/// **Source:** <https://skarnet.org/software/s6/s6-log.html>
pub(crate) fn run(words: &[OsString]) -> AppletOutcome {
    let split = split_if_interpreter(words);
    let arguments = Arguments::parse(split.as_deref().unwrap_or(words), b"qvbp", b"ld")?;
    let mut options = S6LogOptions { block: false, protect: false, verbosity: 1, line_limit: LINE_LIMIT };
    let mut notify = None;
    for (option, value) in &arguments.options {
        match option {
            b'q' => options.verbosity = options.verbosity.saturating_sub(1),
            b'v' => options.verbosity = options.verbosity.saturating_add(1),
            b'b' => options.block = true,
            b'p' => options.protect = true,
            b'l' => {
                options.line_limit = match usize::try_from(number(*value)?).unwrap_or(usize::MAX) {
                    0 => usize::MAX,
                    limit => limit.max(LEAST_LINE_LIMIT),
                }
            }
            _ => notify = Some(notification(number(*value)?)?),
        }
    }
    let directives: Vec<&[u8]> = arguments.operands.iter().map(|word| word.as_bytes()).collect();
    if directives.is_empty() {
        return Err(Fatal::Usage);
    }
    let script = script::parse(&directives).map_err(|error| Fatal::of(Exit::Usage, &error, None))?;
    let ready = || {
        if let Some(mut file) = notify {
            // The process that asked may have gone, which is no reason not to log.
            let _ = file.write_all(b"\n");
        }
    };
    script::run(&script, &options, ready).map_err(|error| Fatal::of(Exit::System, &error, None))?;
    Ok(0)
}

/// Splits the single word of a `#!` line into words, if this is the interpreter of a `run`.
///
/// The kernel adds the script's name, and the supervisor the service's; neither is a directive. A
/// directive `./run` would be invalid anyway.
fn split_if_interpreter(words: &[OsString]) -> Option<Vec<OsString>> {
    let (line, script) = (words.first()?, words.get(1)?);
    if script != "./run" || !Path::new(script).is_file() {
        return None;
    }
    let split = line.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    Some(split.map(|word| OsStr::from_bytes(word).to_owned()).collect())
}

/// Returns the inherited descriptor on which to announce readiness.
fn notification(number: u32) -> Result<std::fs::File, Fatal> {
    let number = i32::try_from(number).ok().filter(|number| *number >= 3);
    let number = number.ok_or_else(|| Fatal::new(Exit::Usage, "notification fd must be 3 or more"))?;
    let invalid = |error| Fatal::new(Exit::Usage, format!("invalid notification fd {number}: {error}"));
    let fd = gatevisor_sys::process::adopt_fd(number).map_err(invalid)?;
    Ok(fd.into())
}
