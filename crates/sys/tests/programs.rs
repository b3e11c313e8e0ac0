//! There is one way to look a program up by name, and one way to become a program.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::{Path, PathBuf};

/// What looks a program up in a `PATH` that nobody has judged.
const LOOKUPS: [&str; 6] =
    ["process::Command", "= Command::new(", "execvp", "execlp", "posix_spawn", "libc::system"];
/// Ways around `gatevisor_sys::process` and `gatevisor_sys::spawn`, which give clean signals.
const WAYS_AROUND: [&str; 7] = [
    "process::Command",
    "= Command::new(",
    "CommandExt",
    "libc::exec",
    "libc::posix_spawn",
    "SYS_execve",
    "fexecve",
];
/// The files that may become a program.
const EXECUTING: [&str; 3] = ["sys/src/raw.rs", "sys/src/raw/child.rs", CALLING];
/// The file that begins calls of programs with the standard library. It refuses names.
const CALLING: &str = "sys/src/call.rs";

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Checks that no code except that of these files contains one of the words.
fn no_code_has(words: &[&str], except: &[&str], instead: &str) {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for entry in fs::read_dir(crates).unwrap() {
        sources(&entry.unwrap().path().join("src"), &mut files);
    }
    assert!(files.len() > 100, "the sources are somewhere else: {files:?}");
    // Files of tests alone start programs as they like.
    files.retain(|file| !file.ends_with("tests.rs") && !except.iter().any(|other| file.ends_with(other)));
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        // So do tests in other files.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in words {
            assert!(!code.contains(word), "{} uses {word}; use {instead}", file.display());
        }
    }
}

#[test]
fn no_code_looks_a_program_up_by_name_in_a_path_that_was_not_judged() {
    no_code_has(&LOOKUPS, &[CALLING], "gatevisor_sys::process::exec_search");
}

#[test]
fn every_program_is_started_in_one_place_which_gives_it_clean_signals() {
    no_code_has(&WAYS_AROUND, &EXECUTING, "gatevisor_sys::process");
}
