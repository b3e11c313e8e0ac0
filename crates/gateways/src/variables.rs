//! *Lives here:* a profile's own file of variables: reading it, and changing it in one step.
//!
//! *Does not live here:* its syntax (`gatevisor_slot::dotenv`), and which variables an agent knows.
//!
//! The file is the first of the definition's `environment-files` that is in the profile's home. Our
//! own writers take a lock beside it. It is replaced by one rename, and only its owner may read it:
//! it holds keys.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gatevisor_slot::dotenv;
use gatevisor_wire::exit::{Exit, ExitError};
use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use crate::desired::lock_beside;
use crate::files::{ReadFileError, commit, open_directory, read_bounded, write_beside};
use crate::manager::ScandirManager;
use crate::ports;
use crate::profile::ProfileName;

/// The most bytes of the file.
const MAX_BYTES: usize = 1 << 20;

/// An edit of the file of variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariableChange {
    /// It gets this value.
    Set(String, OsString),
    /// It is removed.
    Unset(String),
}

/// Why the variables of a profile were not read or changed; the file is as it was.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum VariablesError {
    /// The definition names no file in the profile's home.
    #[error(
        "the agent `{agent}` reads no file of variables in a profile's home; its definition names none in `environment-files`"
    )]
    NoFile {
        /// The name in the agent definition.
        agent: String,
    },
    /// No variable can have this name.
    #[error("`{name}` is no name of a variable; use A-Z, a-z, 0-9 and `_`, and begin with no digit")]
    Name {
        /// What was given.
        name: String,
    },
    /// No file can hold such a value.
    #[error("the value of `{name}` holds a NUL byte, which no variable can")]
    Value {
        /// The variable.
        name: String,
    },
    /// The file would be longer than what a gateway reads of it.
    #[error("`{}` would grow over {MAX_BYTES} bytes; it is as it was", path.display())]
    TooLong { path: PathBuf },
    /// Another writer holds the lock.
    #[error("another command has been writing `{}` for 5 s; try again", path.display())]
    Locked { path: PathBuf },
    /// It is not a plain file, but a link, for example.
    #[error("`{}` is not a regular file, so it is not replaced", path.display())]
    NotAFile { path: PathBuf },
    /// It cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: ReadFileError,
    },
    /// It cannot be written.
    #[error("cannot write `{}`; it is as it was", path.display())]
    Write {
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
}

impl ExitError for VariablesError {
    fn exit(&self) -> Exit {
        match self {
            Self::Name { .. } | Self::Value { .. } => Exit::Usage,
            Self::NoFile { .. } | Self::TooLong { .. } | Self::NotAFile { .. } => Exit::No,
            Self::Locked { .. } => Exit::TimedOut,
            Self::Read { .. } | Self::Write { .. } => Exit::System,
        }
    }
}

/// Returns the profile's own file of variables.
pub fn file_of(manager: &ScandirManager, name: &ProfileName) -> Result<PathBuf, VariablesError> {
    let home = manager.home().profile_dir(name);
    let own = ports::environment_files(manager, name)
        .into_iter()
        .find(|path| path.parent() == Some(home.as_path()));
    own.ok_or_else(|| VariablesError::NoFile { agent: manager.agent().name.clone() })
}

/// Returns the variables that a profile's own file sets, each once, sorted by name.
pub fn list(manager: &ScandirManager, name: &ProfileName) -> Result<Vec<(String, OsString)>, VariablesError> {
    let path = file_of(manager, name)?;
    let all = dotenv::parse(&read(&path)?);
    Ok(all.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
}

/// Makes all these changes in the profile's own file, or none.
pub fn change(
    manager: &ScandirManager,
    name: &ProfileName,
    changes: &[VariableChange],
) -> Result<(), VariablesError> {
    let path = file_of(manager, name)?;
    let write = |source: io::Error| VariablesError::Write { path: path.clone(), source };
    let directory = path.parent().unwrap_or(Path::new("."));
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let parent = open_directory(directory).map_err(write)?;
    let Some(_lock) = lock_beside(parent.as_fd(), &path, true).map_err(write)? else {
        return Err(VariablesError::Locked { path });
    };
    match statat(&parent, file, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if FileType::from_raw_mode(found.st_mode).is_file() => {}
        Ok(_) => return Err(VariablesError::NotAFile { path }),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(write(errno.into())),
    }
    let before = read(&path)?;
    let after = changes.iter().try_fold(before.clone(), |text, change| changed(&text, change))?;
    if after.len() > MAX_BYTES {
        return Err(VariablesError::TooLong { path });
    }
    if after == before {
        return Ok(());
    }
    let temporary = write_beside(parent.as_fd(), file, &after, 0o600).map_err(write)?;
    commit(parent.as_fd(), &temporary, file).map_err(write)
}

fn changed(text: &[u8], change: &VariableChange) -> Result<Vec<u8>, VariablesError> {
    let (VariableChange::Set(name, _) | VariableChange::Unset(name)) = change;
    if !dotenv::is_name(name) {
        return Err(VariablesError::Name { name: name.clone() });
    }
    match change {
        VariableChange::Unset(name) => Ok(dotenv::unset(text, name)),
        VariableChange::Set(name, value) => dotenv::set(text, name, value.as_bytes())
            .ok_or_else(|| VariablesError::Value { name: name.clone() }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, VariablesError> {
    let failed = |source| VariablesError::Read { path: path.to_owned(), source };
    read_bounded(path, MAX_BYTES).map(Option::unwrap_or_default).map_err(failed)
}
