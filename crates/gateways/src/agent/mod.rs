//! *Lives here:* the agent definition: everything that is particular to one agent program, as data.
//!
//! *Does not live here:* any agent's name in code; what is done with the definition.
//!
//! Two kinds of placeholders occur in its texts. `{profile}` and `{profile-home}` are filled in when a slot is made;
//! `${VARIABLE}` is left for the moment when the gateway starts, so that nothing of the environment at registration
//! is baked into a slot.
//!
//! **Source:** docs/agent.md; SLOT-4.

mod check;
mod confine;
mod container;
mod doctor;
mod fault;
mod log;
pub mod remember;
mod survivors;
mod template;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use gatevisor_slot::live::Live;
use gatevisor_wire::exit::{Exit, ExitError};
use serde::Deserialize;

use crate::files::{ReadFileError, read_bounded};

pub use confine::{CgroupDefinition, ConfineDefinition};
pub use container::{BootStep, ContainerDefinition, Seed, Stale, StaticService, says_yes};
pub use doctor::{DoctorDefinition, PortDefinition};
pub use fault::Fault;
pub use log::LogDefinition;
pub use survivors::Survivors;
pub use template::{Placeholders, TemplateError, fill};

/// The definition that is used where no other is named.
pub const BUILT_IN: &str = include_str!("../../agents/hermes.toml");
/// Where a definition is looked for when none is named.
pub const SYSTEM_FILE: &str = "/etc/gatevisor/agent.toml";
/// Bytes of a definition file at the most.
const MAX_BYTES: usize = 1 << 18;

/// An agent program, as far as its supervisor has to know it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AgentDefinition {
    /// The agent's name, which also gives the prefix of its environment variables.
    pub name: String,
    /// The user that gateways run as in a container; by default the one named as the agent.
    pub user: Option<String>,
    /// The variable that holds the home; by default the prefix and `HOME`.
    pub home_variable: Option<String>,
    /// The root profile.
    #[serde(default)]
    pub default_profile: DefaultProfile,
    /// What makes a directory a profile.
    pub profile: ProfileDefinition,
    /// How a gateway is run.
    pub gateway: GatewayDefinition,
    /// What the command of a container says about its role.
    #[serde(default)]
    pub container: ContainerDefinition,
    /// What two gateways cannot share.
    #[serde(default)]
    pub doctor: DoctorDefinition,
}

/// The profile whose home is the root of the home itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DefaultProfile {
    /// Whether it has a gateway at all.
    pub gateway: bool,
}

impl Default for DefaultProfile {
    fn default() -> Self {
        Self { gateway: true }
    }
}

/// What makes a directory a profile, and what a new one holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProfileDefinition {
    /// The entry without which a directory is no profile.
    pub marker: String,
    /// Directories of a new profile.
    #[serde(default)]
    pub directories: Vec<String>,
    /// Files of a new profile.
    #[serde(default)]
    pub files: Vec<SeedFile>,
    /// Names that no profile may have, beside `default`.
    #[serde(default)]
    pub reserved: Vec<String>,
    /// Bytes of the longest profile name that the agent itself understands.
    pub longest_name: Option<usize>,
}

/// A file of a new profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SeedFile {
    /// Its path below the profile's home.
    pub path: String,
    /// Its mode, in octal.
    #[serde(default = "plain_mode")]
    pub mode: String,
    /// What it holds.
    #[serde(default)]
    pub content: String,
}

fn plain_mode() -> String {
    "0644".to_owned()
}

impl SeedFile {
    /// Returns the mode as a number; definitions that were checked always have one.
    pub fn mode_bits(&self) -> Option<u32> {
        let digits = !self.mode.is_empty() && self.mode.bytes().all(|b| matches!(b, b'0'..=b'7'));
        u32::from_str_radix(&self.mode, 8).ok().filter(|mode| digits && *mode <= 0o777)
    }
}

/// How a gateway is run, watched and stopped.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GatewayDefinition {
    /// The command for the root profile.
    pub command_default: Vec<String>,
    /// The command for any other profile.
    pub command_named: Vec<String>,
    /// The working directory.
    pub directory: Option<String>,
    /// Variables added to the gateway's environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Files of `KEY=VALUE` lines that placeholders may refer to; nothing of them is exported.
    #[serde(default)]
    pub environment_files: Vec<String>,
    /// How to find out that a gateway is ready.
    pub ready: Option<ReadyDefinition>,
    /// Milliseconds for which a gateway must stay up to count as started, where nobody says that it is ready.
    #[serde(default = "default_start_window")]
    pub start_window_ms: u64,
    /// Milliseconds that a gateway has to stop before it is killed.
    #[serde(default = "default_stop_timeout")]
    pub stop_timeout_ms: u64,
    /// What becomes of what it leaves behind when it dies.
    #[serde(default)]
    pub survivors: Survivors,
    /// The signal that asks for a restart; by default the one that stops.
    pub restart_signal: Option<String>,
    /// Exit codes that ask for a restart.
    #[serde(default)]
    pub restart_codes: Vec<u8>,
    /// Exit codes that mean that another attempt is useless.
    #[serde(default)]
    pub fail_codes: Vec<u8>,
    /// What exit codes mean, for people.
    #[serde(default)]
    pub exit_meanings: BTreeMap<String, String>,
    /// Numbers of the restart policy that differ from the supervisor's own.
    #[serde(default)]
    pub restart: RestartDefinition,
    /// The file in a profile's home that holds its desired state.
    pub state_file: String,
    /// The file that tells a gateway that it is being stopped on purpose.
    pub planned_stop: Option<PlannedStop>,
    /// Files in a profile's home that mean nothing after a boot, and are deleted then.
    #[serde(default)]
    pub stale_files: Vec<String>,
    /// Where the gateway's output is kept.
    pub log_directory: String,
    /// How it is kept, as far as that differs from what counts where nothing is said.
    #[serde(default)]
    pub log: LogDefinition,
    /// How to find out whether it works while it runs, and what follows if it does not.
    pub live: Option<Live>,
    /// What it may do and use.
    #[serde(default)]
    pub confine: ConfineDefinition,
    /// Where each reconciliation is recorded, below the home.
    pub boot_log: String,
    /// A variable that, when true, leaves named profiles' gateways down at boot.
    pub multiplex_variable: Option<String>,
    /// Key in the state file of the root profile's gateway: the profiles that it serves besides its own.
    pub served_profiles: Option<String>,
}

const fn default_start_window() -> u64 {
    1000
}

const fn default_stop_timeout() -> u64 {
    10_000
}

/// How to find out that a gateway is ready.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReadyDefinition {
    /// An address on this machine that answers a GET with success once the gateway is ready.
    pub http: String,
    /// The address is asked only when this is a truthy word.
    pub when: Option<String>,
    /// Milliseconds between two questions.
    pub interval_ms: Option<u64>,
    /// Milliseconds until nobody asks any more.
    pub timeout_ms: Option<u64>,
}

/// Numbers of the restart policy, each in place of the supervisor's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RestartDefinition {
    /// Milliseconds before the first attempt after a failure.
    pub backoff_first_ms: Option<u32>,
    /// Milliseconds before any attempt, at the most.
    pub backoff_max_ms: Option<u32>,
    /// Milliseconds of life after which failures are forgotten.
    pub stable_after_ms: Option<u32>,
    /// Failures in a row after which nothing more is tried.
    pub give_up_after: Option<u32>,
}

/// The file that tells a gateway that it is being stopped on purpose.
///
/// It holds a JSON object with the gateway's pid and start time, the stopper's pid, and the time.
///
/// **Source:** GW-5.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PlannedStop {
    /// Its name in the gateway's own home.
    pub file: String,
    /// Seconds for which the gateway believes it.
    #[serde(default = "default_ttl")]
    pub ttl_s: u32,
}

const fn default_ttl() -> u32 {
    60
}

/// Why there is no agent definition.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The file does not exist.
    #[error("there is no agent definition `{}`; check the path given with --agent", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be read.
    #[error("cannot read the agent definition `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ReadFileError,
    },
    /// The text is not UTF-8.
    #[error("the agent definition `{origin}` is not UTF-8")]
    NotUtf8 {
        /// Where the text is from.
        origin: String,
    },
    /// The text is not a definition.
    #[error("the agent definition `{origin}` is not valid: {message}")]
    Syntax {
        /// Where the text is from.
        origin: String,
        /// What the reader of the format says, on one line.
        message: String,
    },
    /// A value makes no sense.
    #[error("the agent definition `{origin}` has a wrong `{}`", fault.field)]
    Value {
        /// Where the text is from.
        origin: String,
        /// Which, and why.
        #[source]
        fault: Fault,
    },
}

impl ExitError for AgentError {
    fn exit(&self) -> Exit {
        match self {
            Self::Read { source: ReadFileError::Io(_), .. } => Exit::System,
            Self::Missing { .. }
            | Self::Read { .. }
            | Self::NotUtf8 { .. }
            | Self::Syntax { .. }
            | Self::Value { .. } => Exit::Usage,
        }
    }
}

impl AgentDefinition {
    /// Returns the definition that `file` holds; without one, the system's, and else the built-in one.
    ///
    /// # Errors
    /// A named file must exist; the system's need not. Whichever is found must be a valid definition.
    pub fn load(file: Option<&Path>) -> Result<Self, AgentError> {
        let (path, named) = match file {
            Some(path) => (path, true),
            None => (Path::new(SYSTEM_FILE), false),
        };
        let bytes = match read_bounded(path, MAX_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) if named => return Err(AgentError::Missing { path: path.to_owned() }),
            Ok(None) => return Self::built_in(),
            Err(source) => return Err(AgentError::Read { path: path.to_owned(), source }),
        };
        let origin = path.display().to_string();
        match str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, &origin),
            Err(_) => Err(AgentError::NotUtf8 { origin }),
        }
    }

    /// Returns the definition that is built into this program.
    ///
    /// # Errors
    /// None: a test proves that it is valid.
    pub fn built_in() -> Result<Self, AgentError> {
        Self::parse(BUILT_IN, "built in")
    }

    /// Returns the definition that a text is; `origin` names it in errors.
    pub fn parse(text: &str, origin: &str) -> Result<Self, AgentError> {
        let definition: Self = toml::from_str(text).map_err(|error| AgentError::Syntax {
            origin: origin.to_owned(),
            message: syntax_message(text, &error),
        })?;
        match check::check(&definition) {
            Ok(()) => Ok(definition),
            Err(fault) => Err(AgentError::Value { origin: origin.to_owned(), fault }),
        }
    }

    /// Returns the prefix of the agent's environment variables, such as `HERMES_`.
    pub fn prefix(&self) -> String {
        let mut prefix: String = self.name.chars().map(upper).collect();
        prefix.push('_');
        prefix
    }

    /// Returns the name of the variable that holds the home.
    pub fn home_variable(&self) -> String {
        self.home_variable.clone().unwrap_or_else(|| format!("{}HOME", self.prefix()))
    }

    /// Returns the user that gateways run as in a container.
    pub fn user(&self) -> &str {
        self.user.as_deref().unwrap_or(&self.name)
    }

    /// Returns what an exit code means for people, where the definition says it.
    pub fn exit_meaning(&self, code: u8) -> Option<&str> {
        self.gateway.exit_meanings.get(&code.to_string()).map(String::as_str)
    }
}

impl FromStr for AgentDefinition {
    type Err = AgentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, "text")
    }
}

const fn upper(c: char) -> char {
    match c {
        '-' => '_',
        other => other.to_ascii_uppercase(),
    }
}

/// Returns the complaint of the TOML reader on one line, with the line that it is about.
fn syntax_message(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count().saturating_add(1)),
        None => message,
    }
}

/// A definition that says no more than it must.
#[cfg(test)]
pub(crate) const SMALL: &str = r#"
name = "my-agent"
[profile]
marker = "agent.conf"
[gateway]
command-default = ["serve"]
command-named = ["serve", "{profile}"]
state-file = "state.json"
log-directory = "${MY_AGENT_HOME}/logs/{profile}"
boot-log = "logs/boot.log"
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    #[test]
    fn the_built_in_definition_is_valid() {
        let hermes = AgentDefinition::built_in().unwrap();
        assert_eq!(hermes.prefix(), "HERMES_");
        assert_eq!(hermes.home_variable(), "HERMES_HOME");
        assert_eq!(hermes.user(), "hermes");
        assert_eq!(hermes.gateway.fail_codes, [78]);
        assert_eq!(hermes.gateway.restart_codes, [75]);
        assert_eq!(hermes.gateway.stop_timeout_ms, 30_000);
        assert!(hermes.exit_meaning(78).is_some());
        assert!(hermes.doctor.exclusive.iter().any(|name| name == "TELEGRAM_BOT_TOKEN"));
    }

    #[test]
    fn a_small_definition_gets_the_defaults() {
        let agent: AgentDefinition = SMALL.parse().unwrap();
        assert_eq!(agent.home_variable(), "MY_AGENT_HOME");
        assert_eq!(agent.user(), "my-agent");
        assert!(agent.default_profile.gateway);
        assert_eq!(agent.gateway.stop_timeout_ms, 10_000);
        assert_eq!(agent.exit_meaning(78), None);
    }

    #[test]
    fn what_gateways_cannot_share_is_named_as_shells_name_it() {
        let with = |text: &str| {
            AgentDefinition::parse(&format!("{SMALL}[doctor]\n{text}"), "my-agent.toml").map(drop)
        };
        with("exclusive = [\"A_TOKEN\"]\nports = [{ variable = \"PORT\" }]\npid-files = [\"x.pid\"]")
            .unwrap();
        for wrong in [
            "exclusive = [\"A-TOKEN\"]",
            "ports = [{ variable = \"\" }]",
            "ports = [{ variable = \"PORT\", default = 0 }]",
            "ports = [{ variable = \"PORT\", when = [\"1\"] }]",
            "pid-files = [\"a/b\"]",
            "tokens = []",
        ] {
            assert!(with(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_definition_says_how_logs_are_kept() {
        let with =
            |log: &str| AgentDefinition::parse(&format!("{SMALL}[gateway.log]\n{log}"), "my-agent.toml");
        let agent =
            with("size = 5000\nforward = \"json\"\nstderr = \"stream\"\nrate = { lines = 5 }").unwrap();
        let log = agent.gateway.log.in_directory("logs".to_owned());
        assert_eq!((log.size, log.keep, log.forward), (5000, 10, gatevisor_slot::Forward::Json));
        assert_eq!(agent.gateway.log.stderr, gatevisor_slot::Stderr::Stream);
        let error = with("size = 5").unwrap_err().to_string();
        assert!(error.contains("gateway.log") || error.contains("my-agent.toml"), "{error}");
        let cause = std::error::Error::source(&with("size = 5").unwrap_err()).map(ToString::to_string);
        assert!(format!("{error}{cause:?}").contains("4096"), "{error} {cause:?}");
        assert!(with("sizes = 5").is_err());
    }

    #[test]
    fn a_named_file_must_exist_and_be_a_definition() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let say = |path: &Path| {
            let error = AgentDefinition::load(Some(path)).unwrap_err();
            let mut text = format!("{} {error}", error.exit_code());
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            text.replace(&dir.path().display().to_string(), "DIR")
        };
        let mut lines = vec![say(&path), say(dir.path())];
        for text in [
            &b"\xff"[..],
            b"name = ",
            b"nome = \"x\"\n",
            SMALL.replace("serve\", \"{profile}", "serve\", \"{profil}").as_bytes(),
            SMALL.replace("my-agent", "My Agent").as_bytes(),
            SMALL.replace("state.json", "../state.json").as_bytes(),
        ] {
            std::fs::write(&path, text).unwrap();
            lines.push(say(&path));
        }
        assert_snapshot!(lines.join("\n"), @r#"
        100 there is no agent definition `DIR/agent.toml`; check the path given with --agent
        100 cannot read the agent definition `DIR`: it is a directory, not a file
        100 the agent definition `DIR/agent.toml` is not UTF-8
        100 the agent definition `DIR/agent.toml` is not valid: line 1: string values must be quoted, expected literal string
        100 the agent definition `DIR/agent.toml` is not valid: line 1: unknown field `nome`, expected one of `name`, `user`, `home-variable`, `default-profile`, `profile`, `gateway`, `container`, `doctor`
        100 the agent definition `DIR/agent.toml` has a wrong `gateway.command-named`: `{profil}` is not known here; {profile} and {profile-home} are, and ${NAME} at run time
        100 the agent definition `DIR/agent.toml` has a wrong `name`: use a-z, 0-9 and `-`, begin with a letter, 32 characters at the most
        100 the agent definition `DIR/agent.toml` has a wrong `gateway.state-file`: `../state.json` is not a plain file name of at most 200 bytes
        "#);
        std::fs::write(&path, SMALL).unwrap();
        assert_eq!(AgentDefinition::load(Some(&path)).unwrap().name, "my-agent");
    }

    #[test]
    fn the_example_of_a_plain_http_program_is_valid() {
        let text = include_str!("../../../../examples/http-agent.toml");
        let agent = AgentDefinition::parse(text, "examples/http-agent.toml").unwrap();
        assert_eq!(agent.home_variable(), "HTTP_AGENT_HOME");
        assert!(agent.gateway.ready.is_some());
    }
}
