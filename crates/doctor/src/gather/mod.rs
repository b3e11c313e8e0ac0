//! *Lives here:* finding the facts for the checks, with the rights of the home's owner.
//!
//! *Does not live here:* the conclusions.
//!
//! Whatever is in place of a file, nothing here waits for it or reads all of a giant file. Links of
//! a profile's owner are followed only with that owner's rights.

mod booting;
mod home_paths;
mod locks;
mod lost;
mod memory;
pub(crate) mod process;
mod profiles;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gatevisor_client::ScanDir;
use gatevisor_core::restart::RestartPolicy;
use gatevisor_paths::by_path;
use gatevisor_slot::home_lock::Standing;
use gatevisor_sys::proc;
use gatevisor_wire::tai::Tai64n;

use crate::commands::Caller;
use crate::facts::{Facts, HomeFact, HomeState, Presence, ServiceFact, Supervision};
use gatevisor_gateways::declared::KeptDeclaration;
use gatevisor_gateways::earlier;
use gatevisor_gateways::inspect::{self, ServiceReport, ServiceState};
use gatevisor_gateways::live;
use gatevisor_gateways::manager::{ScandirManager, observe_directory};
use gatevisor_gateways::profile::ProfileName;
use gatevisor_gateways::reconcile::{ContainerRole, role};

pub use booting::container_boots;
pub use locks::holder_of as lock_holder;
pub use lost::{lost_supervisor, scandir_of, sees_our_files};
pub use process::{SystemdUnit, unit as unit_of, words as words_of};

/// The entry point of a container's image, if that is this program.
const ENTRY_POINT: &str = "/init";
/// Files that show that this is a container, whatever engine made it.
const MARKERS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// What to look at, and how.
#[derive(Debug)]
pub struct DoctorSettings<'a> {
    /// Knows the home, its definition and its scandir.
    pub manager: &'a ScandirManager,
    /// How the operator calls our commands for it.
    pub caller: Caller,
    /// Whether the caller is root.
    pub operator_is_root: bool,
    /// Whether the scandir is the one that a container's boot makes.
    pub is_container: bool,
    /// The services of a container that keep the lock of the home, or wait for it.
    pub keepers: [&'a str; 2],
    /// What was seen of the supervisor.
    pub seen: SeenSupervisor,
    /// The supervisor of the home that has lost this scandir, if one was found although the lock of
    /// the home does not name it.
    pub lost: Option<i32>,
    /// The units of systemd that may run gateways of the home without us.
    pub units: Vec<String>,
}

/// What is seen of the supervisor of a scandir.
///
/// It is taken before root becomes the home's owner, who may not look into root's scandir.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSupervisor {
    presence: Presence,
    program: Option<String>,
    pid: Option<i32>,
}

impl SeenSupervisor {
    /// Looks at the supervisor of a scandir.
    pub fn of(scandir: &Path) -> Self {
        let scan = ScanDir::new(scandir);
        let presence = match (scan.running(), by_path::look(scandir)) {
            (Ok(true), _) => Presence::Supervised,
            _ if container_boots() => Presence::Booting,
            (Ok(false) | Err(_), Err(error)) if home_paths::is_missing(&error) => Presence::NoScandir,
            (Ok(false), _) => Presence::Unsupervised,
            (Err(error), _) => Presence::Unknown(error.to_string()),
        };
        let is_supervised = presence == Presence::Supervised;
        let program = scan.program().filter(|_| is_supervised);
        let pid = scan.holder().filter(|_| is_supervised).map(gatevisor_wire::Pid::get);
        Self { presence, program, pid }
    }

    /// Returns whether it is known that no supervisor runs on the scandir.
    pub const fn is_nowhere(&self) -> bool {
        matches!(self.presence, Presence::NoScandir | Presence::Unsupervised)
    }
}

/// Returns the user and the group to whom everything in a home should belong: its owner, or in a
/// container the owner of the scandir, which the boot gave to the agent's user. `None` if there is
/// no home.
pub fn owner_of(manager: &ScandirManager, is_container: bool) -> Option<(u32, u32)> {
    let of = |path: &Path| by_path::look(path).ok().map(|found| (found.uid, found.gid));
    // If the first process is not root's, everything runs as its user, and the image's own
    // directories may be root's.
    let everybody = is_container.then(|| of(Path::new("/proc/1"))).flatten().filter(|(uid, _)| *uid != 0);
    let scandir = || is_container.then(|| of(manager.scandir())).flatten();
    everybody.or_else(scandir).or_else(|| of(manager.home().root()))
}

/// Returns the groups of the user that gateways run as. Our own groups come from the kernel,
/// because an orchestrator adds groups that no file lists.
fn groups_of((uid, gid): (u32, u32)) -> Vec<u32> {
    if rustix::process::geteuid().as_raw() == uid {
        let groups = rustix::process::getgroups().unwrap_or_default();
        return groups
            .into_iter()
            .chain([rustix::process::getegid()])
            .map(rustix::process::Gid::as_raw)
            .collect();
    }
    gatevisor_sys::user::lookup_uid(uid).map_or_else(|_| vec![gid], |user| user.groups)
}

pub(crate) fn gather(settings: &DoctorSettings<'_>) -> Facts {
    let manager = settings.manager;
    let mut unread = Vec::new();
    let owner = owner_of(manager, settings.is_container)
        .unwrap_or_else(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
    let home = home(manager, owner);
    let services = services(manager, &mut unread);
    let (profiles, misnamed) = match home.state {
        HomeState::Missing | HomeState::NotADirectory => Default::default(),
        HomeState::Unwritable(_) | HomeState::Writable => profiles::gather(manager, &mut unread),
    };
    let supervision = supervision(settings, &services);
    let entries = home_paths::entries(manager, &profiles, &groups_of(owner));
    let locks = locks::locks(manager, &profiles);
    let pid_files = locks::pid_files(manager, &profiles, &settings.units);
    let disks = home_paths::disks(manager, settings.is_container);
    add_refused(manager, &mut unread);
    let left = if supervision.is_unsupervised() {
        earlier::orphans(manager.scandir(), manager.home().root()).unwrap_or_default()
    } else {
        Vec::new()
    };
    Facts {
        caller: settings.caller.clone(),
        definition: manager.agent().doctor.clone(),
        now: Tai64n::now_from(SystemTime::now()),
        stable_s: stable_ms(manager) / 1000,
        start_window_ms: manager.agent().gateway.start_window_ms,
        operator_is_root: settings.operator_is_root,
        uid: rustix::process::geteuid().as_raw(),
        supervision,
        home,
        profiles,
        misnamed,
        declared: KeptDeclaration::read(manager.home().root()),
        services,
        unread,
        entries,
        disks,
        locks,
        pid_files,
        left,
    }
}

/// Adds what else may not be looked at: an error may have become "there is none" before.
fn add_refused(manager: &ScandirManager, unread: &mut Vec<(PathBuf, String)>) {
    for unseen in manager.refused_looks() {
        let is_known = unread.iter().any(|(path, _)| unseen.path.starts_with(path));
        if !is_known {
            unread.push((unseen.path, unseen.source.to_string()));
        }
    }
}

/// Returns the milliseconds of life after which a gateway's failures are forgotten.
fn stable_ms(manager: &ScandirManager) -> u64 {
    let own = manager.agent().gateway.restart.stable_after_ms;
    own.map_or_else(|| RestartPolicy::default().stable_after_ms, u64::from)
}

fn home(manager: &ScandirManager, owner: (u32, u32)) -> HomeFact {
    let path = manager.home().root().to_owned();
    let state = match by_path::look(&path) {
        Ok(found) if found.is_directory() => {
            home_paths::refused(&path).map_or(HomeState::Writable, HomeState::Unwritable)
        }
        Ok(_) => HomeState::NotADirectory,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => HomeState::NotADirectory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => HomeState::Missing,
        Err(error) => HomeState::Unwritable(home_paths::why(&error)),
    };
    HomeFact { path, state, owner }
}

/// Returns what can be seen of every service of the scandir.
fn services(manager: &ScandirManager, unread: &mut Vec<(PathBuf, String)>) -> Vec<ServiceFact> {
    let scan = ScanDir::new(manager.scandir());
    let services = match scan.services() {
        Ok(services) => services,
        Err(error) if home_paths::is_missing(&error) => return Vec::new(),
        Err(error) => {
            unread.push((manager.scandir().to_owned(), error.to_string()));
            return Vec::new();
        }
    };
    let (observed, places): (Vec<_>, Vec<_>) = services
        .into_iter()
        .map(|(name, path)| {
            let profile = ProfileName::of_service(name.as_bytes());
            let refusal = scan.refusal(&name);
            (observe_directory(&path, name.to_string(), profile), (path, refusal))
        })
        .unzip();
    let all = inspect::reports(manager, observed).into_iter().zip(places);
    all.map(|((observed, report), (path, refusal))| {
        let start_deadline_s = start_deadline_s(&path, &report);
        ServiceFact { path, observed, report, refusal, start_deadline_s }
    })
    .collect()
}

/// Returns for how many seconds this run of a service may show nothing. Of one that is followed,
/// its report tells; of another, it matters until it has shown something.
fn start_deadline_s(service: &Path, report: &ServiceReport) -> u64 {
    let starting = report.pid.filter(|_| report.state == ServiceState::Starting);
    let own = || live::of_service(service, starting?)?.settings();
    let ms = match &report.live {
        Some(live) => live.start_deadline_ms,
        None => own().unwrap_or_default().start_deadline_ms,
    };
    ms.div_ceil(1000)
}

/// Returns why nobody watches whether the gateways of a scandir work, if somebody should.
fn unwatched(scandir: &Path, services: &[ServiceFact]) -> Option<String> {
    let is_followed = services.iter().any(|service| service.report.live.is_some());
    if is_followed { live::unwatched(scandir) } else { live::missing(scandir) }
}

fn supervision(settings: &DoctorSettings<'_>, services: &[ServiceFact]) -> Supervision {
    let SeenSupervisor { presence, program, pid } = settings.seen.clone();
    let is_supervised = presence == Presence::Supervised;
    let standing = settings.manager.standing();
    let command = if settings.is_container { process::words(1) } else { Vec::new() };
    Supervision {
        unwatched: unwatched(settings.manager.scandir(), services),
        lost: lost_supervisor(settings.manager.home().root()).or(settings.lost).filter(|_| !is_supervised),
        // As all commands see it: one that a debugger holds may go on at any time.
        stopped: pid.filter(|pid| proc::is_stopped_by_signal(*pid)),
        scandir: settings.manager.scandir().to_owned(),
        presence,
        program,
        pid,
        is_container: settings.is_container,
        marker: marker(),
        first: process::name(1),
        without_gateways: role(settings.manager.agent(), &command) == ContainerRole::NoGateways,
        elsewhere: matches!(standing, Standing::NeverHeld { .. } | Standing::Replaced { .. }),
        standing,
        keeper: services
            .iter()
            .find(|service| settings.keepers.contains(&&*service.observed.service))
            .map(|service| service.path.clone()),
        victims: memory::victims(pid.filter(|_| settings.is_container), services),
    }
}

/// Returns the file that shows that this is a container, if its image has this program as its entry
/// point.
fn marker() -> Option<&'static str> {
    let own = fs::canonicalize(gatevisor_sys::process::own_program().ok()?).ok()?;
    let is_ours = fs::canonicalize(ENTRY_POINT).is_ok_and(|entry_point| entry_point == own);
    MARKERS.into_iter().find(|marker| is_ours && Path::new(marker).exists())
}
