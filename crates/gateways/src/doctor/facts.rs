//! *Lives here:* everything that the checks go by, as values.
//!
//! *Does not live here:* finding it out (`gather`); what follows from it (the checks).

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use gatevisor_slot::home_lock::Standing;
use gatevisor_wire::tai::Tai64n;

use super::fix::Caller;
use crate::agent::DoctorDefinition;
use crate::inspect::ServiceReport;
use crate::manager::Observed;
use crate::profile::ProfileName;

/// A file system with less left than one part in so many is nearly full, if that is also little in itself.
pub(crate) const DISK_PART: u64 = 20;
/// Bytes and inodes with which nothing can be done.
pub(crate) const NO_BYTES: u64 = 1 << 20;
pub(crate) const NO_FILES: u64 = 16;

/// What was found out about a home and its scandir.
#[derive(Debug)]
pub(crate) struct Facts {
    pub caller: Caller,
    pub doctor: DoctorDefinition,
    pub now: Tai64n,
    /// Seconds of life after which a gateway's failures are forgotten.
    pub stable_s: u64,
    /// Whether whoever called is root, and so may be led anywhere by what is proposed.
    pub operator_is_root: bool,
    /// The user that all this was found out as.
    pub us: u32,
    pub supervision: Supervision,
    pub home: HomeFact,
    /// Profiles that have, or should have, a gateway.
    pub profiles: Vec<ProfileFact>,
    /// Directories that are profiles but for their names, and what is wrong with these.
    pub misnamed: Vec<(String, String)>,
    pub services: Vec<ServiceFact>,
    /// Lists that could not be read, and why.
    pub unread: Vec<(PathBuf, String)>,
    pub entries: Vec<OwnedEntry>,
    pub disks: Vec<Disk>,
    pub locks: Vec<HeldLock>,
    pub pid_files: Vec<PidFile>,
}

impl Facts {
    /// Returns whether a process may be ended by who is told to: one of the home's user, and neither the supervisor nor the
    /// first process, whatever a file says.
    pub fn may_be_ended(&self, pid: i32, uid: Option<u32>) -> bool {
        pid > 1 && Some(pid) != self.supervision.pid && uid == Some(self.home.owner.0)
    }

    /// Returns whether all this is only what somebody saw whose home it is not.
    pub fn is_strange(&self) -> bool {
        self.us != self.home.owner.0 && self.us != 0
    }

    /// Returns what was found out about a profile's slot, if it has one.
    pub fn slot(&self, name: &ProfileName) -> Option<&ServiceFact> {
        self.services.iter().find(|service| service.observed.profile.as_ref() == Some(name))
    }

    /// Returns whether a profile's gateway runs, or shall.
    pub fn is_wanted(&self, profile: &ProfileFact) -> bool {
        profile.should_run() || self.slot(&profile.name).is_some_and(|slot| slot.report.up)
    }
}

/// Whether somebody supervises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence {
    Supervised,
    Unsupervised,
    NoScandir,
    /// It cannot be told, and why.
    Unknown(String),
}

/// Whom the kernel may kill when the memory of a container is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victims {
    /// Gateways before the supervisor, or nobody, as there is no limit.
    Gateways,
    /// The supervisor as soon as a gateway.
    Anybody,
}

/// Who supervises what.
#[derive(Debug)]
pub(crate) struct Supervision {
    pub scandir: PathBuf,
    pub presence: Presence,
    /// The supervisor's name and process, where they can be told.
    pub program: Option<String>,
    pub pid: Option<i32>,
    /// Whether the scandir is the one of a container.
    pub is_container: bool,
    /// What says that this is a container of an image like ours, if anything does.
    pub marker: Option<&'static str>,
    /// The name of process 1.
    pub first: Option<String>,
    /// Whether the container's command is one that wants no gateways.
    pub without_gateways: bool,
    /// Whether another container runs the gateways of this home.
    pub elsewhere: bool,
    /// How this container stands to the lock of the home.
    pub standing: Standing,
    /// The service that keeps that lock or waits for it, where there is one.
    pub keeper: Option<PathBuf>,
    /// Whom the kernel may kill when the container's memory is used up.
    pub victims: Victims,
}

impl Supervision {
    pub fn is_supervised(&self) -> bool {
        self.presence == Presence::Supervised
    }

    pub fn is_ours(&self) -> bool {
        self.program.as_deref() == Some(gatevisor_client::OURS)
    }
}

/// The home itself.
#[derive(Debug)]
pub(crate) struct HomeFact {
    pub path: PathBuf,
    pub state: HomeState,
    /// Whose everything should be.
    pub owner: (u32, u32),
}

/// Whether the home can be worked in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HomeState {
    Missing,
    NotADirectory,
    /// Why it cannot be written to.
    Unwritable(Refused),
    Writable,
}

/// Why a directory could not be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub why: String,
    pub is_read_only: bool,
}

/// A profile.
#[derive(Debug)]
pub(crate) struct ProfileFact {
    pub name: ProfileName,
    pub home: PathBuf,
    /// The desired state, or what is wrong with the state file.
    pub desired_state: Result<Option<String>, String>,
    pub state_file: PathBuf,
    pub refused: Option<Refused>,
    pub environment: Vec<EnvironmentFile>,
    /// The file that counts most, whether it exists or not.
    pub environment_path: Option<PathBuf>,
    pub log: Option<LogDirectory>,
}

impl ProfileFact {
    pub fn should_run(&self) -> bool {
        matches!(&self.desired_state, Ok(Some(word)) if word == "running")
    }
}

/// A file of secrets.
#[derive(Debug)]
pub(crate) struct EnvironmentFile {
    pub path: PathBuf,
    pub mode: u32,
    /// Whether everybody may come to it.
    pub is_reachable: bool,
    /// Why it cannot be read, and whether something else is in its place.
    pub problem: Option<(String, bool)>,
    /// Whether it begins with a byte-order mark, which no editor shows.
    pub has_mark: bool,
    /// Its variables, in its order.
    pub values: Vec<(String, Secret)>,
}

/// A value that nobody may see: it can be compared, and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub OsString);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Where a gateway's lines are kept.
#[derive(Debug)]
pub(crate) struct LogDirectory {
    pub path: PathBuf,
    /// Its owner's permissions are all there; `None` where it does not exist.
    pub is_open: Option<bool>,
    pub is_directory: bool,
}

/// A service of the scandir.
#[derive(Debug)]
pub(crate) struct ServiceFact {
    pub path: PathBuf,
    pub observed: Observed,
    pub report: ServiceReport,
    /// Why the supervisor refuses it, where it says so.
    pub refusal: Option<String>,
}

/// A file or directory of the home that is somebody's.
#[derive(Debug)]
pub(crate) struct OwnedEntry {
    pub path: PathBuf,
    pub profile: Option<ProfileName>,
    pub owner: (u32, u32),
    pub is_directory: bool,
    /// Whether gateways may do with it what they like, through a group of theirs, whoever it belongs to.
    pub is_shared: bool,
}

/// A file system.
#[derive(Debug)]
pub(crate) struct Disk {
    /// What of ours is on it.
    pub path: PathBuf,
    pub bytes: u64,
    pub bytes_left: u64,
    /// Inodes; 0 where the file system has no such limit.
    pub files: u64,
    pub files_left: u64,
    /// Whether not even a page could be written.
    pub is_full: bool,
}

impl Disk {
    /// Returns whether nothing can be done with what is left.
    pub fn has_no_room(&self) -> bool {
        let is_none = |all: u64, left: u64, none: u64| left <= all / DISK_PART && left < none;
        let no_files = self.files > 0 && is_none(self.files, self.files_left, NO_FILES);
        self.is_full || no_files || is_none(self.bytes, self.bytes_left, NO_BYTES)
    }
}

/// A lock that somebody holds.
#[derive(Debug)]
pub(crate) struct HeldLock {
    pub path: PathBuf,
    pub profile: Option<ProfileName>,
    pub kind: LockKind,
    /// Who, where that can be seen from here.
    pub holder: Option<Holder>,
}

/// What a lock is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockKind {
    /// Writing a state file; it is held longer than any command of ours holds it.
    DesiredState,
    /// Writing a log directory.
    Log,
    /// Running the gateways of the home.
    Home,
}

/// A process that holds a lock.
#[derive(Debug)]
pub(crate) struct Holder {
    pub pid: i32,
    pub name: String,
    /// Its user, where that can be told.
    pub uid: Option<u32>,
    /// Whether it is a program that writes logs.
    pub is_logger: bool,
}

/// A file that names a process.
#[derive(Debug)]
pub(crate) struct PidFile {
    pub path: PathBuf,
    pub profile: ProfileName,
    pub pid: i32,
    /// The process of that number, if there is one.
    pub found: Option<Named>,
}

/// The process that a file names.
#[derive(Debug)]
pub(crate) struct Named {
    pub name: String,
    /// Its user, where that can be told.
    pub uid: Option<u32>,
    /// Whether the file says when it began, so that it is known to be no other one of that number.
    pub is_dated: bool,
    /// Whether it is the one that wrote the file: it began when that says, or before that was written.
    pub is_the_same: bool,
    /// The first process of its session.
    pub session: Option<i32>,
}
