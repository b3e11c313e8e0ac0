//! How `gatevisor logs` looks on a terminal.

use std::fs;
use std::process::Stdio;

use crate::home::Home;
use crate::terminal::{terminal, until_seen};

/// Runs a command whose output is a terminal, and returns what the terminal shows.
fn on_a_terminal(home: &Home, arguments: &[&str], last: &str) -> String {
    let (terminal, side) = terminal();
    let mut command = home.command(arguments);
    let mut child = command.stdout(Stdio::from(side.try_clone().unwrap())).spawn().unwrap();
    let seen = until_seen(&terminal, last);
    assert!(child.wait().unwrap().success());
    drop(side);
    seen
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
    assert!(seen.contains("  coder \\u{1b}]0;title\\u{7}\tand \\u{1b}[2Jclear \\u{9b}2J!"), "{seen:?}");
    assert!(!seen.contains('\x1b'), "{seen:?}");
    let raw = on_a_terminal(&home, &["logs", "--raw", "coder"], "!");
    assert!(raw.contains("coder \x1b]0;title\x07"), "{raw:?}");
}

#[test]
fn each_profile_has_its_colour_on_a_terminal_and_nowhere_else() {
    let home = home();
    let both = on_a_terminal(&home, &["logs", "coder", "writer"], "writer \\u{1b}");
    let label = |seen: &str, name: &str| {
        let line = seen.lines().find(|line| line.contains(&format!("  \x1b[0m{name} \\u{{1b}}"))).unwrap();
        line.split_once(" | ").unwrap().0.trim_end().to_owned()
    };
    let coder = label(&both, "coder");
    assert!(coder.starts_with("\x1b["), "{both:?}");
    assert_ne!(coder.split_once('m').unwrap().0, label(&both, "writer").split_once('m').unwrap().0);
    let other = on_a_terminal(&home, &["logs", "writer", "coder"], "coder \\u{1b}");
    assert_eq!(label(&other, "coder"), coder, "it has another colour beside others");
    assert!(!home.says("logs coder writer").ok().contains("\x1b[0m"));
}
