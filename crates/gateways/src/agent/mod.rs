//! *Lives here:* the agent definition: everything that is particular to one agent program, as data.
//!
//! *Does not live here:* any agent's name in code; what is done with the definition.
//!
//! Two kinds of placeholders occur in its texts. `{profile}` and `{profile-home}` are filled in
//! when a slot is made; `${VARIABLE}` is left for the moment when the gateway starts, so that
//! nothing of the environment at registration is baked into a slot.
//!
//! **Source:** docs/reference/agent.md; SLOT-4.

mod abilities;
pub mod built_in;
mod check;
mod confine;
mod container;
mod doctor;
mod drain;
mod examine;
mod fault;
mod handoff;
mod log;
mod parse;
pub mod remember;
mod schema;
mod survivors;
mod template;
mod topology;

use std::collections::BTreeMap;

use gatevisor_slot::live::{Live, Number};
use gatevisor_slot::start_permits;
use schemars::JsonSchema;
use serde::Deserialize;

pub use abilities::Ability;
pub use built_in::{BUILT_IN, BUILT_INS};
pub use confine::{CgroupDefinition, ConfineDefinition};
pub use container::{BootStep, ContainerDefinition, Seed, Stale, StaticService, says_yes};
pub use doctor::{DoctorDefinition, PortDefinition};
pub use drain::{
    DrainCommands, DrainDefinition, DrainMarker, DrainSignals, IdleDefinition, IdleSource, PathKey,
};
pub use examine::{DefinitionProblem, examine};
pub use fault::Fault;
pub use handoff::HandoffDefinition;
pub use log::LogDefinition;
pub use parse::AgentError;
pub use schema::schema;
pub use survivors::Survivors;
pub use template::{Placeholders, TemplateError, fill};
pub use topology::{
    ControlDefinition, ServedFrom, SettingDefinition, SettingsOwner, TopologyDefinition, TopologyRule,
    VersionDefinition, VersionDifference,
};

/// Where a definition is looked for if none is named.
pub const SYSTEM_FILE: &str = "/etc/gatevisor/agent.toml";
/// The most bytes that a definition file may have.
pub const MAX_BYTES: usize = 1 << 18;

/// An agent program, as far as its supervisor has to know it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AgentDefinition {
    /// The agent's name, which also gives the prefix of its environment variables.
    pub name: String,
    /// The user that runs the gateways in a container. The default is the agent's name.
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
    /// Which gateway serves which profile.
    #[serde(default)]
    pub topology: TopologyDefinition,
    /// What is different in some versions of the agent.
    #[serde(default)]
    pub differences: Vec<VersionDifference>,
    /// What was changed for one version and one home, as it was before.
    #[serde(skip)]
    unchanged: Option<UnchangedGateway>,
}

/// The profile whose home is the root of the home itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DefaultProfile {
    /// Whether the root profile has a gateway.
    pub gateway: bool,
}

impl Default for DefaultProfile {
    fn default() -> Self {
        Self { gateway: true }
    }
}

/// What makes a directory a profile, and what a new one holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProfileDefinition {
    /// The entry that makes a directory a profile.
    pub marker: String,
    /// Directories of a new profile.
    #[serde(default)]
    pub directories: Vec<String>,
    /// Files of a new profile.
    #[serde(default)]
    pub files: Vec<SeedFile>,
    /// Names that no profile may have, besides `default`.
    #[serde(default)]
    pub reserved: Vec<String>,
    /// Whether each new profile gets a port of its own, in the variable of the first of
    /// `doctor.ports`.
    #[serde(default)]
    pub own_port: bool,
    /// Variables that hold a new secret in each new profile.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// The length in bytes of the longest profile name that the agent itself accepts.
    pub longest_name: Option<usize>,
}

/// A file of a new profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SeedFile {
    /// Its path below the profile's home.
    pub path: String,
    /// Its mode, in octal.
    #[serde(default = "plain_mode")]
    pub mode: String,
    /// What it holds; nothing by default.
    #[serde(default)]
    pub content: String,
}

fn plain_mode() -> String {
    "0644".to_owned()
}

impl SeedFile {
    /// Returns the mode as a number. A checked definition always has one.
    pub fn mode_bits(&self) -> Option<u32> {
        let digits = !self.mode.is_empty() && self.mode.bytes().all(|b| matches!(b, b'0'..=b'7'));
        u32::from_str_radix(&self.mode, 8).ok().filter(|mode| digits && *mode <= 0o777)
    }
}

/// How a gateway is run, watched and stopped.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
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
    /// Files of `KEY=VALUE` lines that placeholders may refer to. The gateway receives none of
    /// these variables from us, unless `environment_export` says so.
    #[serde(default)]
    pub environment_files: Vec<String>,
    /// Whether the gateway gets the variables of these files in its environment.
    #[serde(default)]
    pub environment_export: bool,
    /// How to find out that a gateway is ready.
    pub ready: Option<ReadyDefinition>,
    /// Milliseconds for which a gateway must stay up to count as started, if nothing but the
    /// gateway itself reports readiness.
    #[serde(default = "default_start_window")]
    pub start_window_ms: u64,
    /// Profiles whose gateways start before those of all other profiles, in this order, as far as
    /// they are to be started at all.
    #[serde(default)]
    pub after: Vec<String>,
    /// How many gateways may be starting before another one is started.
    #[serde(default = "default_start_parallel")]
    pub start_parallel: Number,
    /// Milliseconds that a gateway may take to stop before it is killed.
    #[serde(default = "default_stop_timeout")]
    pub stop_timeout_ms: u64,
    /// What happens to processes that the gateway leaves behind when it dies.
    #[serde(default)]
    pub survivors: Survivors,
    /// The signal that requests a restart. The default is the signal that stops.
    pub restart_signal: Option<String>,
    /// The local time of the day, as `HH:MM`, at which each gateway that runs is drained and
    /// restarted.
    pub restart_at: Option<String>,
    /// Exit codes that request a restart.
    #[serde(default)]
    pub restart_codes: Vec<u8>,
    /// How a gateway that has ended is asked whether it wants to be started again.
    pub handoff: Option<HandoffDefinition>,
    /// Exit codes after which another attempt is useless.
    #[serde(default)]
    pub fail_codes: Vec<u8>,
    /// How often in a row the gateway must have failed before some of them count, where a named
    /// profile has a gateway of its own. The version of the agent decides it.
    #[serde(skip)]
    pub named_final_after: BTreeMap<u8, u32>,
    /// What exit codes mean, for people.
    #[serde(default)]
    pub exit_meanings: BTreeMap<String, String>,
    /// Numbers of the restart policy, if they differ from the supervisor's defaults.
    #[serde(default)]
    pub restart: RestartDefinition,
    /// The file in a profile's home that holds its desired state.
    pub state_file: String,
    /// The file that tells a gateway that it is being stopped on purpose.
    pub planned_stop: Option<PlannedStop>,
    /// How it takes no new work, ends what is under way, and shows when that is so.
    pub drain: Option<DrainDefinition>,
    /// Files in a profile's home that mean nothing after a boot. A boot deletes them.
    #[serde(default)]
    pub stale_files: Vec<String>,
    /// Where the gateway's output is kept.
    pub log_directory: String,
    /// How the log is kept, if that differs from the defaults.
    #[serde(default)]
    pub log: LogDefinition,
    /// How to find out whether a running gateway works, and what to do if it does not.
    pub live: Option<Live>,
    /// What it may do and use.
    #[serde(default)]
    pub confine: ConfineDefinition,
    /// Where each reconciliation is recorded, below the home.
    pub boot_log: String,
    /// The older form of a rule of `topology`: a variable that, when true, says that the root
    /// profile's gateway serves all profiles.
    pub multiplex_variable: Option<String>,
    /// The older place of `topology.served-profiles`.
    pub served_profiles: Option<String>,
}

const fn default_start_window() -> u64 {
    1000
}

impl GatewayDefinition {
    /// Returns the place of a profile in the order in which gateways start.
    pub(crate) fn rank(&self, profile: &crate::profile::ProfileName) -> usize {
        self.after.iter().position(|name| name == profile.as_str()).unwrap_or(usize::MAX)
    }
}

fn default_start_parallel() -> Number {
    Number::Text(start_permits::AUTO.to_owned())
}

const fn default_stop_timeout() -> u64 {
    10_000
}

/// How to find out that a gateway is ready.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReadyDefinition {
    /// An address on this machine that answers a GET with success once the gateway is ready.
    pub http: String,
    /// The address is asked only if this is a true word.
    pub when: Option<String>,
    /// Milliseconds between two questions.
    pub interval_ms: Option<u64>,
    /// Milliseconds after which the probing ends.
    pub timeout_ms: Option<u64>,
}

/// Numbers of the restart policy. Each replaces the supervisor's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RestartDefinition {
    /// Milliseconds before the first attempt after a failure.
    pub backoff_first_ms: Option<u32>,
    /// The longest wait before an attempt, in milliseconds.
    pub backoff_max_ms: Option<u32>,
    /// Milliseconds of running after which failures are forgotten.
    pub stable_after_ms: Option<u32>,
    /// The number of failures in a row after which the supervisor gives up.
    pub give_up_after: Option<u32>,
}

/// The file that tells a gateway that it is being stopped on purpose.
///
/// It holds a JSON object with the gateway's pid and start time, the stopper's pid, and the time.
///
/// **Source:** GW-5.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PlannedStop {
    /// Its name in the gateway's own home.
    pub file: String,
    /// Seconds for which the gateway accepts the file.
    #[serde(default = "default_ttl")]
    pub ttl_s: u32,
}

const fn default_ttl() -> u32 {
    60
}

impl AgentDefinition {
    /// Returns the name of a profile's own file of variables in its home, where there is one.
    pub fn own_variables_file(&self) -> Option<&str> {
        let is_name = |name: &&str| !name.contains(['/', '$', '{']);
        let mut files = self.gateway.environment_files.iter();
        files.find_map(|template| template.strip_prefix("{profile-home}/").filter(is_name))
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

    /// Returns what an exit code means, if the definition says so.
    pub fn exit_meaning(&self, code: u8) -> Option<&str> {
        self.gateway.exit_meanings.get(&code.to_string()).map(String::as_str)
    }
}

const fn upper(c: char) -> char {
    match c {
        '-' => '_',
        other => other.to_ascii_uppercase(),
    }
}

/// What a definition says of gateways before anything is changed for one version or one home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnchangedGateway {
    pub(super) fail_codes: Vec<u8>,
    pub(super) exit_meanings: BTreeMap<String, String>,
    pub(super) environment: BTreeMap<String, String>,
}

/// The smallest valid definition.
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
    use std::path::Path;

    use gatevisor_wire::exit::ExitError as _;

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
    fn a_text_about_liveness_that_no_start_could_expand_is_refused_with_its_key() {
        for (text, wrong) in [
            ("policy = \"$POLICY\"", "`live.policy`: `$POLICY` is no variable"),
            ("heartbeat = { file = \"${A-b}/beat\" }", "`live.heartbeat.file`: "),
            (
                "heartbeat = { file = \"{profil}/beat\" }",
                "`live.heartbeat.file`: `{profil}` is not known here",
            ),
        ] {
            let text = format!("{SMALL}[gateway.live]\n{text}\n");
            let error = AgentDefinition::parse(&text, "my-agent.toml").unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
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
        100 there is no agent definition `DIR/agent.toml`; check --agent, or the variable GATEVISOR_AGENT
        100 cannot read the agent definition `DIR`: it is a directory, not a file
        100 the agent definition `DIR/agent.toml` is not UTF-8
        100 the agent definition `DIR/agent.toml` is not valid: line 1, column 8: string values must be quoted, expected literal string
        100 the agent definition `DIR/agent.toml` is not valid: line 1, column 1: there is no key `nome` at the top; do you mean `name`?; and 2 more: gatevisor agents check 'DIR/agent.toml'
        100 the agent definition `DIR/agent.toml` is not valid: line 7, column 27: `gateway.command-named`: `{profil}` is not known here; {profile} and {profile-home} are, and ${NAME} at run time
        100 the agent definition `DIR/agent.toml` is not valid: line 2, column 8: `name`: use a-z, 0-9 and `-`, begin with a letter, 32 characters at the most
        100 the agent definition `DIR/agent.toml` is not valid: line 8, column 14: `gateway.state-file`: `../state.json` is not a plain file name of at most 200 bytes
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
