//! *Lives here:* recording a desired state, so that it survives a crash of the machine as soon as
//! it is acknowledged.
//!
//! *Does not live here:* deciding what is desired.
//!
//! Our own writers take a lock beside the file. The agent does not know that lock, and may
//! overwrite our keys with what it read before. So we look at the desired state once more when its
//! effect is there (see [`overwritten`]).
//!
//! **Source:** SM-8, L-19, invariant *A desired state acknowledged to a user is on disk*.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp, ToSpan};
use rustix::fs::{AtFlags, statat, unlinkat};
use rustix::io::Errno;
use serde_json::{Map, Value};

use gatevisor_wire::exit::{Exit, ExitError};

use super::lock::lock;
use super::origin::ProfilePlace;
use super::read::{ReadStateError, commanded, is_later, read_object};
use super::{Desired, DesiredState, MAX_BYTES, bounded};
use crate::files::{commit, open_directory, rename_new, write_beside};

/// How many invalid files are kept beside the file.
const INVALID_KEPT: u32 = 10;
/// By how much the clock may have gone back while desired states keep their order.
const CLOCK_STEP: SignedDuration = SignedDuration::from_mins(1);

/// What recording a desired state did besides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Recording {
    /// A warning for whoever asked: an invalid file was moved aside.
    pub warning: Option<String>,
}

/// Why a desired state was not recorded; the file is as it was.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum RecordError {
    /// The profile's home does not exist.
    #[error("there is no profile home `{}` to record the desired state in", path.display())]
    NoHome { path: PathBuf },
    /// Another writer holds the lock.
    #[error("another command has been writing `{}` for 5 s; try again", path.display())]
    Locked { path: PathBuf },
    /// A system call failed, for example because the disk is full.
    #[error("cannot record the desired state in `{}`; it is as it was", path.display())]
    Write {
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
    /// The file could not be read. It may be valid.
    #[error("cannot record the desired state without knowing what else is in the file")]
    Read(#[source] ReadStateError),
    /// The file would become too long.
    #[error("`{}` would grow over {MAX_BYTES} bytes; it is as it was", path.display())]
    TooLong { path: PathBuf },
}

impl ExitError for RecordError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoHome { .. } | Self::TooLong { .. } => Exit::No,
            Self::Locked { .. } => Exit::TimedOut,
            Self::Write { .. } | Self::Read(_) => Exit::System,
        }
    }
}

/// Records a desired state in the state file `name` of the profile whose home is `directory`.
///
/// The file and its directory are synced when this returns. Keys of other programs are kept. An
/// invalid file is moved aside and never destroyed.
pub fn record(directory: &Path, name: &str, desired_state: &DesiredState) -> Result<Recording, RecordError> {
    update(directory, name, true, &|object| put(object, directory, desired_state))
        .map(Option::unwrap_or_default)
}

/// Does what [`record`] does with the time of this very moment, and returns what is recorded. So
/// the times of desired states are in the order in which they were recorded.
///
/// Without `may_wait`, it fails at once if another writer holds the lock.
pub fn record_now(
    directory: &Path,
    name: &str,
    desired_state: DesiredState,
    may_wait: bool,
) -> Result<(DesiredState, Recording), RecordError> {
    let at = Cell::new(desired_state.at);
    let put = |object: &mut Map<String, Value>| {
        at.set(later_than(object, Timestamp::now()));
        put(object, directory, &DesiredState { at: at.get(), ..desired_state.clone() })
    };
    let recording = update(directory, name, may_wait, &put)?.unwrap_or_default();
    Ok((DesiredState { at: at.get(), ..desired_state }, recording))
}

/// Does what [`record`] does, unless a newer desired state of a command is recorded; then returns
/// `None`.
pub fn record_unless_newer(
    directory: &Path,
    name: &str,
    desired_state: &DesiredState,
) -> Result<Option<Recording>, RecordError> {
    let place = ProfilePlace::of(directory);
    update(directory, name, true, &|object| {
        !is_newer(object, &place, desired_state.at) && put(object, directory, desired_state)
    })
}

/// Does what [`record`] does, unless somebody has set a desired state; then returns `None`.
pub fn record_if_none(
    directory: &Path,
    name: &str,
    desired_state: &DesiredState,
) -> Result<Option<Recording>, RecordError> {
    update(directory, name, true, &|object| {
        object.get("desired_state").is_none_or(Value::is_null) && put(object, directory, desired_state)
    })
}

/// Records what another program desires but did not write down itself. Nobody knows who asked, or
/// why. Returns whether it is recorded: it is not if a command has recorded a desired state after
/// `since`.
pub fn record_for_another(
    directory: &Path,
    name: &str,
    desired: Desired,
    since: Timestamp,
) -> Result<bool, RecordError> {
    let place = ProfilePlace::of(directory);
    let put = |object: &mut Map<String, Value>| {
        if is_newer(object, &place, since) {
            return false;
        }
        for key in ["desired_by", "desired_reason", "desired_at"] {
            object.shift_remove(key);
        }
        object.insert("desired_state".to_owned(), Value::from(desired.word()));
        object.insert("updated_at".to_owned(), Value::from(Timestamp::now().as_second()));
        true
    };
    update(directory, name, true, &put).map(|recording| recording.is_some())
}

/// Records that the root profile shall run, because the container's command used to be the gateway.
///
/// Does nothing, and returns `false`, if there is a state file, whatever is in it.
///
/// **Source:** REC-11.
pub fn migrate(
    directory: &Path,
    name: &str,
    migrated_from: &str,
    now: Timestamp,
) -> Result<bool, RecordError> {
    let path = directory.join(name);
    let parent = open_home(directory)?;
    let _lock = locked(parent.as_fd(), &path, true)?;
    if statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(false);
    }
    let mut object = Map::new();
    let word = Value::from(Desired::Running.word());
    object.insert("gateway_state".to_owned(), word.clone());
    object.insert("desired_state".to_owned(), word);
    object.insert("timestamp".to_owned(), Value::from(now.as_second()));
    object.insert("migrated_from".to_owned(), Value::from(migrated_from));
    replace(parent.as_fd(), name, &path, &object, None)?;
    Ok(true)
}

/// Takes keys out of a state file that a gateway left there which has ended.
pub fn forget(directory: &Path, name: &str, keys: &[&str]) -> Result<(), RecordError> {
    let has_any = |object: &Map<String, Value>| keys.iter().any(|key| object.contains_key(*key));
    if !read_object(&directory.join(name)).ok().flatten().is_some_and(|object| has_any(&object)) {
        return Ok(());
    }
    let change = |object: &mut Map<String, Value>| {
        for key in keys {
            object.shift_remove(*key);
        }
        true
    };
    update(directory, name, false, &change).map(drop)
}

/// Returns whether the agent has replaced the recorded desired state by an older one.
///
/// The agent writes the same file without a lock, and keeps what it read before. A newer desired
/// state of somebody else does not count, nor does a file that says nothing.
pub fn overwritten(directory: &Path, name: &str, desired_state: &DesiredState) -> bool {
    let Ok(Some(object)) = read_object(&directory.join(name)) else { return false };
    // Times of the same form and zone sort like their texts.
    let ours = stamp(desired_state.at);
    object.get("desired_at").and_then(Value::as_str).is_none_or(|at| at < ours.as_str())
}

/// Changes a state file, unless `change` returns that nothing is to be changed; then returns
/// `None`.
fn update(
    directory: &Path,
    name: &str,
    may_wait: bool,
    change: &dyn Fn(&mut Map<String, Value>) -> bool,
) -> Result<Option<Recording>, RecordError> {
    let path = directory.join(name);
    let parent = open_home(directory)?;
    let _lock = locked(parent.as_fd(), &path, may_wait)?;
    let (mut object, invalid) = match read_object(&path) {
        Ok(object) => (object.unwrap_or_default(), None),
        Err(error) if error.is_content() => (Map::new(), Some(error)),
        Err(error) => return Err(RecordError::Read(error)),
    };
    if !change(&mut object) {
        return Ok(None);
    }
    let aside = replace(parent.as_fd(), name, &path, &object, invalid.as_ref())?;
    let warning = invalid.zip(aside).map(|(error, aside)| {
        format!("{}, so it was moved aside to `{aside}` and begun afresh", error.reason(&format!("`{name}`")))
    });
    Ok(Some(Recording { warning }))
}

/// Returns whether a command has recorded a desired state after a moment.
fn is_newer(object: &Map<String, Value>, place: &ProfilePlace, since: Timestamp) -> bool {
    commanded(object, place).is_some_and(|(_, at)| is_later(at, since))
}

/// Returns the time for a desired state that is recorded now. It is later than that of the record
/// which it replaces, also within the same millisecond and where the clock went back a little.
fn later_than(object: &Map<String, Value>, now: Timestamp) -> Timestamp {
    let last = object.get("desired_at").and_then(Value::as_str).and_then(|at| at.parse::<Timestamp>().ok());
    let Some(next) = last.and_then(|last| last.checked_add(1.millisecond()).ok()) else { return now };
    let is_soon = now.checked_add(CLOCK_STEP).is_ok_and(|limit| next <= limit);
    if is_soon { now.max(next) } else { now }
}

fn put(object: &mut Map<String, Value>, directory: &Path, desired_state: &DesiredState) -> bool {
    let by = &desired_state.by;
    let mut provenance = Map::new();
    provenance.insert("uid".to_owned(), Value::from(by.uid));
    provenance.insert("user".to_owned(), Value::from(bounded(&by.user)));
    provenance.insert("command".to_owned(), Value::from(bounded(&by.command)));
    provenance.insert("pid".to_owned(), Value::from(by.pid));
    if let Some(login) = by.login_uid {
        provenance.insert("login_uid".to_owned(), Value::from(login));
    }
    // A program that writes another state keeps this key, and does not mean to speak for us.
    provenance.insert("state".to_owned(), Value::from(desired_state.desired.word()));
    // Nor does whoever copies the file into another profile.
    let place = ProfilePlace::of(directory);
    let mark = place.mark();
    provenance.insert("profile".to_owned(), Value::from(place.name));
    if let Some(mark) = mark {
        provenance.insert("profile_mark".to_owned(), Value::from(mark));
    }
    object.insert("desired_state".to_owned(), Value::from(desired_state.desired.word()));
    object.insert("desired_by".to_owned(), Value::Object(provenance));
    match &desired_state.reason {
        Some(reason) => {
            object.insert("desired_reason".to_owned(), Value::from(bounded(reason)));
        }
        None => {
            object.shift_remove("desired_reason");
        }
    }
    object.insert("desired_at".to_owned(), Value::from(stamp(desired_state.at)));
    object.insert("updated_at".to_owned(), Value::from(desired_state.at.as_second()));
    true
}

/// Returns a time in RFC 3339, UTC, to the millisecond.
fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn locked(parent: BorrowedFd<'_>, path: &Path, may_wait: bool) -> Result<OwnedFd, RecordError> {
    match lock(parent, path, may_wait) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(RecordError::Locked { path: path.to_owned() }),
        Err(source) => Err(RecordError::Write { path: path.to_owned(), source }),
    }
}

fn open_home(directory: &Path) -> Result<OwnedFd, RecordError> {
    open_directory(directory).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            RecordError::NoHome { path: directory.to_owned() }
        }
        _ => RecordError::Write { path: directory.to_owned(), source },
    })
}

/// Replaces the file, and returns the new path of an invalid one.
fn replace(
    parent: BorrowedFd<'_>,
    name: &str,
    path: &Path,
    object: &Map<String, Value>,
    invalid: Option<&ReadStateError>,
) -> Result<Option<String>, RecordError> {
    let write = |source: io::Error| RecordError::Write { path: path.to_owned(), source };
    let mut bytes = serde_json::to_vec(object).map_err(|error| write(error.into()))?;
    bytes.push(b'\n');
    if bytes.len() > MAX_BYTES {
        return Err(RecordError::TooLong { path: path.to_owned() });
    }
    let mode = statat(parent, name, AtFlags::empty())
        .ok()
        .filter(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file())
        .map_or(0o644, |stat| stat.st_mode & 0o666);
    let temporary = write_beside(parent, name, &bytes, mode).map_err(write)?;
    let aside = match invalid.map(|_| move_aside(parent, name)).transpose() {
        Ok(aside) => aside,
        Err(errno) => {
            let _ = unlinkat(parent, &*temporary, AtFlags::empty());
            return Err(write(errno.into()));
        }
    };
    commit(parent, &temporary, name).map_err(write)?;
    Ok(aside)
}

fn move_aside(parent: BorrowedFd<'_>, name: &str) -> Result<String, Errno> {
    for number in 0..INVALID_KEPT {
        let aside = if number == 0 { format!("{name}.invalid") } else { format!("{name}.invalid.{number}") };
        match rename_new(parent, name, &*aside) {
            Ok(()) => return Ok(aside),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}
