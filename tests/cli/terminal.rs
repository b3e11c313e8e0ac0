//! A terminal of a test's own: what a command shows on it is read at its other end.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::{soon, waiting};

/// Returns the end of a new terminal that shows what is written to it, and the end for the command.
///
/// Whoever keeps the second one keeps what was written there to be read, whether the command still runs or not.
pub fn terminal() -> (File, File) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    // It must not become the terminal of the test's own session.
    let no_session = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap();
    let side = fs::OpenOptions::new().read(true).write(true).custom_flags(no_session).open(&name).unwrap();
    (File::from(terminal), side)
}

/// Returns what a terminal shows, once these words are part of it.
#[track_caller]
pub fn until_seen(mut terminal: &File, words: &str) -> String {
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains(words) {
        assert!(waiting::readable(terminal, soon()), "{}", String::from_utf8_lossy(&seen));
        let length = terminal.read(&mut buffer).unwrap();
        seen.extend(buffer.iter().take(length));
    }
    String::from_utf8(seen).unwrap()
}
