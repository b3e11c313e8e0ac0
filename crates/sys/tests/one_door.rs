//! No program is looked up by name but through `ProgramEnvironment`.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::{Path, PathBuf};

/// What would look a program up in a `PATH` that nobody has judged.
const OTHER_DOORS: [&str; 5] = ["process::Command", "execvp", "execlp", "posix_spawn", "libc::system"];

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

#[test]
fn no_code_looks_a_program_up_by_name_in_a_path_that_was_not_judged() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all = Vec::new();
    for entry in fs::read_dir(crates).unwrap() {
        sources(&entry.unwrap().path().join("src"), &mut all);
    }
    assert!(all.len() > 100, "the sources are there");
    for path in all {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for door in OTHER_DOORS {
            assert!(!code.contains(door), "{} has `{door}`; use sys::process::exec_search", path.display());
        }
    }
}
