//! That there is one way to become a program, so that each of them starts with clean signals.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::{Path, PathBuf};

/// Ways around `gatevisor_sys::process` and `gatevisor_sys::spawn`.
const WAYS_AROUND: [&str; 6] =
    ["process::Command", "CommandExt", "libc::exec", "libc::posix_spawn", "SYS_execve", "fexecve"];
/// Where the one way is.
const DOOR: [&str; 2] = ["sys/src/raw.rs", "sys/src/raw/child.rs"];

fn sources(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn nothing_becomes_a_program_but_through_the_one_door_that_gives_it_clean_signals() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for entry in fs::read_dir(crates).unwrap().map(Result::unwrap) {
        sources(&entry.path().join("src"), &mut files);
    }
    assert!(files.len() > 100, "the sources are somewhere else: {files:?}");
    for file in files.iter().filter(|file| !DOOR.iter().any(|door| file.ends_with(door))) {
        let text = fs::read_to_string(file).unwrap();
        // Tests start programs as they like.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for way in WAYS_AROUND {
            assert!(!code.contains(way), "{} uses {way}; use gatevisor_sys::process", file.display());
        }
    }
}
