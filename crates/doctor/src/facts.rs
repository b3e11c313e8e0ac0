//! *Lives here:* everything that the checks judge, as values.
//!
//! *Does not live here:* gathering the facts (`gather`); judging them (`checks`).

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use gatevisor_gateways::agent::DoctorDefinition;
use gatevisor_gateways::declared::KeptDeclaration;
use gatevisor_gateways::inspect::ServiceReport;
use gatevisor_gateways::manager::Observed;
use gatevisor_gateways::profile::{PROFILES, ProfileName};
use gatevisor_slot::home_lock::Standing;
use gatevisor_wire::tai::Tai64n;

use crate::commands::Caller;
use crate::finding::shown;

/// A file system counts as nearly full if less than this fraction is left, and the rest is also
/// small in absolute numbers.
pub const DISK_PART: u64 = 20;
/// With fewer bytes than this, nothing can be written.
pub const NO_BYTES: u64 = 1 << 20;
/// With fewer inodes than this, no file can be made.
pub const NO_FILES: u64 = 16;

/// The facts about a home and its scandir.
#[derive(Debug)]
pub struct Facts {
    /// How the operator calls this program.
    pub caller: Caller,
    /// What two gateways of the agent cannot share.
    pub definition: DoctorDefinition,
    /// When the facts were gathered.
    pub now: Tai64n,
    /// Seconds of life after which a gateway's failures are forgotten.
    pub stable_s: u64,
    /// The start window, in milliseconds: a gateway that ends within it has not started.
    pub start_window_ms: u64,
    /// Whether the operator is root, whom a proposed command could lead anywhere.
    pub operator_is_root: bool,
    /// The user with whose rights the facts were gathered.
    pub uid: u32,
    /// Who supervises the scandir.
    pub supervision: Supervision,
    /// The home itself.
    pub home: HomeFact,
    /// Profiles that have, or should have, a gateway.
    pub profiles: Vec<ProfileFact>,
    /// Directories that would be profiles if they had other names, each with what is wrong with its
    /// name.
    pub misnamed: Vec<(String, String)>,
    /// What a file outside of the home declares, if one does.
    pub declared: Option<KeptDeclaration>,
    /// The services of the scandir.
    pub services: Vec<ServiceFact>,
    /// Directories that could not be listed, each with the reason.
    pub unread: Vec<(PathBuf, String)>,
    /// Files and directories of the home, each with its owner.
    pub entries: Vec<OwnedEntry>,
    /// The file systems that hold the home and the scandir.
    pub disks: Vec<Disk>,
    /// Locks that are held.
    pub locks: Vec<HeldLock>,
    /// Files of the homes that hold a process number, such as `gateway.pid`.
    pub pid_files: Vec<PidFile>,
    /// What runs of which gateway although its supervisor was killed, where nobody supervises.
    pub left: Vec<(ProfileName, i32)>,
}

impl Facts {
    /// Returns whether a command may be proposed that ends a process: it belongs to the home's
    /// user, and is neither the supervisor nor process 1, whatever a file says.
    pub fn may_be_ended(&self, pid: i32, uid: Option<u32>) -> bool {
        pid > 1 && Some(pid) != self.supervision.pid && uid == Some(self.home.owner.0)
    }

    /// Returns the held lock of the home where nobody supervises this scandir: its holder runs the
    /// gateways, on another scandir, or is about to begin here.
    pub fn home_taken(&self) -> Option<&HeldLock> {
        let is_free = self.supervision.is_supervised() || self.supervision.elsewhere;
        self.locks.iter().find(|lock| lock.kind == LockKind::Home && !is_free)
    }

    /// Returns the units of systemd that run gateways of this home without us, each with the
    /// profile.
    pub fn units_that_run(&self) -> impl Iterator<Item = (&str, &ProfileName)> {
        self.pid_files.iter().filter_map(|file| {
            let running = file.found.as_ref().filter(|found| found.is_the_same)?;
            Some((running.unit.as_deref()?, &file.profile))
        })
    }

    /// Returns whether the facts were gathered with the rights of a user who is neither root nor
    /// the home's owner.
    pub fn is_strange(&self) -> bool {
        self.uid != self.home.owner.0 && self.uid != 0
    }

    /// Returns the service of a profile's gateway, if it has one.
    pub fn slot(&self, name: &ProfileName) -> Option<&ServiceFact> {
        self.services.iter().find(|service| service.observed.profile.as_ref() == Some(name))
    }

    /// Returns whether there may be profiles that could not be seen.
    pub fn may_miss_profiles(&self) -> bool {
        let profiles = self.home.path.join(PROFILES);
        self.unread.iter().any(|(path, _)| profiles.starts_with(path) || path.starts_with(&profiles))
    }

    /// Returns whether there may be slots that could not be seen.
    pub fn may_miss_slots(&self) -> bool {
        self.unread.iter().any(|(path, _)| self.supervision.scandir.starts_with(path))
    }

    /// Returns whether a profile's gateway runs, or should run.
    pub fn is_wanted(&self, profile: &ProfileFact) -> bool {
        let of_slot = |slot: &ServiceFact| slot.report.is_up() || slot.report.is_wanted() == Some(true);
        profile.should_run() || self.slot(&profile.name).is_some_and(of_slot)
    }
}

/// Whether a supervisor runs on the scandir.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// A supervisor runs on it.
    Supervised,
    /// The scandir exists, and no supervisor runs on it.
    Unsupervised,
    /// The scandir does not exist.
    NoScandir,
    /// This is a container whose boot has not come to its supervisor yet.
    Booting,
    /// This process may not look, for this reason.
    Unknown(String),
}

/// Whom the kernel may kill when a container's memory runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victims {
    /// The gateways before the supervisor, or nobody, because there is no limit.
    Gateways,
    /// The supervisor as well as a gateway.
    Anybody,
}

/// Who supervises the scandir, and in what kind of container.
#[derive(Debug)]
pub struct Supervision {
    /// The directory whose subdirectories are supervised.
    pub scandir: PathBuf,
    /// Whether a supervisor runs on it.
    pub presence: Presence,
    /// The supervisor's name, where it can be told.
    pub program: Option<String>,
    /// The supervisor's process, where it can be told.
    pub pid: Option<i32>,
    /// The supervisor that holds the lock of the home for this scandir, which was removed or moved
    /// since.
    pub lost: Option<i32>,
    /// The supervisor's process, if a signal or a debugger has stopped it.
    pub stopped: Option<i32>,
    /// Why nobody watches whether the gateways work, where somebody should.
    pub unwatched: Option<String>,
    /// Whether the scandir is the one that a container's boot makes.
    pub is_container: bool,
    /// The file that shows that this is a container of an image like ours, if there is one.
    pub marker: Option<&'static str>,
    /// The name of process 1.
    pub first: Option<String>,
    /// Whether the container's command is one that runs without gateways.
    pub without_gateways: bool,
    /// Whether another container runs the gateways of this home.
    pub elsewhere: bool,
    /// Whether this container holds the lock of the home.
    pub standing: Standing,
    /// The service that keeps that lock or waits for it, where there is one.
    pub keeper: Option<PathBuf>,
    /// Whom the kernel may kill when the container's memory runs out.
    pub victims: Victims,
}

impl Supervision {
    /// Returns whether a supervisor runs on the scandir.
    pub fn is_supervised(&self) -> bool {
        self.presence == Presence::Supervised
    }

    /// Returns what has become of the supervisor that has lost this scandir, if there is one.
    pub fn lost_words(&self) -> Option<String> {
        Some(format!(
            "process {} supervises this home, and its scandir was removed or moved while it ran: it starts \
             nothing here, and `gatevisor up` is refused until it has ended",
            self.lost?
        ))
    }

    /// Returns whether it is known that no supervisor runs on the scandir.
    pub const fn is_unsupervised(&self) -> bool {
        matches!(self.presence, Presence::NoScandir | Presence::Unsupervised)
    }

    /// Returns whether the supervisor is ours.
    pub fn is_ours(&self) -> bool {
        self.program.as_deref() == Some(gatevisor_client::OURS)
    }
}

/// The home itself.
#[derive(Debug)]
pub struct HomeFact {
    /// The root of the home.
    pub path: PathBuf,
    /// Whether it can be written to.
    pub state: HomeState,
    /// The user and the group to whom everything in it should belong.
    pub owner: (u32, u32),
}

/// Whether the home can be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HomeState {
    /// It does not exist.
    Missing,
    /// Something else has its name.
    NotADirectory,
    /// It cannot be written to, for this reason.
    Unwritable(Refused),
    /// It can be written to.
    Writable,
}

/// Why a directory could not be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The reason, as the kernel says it.
    pub why: String,
    /// Whether its whole file system is read-only.
    pub is_read_only: bool,
}

/// A profile that has, or should have, a gateway.
#[derive(Debug)]
pub struct ProfileFact {
    /// As commands call it; `default` for the home itself.
    pub name: ProfileName,
    /// The directory of its settings, as a whole path.
    pub home: PathBuf,
    /// The desired state, or what is wrong with the state file.
    pub desired_state: Result<Option<String>, String>,
    /// The file that holds the desired state.
    pub state_file: PathBuf,
    /// Why the profile's home cannot be written to, where that is so.
    pub refused: Option<Refused>,
    /// The files of secrets that exist.
    pub environment: Vec<EnvironmentFile>,
    /// The file of secrets that counts most, whether it exists or not.
    pub environment_path: Option<PathBuf>,
    /// The directory that keeps the gateway's log, where it is known.
    pub log: Option<LogDirectory>,
}

impl ProfileFact {
    /// Returns whether the desired state is `running`.
    pub fn should_run(&self) -> bool {
        matches!(&self.desired_state, Ok(Some(word)) if word == "running")
    }
}

/// A file of secrets.
#[derive(Debug)]
pub struct EnvironmentFile {
    /// Whole, as the definition and the home make it.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
    /// Whether every directory on the way lets everybody through.
    pub is_reachable: bool,
    /// Why it cannot be read, and whether something other than a file has its name.
    pub problem: Option<(String, bool)>,
    /// Whether it begins with a byte-order mark, which no editor shows.
    pub has_mark: bool,
    /// Its variables in the order of the file.
    pub values: Vec<(String, Secret)>,
}

impl EnvironmentFile {
    /// Returns whether it could not be read, although its gateway may be able to.
    pub fn is_refused(&self) -> bool {
        matches!(self.problem, Some((_, false)))
    }
}

/// A secret value: it can be compared, and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub OsString);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The directory that keeps a gateway's log.
#[derive(Debug)]
pub struct LogDirectory {
    /// Whole, as the definition and the home make it.
    pub path: PathBuf,
    /// Whether its owner has every permission; `None` where it does not exist.
    pub is_open: Option<bool>,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// A service of the scandir.
#[derive(Debug)]
pub struct ServiceFact {
    /// Whole, below the scandir.
    pub path: PathBuf,
    /// What can be seen of it.
    pub observed: Observed,
    /// Its report, as `status` shows it.
    pub report: ServiceReport,
    /// Why the supervisor refuses it, where the supervisor says so.
    pub refusal: Option<String>,
    /// For how many seconds it may run before it is ready.
    pub start_deadline_s: u64,
}

/// A file or directory of the home, and its owner.
#[derive(Debug)]
pub struct OwnedEntry {
    /// Whole, below the home.
    pub path: PathBuf,
    /// The profile that it belongs to, if it belongs to one.
    pub profile: Option<ProfileName>,
    /// Its user and its group.
    pub owner: (u32, u32),
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Whether gateways can do everything with it through one of their groups, whoever owns it.
    pub is_shared: bool,
}

/// A file system.
#[derive(Debug)]
pub struct Disk {
    /// A directory of ours that is on it.
    pub path: PathBuf,
    /// All its bytes.
    pub bytes: u64,
    /// The bytes that are left to users.
    pub bytes_left: u64,
    /// All its inodes; 0 where the file system has no such limit.
    pub files: u64,
    /// The inodes that are left to users.
    pub files_left: u64,
    /// Whether not even a page could be written.
    pub is_full: bool,
}

impl Disk {
    /// Returns whether nothing can be written any more.
    pub fn has_no_room(&self) -> bool {
        let is_none = |all: u64, left: u64, none: u64| left <= all / DISK_PART && left < none;
        let no_files = self.files > 0 && is_none(self.files, self.files_left, NO_FILES);
        self.is_full || no_files || is_none(self.bytes, self.bytes_left, NO_BYTES)
    }
}

/// A lock that a process holds.
#[derive(Debug)]
pub struct HeldLock {
    /// The file that is locked.
    pub path: PathBuf,
    /// The profile whose lock it is, if it is one's.
    pub profile: Option<ProfileName>,
    /// What the lock protects.
    pub kind: LockKind,
    /// The process that holds it, where it can be seen from here.
    pub holder: Option<Holder>,
}

impl HeldLock {
    /// Returns the words for its holder.
    pub fn holder_words(&self) -> String {
        self.holder.as_ref().map_or_else(
            || "a process that cannot be seen from here, such as one of another container".to_owned(),
            |holder| format!("process {} (`{}`)", holder.pid, holder.name),
        )
    }

    /// Returns that its holder runs the gateways of the home, or is about to, if it is the home's.
    pub fn runs_gateways(&self) -> String {
        let (by, path) = (self.holder_words(), shown(&self.path));
        format!(
            "{by} holds `{path}`, and so runs the gateways of this home or is about to; `gatevisor up` is refused \
             meanwhile, and --scandir names another scandir"
        )
    }
}

/// What a lock protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Writing a state file; the lock has been held for longer than our commands hold it.
    DesiredState,
    /// Writing a log directory.
    Log,
    /// Running the gateways of the home.
    Home,
}

/// A process that holds a lock.
#[derive(Debug)]
pub struct Holder {
    /// As this process sees it.
    pub pid: i32,
    /// What the kernel calls it.
    pub name: String,
    /// Its user, where it can be told.
    pub uid: Option<u32>,
    /// Whether it is a program that writes logs.
    pub is_logger: bool,
}

/// A file that names a process.
#[derive(Debug)]
pub struct PidFile {
    /// Whole, below the profile's home.
    pub path: PathBuf,
    /// The profile whose home it is in.
    pub profile: ProfileName,
    /// The number in it.
    pub pid: i32,
    /// The process with that number, if there is one.
    pub found: Option<NamedProcess>,
}

/// The process that a file names.
#[derive(Debug)]
pub struct NamedProcess {
    /// What the kernel calls it.
    pub name: String,
    /// Its user, where it can be told.
    pub uid: Option<u32>,
    /// Whether the file says when the process began, which tells it from a later one with the same
    /// number.
    pub is_dated: bool,
    /// Whether it is the process that wrote the file: it began when the file says, or before the
    /// file was written.
    pub is_the_same: bool,
    /// The leader of its session.
    pub session: Option<i32>,
    /// The unit of systemd that runs it, if that is one that runs a gateway of this home.
    pub unit: Option<String>,
}
