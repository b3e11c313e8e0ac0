//! A terminal for one test, which reads at the other end what a command shows.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::{soon, waiting};

/// Returns both ends of a new terminal: the one that shows what is written, and the one for the
/// command.
///
/// As long as the second end is kept, everything that was written can be read, even after the
/// command's end.
pub fn terminal() -> (File, File) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    // It must not become the terminal of the test's session.
    let no_session = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap();
    let side = fs::OpenOptions::new().read(true).write(true).custom_flags(no_session).open(&name).unwrap();
    (File::from(terminal), side)
}

/// Returns what a terminal shows, as soon as it shows these words.
#[track_caller]
pub fn until_seen(mut terminal: &File, words: &str) -> String {
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains(words) {
        assert!(waiting::readable(terminal, soon()), "{}", String::from_utf8_lossy(&seen));
        let length = terminal.read(&mut buffer).unwrap();
        seen.extend(buffer.iter().take(length));
    }
    // The last read may end in the middle of a character.
    String::from_utf8_lossy(&seen).into_owned()
}

/// Returns a command that has this end of a terminal as its controlling terminal.
pub fn on(ours: &Command, side: &File) -> Command {
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(ours.get_program()).args(ours.get_args());
    for (variable, value) in ours.get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    let end = || Stdio::from(side.try_clone().unwrap());
    command.stdin(end()).stdout(end()).stderr(end());
    command
}
