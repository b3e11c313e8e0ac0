//! *Lives here:* the decision which gateway serves a profile, from the rules and the facts. No I/O.
//!
//! *Does not live here:* the facts (`look`).

use super::version::ProgramVersion;
use crate::agent::{ServedFrom, SettingDefinition, SettingsOwner, TopologyDefinition, TopologyRule};

/// What a setting means for a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingAnswer {
    /// Yes or no.
    Says(bool),
    /// No answer, so the next setting counts.
    Silent,
    /// It is unknown, for this reason.
    Unknown(String),
}

/// The decision about a profile, and what was unknown for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DecidedProfile {
    /// The gateway that serves it now.
    pub from: ServedFrom,
    /// The gateway that served it until now, if that is known.
    pub last: Option<ServedFrom>,
    /// The change of whether another gateway serves the profile, which must be made first.
    pub park: Option<ParkChange>,
    /// What was unknown. The last known decision counts then, if there is one.
    pub problem: Option<String>,
}

/// A change of the file that keeps a profile from being served by another gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkChange {
    /// The file is made.
    Out,
    /// The file is removed.
    Back,
}

impl DecidedProfile {
    /// Returns as text which decision counts if something is unknown.
    pub const fn guess(&self) -> &'static str {
        match self.last {
            Some(_) => "as it was known last",
            None => "as if that were not set, because nothing was known before",
        }
    }

    /// Returns the decision if the serving gateway reports that it has served the profile since.
    /// That is newer than the facts of the start of the supervisor.
    #[must_use]
    pub fn served_since(self) -> Self {
        Self { last: Some(ServedFrom::Server), ..self }
    }

    /// Returns the decision with what the desired state makes of it.
    ///
    /// A profile that had a gateway of its own until now comes to the gateway that serves others as
    /// it was: one that was desired stopped is taken out, and one that was desired running is put
    /// back, although it was taken out once.
    #[must_use]
    pub fn with_desired(self, starts: bool, is_stopped: bool) -> Self {
        if self.last != Some(ServedFrom::Own) {
            return self;
        }
        match self.from {
            ServedFrom::Server if is_stopped => {
                Self { from: ServedFrom::Nobody, park: Some(ParkChange::Out), ..self }
            }
            ServedFrom::Nobody if starts => {
                Self { from: ServedFrom::Server, park: Some(ParkChange::Back), ..self }
            }
            _ => self,
        }
    }
}

/// Returns which gateway serves a profile.
///
/// A setting that cannot be read leaves open what the rules would say, and so does a version that
/// is unknown. Then the decision that counted last counts on: nothing is started twice because a
/// file is broken. Without one, the rules decide as if the setting were not there; of an unknown
/// version, those that are for all versions.
pub fn decide(
    topology: &TopologyDefinition,
    version: Result<&ProgramVersion, &str>,
    last: Option<ServedFrom>,
    answer: &dyn Fn(SettingsOwner, &SettingDefinition) -> SettingAnswer,
) -> DecidedProfile {
    let decided = |from, problem| DecidedProfile { from, last, problem, park: None };
    let mut problem = None;
    for rule in &topology.rules {
        match (&rule.versions, version) {
            (Some(range), Ok(version)) if !range.holds(version) => continue,
            (Some(_), Err(why)) => {
                problem.get_or_insert_with(|| why.to_owned());
                continue;
            }
            _ => {}
        }
        match (applies(rule, answer, &mut problem), last) {
            (None, Some(last)) => return decided(last, problem),
            (Some(true), _) => return decided(last_if(problem.as_ref(), last, rule.then), problem),
            (None | Some(false), _) => {}
        }
    }
    decided(last_if(problem.as_ref(), last, ServedFrom::default()), problem)
}

/// Returns the decision for the root profile, whose own gateway always serves it. Its problem is
/// what is unknown for all other profiles, independent of their own settings.
pub(super) fn decide_root(
    topology: &TopologyDefinition,
    version: Result<&ProgramVersion, &str>,
    answer: &dyn Fn(SettingsOwner, &SettingDefinition) -> SettingAnswer,
) -> DecidedProfile {
    let of_any = |of, setting: &SettingDefinition| match of {
        SettingsOwner::Server => answer(of, setting),
        SettingsOwner::Profile => SettingAnswer::Silent,
    };
    let problem = decide(topology, version, None, &of_any).problem;
    DecidedProfile { problem, ..DecidedProfile::default() }
}

/// Returns the last known decision if there is a problem, or else the new one.
fn last_if(problem: Option<&String>, last: Option<ServedFrom>, decided: ServedFrom) -> ServedFrom {
    last.filter(|_| problem.is_some()).unwrap_or(decided)
}

/// Returns whether a rule applies; `None` with the reason if a setting of it is unknown and no
/// other setting decides.
fn applies(
    rule: &TopologyRule,
    answer: &dyn Fn(SettingsOwner, &SettingDefinition) -> SettingAnswer,
    problem: &mut Option<String>,
) -> Option<bool> {
    let mut is_open = false;
    for setting in &rule.when {
        match answer(rule.of, setting) {
            // Later settings count only if no earlier one is unknown.
            SettingAnswer::Says(applies) => return (!is_open).then_some(applies),
            SettingAnswer::Silent => {}
            SettingAnswer::Unknown(why) => {
                problem.get_or_insert(why);
                is_open = true;
            }
        }
    }
    (!is_open).then_some(rule.when.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::AgentDefinition;

    /// Settings, each as `server` or `profile`, what it is, and what it says.
    type Settings<'a> = &'a [(SettingsOwner, &'a str, SettingAnswer)];

    fn shown(setting: &SettingDefinition) -> String {
        match (&setting.variable, &setting.file, &setting.key) {
            (Some(variable), ..) => variable.clone(),
            (None, Some(_), Some(key)) => key.clone(),
            (None, file, None) => file.clone().unwrap_or_default(),
            (None, None, Some(_)) => panic!("a key without a file"),
        }
    }

    fn decided(version: Option<&str>, last: Option<ServedFrom>, settings: Settings<'_>) -> DecidedProfile {
        let topology = AgentDefinition::built_in().unwrap().topology;
        let version = version.and_then(ProgramVersion::find);
        let version = version.as_ref().ok_or("the version is unknown");
        decide(&topology, version, last, &|of, setting| {
            let found = settings.iter().find(|(owner, name, _)| *owner == of && *name == shown(setting));
            found.map_or(SettingAnswer::Silent, |(.., answer)| answer.clone())
        })
    }

    const ENVIRONMENT: &str = "GATEWAY_MULTIPLEX_PROFILES";
    const TOP: &str = "multiplex_profiles";
    const NESTED: &str = "gateway.multiplex_profiles";
    const STANDALONE: &str = "gateway.standalone";
    const PARKED: &str = "gateway.parked";

    #[test]
    fn the_version_and_the_settings_decide_which_gateway_serves_a_named_profile() {
        use ServedFrom::{Nobody, Own, Server};
        use SettingsOwner::{Profile, Server as Root};
        let (yes, no) = (SettingAnswer::Says(true), SettingAnswer::Says(false));
        let table: [(&str, Settings<'_>, ServedFrom, ServedFrom); 14] = [
            ("nothing is set", &[], Own, Server),
            ("environment: yes", &[(Root, ENVIRONMENT, yes.clone())], Server, Server),
            ("environment: no", &[(Root, ENVIRONMENT, no.clone())], Own, Server),
            ("YAML: yes", &[(Root, TOP, yes.clone())], Server, Server),
            ("nested YAML: yes", &[(Root, NESTED, yes.clone())], Server, Server),
            ("nested YAML: no", &[(Root, NESTED, no.clone())], Own, Server),
            (
                "environment before YAML",
                &[(Root, ENVIRONMENT, no.clone()), (Root, TOP, yes.clone()), (Root, NESTED, yes.clone())],
                Own,
                Server,
            ),
            ("YAML before nested YAML", &[(Root, TOP, no.clone()), (Root, NESTED, yes.clone())], Own, Server),
            // Neither version knows a list of profiles that are served.
            ("allow-list", &[(Root, "gateway.multiplex_profile_allowlist", no.clone())], Own, Server),
            ("standalone", &[(Profile, STANDALONE, yes.clone())], Own, Own),
            ("standalone: no", &[(Profile, STANDALONE, no)], Own, Server),
            (
                "mixed: all, and one standalone",
                &[(Root, NESTED, yes.clone()), (Profile, STANDALONE, yes.clone())],
                Server,
                Own,
            ),
            ("parked", &[(Profile, PARKED, yes.clone())], Own, Nobody),
            // It has its own gateway, which nobody parks.
            (
                "parked and standalone",
                &[(Profile, PARKED, yes.clone()), (Profile, STANDALONE, yes)],
                Own,
                Own,
            ),
        ];
        for (what, settings, old, new) in table {
            for (version, expected) in [("0.19.0", old), ("0.22.2", new)] {
                let found = decided(Some(version), None, settings);
                assert_eq!((found.from, found.problem), (expected, None), "{version}: {what}");
            }
        }
    }

    #[test]
    fn where_a_setting_cannot_be_read_what_was_known_last_counts() {
        use ServedFrom::{Own, Server};
        let broken = SettingAnswer::Unknown("config.yaml is not YAML".to_owned());
        let root = (SettingsOwner::Server, TOP, broken.clone());
        let profile = (SettingsOwner::Profile, STANDALONE, broken);
        for (version, setting) in [("0.19.0", root), ("0.22.2", profile)] {
            for last in [None, Some(Own), Some(Server)] {
                let found = decided(Some(version), last, std::slice::from_ref(&setting));
                let problem = Some("config.yaml is not YAML".to_owned());
                // Nobody knows a profile that is new: as if the file were empty.
                let empty = if version == "0.19.0" { Own } else { Server };
                assert_eq!((found.from, found.problem), (last.unwrap_or(empty), problem), "{version}");
            }
        }
        // What is not asked does not matter.
        let unasked = (SettingsOwner::Server, TOP, SettingAnswer::Unknown("x".to_owned()));
        assert_eq!(decided(Some("0.22.2"), None, &[unasked]).problem, None);
    }

    #[test]
    fn the_root_profile_serves_itself_and_is_said_not_to_know_whether_it_serves_the_others() {
        use SettingsOwner::{Profile, Server};
        let topology = AgentDefinition::built_in().unwrap().topology;
        let (old, new) = (ProgramVersion::find("0.19.0").unwrap(), ProgramVersion::find("0.22.2").unwrap());
        for (version, broken, expected) in [
            (Ok(&old), Some((Server, TOP)), Some("broken")),
            (Ok(&old), None, None),
            // This version does not ask for it.
            (Ok(&new), Some((Server, TOP)), None),
            // Settings of its own say nothing of the others.
            (Ok(&new), Some((Profile, STANDALONE)), None),
            (Err("unknown"), None, Some("unknown")),
        ] {
            let decided = decide_root(&topology, version, &|of, setting| match broken {
                Some((owner, name)) if owner == of && name == shown(setting) => {
                    SettingAnswer::Unknown("broken".to_owned())
                }
                _ => SettingAnswer::Silent,
            });
            let expected =
                DecidedProfile { problem: expected.map(str::to_owned), ..DecidedProfile::default() };
            assert_eq!(decided, expected, "{version:?} {broken:?}");
        }
    }

    #[test]
    fn a_profile_that_had_its_own_gateway_comes_to_that_of_all_as_it_was_desired() {
        use ParkChange::{Back, Out};
        use ServedFrom::{Nobody, Own, Server};
        let (run, stop, none) = ((true, false), (false, true), (false, false));
        for (last, from, (starts, is_stopped), expected) in [
            (Some(Own), Server, run, (Server, None)),
            (Some(Own), Server, stop, (Nobody, Some(Out))),
            (Some(Own), Server, none, (Server, None)),
            (Some(Own), Nobody, run, (Server, Some(Back))),
            (Some(Own), Nobody, stop, (Nobody, None)),
            (Some(Own), Own, stop, (Own, None)),
            // Whoever was served or taken out already has said so to the agent itself.
            (Some(Server), Server, stop, (Server, None)),
            (Some(Nobody), Nobody, run, (Nobody, None)),
            (None, Server, stop, (Server, None)),
        ] {
            let decided = DecidedProfile { from, last, ..DecidedProfile::default() };
            let found = decided.with_desired(starts, is_stopped);
            assert_eq!((found.from, found.park), expected, "{last:?} {from:?} {starts} {is_stopped}");
        }
    }

    #[test]
    fn a_profile_that_was_served_before_the_boot_stays_served_although_its_own_gateway_was_stopped() {
        let decided =
            DecidedProfile { from: ServedFrom::Server, last: Some(ServedFrom::Own), ..Default::default() };
        let found = decided.served_since().with_desired(false, true);
        assert_eq!((found.from, found.park), (ServedFrom::Server, None));
    }

    #[test]
    fn a_version_that_is_unknown_is_said_and_what_was_known_last_counts() {
        let found = decided(None, Some(ServedFrom::Server), &[]);
        assert_eq!(found.from, ServedFrom::Server);
        assert_eq!(found.problem.as_deref(), Some("the version is unknown"));
        assert_eq!(decided(None, None, &[]).from, ServedFrom::Own);
        // What counts for all versions counts still.
        let settings = [(SettingsOwner::Server, ENVIRONMENT, SettingAnswer::Says(true))];
        assert_eq!(decided(None, None, &settings).from, ServedFrom::Server);
    }
}
