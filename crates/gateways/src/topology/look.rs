//! *Lives here:* the facts that decide which gateway serves a profile, read when they are needed.
//!
//! *Does not live here:* the decision (`decide`).

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use gatevisor_slot::dotenv;
use serde_json::Value;

use super::config::{self, ConfigValue};
use super::decide::{DecidedProfile, SettingAnswer, decide, decide_root};
use super::kept::KeptSetting;
use super::known::KnownTopology;
use super::program;
use super::version::ProgramVersion;
use crate::agent::{AgentDefinition, Placeholders, ServedFrom, SettingDefinition, SettingsOwner, fill};
use crate::desired;
use crate::files::read_bounded;
use crate::profile::{Home, ProfileName};

/// The most bytes of a file of variables.
const ENVIRONMENT_BYTES: usize = 1 << 20;
/// The most bytes of a variable that is kept.
const KEPT_BYTES: usize = 100;

/// Looks up environment variables.
type Variables<'a> = Box<dyn Fn(&str) -> Option<OsString> + 'a>;

/// A configuration file that was read, or what is wrong with it.
type ReadConfig = Result<ConfigValue, String>;

/// The version of a program, and why it cannot be found at present.
struct FoundVersion {
    version: Option<ProgramVersion>,
    problem: Option<String>,
}

/// Finds out which gateway serves each profile of a home.
pub struct TopologyReader<'a> {
    agent: &'a AgentDefinition,
    home: &'a Home,
    variable: Variables<'a>,
    /// Whether the environment and the programs of this process count, as for a supervisor that is
    /// about to begin.
    at_boot: bool,
    /// Whether a program that does not show its version may be executed to ask for it.
    asks: bool,
    known: Option<KnownTopology>,
    /// Whether the last known version counts if none is found.
    recalls: bool,
    version: OnceCell<FoundVersion>,
    program: OnceCell<Option<PathBuf>>,
    /// The configuration files of the root profile, on which every other profile may depend.
    server: RefCell<BTreeMap<String, ReadConfig>>,
}

impl<'a> TopologyReader<'a> {
    /// Returns a reader for a supervisor that is about to begin, with its environment.
    pub fn at_boot(
        agent: &'a AgentDefinition,
        home: &'a Home,
        variable: &'a dyn Fn(&str) -> Option<OsString>,
    ) -> Self {
        Self::with(agent, home, Box::new(variable), true)
    }

    /// Returns a reader for a command. What the supervisor found out at its start counts, except
    /// what can be read from the home.
    pub fn new(agent: &'a AgentDefinition, home: &'a Home) -> Self {
        Self::with(agent, home, Box::new(|name| std::env::var_os(name)), false)
    }

    /// Returns a reader for a look at a definition: the environment and programs of this process
    /// count, or those of the supervisor of the home where the home is used with the definition.
    /// With `asks`, a program that hides its version is executed.
    pub fn of_environment(agent: &'a AgentDefinition, home: &'a Home, is_used: bool, asks: bool) -> Self {
        let reader = Self::with(agent, home, Box::new(|name| std::env::var_os(name)), true);
        let is_known = is_used && reader.known.as_ref().is_some_and(|known| known.program.is_some());
        let known = reader.known.filter(|_| is_used);
        Self { at_boot: !is_known, known, asks, recalls: false, ..reader }
    }

    fn with(agent: &'a AgentDefinition, home: &'a Home, variable: Variables<'a>, at_boot: bool) -> Self {
        let is_simple = agent.topology.version.is_none() && agent.topology.rules.is_empty();
        let known = if is_simple { None } else { KnownTopology::read(home.root()) };
        let (version, program, server) = (OnceCell::new(), OnceCell::new(), RefCell::default());
        let (asks, recalls) = (at_boot, true);
        Self { agent, home, variable, at_boot, asks, known, recalls, version, program, server }
    }

    /// Returns the version of the installed program, or why it is unknown; `None` if the agent
    /// definition does not say how to find it. If it cannot be found, the last known version
    /// counts.
    pub fn version(&self) -> Option<Result<&ProgramVersion, &str>> {
        self.agent.topology.version.as_ref()?;
        let found = self.found_version();
        Some(found.version.as_ref().ok_or_else(|| found.problem.as_deref().unwrap_or_default()))
    }

    /// Returns why the version of the installed program cannot be found, if it cannot and anything
    /// depends on it.
    pub fn version_problem(&self) -> Option<&str> {
        self.agent.topology.version.as_ref()?;
        if self.agent.topology.rules.is_empty() && self.agent.differences.is_empty() {
            return None;
        }
        self.found_version().problem.as_deref()
    }

    fn found_version(&self) -> &FoundVersion {
        self.version.get_or_init(|| match self.find_version() {
            Ok(version) => FoundVersion { version: Some(version), problem: None },
            Err(why) => {
                let known = self.known.as_ref().filter(|_| self.recalls);
                let version = known.and_then(|known| ProgramVersion::find(known.version.as_deref()?));
                FoundVersion { version, problem: Some(why) }
            }
        })
    }

    /// Returns whether the version is only the last known one.
    pub(crate) fn is_recalled(&self) -> bool {
        let found = self.found_version();
        found.problem.is_some() && found.version.is_some()
    }

    /// Returns whether there is a program that could have a version.
    pub fn is_installed(&self) -> bool {
        self.agent.topology.version.is_none() || self.installed().is_some()
    }

    /// Returns which gateway serves a profile. The gateway of the root profile always serves the
    /// root profile itself; its problem is what leaves open whether it serves the others.
    pub fn decide(&self, name: &ProfileName) -> DecidedProfile {
        let topology = &self.agent.topology;
        if !self.agent.default_profile.gateway || topology.rules.is_empty() {
            return DecidedProfile::default();
        }
        let last = self.known.as_ref().and_then(|known| known.profiles.get(name.as_str()).copied());
        let version = self.version().unwrap_or(Err("nothing says how to find the version"));
        let answer = |of, setting: &SettingDefinition| self.answer(of, name, setting);
        let decided = if name.is_root() {
            decide_root(topology, version, &answer)
        } else {
            decide(topology, version, last, &answer)
        };
        let unknown = || self.version_problem().map(str::to_owned);
        DecidedProfile { problem: decided.problem.or_else(unknown), ..decided }
    }

    /// Returns the profiles that the gateway of the root profile reports to serve, or reported
    /// before it ended. A start of a supervisor removes this report.
    pub(crate) fn served_since_boot(&self) -> BTreeSet<String> {
        let Some(key) = &self.agent.topology.served_profiles else { return BTreeSet::new() };
        let file = self.home.root().join(&self.agent.gateway.state_file);
        let bytes = read_bounded(&file, desired::MAX_BYTES).ok().flatten().unwrap_or_default();
        let state: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let names = state.get(key).and_then(Value::as_array).into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    /// Returns whether the root profile's gateway is the one that serves a profile.
    pub fn is_served(&self, name: &ProfileName) -> bool {
        self.decide(name).from == ServedFrom::Server
    }

    fn answer(&self, of: SettingsOwner, name: &ProfileName, setting: &SettingDefinition) -> SettingAnswer {
        let root = ProfileName::root();
        let owner = if of == SettingsOwner::Server { &root } else { name };
        let home = self.home.profile_dir(owner);
        match (&setting.variable, &setting.file, &setting.key) {
            (Some(variable), ..) => self.variable_says(owner, variable),
            (None, Some(file), None) => file_says(&home.join(file)),
            (None, Some(file), Some(key)) => {
                let answer = self.value_says(of, &home, (file, key));
                if self.writes(setting) { answer } else { self.kept(setting).counts(answer) }
            }
            (None, None, _) => SettingAnswer::Silent,
        }
    }

    fn value_says(&self, of: SettingsOwner, home: &Path, (file, key): (&str, &str)) -> SettingAnswer {
        let read = self.read_config(of, home, file);
        match read.map_or_else(SettingAnswer::Unknown, |root| config::answer(&root, key)) {
            SettingAnswer::Unknown(why) => SettingAnswer::Unknown(blamed(home, file, &why)),
            answer => answer,
        }
    }

    /// Returns whether the installed version writes a setting by itself.
    fn writes(&self, setting: &SettingDefinition) -> bool {
        let installed = self.version().and_then(Result::ok);
        setting.written_by.as_ref().zip(installed).is_some_and(|(range, version)| range.holds(version))
    }

    /// Returns what the home remembers of a setting that some versions write by themselves.
    fn kept(&self, setting: &SettingDefinition) -> KeptSetting {
        let (Some(range), Some(known)) = (&setting.written_by, &self.known) else {
            return KeptSetting::default();
        };
        let kept = known.settings.get(&setting.id()).copied().unwrap_or_default();
        let used = known.version.as_deref().and_then(ProgramVersion::find);
        KeptSetting { is_doubtful: kept.is_doubtful || used.is_some_and(|used| range.holds(&used)), ..kept }
    }

    /// Returns the present answer of each setting that some versions write by themselves, with its
    /// definition.
    fn written_settings(&self) -> impl Iterator<Item = (&SettingDefinition, SettingAnswer)> {
        let settings = self.agent.topology.rules.iter().flat_map(|rule| &rule.when);
        settings.filter(|setting| setting.written_by.is_some()).filter_map(|setting| {
            let place = (setting.file.as_deref()?, setting.key.as_deref()?);
            Some((setting, self.value_says(SettingsOwner::Server, self.home.root(), place)))
        })
    }

    /// Returns the variables that tell gateways which settings to ignore, if such a setting would
    /// decide.
    fn overruling(&self) -> BTreeMap<String, String> {
        let (root, version) = (ProfileName::root(), self.version().and_then(Result::ok));
        let mut variables = BTreeMap::new();
        // A rule without settings always decides, so later rules are not needed.
        for rule in self.agent.topology.rules_for(version).take_while(|rule| !rule.when.is_empty()) {
            for setting in rule.when.iter().filter(|_| rule.of == SettingsOwner::Server) {
                let place = setting.file.as_deref().zip(setting.key.as_deref());
                let says = place.map(|place| self.value_says(rule.of, self.home.root(), place));
                if says.is_some_and(|says| !self.writes(setting) && self.kept(setting).overrules(&says)) {
                    variables.extend(setting.overrule.clone());
                }
                if self.answer(rule.of, &root, setting) != SettingAnswer::Silent {
                    break;
                }
            }
        }
        variables
    }

    /// Returns the agent definition as it is for the installed version and this home.
    pub fn fitted(&self) -> AgentDefinition {
        self.agent.clone().for_version(self.version().and_then(Result::ok), self.overruling())
    }

    /// Returns the file that keeps a profile from being served, if the installed version knows it.
    pub fn park(&self) -> Option<&str> {
        self.agent.topology.park_for(self.version().and_then(Result::ok))
    }

    fn read_config(&self, of: SettingsOwner, home: &Path, file: &str) -> ReadConfig {
        if of == SettingsOwner::Profile {
            return read_config(&home.join(file));
        }
        let mut server = self.server.borrow_mut();
        server.entry(file.to_owned()).or_insert_with(|| read_config(&home.join(file))).clone()
    }

    /// Returns the answer of a variable. As for the agents, a word that is neither yes nor no is no
    /// answer.
    fn variable_says(&self, owner: &ProfileName, variable: &str) -> SettingAnswer {
        let value = self.in_files(owner, variable).or_else(|| self.in_environment(variable));
        let word = value.as_ref().and_then(|value| value.to_str());
        word.and_then(config::word_says).unwrap_or(SettingAnswer::Silent)
    }

    fn in_environment(&self, variable: &str) -> Option<OsString> {
        match &self.known {
            Some(known) if !self.at_boot => known.variables.get(variable).map(OsString::from),
            _ => (self.variable)(variable),
        }
    }

    fn in_files(&self, owner: &ProfileName, variable: &str) -> Option<OsString> {
        let home_variable = self.agent.home_variable();
        let placeholders = Placeholders::new(owner, &home_variable);
        let home = self.home.root();
        let lookup = |name: &str| (name == home_variable).then(|| home.as_os_str().to_owned());
        let files = self.agent.gateway.environment_files.iter().rev().filter_map(|template| {
            gatevisor_slot::expand(&fill(template, &placeholders).ok()?, &lookup).ok()
        });
        let read = |file: OsString| read_bounded(Path::new(&file), ENVIRONMENT_BYTES).ok().flatten();
        files.filter_map(read).find_map(|bytes| {
            let values = dotenv::parse(&bytes);
            values.into_iter().rev().find(|(name, _)| name == variable).map(|(_, value)| value)
        })
    }

    fn find_version(&self) -> Result<ProgramVersion, String> {
        let Some(definition) = &self.agent.topology.version else {
            return Err("nothing says how to find the version".to_owned());
        };
        let Some(program) = self.installed() else {
            return Err(format!("the program `{}` is not found", definition.program));
        };
        if let Some(version) = program::beside(definition, program) {
            return Ok(version);
        }
        let is_known = |known: &&KnownTopology| {
            known.program.as_deref() == Some(program) && known.identity == program::identity(program)
        };
        let kept = self.known.as_ref().filter(is_known).and_then(|known| known.version.as_deref());
        match kept.and_then(ProgramVersion::find) {
            Some(version) => Ok(version),
            None if self.asks => {
                program::ask(definition, program, (&self.agent.home_variable(), self.home.root()))
            }
            None => Err(format!("nothing beside `{}` tells its version", program.display())),
        }
    }

    /// Returns the installed program: the one that the supervisor has found, or would find.
    pub fn installed(&self) -> Option<&Path> {
        self.program.get_or_init(|| self.find_program()).as_deref()
    }

    fn find_program(&self) -> Option<PathBuf> {
        if !self.at_boot
            && let Some(program) = self.known.as_ref().and_then(|known| known.program.clone())
        {
            return Some(program);
        }
        let gateway = &self.agent.gateway;
        let has_default = self.agent.default_profile.gateway;
        let command = if has_default { &gateway.command_default } else { &gateway.command_named };
        let version = self.agent.topology.version.as_ref();
        let program = version.map(|version| &version.program).or_else(|| command.first())?;
        let named = gatevisor_slot::expand(program, &*self.variable).ok()?;
        let found = program::locate(&named, (self.variable)("PATH").as_deref())?;
        let own = gatevisor_sys::process::own_program().ok().and_then(|own| program::identity(&own));
        match &self.agent.container.program {
            // In a container, the agent's name is a link to this program.
            Some(behind) if own.is_some() && own == program::identity(&found) => Some(behind.into()),
            _ => Some(found),
        }
    }

    /// Returns what is to be kept for commands and for the next supervisor.
    pub(crate) fn to_keep<'b>(
        &self,
        profiles: impl Iterator<Item = (&'b ProfileName, ServedFrom)>,
    ) -> KnownTopology {
        let topology = &self.agent.topology;
        let program = topology.version.as_ref().and_then(|_| self.installed());
        let asked = topology.rules.iter().flat_map(|rule| &rule.when);
        let variables = asked.filter_map(|setting| setting.variable.as_ref()).filter_map(|name| {
            let value = (self.variable)(name)?.into_string().ok()?;
            (value.len() <= KEPT_BYTES).then(|| (name.clone(), value))
        });
        let profiles = profiles.filter(|_| !topology.rules.is_empty());
        let settings = self
            .written_settings()
            .map(|(setting, answer)| (setting.id(), self.kept(setting).after(self.writes(setting), &answer)));
        KnownTopology {
            program: program.map(Path::to_owned),
            // If the identity is that of another program, the version is asked for again.
            identity: match &self.known {
                Some(known) if program.is_some() && self.is_recalled() => known.identity.clone(),
                _ => program.and_then(program::identity),
            },
            version: self.version().and_then(Result::ok).map(ToString::to_string),
            variables: variables.collect(),
            profiles: profiles.map(|(name, from)| (name.to_string(), from)).collect(),
            settings: settings.collect(),
        }
    }
}

/// Returns the definition as it is for the version of the agent that a home is used with, and for
/// that home.
pub fn of_installed(agent: &AgentDefinition, home: &Home) -> AgentDefinition {
    TopologyReader::new(agent, home).fitted()
}

fn read_config(path: &Path) -> ReadConfig {
    match read_bounded(path, config::MAX_BYTES) {
        Ok(Some(bytes)) => config::read(&bytes),
        Ok(None) => Ok(ConfigValue::Null),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

fn file_says(path: &Path) -> SettingAnswer {
    match by_path::look_itself(path) {
        Ok(_) => SettingAnswer::Says(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => SettingAnswer::Silent,
        Err(error) => SettingAnswer::Unknown(format!("`{}` cannot be looked at: {error}", path.display())),
    }
}

fn blamed(home: &Path, file: &str, why: &str) -> String {
    format!("`{}` {why}", home.join(file).display())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A home, and a place for a program whose version is known by what is beside it.
    struct Place {
        dir: tempfile::TempDir,
        agent: AgentDefinition,
        home: Home,
    }

    const MULTIPLEX: &str = "GATEWAY_MULTIPLEX_PROFILES";
    const WRITTEN: &str = "gateway:\n  multiplex_profiles: true\n";

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (bin, home) = (dir.path().join("bin"), dir.path().join("home"));
            fs::create_dir_all(&bin).unwrap();
            fs::create_dir_all(&home).unwrap();
            fs::write(bin.join("hermes"), "").unwrap();
            fs::set_permissions(bin.join("hermes"), fs::Permissions::from_mode(0o755)).unwrap();
            let agent = AgentDefinition::built_in().unwrap();
            let home = Home::resolve(Some(&home), &agent, &|_| None).unwrap();
            Self { dir, agent, home }
        }

        fn config(&self, text: &str) {
            fs::write(self.home.root().join("config.yaml"), text).unwrap();
        }

        /// Installs a version, begins as a supervisor does, and returns which gateway serves coder,
        /// and what gateways are told of serving all.
        fn boot(&self, version: &str) -> (ServedFrom, Option<String>) {
            let packages = self.dir.path().join("lib/python3.11/site-packages");
            let _ = fs::remove_dir_all(&packages);
            fs::create_dir_all(packages.join(format!("hermes_agent-{version}.dist-info"))).unwrap();
            let program = self.dir.path().join("bin/hermes");
            let variable = |name: &str| (name == "HERMES_BIN").then(|| program.clone().into_os_string());
            let topology = TopologyReader::at_boot(&self.agent, &self.home, &variable);
            let coder: ProfileName = "coder".parse().unwrap();
            let decided = topology.decide(&coder);
            assert_eq!(decided.problem, None);
            let told = topology.fitted().gateway.environment.get(MULTIPLEX).cloned();
            topology.to_keep([(&coder, decided.from)].into_iter()).keep(self.home.root()).unwrap();
            // A command finds what the supervisor found.
            let command = TopologyReader::new(&self.agent, &self.home);
            assert_eq!(command.decide(&coder).from, decided.from);
            assert_eq!(command.fitted().gateway.environment.get(MULTIPLEX), told.as_ref());
            (decided.from, told)
        }
    }

    #[test]
    fn what_a_newer_version_wrote_by_itself_takes_no_gateway_from_a_profile_after_the_way_back() {
        use ServedFrom::{Own, Server};
        let place = Place::new();
        let off = || Some("false".to_owned());
        assert_eq!(place.boot("0.19.0"), (Own, None));
        assert_eq!(place.boot("0.22.2"), (Server, None));
        place.config(WRITTEN);
        for _ in 0..2 {
            assert_eq!(place.boot("0.22.2"), (Server, None));
            assert_eq!(place.boot("0.19.0"), (Own, off()));
            assert_eq!(place.boot("0.19.0"), (Own, off()));
        }
        // Somebody takes the line away and asks for it again.
        place.config("");
        assert_eq!(place.boot("0.19.0"), (Own, None));
        place.config(WRITTEN);
        assert_eq!(place.boot("0.19.0"), (Server, None));
        assert_eq!(place.boot("0.22.2"), (Server, None));
        assert_eq!(place.boot("0.19.0"), (Server, None));
    }

    #[test]
    fn what_the_operator_said_in_another_place_counts_after_the_way_back() {
        let place = Place::new();
        place.config(WRITTEN);
        assert_eq!(place.boot("0.22.2"), (ServedFrom::Server, None));
        place.config(&format!("multiplex_profiles: true\n{WRITTEN}"));
        assert_eq!(place.boot("0.19.0"), (ServedFrom::Server, None));
        fs::write(place.home.root().join(".env"), format!("{MULTIPLEX}=on\n")).unwrap();
        place.config(WRITTEN);
        assert_eq!(place.boot("0.19.0"), (ServedFrom::Server, None));
    }

    #[test]
    fn a_version_that_cannot_be_found_is_the_one_that_was_known_last_and_is_looked_for_again() {
        let place = Place::new();
        assert_eq!(place.boot("0.22.2").0, ServedFrom::Server);
        let known = KnownTopology::read(place.home.root()).unwrap();
        // Another program that hides its version takes its place.
        fs::remove_dir_all(place.dir.path().join("lib")).unwrap();
        let program = place.dir.path().join("bin/hermes");
        fs::write(&program, "#!/bin/sh\nexit 1\n").unwrap();
        let variable = |name: &str| (name == "HERMES_BIN").then(|| program.clone().into_os_string());
        for _ in 0..2 {
            let topology = TopologyReader::at_boot(&place.agent, &place.home, &variable);
            assert_eq!(topology.version().unwrap().unwrap().to_string(), "0.22.2");
            let new: ProfileName = "new".parse().unwrap();
            let decided = topology.decide(&new);
            assert_eq!(decided.from, ServedFrom::Server);
            assert!(decided.problem.unwrap().contains("ended with exit 1"));
            assert_eq!(topology.fitted().gateway.fail_codes, [0, 78]);
            topology.to_keep([].into_iter()).keep(place.home.root()).unwrap();
            let kept = KnownTopology::read(place.home.root()).unwrap();
            assert_eq!((kept.version, kept.identity), (known.version.clone(), known.identity.clone()));
        }
        place.boot("0.19.0");
        assert_eq!(KnownTopology::read(place.home.root()).unwrap().version.as_deref(), Some("0.19.0"));
    }

    #[test]
    fn a_version_that_is_recalled_is_no_fact_about_the_program_of_an_agent_without_rules() {
        let dir = tempfile::tempdir().unwrap();
        let text = crate::agent::SMALL.to_owned()
            + "[topology.version]\nprogram = \"${AGENT_BIN:-agent}\"\npackages = [\"package.json\"]\n";
        let agent: AgentDefinition = text.parse().unwrap();
        let (root, program) = (dir.path().join("home"), dir.path().join("agent"));
        fs::create_dir_all(&root).unwrap();
        let install = |text: &str| {
            let _ = fs::remove_file(&program);
            fs::write(&program, text).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let home = Home::resolve(Some(&root), &agent, &|_| None).unwrap();
        let variable = |name: &str| (name == "AGENT_BIN").then(|| program.clone().into_os_string());
        let boot = || {
            let topology = TopologyReader::at_boot(&agent, &home, &variable);
            topology.to_keep([].into_iter()).keep(home.root()).unwrap();
            KnownTopology::read(home.root()).unwrap()
        };
        install("one");
        fs::write(dir.path().join("package.json"), "{\"version\": \"1.2.3\"}").unwrap();
        let known = boot();
        assert_eq!(known.version.as_deref(), Some("1.2.3"));
        fs::remove_file(dir.path().join("package.json")).unwrap();
        install("another");
        for _ in 0..2 {
            assert_eq!(boot(), known, "nothing is known of the other program");
        }
        let looked = TopologyReader::of_environment(&agent, &home, true, false);
        assert!(looked.version().unwrap().is_err(), "{:?}", looked.version());
    }

    #[test]
    fn a_version_that_takes_nobody_out_does_not_do_so() {
        let place = Place::new();
        place.boot("0.19.0");
        assert_eq!(TopologyReader::new(&place.agent, &place.home).park(), None);
        place.boot("0.22.2");
        assert_eq!(TopologyReader::new(&place.agent, &place.home).park(), Some("gateway.parked"));
    }
}
