//! `with-contenv`: becomes a program in the container's environment.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use gatevisor_sys::environment::Variable;
use gatevisor_wire::exit::Exit;

use crate::arguments::Arguments;
use crate::become_program::{become_program, inherited};
use crate::{AppletOutcome, Fatal};

pub(crate) const USAGE: &str = "with-contenv prog...";

/// The directory of the container's environment, with one file for each variable.
const DIRECTORY: &str = "/run/s6/container_environment";
/// The variable with another directory, for tests.
const DIRECTORY_VARIABLE: &str = "GATEVISOR_CONTENV_DIR";
/// The variable that makes the caller's environment stay, if it is set and not 0.
const KEEP_VARIABLE: &str = "S6_KEEP_ENV";
/// The longest value that is read; the kernel accepts no longer string.
const LONGEST: u64 = 128 << 10;

/// Becomes the program with exactly the container's environment, or with the caller's if
/// `S6_KEEP_ENV` says so.
///
/// **Source:** `with-contenv` of s6-overlay; <https://skarnet.org/software/s6/s6-envdir.html>
pub(crate) fn run(words: &[OsString]) -> AppletOutcome {
    let arguments = Arguments::parse(words, b"", b"")?;
    arguments.first()?;
    let environment = if keeps(std::env::var_os(KEEP_VARIABLE).as_deref()) {
        inherited()
    } else {
        let dir = std::env::var_os(DIRECTORY_VARIABLE).map_or_else(|| DIRECTORY.into(), PathBuf::from);
        read(&dir)?
    };
    Err(become_program(arguments.operands, environment))
}

fn keeps(value: Option<&OsStr>) -> bool {
    value.is_some_and(|value| value.as_bytes().iter().any(|byte| *byte != b'0'))
}

/// Returns the variables of a container's environment on disk, by name.
///
/// A value is the file's content without one newline at its end. Names that begin with a dot or
/// hold `=` are skipped, and so are empty files: the file of a variable with an empty value holds
/// one newline.
pub fn read(dir: &Path) -> Result<Vec<Variable>, Fatal> {
    let failed = |path: &Path, error: &io::Error| {
        let message = format!("cannot read the container's environment `{}`: {error}", path.display());
        Fatal::new(Exit::System, message)
    };
    let mut variables = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| failed(dir, &error))? {
        let name = entry.map_err(|error| failed(dir, &error))?.file_name();
        if name.as_bytes().starts_with(b".") || name.as_bytes().contains(&b'=') {
            continue;
        }
        let path = dir.join(&name);
        let content = content(&path).map_err(|error| failed(&path, &error))?;
        if let Some(value) = value(content) {
            variables.push((name, value));
        }
    }
    variables.sort();
    Ok(variables)
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    // The kind is checked first, because opening a FIFO would wait.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut content)?;
    if u64::try_from(content.len()).is_ok_and(|length| length < LONGEST) {
        Ok(content)
    } else {
        Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than a variable can be"))
    }
}

/// Returns the value of a file's content. NUL, which no variable can hold, becomes a newline, as
/// under s6.
fn value(mut content: Vec<u8>) -> Option<OsString> {
    if content.is_empty() {
        return None;
    }
    if content.last() == Some(&b'\n') {
        content.pop();
    }
    for byte in &mut content {
        if *byte == 0 {
            *byte = b'\n';
        }
    }
    Some(OsString::from_vec(content))
}

#[cfg(test)]
mod tests {
    use super::{keeps, read, value};
    use std::ffi::{OsStr, OsString};
    use std::fs;

    #[test]
    fn a_value_is_the_content_less_one_newline() {
        let table: [(&[u8], Option<&str>); 8] = [
            (b"", None),
            (b"\n", Some("")),
            (b"\n\n", Some("\n")),
            (b"v", Some("v")),
            (b"v\n", Some("v")),
            (b" v \n", Some(" v ")),
            (b"\na\nb\n\n", Some("\na\nb\n")),
            (b"a\0b\n", Some("a\nb")),
        ];
        for (content, expected) in table {
            assert_eq!(value(content.to_vec()), expected.map(OsString::from), "{}", content.escape_ascii());
        }
    }

    #[test]
    fn the_callers_environment_is_kept_where_it_says_so() {
        for (value, expected) in [
            (None, false),
            (Some(""), false),
            (Some("0"), false),
            (Some("00"), false),
            (Some("1"), true),
            (Some("10"), true),
        ] {
            assert_eq!(keeps(value.map(OsStr::new)), expected, "{value:?}");
        }
    }

    #[test]
    fn names_that_are_no_variables_are_skipped_and_what_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("B", "2\n"), ("A", "1"), ("C=D", "x"), (".hidden", "x"), ("EMPTY", "")] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let pairs = [("A", "1"), ("B", "2")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(read(dir.path()), Ok(pairs.to_vec()));
        fs::create_dir(dir.path().join("dir")).unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().ends_with("dir`: it is not a regular file"));
        assert!(read(&dir.path().join("none")).unwrap_err().to_string().contains("none`: No such file"));
    }
}
