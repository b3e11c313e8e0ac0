//! The layers of this crate: each uses only those below it.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the lowest one up, each with those that it may use.
const LAYERS: [(&str, &[&str]); 6] = [
    ("directory", &[]),
    ("handover", &["directory"]),
    ("console", &["directory", "handover"]),
    ("pipeline", &["directory", "handover", "console"]),
    ("daemon", &["directory", "handover", "console", "pipeline"]),
    ("script", &["directory"]),
];

#[test]
fn a_layer_uses_only_the_layers_below_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (layer, below) in LAYERS {
        let files = files_below(&source.join(layer));
        assert!(!files.is_empty(), "{layer}");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let used = modules_of_the_crate(text.split("#[cfg(test)]\nmod ").next().unwrap_or_default());
            for (other, _) in LAYERS {
                let is_used = used.iter().any(|name| name == other);
                let may_be = other == layer || below.contains(&other);
                assert!(!is_used || may_be, "{} uses {other}", file.display());
            }
        }
    }
}

#[test]
fn every_file_is_in_a_layer() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut beside: Vec<String> = fs::read_dir(&source)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !LAYERS.iter().any(|(layer, _)| layer == name))
        .collect();
    beside.sort();
    assert_eq!(beside, ["lib.rs", "time.rs"]);
}

/// Returns the modules of the crate that a text names, in `crate::NAME` and in `crate::{NAME, …}`.
fn modules_of_the_crate(text: &str) -> Vec<String> {
    let name = |word: &str| word.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut names = Vec::new();
    for after in text.split("crate::").skip(1) {
        let Some(group) = after.strip_prefix('{') else {
            names.push(name(after));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (at, char) in group.char_indices() {
            match char {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    names.push(name(group.get(start..at).unwrap_or_default()));
                    start = at + 1;
                }
                '}' => depth -= 1,
                _ => {}
            }
            if char == '}' && start == at + 1 {
                break;
            }
        }
    }
    names
}

#[test]
fn a_group_of_imports_names_every_module_in_it() {
    let text = "use crate::{console::{A, b::C}, pipeline};\ncrate::handover::x()";
    assert_eq!(modules_of_the_crate(text), ["console", "pipeline", "handover"]);
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
