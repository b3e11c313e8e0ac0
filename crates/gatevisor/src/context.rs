//! The subject of a command: the agent, the home, the scandir, the manager.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use gatevisor_client::look;
use gatevisor_gateways::agent::remember::{self, Remembered};
use gatevisor_gateways::agent::{AgentDefinition, SYSTEM_FILE, built_in};
use gatevisor_gateways::manager::{LookError, ScandirManager};
use gatevisor_gateways::profile::{self, Home, PROFILES, ProfileName};
use gatevisor_gateways::topology::{TopologyReader, of_installed};
use gatevisor_paths::by_path::{self, HeldDirectories};
use gatevisor_paths::{Authority, OpenHome};
use gatevisor_sys::user;
use gatevisor_wire::exit::error_chain;

use crate::args::Common;
use crate::container_scandir::{SCANDIR_VARIABLE, container_scandir, variable};
use crate::enter;
use crate::exit::{CommandError, Exit, Outcome};
use crate::out;

/// The subject of a command.
pub struct CommandContext {
    /// The manager, which knows the agent and the home.
    pub manager: ScandirManager,
    /// The profile that `-p` or the home selected.
    pub selected: ProfileName,
    /// Whether anybody selected a profile.
    pub is_selected: bool,
    /// Whether root called. By now, the process may run as the home's owner.
    pub operator_is_root: bool,
    /// Whether to print JSON.
    pub json: bool,
    /// The absolute path of this program.
    pub program: PathBuf,
    /// The definition that an option or the home's files name.
    told: Option<PathBuf>,
    /// The definition that this command was given, in whatever way.
    named: Option<PathBuf>,
    /// Where a definition is kept for later commands.
    kept_in: KeptIn,
}

/// Where a definition is kept for later commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeptIn {
    /// The home remembers it.
    Home,
    /// It belongs to the image of this container.
    Image,
}

/// Returns the definition of this machine, if there is one.
pub fn system_definition() -> Result<Option<PathBuf>, CommandError> {
    let path = PathBuf::from(SYSTEM_FILE);
    match look::exists(&path) {
        Ok(there) => Ok(there.then_some(path)),
        Err(source) => Err(LookError { what: "whether there is", path, source }.into()),
    }
}

/// The variable that names an agent definition, as `--agent` does.
const AGENT_VARIABLE: &str = "GATEVISOR_AGENT";

/// Returns the definition that a command is told: a file, or the name of a built-in one.
pub fn named_definition(common: &Common) -> Option<PathBuf> {
    let of_variable = || variable(AGENT_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
    common.agent.clone().or_else(of_variable)
}

/// Returns a definition as a command in another directory must name it: a built-in one by its name,
/// a file by its whole path.
pub fn told_elsewhere(told: &Path) -> PathBuf {
    let whole = || std::path::absolute(told).unwrap_or_else(|_| told.to_owned());
    built_in::named(told).map_or_else(whole, |_| told.to_owned())
}

/// What to do about a named home that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingHome {
    /// The command makes it, or reports itself that there is none.
    IsMade,
    /// Nothing is done, because its name is probably mistyped.
    IsRefused,
}

impl CommandContext {
    /// Finds out the subject of a command.
    ///
    /// With `executes`, other programs than our own will run, so they get no access to root's
    /// terminal.
    pub fn new(common: &Common, missing: MissingHome, executes: bool) -> Result<Self, CommandError> {
        let named = named_definition(common);
        let load = |file: Option<&Path>| AgentDefinition::load(file).map_err(CommandError::from);
        let agent = load(named.as_deref())?;
        let home = Home::resolve(common.home.as_deref(), &agent, &variable)?;
        let operator_is_root = rustix::process::geteuid().is_root();
        become_owner(home.root(), executes)?;
        if missing == MissingHome::IsRefused {
            must_exist(&home, common, &agent)?;
        }
        let kept_in = if container_scandir().is_some() { KeptIn::Image } else { KeptIn::Home };
        let remembers = kept_in == KeptIn::Home;
        // This comes after the change of user: the files of the home's owner are read and used with
        // the owner's rights.
        let recalled = if remembers && named.is_none() { recall(home.root())? } else { None };
        let is_open = remembers && named.is_none() && recalled.is_none();
        let found = if is_open { found_in(&home, &agent)? } else { None };
        let other = recalled.as_deref().or(found.as_deref());
        let agent = other.map_or(Ok(agent), |file| load(Some(file)))?;
        let agent = of_installed(&agent, &home);
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
        let told = common.agent.clone().or(found);
        let named = named.or_else(|| told.clone());
        let json = common.json;
        Ok(Self { manager, selected, is_selected, operator_is_root, json, program, told, named, kept_in })
    }

    /// Returns the same for a supervisor that is about to begin; its environment decides about the
    /// program.
    pub fn at_boot(&self) -> Self {
        let (agent, home) = (self.manager.agent(), self.manager.home());
        let manager = self.manager.with_agent(TopologyReader::at_boot(agent, home, &variable).fitted());
        let (selected, program) = (self.selected.clone(), self.program.clone());
        let (is_selected, operator_is_root, json) = (self.is_selected, self.operator_is_root, self.json);
        let (told, named) = (self.told.clone(), self.named.clone());
        let kept_in = self.kept_in;
        Self { manager, selected, is_selected, operator_is_root, json, program, told, named, kept_in }
    }

    /// Returns the error that there is nothing of a kind. If a look at the home or its gateways was
    /// refused, the error says instead that nobody can tell.
    pub fn absent(&self, message: impl Into<String>) -> CommandError {
        self.all_seen().err().unwrap_or_else(|| CommandError::new(Exit::No, message))
    }

    /// Returns an error if a look at the home or its gateways was refused.
    pub fn all_seen(&self) -> Result<(), CommandError> {
        self.manager.refused_looks().into_iter().next().map_or(Ok(()), |unseen| Err(unseen.into()))
    }

    /// Returns the outcome of a command that reports. After a refused look at the home or its
    /// gateways, the outcome is neither success nor that there is nothing.
    pub fn as_seen(&self, outcome: Outcome) -> Outcome {
        as_seen(self.manager.refused_looks(), outcome)
    }

    fn home_remembers(&self) -> bool {
        self.kept_in == KeptIn::Home
    }

    /// Makes the home remember the definition that this command was given, for all later commands.
    /// Returns whether there was anything to remember.
    pub fn remember(&self) -> bool {
        let Some(told) = self.told.as_deref().filter(|_| self.home_remembers()) else { return false };
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
        true
    }

    /// Warns if this command was given a definition other than the one that the home remembers.
    pub fn warn_of_another(&self) {
        let Some(told) = self.named.as_deref().filter(|_| self.home_remembers()) else { return };
        if let Some(other) = remember::differs(self.manager.home().root(), told) {
            out::warn(&format!(
                "the home `{}` is used with the agent definition `{}`, and this command with `{}`",
                self.manager.home().root().display(),
                other.display(),
                told.display()
            ));
        }
    }

    /// Returns the options with which another command uses the same home, scandir and definition,
    /// except those that the home remembers.
    pub fn options(&self) -> String {
        let home = self.manager.home().root();
        let mut words = format!("--home {}", home.display());
        let knows = |told: &Path| {
            self.home_remembers()
                && remember::recall(home).is_ok_and(|known| known.is_some())
                && remember::differs(home, told).is_none()
        };
        if let Some(told) = self.told.as_deref().filter(|told| !knows(told)) {
            words = format!("{words} --agent {}", told_elsewhere(told).display());
        }
        words
    }

    /// Returns the arguments with which another command uses the same home and scandir, and the
    /// same definition if this command was given one.
    pub fn words(&self) -> Vec<OsString> {
        let mut words = vec![self.manager.home().root().into(), self.manager.scandir().into()];
        words.extend(self.named.as_deref().map(|named| told_elsewhere(named).into()));
        words
    }

    /// Returns the same as options that every verb takes.
    pub fn word_options(&self) -> Vec<OsString> {
        let options = ["--home", "--scandir", "--agent"].into_iter().map(OsString::from);
        options.zip(self.words()).flat_map(|(option, value)| [option, value]).collect()
    }

    /// Has this thread's way to every file of the home begin at what the home is now, and to every
    /// slot at what the directory above the scandir is now. For commands that look at many files,
    /// and do not wait for long. The scandir itself may be replaced by another supervisor.
    pub fn held(&self) -> HeldDirectories {
        let above = self.manager.scandir().parent().filter(|above| above.is_absolute());
        by_path::hold([Some(self.manager.home().root()), above].into_iter().flatten())
    }

    /// Returns whether a supervisor runs on the scandir. If that is unknown, it is an error and not
    /// a no.
    pub fn supervisor_running(&self) -> Result<bool, CommandError> {
        self.manager.supervisor_running().map_err(CommandError::from)
    }

    /// Returns the profile that a command means: the named one, or else the selected one.
    pub fn named(&self, name: Option<&OsStr>) -> Result<ProfileName, CommandError> {
        name.map_or_else(|| Ok(self.selected.clone()), profile_name)
    }
}

/// The definition that is used for a home.
pub struct Counting {
    /// Its file, or the name of a built-in one.
    pub source: PathBuf,
    /// The definition, or the error in it.
    pub definition: Result<AgentDefinition, String>,
    /// The home, where it is known.
    pub home: Option<Home>,
}

impl Counting {
    fn new(source: PathBuf, home: Option<Home>) -> Self {
        let definition = AgentDefinition::load(Some(&source)).map_err(|error| error_chain(&error));
        Self { source, definition, home }
    }
}

/// Returns the definition that is used for the home of a command, also if it is not valid.
pub fn counting_definition(common: &Common) -> Result<Counting, CommandError> {
    let [(usual, _), ..] = built_in::BUILT_INS;
    let named = named_definition(common);
    let of_machine = if named.is_none() { system_definition()? } else { None };
    let source = named.clone().or(of_machine).unwrap_or_else(|| PathBuf::from(usual));
    let found = Counting::new(source, None);
    let Ok(agent) = &found.definition else { return Ok(found) };
    let home = Home::resolve(common.home.as_deref(), agent, &variable)?;
    become_owner(home.root(), false)?;
    let remembers = container_scandir().is_none() && named.is_none();
    let recalled = if remembers { recall(home.root())? } else { None };
    let by_files = if remembers && recalled.is_none() { found_in(&home, agent)? } else { None };
    match recalled.or(by_files) {
        Some(file) => Ok(Counting::new(file, Some(home))),
        None => Ok(Counting { home: Some(home), ..found }),
    }
}

/// Returns the outcome of a command that reports, after these looks were refused.
pub fn as_seen(refused: Vec<LookError>, outcome: Outcome) -> Outcome {
    let Some(unseen) = refused.into_iter().next().map(CommandError::from) else { return outcome };
    match outcome {
        Ok(code) => {
            out::warn(&unseen.message);
            Ok(code.max(unseen.code))
        }
        Err(failure) if [Exit::No.code(), Exit::NotSupervised.code()].contains(&failure.code) => Err(unseen),
        Err(failure) => Err(failure),
    }
}

/// Returns the definition of the agent whose files are in a home that remembers none.
fn found_in(home: &Home, agent: &AgentDefinition) -> Result<Option<PathBuf>, CommandError> {
    let is_usual = system_definition()?.is_none();
    Ok(if is_usual { profile::found_in(home, agent)?.map(PathBuf::from) } else { None })
}

/// Returns the definition that a home remembers.
fn recall(home: &Path) -> Result<Option<PathBuf>, CommandError> {
    remember::recall(home).map_err(CommandError::from)
}

/// Refuses a named home that does not exist. A home that nobody names is made when it is needed.
fn must_exist(home: &Home, common: &Common, agent: &AgentDefinition) -> Result<(), CommandError> {
    let root = home.root();
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let by = match (&common.home, agent.home_variable()) {
        (Some(_), _) => "--home".to_owned(),
        (None, name) if is_set(&name) => name,
        (None, _) if is_set(profile::HOME_VARIABLE) => profile::HOME_VARIABLE.to_owned(),
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
        // The code that works in the home reports other problems.
        _ => Ok(()),
    }
}

/// If this is root, becomes the user who controls the contents of the home. The owner of the home,
/// or of a directory above it, may put links anywhere in it, and files made in it must belong to
/// that user.
fn become_owner(home: &Path, executes: bool) -> Result<(), CommandError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let Some(uid) = other_owner(home)? else { return Ok(()) };
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

/// Returns the other user who decides what is in the home that root works in, if there is one.
pub fn other_owner(home: &Path) -> Result<Option<u32>, CommandError> {
    let unusable = |why: &dyn std::fmt::Display| {
        CommandError::new(
            Exit::System,
            format!("cannot work in the home `{}` as root: {why}", home.display()),
        )
    };
    match OpenHome::authority_over(home, &[PROFILES]).map_err(|error| unusable(&error))? {
        Authority::Ours => Ok(None),
        Authority::User(uid) => Ok(Some(uid)),
        Authority::Nobody(step) => {
            let path = step.path.display();
            let hint = format!(
                "call this as the user of the gateways, or take that right away: chmod go-w '{path}'"
            );
            Err(unusable(&format!("{step}; {hint}")))
        }
    }
}

/// Returns `name` as the name of a profile.
pub fn profile_name(name: impl AsRef<OsStr>) -> Result<ProfileName, CommandError> {
    ProfileName::from_os(name.as_ref()).map_err(|error| CommandError::of(Exit::Usage, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(agent: &str, kept_in: KeptIn) -> CommandContext {
        let definition = AgentDefinition::built_in().unwrap();
        let home = Home::resolve(Some(Path::new("/h")), &definition, &|_| None).unwrap();
        let manager = ScandirManager::new(definition, home, "/s".into(), "/gatevisor".into());
        CommandContext {
            manager,
            selected: ProfileName::root(),
            is_selected: false,
            operator_is_root: false,
            json: false,
            program: "/gatevisor".into(),
            told: Some(agent.into()),
            named: Some(agent.into()),
            kept_in,
        }
    }

    #[test]
    fn other_commands_are_told_the_same_definition_also_in_a_container() {
        let here = std::env::current_dir().unwrap();
        for kept_in in [KeptIn::Home, KeptIn::Image] {
            let context = given("hermes", kept_in);
            assert_eq!(context.words(), ["/h", "/s", "hermes"].map(OsString::from));
            assert_eq!(context.options(), "--home /h --agent hermes");
            let file = here.join("own.toml");
            let context = given("own.toml", kept_in);
            assert_eq!(context.words().last(), Some(&file.clone().into_os_string()));
            assert_eq!(context.options(), format!("--home /h --agent {}", file.display()));
        }
    }
}
