//! *Lives here:* the note in a home that names its agent definition, so that a definition named
//! once counts for every later command.
//!
//! *Does not live here:* reading a definition; which of several definitions counts.
//!
//! The note is a file in the home, so it belongs to the home's owner. A reader that has become the
//! owner before gains nothing that the owner does not have. If the reader does not change its user
//! (root in a home of root's, for example), the note and the definition that it names count only if
//! nobody else can write to them or replace them.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use gatevisor_wire::exit::{Exit, ExitError};

use super::built_in;
use crate::files::{commit, open_directory, write_beside};

/// The name of the note in a home.
pub const NOTE: &str = ".gatevisor-agent";
/// More bytes than a note may have: the longest path, a newline, and one more.
const MAX_BYTES: u64 = 4098;

/// Why the note of a home does not count.
#[derive(Debug, thiserror::Error)]
pub enum RecallError {
    /// The note cannot be read.
    #[error("cannot read `{}`, in which the home says what agent definition it is used with; remove it, or give --agent", note.display())]
    Read {
        /// The file in the home that names the definition.
        note: PathBuf,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
    /// The note holds no path.
    #[error("`{}` does not hold the path of an agent definition; remove it, or give --agent", note.display())]
    NoPath {
        /// The file in the home that names the definition.
        note: PathBuf,
    },
    /// Somebody else could have written the note, or the definition that it names.
    #[error("the agent definition that `{}` names does not count, because {why}; give --agent", note.display())]
    Untrusted {
        /// The file in the home that names the definition.
        note: PathBuf,
        /// What belongs to whom.
        why: String,
    },
    /// The definition does not exist any more.
    #[error("there is no agent definition `{}`, with which the home was used until now; give the one that counts with --agent", definition.display())]
    Gone {
        /// Where it was.
        definition: PathBuf,
    },
}

impl ExitError for RecallError {
    fn exit(&self) -> Exit {
        match self {
            Self::Read { .. } => Exit::System,
            Self::NoPath { .. } | Self::Untrusted { .. } | Self::Gone { .. } => Exit::Usage,
        }
    }
}

/// Returns the definition that the note of a home names; `None` if there is no note.
pub fn recall(home: &Path) -> Result<Option<PathBuf>, RecallError> {
    let Some(definition) = noted(home)? else { return Ok(None) };
    if built_in::named(&definition).is_some() {
        return Ok(Some(definition));
    }
    let untrusted = |why| RecallError::Untrusted { note: home.join(NOTE), why };
    match fs::metadata(&definition) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(RecallError::Gone { definition });
        }
        // Whoever reads the definition reports the error.
        Err(_) => return Ok(Some(definition)),
        Ok(meta) => is_ours(&definition, &meta).map_err(untrusted)?,
    }
    if rustix::process::geteuid().is_root() {
        let way = fs::canonicalize(&definition).unwrap_or_else(|_| definition.clone());
        for directory in way.ancestors().skip(1) {
            if let Ok(meta) = fs::metadata(directory) {
                is_ours(directory, &meta).map_err(untrusted)?;
            }
        }
    }
    Ok(Some(definition))
}

/// Returns the path in a home's note, if there is one.
///
/// The descriptor that is checked is the one that is read. No link is followed, and nothing is
/// waited for.
fn noted(home: &Path) -> Result<Option<PathBuf>, RecallError> {
    let note = home.join(NOTE);
    let failed = |source: io::Error| RecallError::Read { note: note.clone(), source };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(directory) = open_directory(home) else { return Ok(None) };
    let file = match openat(&directory, NOTE, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(failed(errno.into())),
    };
    let meta = file.metadata().map_err(failed)?;
    is_ours(&note, &meta).map_err(|why| RecallError::Untrusted { note: note.clone(), why })?;
    let mut bytes = Vec::new();
    if meta.is_file() {
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    }
    let is_whole = u64::try_from(bytes.len()).is_ok_and(|length| length < MAX_BYTES);
    let path = PathBuf::from(OsString::from_vec(bytes.strip_suffix(b"\n").unwrap_or(&bytes).to_vec()));
    let is_named = path.is_absolute() || built_in::named(&path).is_some();
    if !is_whole || !is_named || path.as_os_str().as_bytes().contains(&b'\n') {
        return Err(RecallError::NoPath { note });
    }
    Ok(Some(path))
}

/// Refuses a file that somebody other than root and this process's user could have written or
/// replaced.
fn is_ours(path: &Path, meta: &Metadata) -> Result<(), String> {
    let us = rustix::process::geteuid().as_raw();
    if meta.uid() != 0 && meta.uid() != us {
        return Err(format!("`{}` belongs to uid {}", path.display(), meta.uid()));
    }
    // In a directory with the sticky bit, nobody can replace the file of another user. The
    // process's own group is trusted.
    let is_sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
    let others = if us == 0 { 0o022 } else { 0o002 };
    if meta.mode() & others != 0 && !is_sticky {
        return Err(format!("others may write to `{}`", path.display()));
    }
    Ok(())
}

/// What writing a note changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remembered {
    /// Nothing else was noted before.
    New,
    /// The note named this other definition before.
    Instead(PathBuf),
}

/// Notes the definition of a home.
pub fn remember(home: &Path, definition: &Path) -> io::Result<Remembered> {
    let definition = match built_in::named(definition) {
        Some((name, _)) => PathBuf::from(name),
        None => fs::canonicalize(definition)?,
    };
    let before = noted(home).ok().flatten();
    if before.as_ref() == Some(&definition) {
        return Ok(Remembered::New);
    }
    let text = [definition.as_os_str().as_bytes(), b"\n"].concat();
    let directory = open_directory(home)?;
    let temporary = write_beside(directory.as_fd(), NOTE, &text, 0o644)?;
    commit(directory.as_fd(), &temporary, NOTE)?;
    Ok(before.map_or(Remembered::New, Remembered::Instead))
}

/// Returns the definition that the note of a home names, if it is another one than this.
pub fn differs(home: &Path, definition: &Path) -> Option<PathBuf> {
    let is_built_in = built_in::named(definition).is_some();
    let whole = (!is_built_in).then(|| fs::canonicalize(definition).ok()).flatten();
    let same = whole.unwrap_or_else(|| definition.to_owned());
    noted(home).ok().flatten().filter(|remembered| *remembered != same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let (home, definition) = (place.path().join("home"), place.path().join("agent.toml"));
        fs::create_dir(&home).unwrap();
        fs::write(&definition, crate::agent::SMALL).unwrap();
        fs::set_permissions(&definition, fs::Permissions::from_mode(0o644)).unwrap();
        (place, home, fs::canonicalize(definition).unwrap())
    }

    #[test]
    fn a_home_knows_the_definition_that_it_was_told_last() {
        let (place, home, definition) = place();
        assert_eq!(recall(&home).unwrap(), None);
        assert_eq!(remember(&home, &definition).unwrap(), Remembered::New);
        assert_eq!(recall(&home).unwrap().as_ref(), Some(&definition));
        assert_eq!(differs(&home, &definition), None);
        let other = place.path().join("other.toml");
        fs::write(&other, crate::agent::SMALL).unwrap();
        assert_eq!(differs(&home, &other).as_ref(), Some(&definition));
        assert_eq!(remember(&home, &other).unwrap(), Remembered::Instead(definition.clone()));
        fs::remove_file(&other).unwrap();
        let error = recall(&home).unwrap_err();
        assert!(error.to_string().starts_with("there is no agent definition `"), "{error}");
    }

    #[test]
    fn a_home_knows_a_built_in_definition_by_its_name() {
        let (_place, home, _) = place();
        assert_eq!(remember(&home, Path::new("openclaw")).unwrap(), Remembered::New);
        assert_eq!(recall(&home).unwrap().as_deref(), Some(Path::new("openclaw")));
        assert_eq!(differs(&home, Path::new("openclaw")), None);
        assert_eq!(differs(&home, Path::new("hermes")).as_deref(), Some(Path::new("openclaw")));
    }

    #[test]
    fn a_note_that_others_could_have_written_does_not_count() {
        let (place, home, definition) = place();
        remember(&home, &definition).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for path in [&definition, &home.join(NOTE)] {
            mode(path, 0o666);
            assert!(matches!(recall(&home), Err(RecallError::Untrusted { .. })), "{}", path.display());
            mode(path, 0o644);
        }
        if rustix::process::geteuid().is_root() {
            // Root checks the way to the note too, which must not lead through somebody else's
            // directory.
            std::os::unix::fs::chown(place.path(), Some(65_534), None).unwrap();
            assert!(matches!(recall(&home), Err(RecallError::Untrusted { .. })));
            std::os::unix::fs::chown(place.path(), Some(0), None).unwrap();
            std::os::unix::fs::chown(home.join(NOTE), Some(65_534), None).unwrap();
            assert!(matches!(recall(&home), Err(RecallError::Untrusted { .. })));
        }
    }

    #[test]
    fn a_note_that_is_no_small_file_with_a_path_is_refused() {
        let (place, home, definition) = place();
        let note = home.join(NOTE);
        for text in ["", "relative\n", "/a\n/b\n"] {
            fs::write(&note, text).unwrap();
            assert!(matches!(recall(&home), Err(RecallError::NoPath { .. })), "{text:?}");
        }
        fs::write(&note, format!("/{}", "x".repeat(5000))).unwrap();
        assert!(recall(&home).is_err());
        fs::remove_file(&note).unwrap();
        let elsewhere = place.path().join("note");
        fs::write(&elsewhere, format!("{}\n", definition.display())).unwrap();
        symlink(elsewhere, &note).unwrap();
        assert!(recall(&home).is_err(), "a link is not followed");
    }
}
