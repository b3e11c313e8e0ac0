//! *Lives here:* profiles on disk: making one, deleting one, finding them all.
//!
//! *Does not live here:* slots; whether a profile's gateway runs.
//!
//! **Source:** REC-4 to REC-6, HOOK-4, issue *Profiles and slots*.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use gatevisor_client::look;
use gatevisor_paths::by_path;
use gatevisor_wire::exit::{Exit, ExitError};
use rustix::fs::{AtFlags, Mode, fsync, mkdirat, unlinkat};
use rustix::io::Errno;

use super::home::{Home, PROFILES};
use super::name::{ProfileName, shown};
use crate::agent::{AgentDefinition, SeedFile};
use crate::files::{
    Staging, is_leftover, make_directory, open_directory, remove_tree, retire, sweep, write_new,
};
use crate::manager::LookError;

/// A profile that exists.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Profile {
    /// Its name.
    pub name: ProfileName,
    /// Its home.
    pub path: PathBuf,
}

/// A directory among the profiles that has the marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidate {
    /// A profile.
    Profile(Profile),
    /// A directory that cannot be one because of its name.
    Misnamed {
        /// The name on one line, whatever it holds.
        shown: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A profile that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The profile.
    pub profile: Profile,
    /// What its maker should know although it worked.
    pub warning: Option<String>,
}

/// Why a profile was not made; nothing of it remains.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Nobody may look.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The root profile is always there.
    #[error("profile `default` is the home itself and always exists; choose another name")]
    Root,
    /// The definition reserves the name.
    #[error(
        "profile name `{name}` is reserved for the agent `{agent}` and common programs; choose another name"
    )]
    Reserved {
        /// The name.
        name: ProfileName,
        /// The agent that reserves it.
        agent: String,
    },
    /// Something has that name.
    #[error("profile `{name}` already exists in `{}`", path.display())]
    Exists {
        /// The name.
        name: ProfileName,
        /// Where.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot make profile `{name}` in `{}`; nothing of it remains", path.display())]
    Write {
        /// The name.
        name: ProfileName,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ExitError for CreateError {
    fn exit(&self) -> Exit {
        match self {
            Self::Look(error) => error.exit(),
            Self::Root | Self::Reserved { .. } => Exit::Usage,
            Self::Exists { .. } => Exit::No,
            Self::Write { .. } => Exit::System,
        }
    }
}

/// Why a profile was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The root profile is the home itself.
    #[error("profile `default` is the home itself and cannot be deleted")]
    Root,
    /// There is no such profile.
    #[error("there is no profile `{name}` in `{}`; `gatevisor profile list` shows those that exist", path.display())]
    Missing {
        /// The name.
        name: ProfileName,
        /// Where it would be.
        path: PathBuf,
    },
    /// It could not be renamed away, and is as it was.
    #[error("cannot delete profile `{name}` in `{}`; it is as it was", path.display())]
    Rename {
        /// The name.
        name: ProfileName,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a profile no longer, but some of its files are left.
    #[error("profile `{name}` is deleted, but not all of its files; remove `{}` by hand", left.display())]
    Remove {
        /// The name.
        name: ProfileName,
        /// What is left.
        left: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ExitError for DeleteError {
    fn exit(&self) -> Exit {
        match self {
            Self::Root => Exit::Usage,
            Self::Missing { .. } => Exit::No,
            Self::Rename { .. } | Self::Remove { .. } => Exit::System,
        }
    }
}

/// Why the profiles could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the profiles in `{}`", path.display())]
pub struct ListProfilesError {
    /// The directory of profiles.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl ExitError for ListProfilesError {
    fn exit(&self) -> Exit {
        Exit::System
    }
}

/// Why a profile cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// There is no such profile.
    #[error("there is no profile `{name}` in `{}`; `gatevisor profile list` shows those that exist", path.display())]
    Missing {
        /// The name.
        name: ProfileName,
        /// Where it would be.
        path: PathBuf,
    },
    /// Nobody may look.
    #[error(transparent)]
    Look(#[from] LookError),
}

impl ExitError for ShowError {
    fn exit(&self) -> Exit {
        match self {
            Self::Missing { .. } => Exit::No,
            Self::Look(error) => error.exit(),
        }
    }
}

/// Makes a profile with what the definition puts into one.
///
/// Its directory appears whole, by one rename, and never replaces another. It is on disk when this returns.
pub fn create(home: &Home, agent: &AgentDefinition, name: &ProfileName) -> Result<Created, CreateError> {
    if name.is_root() {
        return Err(CreateError::Root);
    }
    if agent.profile.reserved.iter().any(|reserved| reserved == name.as_str()) {
        return Err(CreateError::Reserved { name: name.clone(), agent: agent.name.clone() });
    }
    let path = home.profile_dir(name);
    let exists = || CreateError::Exists { name: name.clone(), path: home.profiles_dir() };
    if by_path::look_itself(&path).is_ok() {
        return Err(exists());
    }
    let write = |source| CreateError::Write { name: name.clone(), path: home.profiles_dir(), source };
    let made = Ancestors::make(&home.profiles_dir()).map_err(write)?;
    let staging = stage(home, agent).map_err(write)?;
    let published = staging.publish(name.as_str()).map_err(|errno| match errno {
        Errno::EXIST => exists(),
        errno => write(errno.into()),
    })?;
    drop(published);
    made.keep().map_err(write)?;
    open_directory(&home.profiles_dir()).and_then(|profiles| Ok(fsync(profiles)?)).map_err(write)?;
    let warning =
        agent.profile.longest_name.filter(|longest| name.as_str().len() > *longest).map(|longest| {
            format!(
                "the name has {} bytes, and {} itself takes at most {longest}",
                name.as_str().len(),
                agent.name
            )
        });
    Ok(Created { profile: Profile { name: name.clone(), path }, warning })
}

fn stage(home: &Home, agent: &AgentDefinition) -> io::Result<Staging> {
    let staging = Staging::new(&home.profiles_dir(), 0o700)?;
    let top = staging.directory();
    for directory in &agent.profile.directories {
        make_parents(&staging, Path::new(directory))?;
        match make_directory(top, Path::new(directory), 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for file in &agent.profile.files {
        make_parents(&staging, Path::new(&file.path))?;
        let mode = SeedFile::mode_bits(file).unwrap_or(0o600);
        fsync(write_new(top, Path::new(&file.path), file.content.as_bytes(), mode)?)?;
    }
    if agent.profile.files.is_empty() && agent.profile.directories.is_empty() {
        fsync(write_new(top, Path::new(&agent.profile.marker), b"", 0o644)?)?;
    }
    staging.sync()?;
    Ok(staging)
}

fn make_parents(staging: &Staging, path: &Path) -> io::Result<()> {
    let parents: Vec<&Path> = path.ancestors().skip(1).filter(|part| !part.as_os_str().is_empty()).collect();
    for parent in parents.into_iter().rev() {
        match make_directory(staging.directory(), parent, 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Directories made on the way, which go again unless they are kept.
struct Ancestors(Vec<PathBuf>);

impl Ancestors {
    fn make(path: &Path) -> io::Result<Self> {
        let mut made = Self(Vec::new());
        let missing: Vec<&Path> = path.ancestors().take_while(|part| by_path::look(part).is_err()).collect();
        for part in missing.into_iter().rev() {
            let (parent, name) = by_path::parent(part)?;
            match mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
                Ok(()) => made.0.push(part.to_owned()),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(made)
    }

    /// Lets them be, and makes their names survive a crash.
    fn keep(mut self) -> io::Result<()> {
        for path in std::mem::take(&mut self.0) {
            if let Some(parent) = path.parent() {
                fsync(open_directory(parent)?)?;
            }
        }
        Ok(())
    }
}

impl Drop for Ancestors {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            if let Ok((parent, name)) = by_path::parent(path) {
                let _ = unlinkat(parent, name, AtFlags::REMOVEDIR);
            }
        }
    }
}

/// Deletes a profile: it is gone for every reader at once, and then its files are removed.
///
/// Its gateway must have been unregistered before. What earlier deletions had to leave behind is removed as well.
pub fn delete(home: &Home, name: &ProfileName) -> Result<(), DeleteError> {
    if name.is_root() {
        return Err(DeleteError::Root);
    }
    let path = home.profiles_dir();
    let missing = || DeleteError::Missing { name: name.clone(), path: path.clone() };
    let rename = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => missing(),
        _ => DeleteError::Rename { name: name.clone(), path: path.clone(), source },
    };
    let parent = open_directory(&path).map_err(rename)?;
    let gone = retire(parent.as_fd(), name.as_str()).map_err(|errno| rename(errno.into()))?;
    fsync(&parent).map_err(|errno| rename(errno.into()))?;
    let left = path.join(gone);
    remove_tree(&left).map_err(|source| DeleteError::Remove { name: name.clone(), left, source })?;
    for (entry, _) in by_path::names(&path).unwrap_or_default() {
        if is_leftover(&entry) {
            let _ = sweep(&path.join(entry));
        }
    }
    Ok(())
}

/// Returns everything that is a profile or would be one but for its name, sorted by name.
///
/// Directories without the marker, files, names that begin with a dot, and what others put beside profiles do not count. The root profile is not
/// among them. A home without profiles has none.
pub fn scan(home: &Home, agent: &AgentDefinition) -> Result<Vec<Candidate>, ListProfilesError> {
    let path = home.profiles_dir();
    let complete = directories(home, agent)?.into_iter().filter(|(_, has_marker)| *has_marker);
    Ok(complete.map(|(name, _)| candidate(&name, path.join(&name))).collect())
}

/// Returns the directories among the profiles that are not foreign, and of each whether it has the marker.
pub(crate) fn directories(
    home: &Home,
    agent: &AgentDefinition,
) -> Result<BTreeMap<OsString, bool>, ListProfilesError> {
    let path = home.profiles_dir();
    let entries = match by_path::names(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(ListProfilesError { path, source }),
    };
    let mut found = BTreeMap::new();
    for (name, kind) in entries {
        let directory = path.join(&name);
        if !is_foreign(&name) && (kind.is_dir() || by_path::is_directory(&directory)) {
            let has_marker = has_marker(&directory, agent);
            found.insert(name, has_marker);
        }
    }
    Ok(found)
}

/// Returns whether a directory of this name was put there by a file system, a file server or a desktop, whatever is in
/// it: `lost+found`, `.snapshots`, `.Trash-1000`, `@eaDir`, `#recycle`, `#snapshot`, `~snapshot`, `$RECYCLE.BIN`.
fn is_foreign(name: &OsStr) -> bool {
    const WHOLE: [&str; 2] = ["lost+found", "System Volume Information"];
    WHOLE.iter().any(|foreign| name == *foreign)
        || name.as_encoded_bytes().first().is_some_and(|first| b".@#~$".contains(first))
}

/// Returns whether a directory has the marker; one that may not be looked into is nobody's profile to whoever lists them.
fn has_marker(directory: &Path, agent: &AgentDefinition) -> bool {
    marker(directory, agent).unwrap_or(false)
}

fn marker(directory: &Path, agent: &AgentDefinition) -> Result<bool, LookError> {
    let looked = look::exists(&directory.join(&agent.profile.marker));
    let what = "whether there is a profile in";
    looked.map_err(|source| LookError { what, path: directory.to_owned(), source })
}

/// Returns what the directory of this name, which has the marker, is.
pub(crate) fn candidate(name: &OsStr, path: PathBuf) -> Candidate {
    match ProfileName::from_os(name) {
        // Shown as a path, so that nobody takes it for the root profile.
        Ok(name) if name.is_root() => Candidate::Misnamed {
            shown: format!("{PROFILES}/{name}/"),
            reason: "the name `default` means the home itself; rename the directory".to_owned(),
        },
        Ok(name) => Candidate::Profile(Profile { name, path }),
        Err(error) => {
            Candidate::Misnamed { shown: shown(&name.to_string_lossy()), reason: error.to_string() }
        }
    }
}

/// Returns the profiles that exist, the root profile first.
pub fn list(home: &Home, agent: &AgentDefinition) -> Result<Vec<Profile>, ListProfilesError> {
    let root = Profile { name: ProfileName::root(), path: home.root().to_owned() };
    let named = scan(home, agent)?.into_iter().filter_map(|candidate| match candidate {
        Candidate::Profile(profile) => Some(profile),
        Candidate::Misnamed { .. } => None,
    });
    Ok(std::iter::once(root).chain(named).collect())
}

/// Returns the profile of this name if it exists.
///
/// The root profile always does; for any other the marker decides.
pub fn show(home: &Home, agent: &AgentDefinition, name: &ProfileName) -> Result<Profile, ShowError> {
    let path = home.profile_dir(name);
    if name.is_root() || marker(&path, agent)? {
        Ok(Profile { name: name.clone(), path })
    } else {
        Err(ShowError::Missing { name: name.clone(), path: home.profiles_dir() })
    }
}
