//! What a command works on: the agent, the home, the scandir, the manager.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gatevisor_gateways::agent::AgentDefinition;
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_gateways::profile::{Home, ProfileName};
use gatevisor_sys::user;

use crate::args::Common;
use crate::exit::{Exit, Failure};

/// The variable that names the scandir, as upstream's reconciler reads it.
pub const SCANDIR_VARIABLE: &str = "S6_PROFILE_GATEWAY_SCANDIR";

/// Where the supervisor of a container has its scandir, and what tells that there is one.
pub const CONTAINER_SCANDIR: &str = "/run/service";
const CONTAINER_BASE: &str = "/run/s6/basedir";

/// What a command works on.
pub struct Context {
    /// The manager, which knows the agent and the home.
    pub manager: ScandirManager,
    /// The profile that `-p` or the home selected.
    pub selected: ProfileName,
    /// Whether a profile was selected by anybody.
    pub is_selected: bool,
    /// Whether to print JSON.
    pub json: bool,
    /// The absolute path of this program.
    pub program: PathBuf,
}

/// Returns the value of a variable of the environment.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Returns the scandir of the container that we are in, if we are in one that has a supervisor.
fn container_scandir() -> Option<PathBuf> {
    let scandir = Path::new(CONTAINER_SCANDIR);
    let is_there = Path::new(CONTAINER_BASE).is_dir() && scandir.join(".s6-svscan").is_dir();
    is_there.then(|| scandir.to_owned())
}

impl Context {
    /// Finds out what the command works on.
    pub fn new(common: &Common) -> Result<Self, Failure> {
        let agent = AgentDefinition::load(common.agent.as_deref())
            .map_err(|error| Failure::of(error.exit_code(), &error))?;
        let home = Home::resolve(common.home.as_deref(), &agent, &variable)
            .map_err(|error| Failure::of(error.exit_code(), &error))?;
        become_owner(home.root())?;
        let scandir = common
            .scandir
            .clone()
            .or_else(|| variable(SCANDIR_VARIABLE).filter(|dir| !dir.is_empty()).map(PathBuf::from))
            .or_else(container_scandir)
            .map_or_else(|| Ok(home.scandir()), std::path::absolute)
            .map_err(|error| Failure::new(Exit::Usage, format!("cannot use the scandir: {error}")))?;
        let program = std::env::current_exe().map_err(|error| {
            Failure::new(Exit::System, format!("cannot find this program's own file: {error}"))
        })?;
        let selected = match &common.profile {
            Some(name) => profile_name(name)?,
            None => home.selected().clone(),
        };
        let is_selected = common.profile.is_some() || !home.selected().is_root();
        let manager = ScandirManager::new(agent, home, scandir, program.clone());
        Ok(Self { manager, selected, is_selected, json: common.json, program })
    }

    /// Returns the profile that a command means: the one it names, else the selected one.
    pub fn named(&self, name: Option<&OsStr>) -> Result<ProfileName, Failure> {
        name.map_or_else(|| Ok(self.selected.clone()), profile_name)
    }
}

/// Makes root the owner of the home, where that is somebody else: whoever owns it may put links anywhere in it, and what
/// is made in it must be that user's.
fn become_owner(home: &Path) -> Result<(), Failure> {
    let Ok(found) = std::fs::symlink_metadata(home) else { return Ok(()) };
    if !rustix::process::geteuid().is_root() || found.uid() == 0 {
        return Ok(());
    }
    let user = user::lookup_uid(found.uid()).map_err(|error| Failure::of(Exit::System as u8, &error))?;
    user::assume(&user).map_err(|errno| {
        let hint = "it needs the capabilities SETUID and SETGID; or call this as that user";
        let uid = found.uid();
        Failure::new(Exit::System, format!("cannot become uid {uid}, the owner of the home: {errno}; {hint}"))
    })
}

/// Returns `name` as the name of a profile.
pub fn profile_name(name: impl AsRef<OsStr>) -> Result<ProfileName, Failure> {
    ProfileName::from_os(name.as_ref()).map_err(|error| Failure::of(Exit::Usage as u8, &error))
}
