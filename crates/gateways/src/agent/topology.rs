//! *Lives here:* what an agent definition says about which processes serve which profiles, and what
//! differs between versions of the agent.
//!
//! *Does not live here:* what follows from it for a home (see [`crate::topology`]).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::fault::{Fault, below, fault, file_name, has_variables, variable};
use super::{AgentDefinition, GatewayDefinition, UnchangedGateway};
use crate::topology::{ProgramVersion, VersionRange};

/// Milliseconds that a program has to say its version.
const DEFAULT_TIMEOUT_MS: u64 = 10_000;
/// Milliseconds that any question to an agent may take.
const MAX_TIMEOUT_MS: u64 = 60_000;

/// Failures in a row after which an exit code is final, at the most.
const MAX_FINAL_AFTER: u32 = 100;

/// Which gateway serves which profile, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TopologyDefinition {
    /// How the version of the installed program is found.
    pub version: Option<VersionDefinition>,
    /// Who serves a profile that is not the root profile; the first rule that applies decides, and
    /// without one its own gateway does.
    pub rules: Vec<TopologyRule>,
    /// Key in the state file of the root profile's gateway: the profiles that it serves besides its
    /// own.
    pub served_profiles: Option<String>,
    /// Key there: why it serves only its own although it could serve others.
    pub alone_reason: Option<String>,
    /// Key there: its platforms, those of another profile with the profile's name and `:` before
    /// theirs.
    pub platforms: Option<String>,
    /// File in a profile's home that, as long as it exists, keeps the gateway of the root profile
    /// from serving the profile.
    pub park: Option<String>,
    /// The socket at which the root profile's gateway takes requests.
    pub control: Option<ControlDefinition>,
}

/// How the version of the installed program is found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VersionDefinition {
    /// The program, `${VARIABLE}` in it being filled in.
    pub program: String,
    /// Names that hold the version, seen from the directory of the program or of its interpreter;
    /// `*` stands for any part of a name.
    #[serde(default)]
    pub beside: Vec<String>,
    /// JSON files that hold the version as `version`, seen from the same directories.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Arguments with which the program prints its version; without any it is not asked.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Milliseconds that it may take.
    #[serde(default = "default_timeout")]
    pub timeout_ms: u64,
}

const fn default_timeout() -> u64 {
    DEFAULT_TIMEOUT_MS
}

/// A rule that says which gateway serves a profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TopologyRule {
    /// Versions of the agent that it is for; without them, all.
    pub versions: Option<VersionRange>,
    /// Whose settings are looked at.
    #[serde(default)]
    pub of: SettingsOwner,
    /// Settings, of which the first that says yes or no decides whether the rule applies; without
    /// any it does.
    #[serde(default)]
    pub when: Vec<SettingDefinition>,
    /// Who serves the profile where it applies.
    pub then: ServedFrom,
}

/// Whose settings a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SettingsOwner {
    /// Those of the profile itself.
    #[default]
    Profile,
    /// Those of the root profile, whose gateway may serve others.
    Server,
}

/// Which gateway serves a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServedFrom {
    /// The gateway of the profile itself.
    #[default]
    Own,
    /// That of the root profile.
    Server,
    /// None, because somebody asked for that.
    Nobody,
}

/// A setting that says yes or no: a variable, a value in a file, or that there is a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SettingDefinition {
    /// The variable, in the profile's files of variables or else in the environment.
    pub variable: Option<String>,
    /// The file, in the profile's home.
    pub file: Option<String>,
    /// The way to a value in it, which is YAML or JSON: keys with dots between them.
    pub key: Option<String>,
    /// Versions of the agent that write a yes there by themselves. For other versions, such a yes
    /// counts only if it was there before.
    pub written_by: Option<VersionRange>,
    /// Variables that tell a gateway that such a yes does not count.
    #[serde(default)]
    pub overrule: BTreeMap<String, String>,
}

impl SettingDefinition {
    /// Returns what it is called among the settings that a home keeps.
    pub fn id(&self) -> String {
        let parts = [&self.variable, &self.file, &self.key];
        parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// A socket at which a gateway takes requests: one line of JSON in, one out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ControlDefinition {
    /// Its name in the home of the profile.
    pub socket: String,
    /// A file there that holds its path, where that does not fit into an address.
    pub pointer: Option<String>,
    /// The request to serve a profile, which is named in `params.name`.
    pub serve: Option<String>,
    /// The request to serve it no longer.
    pub unserve: Option<String>,
}

/// What is different in some versions of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VersionDifference {
    /// Where the difference applies.
    pub versions: VersionRange,
    /// Exit codes that mean that another attempt is useless, instead of `gateway.fail-codes`.
    pub fail_codes: Option<Vec<u8>>,
    /// Exit codes that mean this only once the gateway has failed so often in a row, in whatever
    /// way, where a named profile has a gateway of its own: what it refuses for may pass.
    #[serde(default)]
    pub named_final_after: BTreeMap<String, u32>,
    /// What exit codes mean, in addition to `gateway.exit-meanings`.
    #[serde(default)]
    pub exit_meanings: BTreeMap<String, String>,
}

impl TopologyDefinition {
    /// Returns the definition with what older definitions say in `[gateway]`.
    pub(super) fn with_older_words(mut self, gateway: &GatewayDefinition) -> Self {
        if let Some(variable) = &gateway.multiplex_variable {
            let setting =
                SettingDefinition { variable: Some(variable.clone()), ..SettingDefinition::default() };
            let when = vec![setting];
            let (of, then) = (SettingsOwner::Server, ServedFrom::Server);
            self.rules.push(TopologyRule { versions: None, of, when, then });
        }
        self.served_profiles = self.served_profiles.or_else(|| gateway.served_profiles.clone());
        self
    }

    /// Returns the rules that are for this version.
    pub fn rules_for(&self, version: Option<&ProgramVersion>) -> impl Iterator<Item = &TopologyRule> {
        let is_for = move |rule: &&TopologyRule| match (&rule.versions, version) {
            (Some(range), Some(version)) => range.holds(version),
            (Some(_), None) => false,
            (None, _) => true,
        };
        self.rules.iter().filter(is_for)
    }

    /// Returns the file that takes a profile out of those served, if this version knows it.
    pub fn park_for(&self, version: Option<&ProgramVersion>) -> Option<&str> {
        let park = self.park.as_deref()?;
        let is_it = |setting: &SettingDefinition| {
            setting.file.as_deref() == Some(park) && setting.key.is_none() && setting.variable.is_none()
        };
        let mut rules = self.rules_for(version).filter(|rule| rule.then == ServedFrom::Nobody);
        rules.any(|rule| rule.of == SettingsOwner::Profile && rule.when.iter().any(is_it)).then_some(park)
    }
}

impl AgentDefinition {
    /// Returns the definition as it is for this version of the agent, with these variables for its
    /// gateways.
    #[must_use]
    pub fn for_version(
        mut self,
        version: Option<&ProgramVersion>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let gateway = &mut self.gateway;
        let plain = self.unchanged.take().unwrap_or_else(|| UnchangedGateway {
            fail_codes: gateway.fail_codes.clone(),
            exit_meanings: gateway.exit_meanings.clone(),
            environment: gateway.environment.clone(),
        });
        gateway.fail_codes.clone_from(&plain.fail_codes);
        gateway.exit_meanings.clone_from(&plain.exit_meanings);
        gateway.environment.clone_from(&plain.environment);
        gateway.environment.extend(variables);
        gateway.named_final_after.clear();
        self.unchanged = Some(plain);
        let Some(version) = version else { return self };
        for difference in self.differences.iter().filter(|one| one.versions.holds(version)) {
            if let Some(codes) = &difference.fail_codes {
                self.gateway.fail_codes.clone_from(codes);
            }
            let after = &difference.named_final_after;
            let after = after.iter().filter_map(|(code, after)| Some((code.parse().ok()?, *after)));
            self.gateway.named_final_after.extend(after);
            self.gateway.exit_meanings.extend(difference.exit_meanings.clone());
        }
        self
    }
}

/// Returns the first value that makes no sense.
pub(super) fn check(agent: &AgentDefinition) -> Result<(), Fault> {
    let topology = &agent.topology;
    if let Some(version) = &topology.version {
        version_ok(version)?;
    } else if depends_on_the_version(agent) {
        return fault(
            "topology.version",
            "something depends on the version, and nothing says how to find it",
        );
    }
    for rule in &topology.rules {
        for setting in &rule.when {
            setting_ok(setting)?;
            written_ok(rule, setting)?;
        }
    }
    agent.differences.iter().try_for_each(|difference| difference_ok(agent, difference))?;
    let control = topology.control.iter();
    let files = control.flat_map(|control| [Some(&control.socket), control.pointer.as_ref()]);
    files.flatten().try_for_each(|name| file_name("topology.control", name))?;
    topology.park.iter().try_for_each(|name| file_name("topology.park", name))
}

fn depends_on_the_version(agent: &AgentDefinition) -> bool {
    agent.topology.rules.iter().any(|rule| rule.versions.is_some())
        || agent.container.services.iter().any(|service| service.flags_known_by.is_some())
        || !agent.differences.is_empty()
}

/// The key of exit codes that are final only if they come so often.
const NAMED_FINAL_AFTER: &str = "differences.named-final-after";

fn difference_ok(agent: &AgentDefinition, difference: &VersionDifference) -> Result<(), Fault> {
    let (meanings, after) = (&difference.exit_meanings, &difference.named_final_after);
    let keys = meanings.keys().map(|code| ("differences.exit-meanings", code));
    for (field, code) in keys.chain(after.keys().map(|code| (NAMED_FINAL_AFTER, code))) {
        if code.parse::<u8>().is_err() {
            return fault(field, format!("`{code}` is not an exit code"));
        }
    }
    if after.values().any(|after| !(1..=MAX_FINAL_AFTER).contains(after)) {
        return fault(NAMED_FINAL_AFTER, format!("use 1 to {MAX_FINAL_AFTER} failures in a row"));
    }
    // Differences of several ranges may hold for one version.
    let others = agent.differences.iter().filter_map(|other| other.fail_codes.as_ref());
    let plain = std::iter::once(&agent.gateway.fail_codes);
    let final_codes: Vec<&u8> = plain.chain(others).flatten().collect();
    let is_final = |code: &&String| final_codes.iter().any(|known| known.to_string() == **code);
    match after.keys().find(|code| !is_final(code)) {
        Some(code) => fault(
            NAMED_FINAL_AFTER,
            format!("`{code}` is never final, because it is not among the `fail-codes`"),
        ),
        None => Ok(()),
    }
}

fn version_ok(version: &VersionDefinition) -> Result<(), Fault> {
    if version.program.is_empty() {
        return fault("topology.version.program", "it names a program");
    }
    has_variables("topology.version.program", &version.program)?;
    if !(1..=MAX_TIMEOUT_MS).contains(&version.timeout_ms) {
        return fault("topology.version.timeout-ms", format!("use 1 to {MAX_TIMEOUT_MS}"));
    }
    let is_wrong = |pattern: &String| pattern.is_empty() || pattern.starts_with('/');
    let places =
        [("topology.version.beside", &version.beside), ("topology.version.packages", &version.packages)];
    match places.into_iter().find(|(_, patterns)| patterns.iter().any(is_wrong)) {
        Some((field, _)) => fault(field, "it is a path seen from the program's directory"),
        None => Ok(()),
    }
}

fn setting_ok(setting: &SettingDefinition) -> Result<(), Fault> {
    match (&setting.variable, &setting.file, &setting.key) {
        (Some(name), None, None) => variable("topology.rules.when.variable", name),
        (None, Some(file), key) => {
            below("topology.rules.when.file", file)?;
            let is_empty = key.as_ref().is_some_and(|key| key.split('.').any(str::is_empty));
            if is_empty {
                fault("topology.rules.when.key", "it is keys with dots between them")
            } else {
                Ok(())
            }
        }
        _ => fault("topology.rules.when", "it names either a variable, or a file and perhaps a key in it"),
    }
}

fn written_ok(rule: &TopologyRule, setting: &SettingDefinition) -> Result<(), Fault> {
    let field = "topology.rules.when.written-by";
    if setting.written_by.is_none() {
        let is_alone = !setting.overrule.is_empty();
        return if is_alone {
            fault(field, "`overrule` is for a value that some versions write")
        } else {
            Ok(())
        };
    }
    if rule.of != SettingsOwner::Server || setting.key.is_none() {
        return fault(field, "it is for a key in a file of the default profile: `of = \"server\"`");
    }
    setting.overrule.keys().try_for_each(|name| variable("topology.rules.when.overrule", name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::SMALL;

    #[test]
    fn what_a_version_changes_is_there_for_that_version_alone() {
        let agent = AgentDefinition::built_in().unwrap();
        let codes = |agent: &AgentDefinition| agent.gateway.fail_codes.clone();
        let version = |text: &str| ProgramVersion::find(text).unwrap();
        let new = agent.clone().for_version(Some(&version("0.22.2")), []);
        assert_eq!((codes(&agent), codes(&new)), (vec![78], vec![0, 78]));
        assert!(new.exit_meaning(0).is_some() && agent.exit_meaning(0).is_none());
        // A definition that was made for one version is made for another one.
        let old = new.clone().for_version(Some(&version("0.19.0")), []);
        assert_eq!((codes(&old), old.exit_meaning(0)), (vec![78], None));
        assert_eq!(codes(&new.for_version(None, [])), [78]);
    }

    #[test]
    fn what_a_named_profile_s_own_gateway_refuses_for_is_final_only_after_some_times() {
        let agent = AgentDefinition::built_in().unwrap();
        let after = |version: &str| {
            let agent = agent.clone().for_version(ProgramVersion::find(version).as_ref(), []);
            agent.gateway.named_final_after
        };
        assert_eq!(after("0.22.2"), BTreeMap::from([(78, 10)]));
        assert_eq!(after("0.19.0"), BTreeMap::new());
        let again = agent.for_version(ProgramVersion::find("0.22.2").as_ref(), []).for_version(None, []);
        assert_eq!(again.gateway.named_final_after, BTreeMap::new());
    }

    #[test]
    fn what_older_definitions_say_is_a_rule() {
        let older = "log-directory = \"logs\"\nmultiplex-variable = \"ALL\"\nserved-profiles = \"served\"";
        let text = SMALL.replace("log-directory = \"${MY_AGENT_HOME}/logs/{profile}\"", older);
        let topology = text.parse::<AgentDefinition>().unwrap().topology;
        let rule = topology.rules.first().unwrap();
        assert_eq!((rule.of, rule.then), (SettingsOwner::Server, ServedFrom::Server));
        assert_eq!(rule.when.first().and_then(|setting| setting.variable.as_deref()), Some("ALL"));
        assert_eq!(topology.served_profiles.as_deref(), Some("served"));
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused_with_its_place() {
        let version = "[topology.version]\nprogram = \"x\"\n";
        for (text, wrong) in [
            ("[[topology.rules]]\nversions = \">=1.0\"\nthen = \"own\"", "topology.version"),
            ("[[differences]]\nversions = \">=1.0\"\nfail-codes = [1]", "topology.version"),
            (
                "[[container.services]]\nname = \"a\"\ncommand = [\"b\"]\nflags-known-by = \"<1.0\"",
                "topology.version",
            ),
            (
                &format!("{version}[[differences]]\nversions = \">=1.0\"\nnamed-final-after = {{ 256 = 3 }}"),
                "named-final-after",
            ),
            (
                &format!("{version}[[differences]]\nversions = \">=1.0\"\nnamed-final-after = {{ 78 = 0 }}"),
                "1 to 100",
            ),
            (
                &format!("{version}[[differences]]\nversions = \">=1.0\"\nnamed-final-after = {{ 5 = 3 }}"),
                "`5` is never final",
            ),
            (
                &format!(
                    "{version}[[differences]]\nversions = \">=1.0\"\nfail-codes = [5]\nnamed-final-after = {{ x = 3 }}"
                ),
                "`x` is not an exit code",
            ),
            ("[topology.version]\nprogram = \"${BIN-x}\"", "topology.version.program"),
            ("[[topology.rules]]\nthen = \"me\"", "this is `me`"),
            ("[[topology.rules]]\nversions = \"1\"\nthen = \"own\"", "no range of versions"),
            ("[[topology.rules]]\nthen = \"own\"\nwhen = [{}]", "topology.rules.when"),
            ("[[topology.rules]]\nthen = \"own\"\nwhen = [{ key = \"a\" }]", "topology.rules.when"),
            ("[[topology.rules]]\nthen = \"own\"\nwhen = [{ file = \"../x\" }]", "when.file"),
            ("[[topology.rules]]\nthen = \"own\"\nwhen = [{ file = \"x\", key = \"a..b\" }]", "when.key"),
            ("[[topology.rules]]\nthen = \"own\"\nwhen = [{ variable = \"A-B\" }]", "when.variable"),
            (
                "[[topology.rules]]\nthen = \"own\"\nwhen = [{ file = \"x\", key = \"a\", written-by = \">=1.0\" }]",
                "when.written-by",
            ),
            (
                "[[topology.rules]]\nthen = \"own\"\nwhen = [{ variable = \"A\", overrule = { A = \"1\" } }]",
                "when.written-by",
            ),
            ("[topology]\npark = \"a/b\"", "topology.park"),
            ("[topology.version]\nprogram = \"\"", "topology.version.program"),
            (&format!("{version}timeout-ms = 0"), "timeout-ms"),
            (&format!("{version}beside = [\"/x\"]"), "topology.version.beside"),
        ] {
            let error = AgentDefinition::parse(&format!("{SMALL}{text}\n"), "my-agent.toml").unwrap_err();
            assert!(error.to_string().contains(wrong), "{text}: {error}");
        }
    }
}
