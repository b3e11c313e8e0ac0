//! `s6-svscan`: its command line. The binary runs the supervisor.

use std::ffi::OsString;
use std::path::PathBuf;

use gatevisor_wire::exit::Exit;

use crate::Fatal;
use crate::arguments::{Arguments, number};

/// The name of the applet.
pub const NAME: &str = "s6-svscan";

pub(crate) const USAGE: &str = "s6-svscan [ -c maxservices ] [ -C maxservices ] [ -L maxname ] [ -t timeout ] \
                                [ -d notif ] [ -X consoleholder ] [ dir ]";

/// A parsed command line of `s6-svscan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Svscan {
    /// The scandir, which must exist; by default the working directory.
    pub scandir: PathBuf,
    /// The descriptor on which to write a newline when commands are obeyed (`-d`).
    pub notify: Option<i32>,
}

/// Parses a command line of `s6-svscan`.
///
/// `-c`, `-C` and `-L` are accepted and have no effect, because we have no such limit. Nor has
/// `-t`, because nothing is polled; nor `-X`, because output that a service's logger cannot accept
/// is not kept on a console.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svscan.html>
pub fn parse(words: &[OsString]) -> Result<Svscan, Fatal> {
    let arguments = Arguments::parse(words, b"", b"cCLtdX")?;
    let mut notify = None;
    for (option, value) in &arguments.options {
        let number = number(*value)?;
        if *option == b'd' {
            // Lower ones are standard input, output and error.
            let descriptor = i32::try_from(number).ok().filter(|number| *number >= 3);
            let wrong = || Fatal::new(Exit::Usage, "invalid notification fd: it must be 3 or more");
            notify = Some(descriptor.ok_or_else(wrong)?);
        }
    }
    let scandir = arguments.operands.first().map_or_else(|| ".".into(), PathBuf::from);
    Ok(Svscan { scandir, notify })
}

#[cfg(test)]
mod tests {
    use super::{Svscan, parse};
    use std::ffi::OsString;

    #[test]
    fn the_command_lines_of_s6_overlay_and_of_scripts_are_understood() {
        for (line, scandir, notify) in [
            ("-d4 -- /run/service", "/run/service", Some(4)),
            ("-c 500 -t 0 /scan", "/scan", None),
            ("-C100 -X3 -t5000 /scan", "/scan", None),
            ("", ".", None),
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(parse(&words), Ok(Svscan { scandir: scandir.into(), notify }), "{line}");
        }
        for line in ["-d 2 /scan", "-d x", "-c", "-z"] {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert!(parse(&words).is_err(), "{line}");
        }
    }
}
