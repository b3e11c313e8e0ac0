//! The rooms of this crate: each uses only those before it.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, each with those that it may use.
const ROOMS: [(&str, &[&str]); 6] = [
    ("directory", &[]),
    ("handover", &["directory"]),
    ("console", &["directory", "handover"]),
    ("pipeline", &["directory", "handover", "console"]),
    ("daemon", &["directory", "handover", "console", "pipeline"]),
    ("script", &["directory"]),
];

#[test]
fn a_room_uses_only_the_rooms_before_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (room, before) in ROOMS {
        let files = files_below(&source.join(room));
        assert!(!files.is_empty(), "{room}");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            for (other, _) in ROOMS {
                let is_used = code.contains(&format!("crate::{other}"));
                let may_be = other == room || before.contains(&other);
                assert!(!is_used || may_be, "{} uses {other}", file.display());
            }
        }
    }
}

#[test]
fn every_file_is_in_a_room() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut beside: Vec<String> = fs::read_dir(&source)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !ROOMS.iter().any(|(room, _)| room == name))
        .collect();
    beside.sort();
    assert_eq!(beside, ["lib.rs", "time.rs"]);
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}
