//! *Lives here:* what a definition says about containers of an agent: what the command means, what
//! the home holds and who owns it, and which services run besides the gateways.
//!
//! *Does not live here:* acting on any of it (see `gatevisor-boot`).

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::SeedFile;
use super::fault::{Fault, below, fault, variable};
use crate::profile::SERVICE_PREFIX;
use crate::topology::{ProgramVersion, VersionRange};

/// What a definition says about containers of an agent. Paths are below the home unless they are
/// absolute.
///
/// **Source:** REC-2, REC-11; docs/design/behaviour.md, *What a boot prepares*, *Static services*,
/// *The wrapper and the shim*.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ContainerDefinition {
    /// The end of the path of the image's command wrapper; the command itself follows the wrapper.
    pub wrapper: Option<String>,
    /// The first word of a command that runs no gateways, such as a dashboard.
    pub no_gateways_command: Option<String>,
    /// The first words of a command that was the gateway itself before there was a supervisor.
    #[serde(alias = "legacy-command")]
    #[schemars(extend("x-former-names" = ["legacy-command"]))]
    pub former_gateway_command: Vec<String>,
    /// A word in that command that declines the supervisor.
    pub decline_flag: Option<String>,
    /// A variable that, when true, declines the supervisor.
    pub decline_variable: Option<String>,
    /// What the state file names as its origin if it is made for such a command.
    pub migrated_from: Option<String>,
    /// The command if the container's arguments name none. Arguments that name no program are
    /// appended.
    pub default_command: Vec<String>,
    /// First words that mean the agent's own command even if a program has that name.
    pub subcommands: Vec<String>,
    /// The agent's program. If root calls the agent by name, this is executed as the agent's user.
    pub program: Option<String>,
    /// A variable that, when true, lets root run the agent as root.
    pub keep_root_variable: Option<String>,
    /// Directories in which only the agent's own programs are looked up, before the system's;
    /// `${VARIABLE}` is filled in.
    pub user_path: Vec<String>,
    /// Directories that are made if they are missing.
    pub directories: Vec<String>,
    /// Trees that are given to the agent's user if the home belongs to somebody else.
    pub owned_at_first: Vec<String>,
    /// Trees in which everything is given to the agent's user at each boot.
    pub owned: Vec<String>,
    /// Files that are given to the agent's user at each boot.
    pub owned_files: Vec<String>,
    /// Modes, in octal, that files have after each boot.
    pub modes: BTreeMap<String, String>,
    /// Files that are made if they are missing.
    pub seeds: Vec<Seed>,
    /// Files that are removed.
    pub stale: Vec<Stale>,
    /// Programs that are run as the agent's user at each boot.
    pub steps: Vec<BootStep>,
    /// Services besides the gateways.
    pub services: Vec<StaticService>,
}

/// A file that is made if it is missing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Seed {
    /// Where it is made.
    pub path: String,
    /// Its mode, in octal.
    #[serde(default = "super::plain_mode")]
    pub mode: String,
    /// The file that is copied. If that does not exist, nothing is made.
    pub from: Option<String>,
    /// A variable that must be set and not empty. The file holds its value if nothing else is
    /// given.
    pub variable: Option<String>,
    /// The exact value that the variable must have.
    pub equals: Option<String>,
    /// What it holds. Without this, it is a copy of `from` or holds the value of `variable`.
    pub content: Option<String>,
}

/// A file that is removed at boot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stale {
    /// Where it would be.
    pub path: String,
    /// What the file must hold, apart from whitespace at both ends. Another content stays.
    pub content: String,
}

/// A program that is run at each boot, and may fail.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BootStep {
    /// What the step does, for people.
    pub name: String,
    /// The program and its arguments; `${VARIABLE}` is filled in.
    pub command: Vec<String>,
    /// Files that must exist.
    #[serde(default)]
    pub needs: Vec<String>,
    /// A variable that must be set and not empty.
    pub variable: Option<String>,
}

/// A service besides the gateways.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StaticService {
    /// Its name in the scandir.
    pub name: String,
    /// The program and its arguments. `gatevisor` means this program, and `${VARIABLE}` is filled
    /// in at each start.
    pub command: Vec<String>,
    /// The variable that switches the service on. Without one, it is always on.
    pub switch: Option<String>,
    /// The working directory.
    pub directory: Option<String>,
    /// Variables added to its environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Arguments that are added if a variable, the key, is true.
    #[serde(default)]
    pub flags: BTreeMap<String, String>,
    /// The versions of the agent that know these arguments. Without this, every version does.
    pub flags_known_by: Option<VersionRange>,
}

impl StaticService {
    /// Returns whether an agent of this version knows the arguments that variables add. A version
    /// that was not found counts as one that does not.
    pub fn knows_flags(&self, version: Option<&ProgramVersion>) -> bool {
        let known_by = self.flags_known_by.as_ref();
        known_by.is_none_or(|range| version.is_some_and(|version| range.holds(version)))
    }
}

/// Words that switch a service on; upper and lower case differ.
///
/// **Source:** DASH-1, SH-2.
const YES: [&str; 7] = ["1", "true", "TRUE", "True", "yes", "YES", "Yes"];

/// Returns whether a word switches something on.
pub fn says_yes(word: &str) -> bool {
    YES.contains(&word)
}

/// Returns the first value that is wrong.
pub(super) fn check(container: &ContainerDefinition) -> Result<(), Fault> {
    let trees = container.directories.iter().chain(&container.owned_at_first).chain(&container.owned);
    for path in trees.chain(&container.owned_files).chain(container.modes.keys()) {
        below("container", path)?;
    }
    for seed in &container.seeds {
        below("container.seeds.path", &seed.path)?;
        octal("container.seeds.mode", &seed.mode)?;
        if seed.from.is_none() && seed.variable.is_none() && seed.content.is_none() {
            return fault(
                "container.seeds",
                format!("`{}` has neither from, variable nor content", seed.path),
            );
        }
    }
    for mode in container.modes.values() {
        octal("container.modes", mode)?;
    }
    for stale in &container.stale {
        below("container.stale.path", &stale.path)?;
    }
    for step in &container.steps {
        if step.command.first().is_none_or(String::is_empty) {
            return fault("container.steps.command", "a command has at least one word");
        }
    }
    for service in &container.services {
        service_ok(service)?;
    }
    if let Some(name) = &container.decline_variable {
        variable("container.decline-variable", name)?;
    }
    match &container.program {
        Some(program) if !Path::new(program).is_absolute() => {
            fault("container.program", "it is an absolute path")
        }
        _ => Ok(()),
    }
}

fn service_ok(service: &StaticService) -> Result<(), Fault> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let name = &service.name;
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) || name.starts_with(SERVICE_PREFIX) {
        let why =
            format!("use letters, digits, `-` and `_`, 64 at the most, and not `{SERVICE_PREFIX}` first");
        return fault("container.services.name", why);
    }
    if service.command.first().is_none_or(String::is_empty) {
        return fault("container.services.command", "a command has at least one word");
    }
    let variables = service.switch.iter().chain(service.environment.keys()).chain(service.flags.keys());
    variables.into_iter().try_for_each(|name| variable("container.services", name))
}

fn octal(field: &'static str, mode: &str) -> Result<(), Fault> {
    match bits(mode) {
        Some(_) => Ok(()),
        None => fault(field, format!("`{mode}` is not an octal mode up to 0777")),
    }
}

fn bits(mode: &str) -> Option<u32> {
    SeedFile { path: String::new(), mode: mode.to_owned(), content: String::new() }.mode_bits()
}

impl Seed {
    /// Returns the mode as a number. A checked definition always has one.
    pub fn mode_bits(&self) -> Option<u32> {
        bits(&self.mode)
    }
}

impl ContainerDefinition {
    /// Returns the modes that files have, as numbers.
    pub fn mode_bits(&self) -> impl Iterator<Item = (&str, u32)> {
        self.modes.iter().filter_map(|(path, mode)| Some((path.as_str(), bits(mode)?)))
    }
}
