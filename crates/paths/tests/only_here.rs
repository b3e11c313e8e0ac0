//! That nothing else in the project walks a tree.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// What follows links, crosses mounts or recurses on its own.
const FORBIDDEN: [&str; 4] = ["remove_dir_all", "create_dir_all", ".recursive(true)", "walkdir"];

/// Who makes directories along a path all the same, and why that is no danger.
const ALLOWED: [(&str, &str, &str); 6] = [
    ("gatevisor/src/up.rs", ".recursive(true)", "done as the user who decides what is in the home"),
    ("init/src/directory.rs", "create_dir_all", "an operator's own directory, named on the command line"),
    ("applets/src/links.rs", "create_dir_all", "an operator's own directory, named on the command line"),
    (
        "gateways/src/reconcile/execute.rs",
        "create_dir_all",
        "done as the user who decides what is in the home",
    ),
    (
        "gateways/src/reconcile/boot_log.rs",
        "create_dir_all",
        "done as the user who decides what is in the home",
    ),
    ("gatevisor/src/reconcile.rs", "create_dir_all", "done as the user who decides what is in the home"),
];

/// Returns the files of programs, without those of tests.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !["tests", "examples", "target"].iter().any(|name| path.ends_with(name)) {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// Returns the lines of a program, without its comments and its tests, which are at the end.
fn program(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
    lines.filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
}

#[test]
fn nothing_but_the_walk_recurses_and_nothing_but_the_way_to_a_home_makes_what_is_missing() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    sources(crates, &mut files);
    assert!(files.len() > 100, "where are the programs?");
    let mut unused: Vec<_> = ALLOWED.to_vec();
    for file in &files {
        let name = file.strip_prefix(crates).unwrap().to_string_lossy().into_owned();
        for line in program(file) {
            for word in FORBIDDEN.iter().filter(|word| line.contains(**word)) {
                let is_allowed = ALLOWED.iter().any(|(path, allowed, _)| *path == name && allowed == word);
                assert!(is_allowed, "{name} has `{word}`: use gatevisor-paths, or say here why not: {line}");
                unused.retain(|(path, allowed, _)| !(*path == name && allowed == word));
            }
        }
    }
    assert_eq!(unused, [], "these are not needed any more");
}
