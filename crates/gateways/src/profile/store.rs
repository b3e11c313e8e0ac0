//! *Lives here:* profiles on disk: making one, deleting one, finding them all.
//!
//! *Does not live here:* slots; whether a profile's gateway runs.
//!
//! **Source:** REC-4 to REC-6, HOOK-4, issue *Profiles and slots*.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gatevisor_client::look;
use gatevisor_paths::by_path;
use gatevisor_slot::dotenv;
use gatevisor_wire::exit::{Exit, ExitError};
use rustix::fs::{AtFlags, Mode, fsync, mkdirat, unlinkat};
use rustix::io::Errno;

use super::allot::{AllotError, OwnVariables, PortLock};
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
    /// The name of its directory, or `default`.
    pub name: ProfileName,
    /// Its home, as a whole path.
    pub path: PathBuf,
}

/// A directory among the profiles that has the marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidate {
    /// Its name can be a profile's.
    Profile(Profile),
    /// A directory that cannot be one because of its name.
    Misnamed {
        /// The name on one line, escaped.
        shown: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A profile that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// What was made.
    pub profile: Profile,
    /// A warning for the maker, although it worked.
    pub warning: Option<String>,
}

/// Why a profile was not made. Nothing of it remains.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum CreateError {
    /// The place cannot be looked at.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The root profile always exists.
    #[error("profile `default` is the home itself and always exists; choose another name")]
    Root,
    /// The definition reserves the name.
    #[error(
        "profile name `{name}` is reserved for the agent `{agent}` and common programs; choose another name"
    )]
    Reserved {
        /// What the profile would be called.
        name: ProfileName,
        /// The agent that reserves it.
        agent: String,
    },
    /// Something has that name already.
    #[error("profile `{name}` already exists in `{}`", path.display())]
    Exists {
        /// What the profile would be called.
        name: ProfileName,
        path: PathBuf,
    },
    /// It could not be given its variables.
    #[error(transparent)]
    Allot(#[from] AllotError),
    /// The profiles that exist could not be listed.
    #[error(transparent)]
    List(#[from] ListProfilesError),
    /// A system call failed.
    #[error("cannot make profile `{name}` in `{}`; nothing of it remains", path.display())]
    Write {
        /// What the profile would be called.
        name: ProfileName,
        /// Where it would be.
        path: PathBuf,
        /// The underlying error.
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
            Self::Allot(error) => error.exit(),
            Self::List(error) => error.exit(),
            Self::Write { .. } => Exit::System,
        }
    }
}

/// Why a profile was not deleted.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum DeleteError {
    /// The root profile is the home itself.
    #[error("profile `default` is the home itself and cannot be deleted")]
    Root,
    /// There is no such profile.
    #[error("there is no profile `{name}` in `{}`; `gatevisor profile list` shows those that exist", path.display())]
    Missing {
        /// What was asked for.
        name: ProfileName,
        /// Where it would be.
        path: PathBuf,
    },
    /// It could not be renamed, and is unchanged.
    #[error("cannot delete profile `{name}` in `{}`; it is as it was", path.display())]
    Rename {
        /// The profile that still exists.
        name: ProfileName,
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
    /// It is no profile any more, but some of its files are left.
    #[error("profile `{name}` is deleted, but not all of its files; remove `{}` by hand", left.display())]
    Remove {
        /// The profile that exists no more.
        name: ProfileName,
        left: PathBuf,
        /// The underlying error.
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
    /// What could not be read.
    pub path: PathBuf,
    /// The underlying error.
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
        /// What was asked for.
        name: ProfileName,
        /// Where it would be.
        path: PathBuf,
    },
    /// The place cannot be looked at.
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

/// Makes a profile with the content that the definition describes.
///
/// Its directory appears as a whole by one rename, and never replaces another. It is on disk when
/// this returns.
pub fn create(home: &Home, agent: &AgentDefinition, name: &ProfileName) -> Result<Created, CreateError> {
    create_with(home, agent, name, &OwnVariables::default())
}

/// Makes a profile as [`create`] does, with these variables in its own file of them from the first
/// moment on, besides what the definition gives each profile.
pub fn create_with(
    home: &Home,
    agent: &AgentDefinition,
    name: &ProfileName,
    own: &OwnVariables,
) -> Result<Created, CreateError> {
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
    // Held until the profile is there, so that the next one finds its port taken.
    let port_lock = PortLock::wait(home, agent, own)?;
    // Only a port has to differ from those of the others, of which there may be many.
    let others = if own.needs_free_port(agent) { list(home, agent)? } else { Vec::new() };
    let variables = own.complete(home, agent, others.into_iter().map(|one| one.name), &port_lock)?;
    let staging = stage(home, agent, &variables).map_err(write)?;
    let published = staging.publish(name.as_str()).map_err(|errno| match errno {
        Errno::EXIST => exists(),
        errno => write(errno.into()),
    })?;
    drop(published);
    drop(port_lock);
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

fn stage(home: &Home, agent: &AgentDefinition, variables: &[(String, OsString)]) -> io::Result<Staging> {
    let staging = Staging::new(&home.profiles_dir(), 0o700)?;
    let top = staging.directory();
    for directory in &agent.profile.directories {
        make_parents(&staging, Path::new(directory))?;
        match make_directory(top, Path::new(directory), 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let own_variables = agent.own_variables_file().filter(|_| !variables.is_empty());
    if own_variables.is_none() && !variables.is_empty() {
        let why = "the agent's definition names no file of variables as `{profile-home}/NAME`";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    for file in &agent.profile.files {
        if own_variables == Some(file.path.as_str()) {
            continue;
        }
        make_parents(&staging, Path::new(&file.path))?;
        let mode = SeedFile::mode_bits(file).unwrap_or(0o600);
        fsync(write_new(top, Path::new(&file.path), file.content.as_bytes(), mode)?)?;
    }
    if let Some(path) = own_variables {
        let seed = agent.profile.files.iter().find(|file| file.path == path);
        let content = seed.map_or(&b""[..], |file| file.content.as_bytes());
        fsync(write_new(top, Path::new(path), &with_variables(content, variables)?, 0o600)?)?;
    }
    if agent.profile.files.is_empty() && agent.profile.directories.is_empty() {
        fsync(write_new(top, Path::new(&agent.profile.marker), b"", 0o644)?)?;
    }
    staging.sync()?;
    Ok(staging)
}

fn with_variables(content: &[u8], variables: &[(String, OsString)]) -> io::Result<Vec<u8>> {
    variables.iter().try_fold(content.to_vec(), |text, (name, value)| {
        dotenv::set(&text, name, value.as_bytes()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    })
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

/// Directories that were made on the way. They are removed again unless they are kept.
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

    /// Keeps them, and syncs their names.
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

/// Deletes a profile. For every reader it vanishes at once; then its files are removed.
///
/// Its gateway must have been unregistered before. Leftovers of earlier deletions are removed too.
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

/// Returns every profile, and every directory that would be one if it had another name, sorted by
/// name.
///
/// Directories without the marker, files, names that begin with a dot, and what other programs put
/// beside profiles do not count. The root profile is not included. A home without profiles has
/// none.
pub fn scan(home: &Home, agent: &AgentDefinition) -> Result<Vec<Candidate>, ListProfilesError> {
    scan_except(home, agent, |_| false)
}

/// Does the same, without those whose names `is_known` is true of. These are not looked at.
fn scan_except(
    home: &Home,
    agent: &AgentDefinition,
    is_known: impl Fn(&OsStr) -> bool,
) -> Result<Vec<Candidate>, ListProfilesError> {
    let path = home.profiles_dir();
    let complete = directories(home, agent, is_known)?.into_iter().filter(|(_, has_marker)| *has_marker);
    Ok(complete.map(|(name, _)| candidate(&name, path.join(&name))).collect())
}

/// Returns the directories among the profiles that are not foreign, and whether each has the
/// marker. Those whose names `is_known` is true of are left out, and not looked at.
pub(crate) fn directories(
    home: &Home,
    agent: &AgentDefinition,
    is_known: impl Fn(&OsStr) -> bool,
) -> Result<BTreeMap<OsString, bool>, ListProfilesError> {
    let path = home.profiles_dir();
    // There may be many, and each is looked at.
    let _held = by_path::hold([&path]);
    let entries = match by_path::names(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(ListProfilesError { path, source }),
    };
    let mut found = BTreeMap::new();
    for (name, kind) in entries {
        let directory = path.join(&name);
        if !is_known(&name) && !is_foreign(&name) && (kind.is_dir() || by_path::is_directory(&directory)) {
            let has_marker = has_marker(&directory, agent);
            found.insert(name, has_marker);
        }
    }
    Ok(found)
}

/// Returns whether a file system, a file server or a desktop makes directories of this name,
/// whatever is in it: `lost+found`, `.snapshots`, `.Trash-1000`, `@eaDir`, `#recycle`, `#snapshot`,
/// `~snapshot`, `$RECYCLE.BIN`.
fn is_foreign(name: &OsStr) -> bool {
    const WHOLE: [&str; 2] = ["lost+found", "System Volume Information"];
    WHOLE.iter().any(|foreign| name == *foreign)
        || name.as_encoded_bytes().first().is_some_and(|first| b".@#~$".contains(first))
}

/// Returns whether a directory has the marker. A directory that this process may not look into
/// counts as none.
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
        // Shown as a path, so that nobody confuses it with the root profile.
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
    list_except(home, agent, |_| false)
}

/// Returns the profiles that exist, the root profile first, without those others whose names
/// `is_known` is true of. These are not looked at.
pub(crate) fn list_except(
    home: &Home,
    agent: &AgentDefinition,
    is_known: impl Fn(&ProfileName) -> bool,
) -> Result<Vec<Profile>, ListProfilesError> {
    let root = Profile { name: ProfileName::root(), path: home.root().to_owned() };
    let is_known = |name: &OsStr| ProfileName::from_os(name).is_ok_and(|name| is_known(&name));
    let named = scan_except(home, agent, is_known)?.into_iter().filter_map(|candidate| match candidate {
        Candidate::Profile(profile) => Some(profile),
        Candidate::Misnamed { .. } => None,
    });
    Ok(std::iter::once(root).chain(named).collect())
}

/// Returns the profile of this name if it exists.
///
/// The root profile always exists. Any other exists if it has the marker.
pub fn show(home: &Home, agent: &AgentDefinition, name: &ProfileName) -> Result<Profile, ShowError> {
    let path = home.profile_dir(name);
    if name.is_root() || marker(&path, agent)? {
        Ok(Profile { name: name.clone(), path })
    } else {
        Err(ShowError::Missing { name: name.clone(), path: home.profiles_dir() })
    }
}
