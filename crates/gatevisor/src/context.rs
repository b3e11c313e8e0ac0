//! What a command works on: the agent, the home, the scandir, the manager.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use gatevisor_gateways::agent::AgentDefinition;
use gatevisor_gateways::agent::remember::{self, Remembered};
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_gateways::profile::{Home, PROFILES, ProfileName};
use gatevisor_paths::{Authority, OpenHome};
use gatevisor_sys::user;

use crate::args::Common;
use crate::container_scandir::{SCANDIR_VARIABLE, container_scandir, variable};
use crate::enter;
use crate::exit::{CommandError, Exit};
use crate::out;

/// What a command works on.
pub struct CommandContext {
    /// The manager, which knows the agent and the home.
    pub manager: ScandirManager,
    /// The profile that `-p` or the home selected.
    pub selected: ProfileName,
    /// Whether a profile was selected by anybody.
    pub is_selected: bool,
    /// Whether root called, who may be the home's owner by now.
    pub operator_is_root: bool,
    /// Whether to print JSON.
    pub json: bool,
    /// The absolute path of this program.
    pub program: PathBuf,
    /// The definition that this command was told, where homes remember theirs: in a container the image has it.
    told: Option<PathBuf>,
}

/// What is to become of a home that is named and does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingHome {
    /// The command makes it, or says itself that there is none.
    IsMade,
    /// Its name is mistyped, as far as we know, so nothing is done.
    IsRefused,
}

impl CommandContext {
    /// Finds out what the command works on.
    ///
    /// With `executes`, more than our own code will run: then it has nothing of a terminal of root's.
    pub fn new(common: &Common, missing: MissingHome, executes: bool) -> Result<Self, CommandError> {
        let load = |file: Option<&Path>| AgentDefinition::load(file).map_err(CommandError::from);
        let agent = load(common.agent.as_deref())?;
        let home = Home::resolve(common.home.as_deref(), &agent, &variable)?;
        let operator_is_root = rustix::process::geteuid().is_root();
        become_owner(home.root(), executes)?;
        if missing == MissingHome::IsRefused {
            must_exist(&home, common, &agent)?;
        }
        let remembers = container_scandir().is_none();
        // Not before: what the home's owner left there is read with the owner's rights, and acted upon with them.
        let recalled = if remembers && common.agent.is_none() { recall(home.root())? } else { None };
        let agent = recalled.as_deref().map_or(Ok(agent), |file| load(Some(file)))?;
        let scandir = common
            .scandir
            .clone()
            .or_else(|| variable(SCANDIR_VARIABLE).filter(|dir| !dir.is_empty()).map(PathBuf::from))
            .or_else(container_scandir)
            .map_or_else(|| Ok(home.scandir()), std::path::absolute)
            .map_err(|error| CommandError::new(Exit::Usage, format!("cannot use the scandir: {error}")))?;
        let program = gatevisor_sys::process::own_program().map_err(|error| {
            CommandError::new(Exit::System, format!("cannot find this program's own file: {error}"))
        })?;
        let selected = match &common.profile {
            Some(name) => profile_name(name)?,
            None => home.selected().clone(),
        };
        let is_selected = common.profile.is_some() || !home.selected().is_root();
        let manager = ScandirManager::new(agent, home, scandir, program.clone());
        let told = common.agent.clone().filter(|_| remembers);
        Ok(Self { manager, selected, is_selected, operator_is_root, json: common.json, program, told })
    }

    /// Has the home remember the definition that this command was told, for all later commands.
    pub fn remember(&self) {
        let Some(told) = self.told.as_deref() else { return };
        let home = self.manager.home().root();
        match remember::remember(home, told) {
            Ok(Remembered::New) => {}
            Ok(Remembered::Instead(before)) => out::warn(&format!(
                "until now the home `{}` was used with the agent definition `{}`; from now on it is `{}`",
                home.display(),
                before.display(),
                told.display()
            )),
            Err(error) => out::warn(&format!(
                "the home `{}` cannot remember its agent definition: {error}; give --agent to every command",
                home.display()
            )),
        }
    }

    /// Warns if this command was told another definition than the one that the home remembers.
    pub fn warn_of_another(&self) {
        let Some(told) = self.told.as_deref() else { return };
        if let Some(other) = remember::differs(self.manager.home().root(), told) {
            out::warn(&format!(
                "the home `{}` is used with the agent definition `{}`, and this command with another one",
                self.manager.home().root().display(),
                other.display()
            ));
        }
    }

    /// Returns the words with which another command works on the same: those that the home does not know by itself.
    pub fn options(&self) -> String {
        let home = self.manager.home().root();
        let mut words = format!("--home {}", home.display());
        let knows =
            |told: &Path| remember::recall(home).is_ok_and(|known| known == std::fs::canonicalize(told).ok());
        if let Some(told) = self.told.as_deref().filter(|told| !knows(told)) {
            let told = std::path::absolute(told).unwrap_or_else(|_| told.to_owned());
            words = format!("{words} --agent {}", told.display());
        }
        words
    }

    /// Returns whether a supervisor runs on the scandir; that it cannot be told is a failure, and never a no.
    pub fn supervisor_running(&self) -> Result<bool, CommandError> {
        self.manager.supervisor_running().map_err(CommandError::from)
    }

    /// Returns the profile that a command means: the one it names, else the selected one.
    pub fn named(&self, name: Option<&OsStr>) -> Result<ProfileName, CommandError> {
        name.map_or_else(|| Ok(self.selected.clone()), profile_name)
    }
}

/// Returns the definition that a home remembers.
fn recall(home: &Path) -> Result<Option<PathBuf>, CommandError> {
    remember::recall(home).map_err(CommandError::from)
}

/// Refuses a home that somebody named and that does not exist. Where nobody names one, it is made when it is needed.
fn must_exist(home: &Home, common: &Common, agent: &AgentDefinition) -> Result<(), CommandError> {
    let root = home.root();
    let by = match (&common.home, agent.home_variable()) {
        (Some(_), _) => "--home".to_owned(),
        (None, name) if variable(&name).is_some_and(|value| !value.is_empty()) => name,
        (None, _) => return Ok(()),
    };
    match OpenHome::open(root) {
        Err(error) if error.is_missing() => Err(CommandError::new(
            Exit::No,
            format!(
                "there is no home `{root}`, which {by} names; check the path, or make it with \
                 `gatevisor --home {root} up --create`",
                root = root.display()
            ),
        )),
        // Whoever works in it says what else is wrong with it.
        _ => Ok(()),
    }
}

/// Makes root the user who decides what is in the home: whoever owns it, or a directory above it, may put links anywhere in
/// it, and what is made in it must be that user's.
fn become_owner(home: &Path, executes: bool) -> Result<(), CommandError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let unusable = |why: &dyn std::fmt::Display| {
        CommandError::new(
            Exit::System,
            format!("cannot work in the home `{}` as root: {why}", home.display()),
        )
    };
    let uid = match OpenHome::authority_over(home, &[PROFILES]).map_err(|error| unusable(&error))? {
        Authority::Ours => return Ok(()),
        Authority::User(uid) => uid,
        Authority::Nobody(step) => {
            let path = step.path.display();
            let hint = format!(
                "call this as the user of the gateways, or take that right away: chmod go-w '{path}'"
            );
            return Err(unusable(&format!("{step}; {hint}")));
        }
    };
    let user = user::lookup_uid(uid).map_err(|error| CommandError::of(Exit::System, &error))?;
    if executes {
        enter::leave_terminal(&user)?;
    }
    user::assume(&user).map_err(|errno| {
        let hint = "it needs the capabilities SETUID and SETGID; or call this as that user";
        CommandError::new(
            Exit::System,
            format!("cannot become uid {uid}, who decides what is in the home: {errno}; {hint}"),
        )
    })
}

/// Returns `name` as the name of a profile.
pub fn profile_name(name: impl AsRef<OsStr>) -> Result<ProfileName, CommandError> {
    ProfileName::from_os(name.as_ref()).map_err(|error| CommandError::of(Exit::Usage, &error))
}
