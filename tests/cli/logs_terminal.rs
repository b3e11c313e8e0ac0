//! What `gatevisor logs` looks like on a terminal.

use std::fs::{self, File};
use std::io::Read;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::home::Home;
use crate::support::{soon, waiting};

/// Runs a command whose output is a terminal, and returns what that shows.
fn on_a_terminal(home: &Home, arguments: &[&str], last: &str) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    // Kept open, so that what was written is there to be read whether the command still runs or not.
    let side = File::options().read(true).write(true).custom_flags_noctty().open(&name).unwrap();
    let mut command = home.command(arguments);
    let mut child = command.stdout(Stdio::from(side.try_clone().unwrap())).spawn().unwrap();
    let mut terminal = File::from(terminal);
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains(last) {
        assert!(waiting::readable(&terminal, soon()), "{}", String::from_utf8_lossy(&seen));
        let length = terminal.read(&mut buffer).unwrap();
        seen.extend(buffer.iter().take(length));
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(seen).unwrap()
}

/// Opens a terminal without becoming its session's.
trait WithoutControl {
    fn custom_flags_noctty(&mut self) -> &mut Self;
}

impl WithoutControl for fs::OpenOptions {
    fn custom_flags_noctty(&mut self) -> &mut Self {
        use std::os::unix::fs::OpenOptionsExt;
        self.custom_flags(i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap())
    }
}

fn home() -> Home {
    let home = Home::new();
    for name in ["coder", "writer"] {
        home.plant(name);
        let directory = home.log_file(name).parent().unwrap().to_owned();
        fs::create_dir_all(&directory).unwrap();
        let text =
            format!("2026-11-20 10:00:00.000000000  {name} \x1b]0;title\x07\tand \x1b[2Jclear \u{9b}2J!\n");
        fs::write(directory.join("current"), text).unwrap();
    }
    home
}

#[test]
fn what_a_gateway_writes_commands_no_terminal() {
    let mut home = home();
    home.set("NO_COLOR", "1");
    let seen = on_a_terminal(&home, &["logs", "coder"], "!");
    assert!(seen.contains("  coder ^[]0;title^G\tand ^[[2Jclear \\u{9b}2J!"), "{seen:?}");
    assert!(!seen.contains('\x1b'), "{seen:?}");
    let raw = on_a_terminal(&home, &["logs", "--raw", "coder"], "!");
    assert!(raw.contains("coder \x1b]0;title\x07"), "{raw:?}");
    // Whoever reads a pipe gets every byte.
    assert!(home.says("logs coder").ok().contains("coder \x1b]0;title\x07\tand \x1b[2Jclear"));
}

#[test]
fn each_profile_has_its_colour_on_a_terminal_and_nowhere_else() {
    let home = home();
    let both = on_a_terminal(&home, &["logs", "coder", "writer"], "writer ^[");
    let label = |seen: &str, name: &str| {
        let line = seen.lines().find(|line| line.contains(&format!("  \x1b[0m{name} ^["))).unwrap();
        line.split_once(" | ").unwrap().0.trim_end().to_owned()
    };
    let coder = label(&both, "coder");
    assert!(coder.starts_with("\x1b["), "{both:?}");
    assert_ne!(coder.split_once('m').unwrap().0, label(&both, "writer").split_once('m').unwrap().0);
    let other = on_a_terminal(&home, &["logs", "writer", "coder"], "coder ^[");
    assert_eq!(label(&other, "coder"), coder, "it has another colour beside others");
    assert!(!home.says("logs coder writer").ok().contains("\x1b[0m"));
}
