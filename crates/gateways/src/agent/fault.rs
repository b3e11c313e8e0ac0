//! *Lives here:* the error of a value of an agent definition, and the rules that several parts of a
//! definition share.
//!
//! *Does not live here:* which rule applies to which value (`check`).

use std::ffi::OsString;
use std::path::{Component, Path};

use super::template::{Placeholders, fill};

/// The most bytes of a file name, so that temporary names beside it fit as well.
const MAX_FILE_NAME: usize = 200;

/// A wrong value of a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Fault {
    /// The value, as its path in the file.
    pub field: &'static str,
    /// What is wrong with it, and what would be right.
    pub why: String,
}

pub(super) fn fault<T>(field: &'static str, why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { field, why: why.into() })
}

/// Checks that a name can be that of an environment variable.
pub(super) fn variable(field: &'static str, name: &str) -> Result<(), Fault> {
    let ok = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if ok { Ok(()) } else { fault(field, format!("`{name}` is not the name of an environment variable")) }
}

/// Checks that a name is that of a file, without a directory.
pub(super) fn file_name(field: &'static str, name: &str) -> Result<(), Fault> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(only)), None) if only == name && name.len() <= MAX_FILE_NAME => Ok(()),
        _ => fault(field, format!("`{name}` is not a plain file name of at most {MAX_FILE_NAME} bytes")),
    }
}

/// Checks that a path stays below the directory that it begins in.
pub(super) fn below(field: &'static str, path: &str) -> Result<(), Fault> {
    let plain = |part| matches!(part, Component::Normal(_));
    if !path.is_empty() && Path::new(path).components().all(plain) {
        Ok(())
    } else {
        fault(field, format!("`{path}` is not a path below the home without `..`"))
    }
}

/// Returns a text with its placeholders filled in. Refuses a text that cannot be expanded at any
/// start, whatever its variables are.
pub(super) fn expandable(
    field: &'static str,
    text: &str,
    placeholders: &Placeholders,
) -> Result<String, Fault> {
    let filled = fill(text, placeholders).map_err(|error| Fault { field, why: error.to_string() })?;
    has_variables(field, &filled)?;
    Ok(filled)
}

/// Refuses a text in which a `$` begins no variable.
pub(super) fn has_variables(field: &'static str, text: &str) -> Result<(), Fault> {
    // The variable counts as empty here, so that its default is checked, too.
    let empty = |_: &str| Some(OsString::new());
    let expanded = gatevisor_slot::expand(text, &empty);
    expanded.map(drop).map_err(|error| Fault { field, why: error.to_string() })
}
