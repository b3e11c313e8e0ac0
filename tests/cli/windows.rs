//! Files that were edited on Windows: a message shows what is wrong, with visible characters and a
//! command that fixes it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::home::{Home, until_file};
use crate::support::waiting;

/// Gives a file the line ends of Windows.
fn spoil(file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    fs::write(file, text.replace('\n', "\r\n")).unwrap();
}

/// Puts a byte-order mark before a file.
fn mark(file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    fs::write(file, format!("\u{feff}{text}")).unwrap();
}

/// Runs the command that a message gives, in the service directory.
#[track_caller]
fn follow(said: &str, directory: &Path) {
    let (_, command) = said.split_once("; fix that: ").expect("the message gives a command");
    let command = command.split_once(';').map_or(command, |(command, _)| command);
    let status = Command::new("sh").arg("-c").arg(command).current_dir(directory).status().unwrap();
    assert!(status.success(), "{command}");
}

fn up(script: &str) -> Home {
    let mut home = Home::with_script(script, &[]);
    home.profile("coder");
    home.up_quietly();
    home.until_supervised("coder");
    home
}

#[test]
fn a_run_file_with_the_line_ends_of_windows_is_named_with_what_fix_it() {
    let home = up("exec sleep 1000");
    let slot = home.slot("coder").path().to_owned();
    spoil(&slot.join("run"));
    home.says("gateway start coder --no-wait").ok();
    let reason = slot.join("data/start-error");
    let said = until_file(&reason, "the reason", |text| text.contains("line ends of Windows in `"));
    assert!(said.contains(&format!("`{}`", slot.join("run").display())) && !said.contains('\r'), "{said:?}");
    assert!(!home.running().err().contains('\r'), "{:?}", home.running().err());
    follow(&said, &slot);
    home.says("gateway restart coder").ok();
    home.until_state("coder", "up");
}

#[test]
fn a_script_with_the_line_ends_of_windows_or_a_byte_order_mark_is_named_with_what_fix_it() {
    let home = up("exec sleep 1000");
    let slot = home.slot("coder").path().to_owned();
    for flaw in ["line ends of Windows", "a byte-order mark before its first character"] {
        fs::write(slot.join("run"), "#!/bin/sh\nexec sleep 1000\n").unwrap();
        let spoil = if flaw.contains("mark") { mark } else { spoil };
        spoil(&slot.join("run"));
        home.says("gateway start coder --no-wait").ok();
        let report = home.until_state("coder", "failed-to-start");
        let said = report["reason"].as_str().unwrap();
        assert!(said.contains(flaw) && !said.contains(['\r', '\u{feff}']), "{said:?}");
        follow(said, &slot);
        home.says("gateway start coder").ok();
        home.until_state("coder", "up");
        home.says("gateway stop coder").ok();
    }
}

#[test]
fn a_log_file_with_the_line_ends_of_windows_is_said_to_have_them() {
    let home = Home::with_script("exec sleep 1000", &[]);
    home.plant("coder");
    home.run(["reconcile"]).ok();
    let log = home.slot("coder").path().join("log");
    spoil(&log.join("run"));
    let output = Command::new("./run").arg("coder/log").current_dir(&log).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(100), "{said:?}");
    assert!(said.contains("line ends of Windows") && !said.contains('\r'), "{said:?}");
}

#[test]
fn a_number_with_the_line_end_of_windows_is_said_to_have_it() {
    let home = up("exec sleep 1000");
    spoil(&home.slot("coder").path().join("timeout-kill"));
    home.says("gateway start coder").ok();
    home.says("gateway stop coder").ok();
    waiting::polled("the warning", || {
        let said = home.running().err();
        said.contains("invalid `timeout-kill`: line ends of Windows; it is ignored").then_some(())
    });
}

#[test]
fn a_verb_that_nobody_knows_is_shown_without_control_characters() {
    let home = Home::new();
    let ran = home.run(["status\r"]);
    assert_eq!(ran.code, Some(100));
    assert!(ran.err.contains("'status\\r'") && !ran.err.contains('\r'), "{ran:?}");
}
