//! *Lives here:* the decision what becomes of each profile at boot. No I/O, no clock.
//!
//! *Does not live here:* gathering the facts, and carrying the plan out.

use std::collections::HashSet;

use super::role::ContainerRole;
use super::{ProfileAction, ReconciledProfile};
use crate::agent::ServedFrom;
use crate::desired::Prior;
use crate::profile::{DEFAULT, ProfileName};
use crate::topology::{DecidedProfile, ParkChange};

/// The facts that a plan is made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and any of them may hold")]
pub struct ReconcileFacts {
    /// What the container is for.
    pub role: ContainerRole,
    /// Whether the gateways of the home run in another container.
    pub elsewhere: bool,
    /// Whether the environment declines the supervisor.
    pub declined: bool,
    /// Whether the root profile has a gateway at all.
    pub root_gateway: bool,
    /// Whether the root profile has a state file, whatever is in it.
    pub root_state_exists: bool,
    /// What the root profile's state file says.
    pub root: PriorFact,
    /// The other profiles, sorted by name.
    pub profiles: Vec<FoundProfile>,
    /// Slots of gateways that are in the scandir.
    pub slots: Vec<String>,
    /// Leftovers of killed processes in the scandir.
    pub leftovers: Vec<String>,
}

/// What a state file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PriorFact {
    /// It says this, or there is no file.
    Says(Prior),
    /// It is not JSON, which counts as saying nothing.
    Garbled(String),
    /// It is something that no agent ever writes, for this reason.
    Broken(String),
}

impl PriorFact {
    /// Returns the decision with what this desired state makes of it.
    pub fn applied_to(&self, decided: DecidedProfile) -> DecidedProfile {
        match self {
            Self::Says(prior) => decided.with_desired(prior.starts(), prior.is_stopped()),
            Self::Garbled(_) | Self::Broken(_) => decided,
        }
    }
}

impl Default for PriorFact {
    fn default() -> Self {
        Self::Says(Prior::None)
    }
}

/// A directory among the profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundProfile {
    /// A profile, what its state file says, and which gateway serves it.
    Profile(ProfileName, PriorFact, DecidedProfile),
    /// A directory whose name, shown here, is no profile's, for this reason.
    Misnamed(String, String),
}

impl FoundProfile {
    /// Returns which gateway serves it, where it is a profile.
    pub const fn decided(&self) -> Option<(&ProfileName, &DecidedProfile)> {
        match self {
            Self::Profile(name, _, decided) => Some((name, decided)),
            Self::Misnamed(..) => None,
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReconcilePlan {
    /// Nothing, in a container without gateways.
    NoGateways {
        /// The reason, for people.
        why: String,
    },
    /// These steps.
    Act(ReconcileSteps),
}

/// The steps of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReconcileSteps {
    /// Whether the desired state of an old-style container command is recorded first.
    pub migrate: bool,
    /// What becomes of each profile, the root profile first.
    pub actions: Vec<ReconciledProfile>,
    /// Entries of the scandir to remove.
    pub sweep: Vec<String>,
}

/// Returns what is to be done, given the facts.
///
/// **Source:** REC-2 to REC-11; L-1, L-21.
pub fn plan(facts: &ReconcileFacts) -> ReconcilePlan {
    if facts.role == ContainerRole::NoGateways {
        // REC-2: there is no slot at all, not even the root profile's.
        let why = "skipping: this is a dashboard container, which needs no profile gateways".to_owned();
        return ReconcilePlan::NoGateways { why };
    }
    let migrate = facts.root_gateway
        && facts.role == ContainerRole::FormerGateway
        && !facts.root_state_exists
        && !facts.elsewhere
        && !facts.declined;
    let root = facts.root_gateway.then(|| root(facts, migrate));
    let named = facts.profiles.iter().map(named);
    let here = |action: ReconciledProfile| if facts.elsewhere { left_alone(action) } else { action };
    let actions: Vec<ReconciledProfile> = root.into_iter().chain(named).map(here).collect();
    let live = actions.iter().filter(|action| action.action != ProfileAction::Skipped);
    let kept: HashSet<String> = live.filter_map(|a| Some(a.name.as_ref()?.service_entry())).collect();
    let vanished = facts.slots.iter().filter(|slot| !kept.contains(*slot));
    let sweep = facts.leftovers.iter().chain(vanished).cloned().collect();
    ReconcilePlan::Act(ReconcileSteps { migrate, actions, sweep })
}

/// A gateway that would be started runs in another container, or will be started there.
///
/// **Source:** L-23.
fn left_alone(action: ReconciledProfile) -> ReconciledProfile {
    match action.action {
        ProfileAction::Started => ReconciledProfile {
            action: ProfileAction::Registered,
            reason: Some("another container runs the gateways of this home".to_owned()),
            ..action
        },
        ProfileAction::Registered | ProfileAction::Skipped => action,
    }
}

/// Plans the gateway of the root profile, which always has a slot. Starts it if it should run, or
/// if a profile that it serves should run. An invalid state file of its own then does not matter.
fn root(facts: &ReconcileFacts, migrate: bool) -> ReconciledProfile {
    let (prior, reason) = match &facts.root {
        _ if migrate => (Prior::State("running".to_owned()), None),
        PriorFact::Says(prior) => (prior.clone(), None),
        PriorFact::Garbled(reason) | PriorFact::Broken(reason) => (Prior::None, Some(reason.clone())),
    };
    let folded: Vec<&str> = facts.profiles.iter().filter_map(wants_server).collect();
    let for_others = (!folded.is_empty() && !prior.starts())
        .then(|| format!("it serves {}, which shall run", folded.join(", ")));
    let starts = prior.starts() || for_others.is_some();
    ReconciledProfile {
        profile: DEFAULT.to_owned(),
        name: Some(ProfileName::root()),
        action: if starts { ProfileAction::Started } else { ProfileAction::Registered },
        prior_state: prior.word().map(str::to_owned),
        reason: for_others.or(reason),
        park: None,
    }
}

/// Returns the name of a profile that shall run and that the root profile's gateway serves.
fn wants_server(profile: &FoundProfile) -> Option<&str> {
    match profile {
        FoundProfile::Profile(name, PriorFact::Says(prior), decided)
            if prior.starts() && decided.from == ServedFrom::Server =>
        {
            Some(name.as_str())
        }
        FoundProfile::Profile(..) | FoundProfile::Misnamed(..) => None,
    }
}

fn named(fact: &FoundProfile) -> ReconciledProfile {
    match fact {
        FoundProfile::Misnamed(shown, reason) => ReconciledProfile {
            profile: shown.clone(),
            name: None,
            prior_state: None,
            action: ProfileAction::Skipped,
            reason: Some(reason.clone()),
            park: None,
        },
        FoundProfile::Profile(name, fact, decided) => {
            let (prior, action, reason) = match fact {
                PriorFact::Says(prior) if prior.starts() => {
                    let (action, reason) = of_one_that_shall_run(decided.from);
                    (prior.word(), action, reason)
                }
                PriorFact::Says(prior) => {
                    let why = (decided.park == Some(ParkChange::Out))
                        .then(|| format!("it is taken out of those that {DEFAULT} serves"));
                    (prior.word(), ProfileAction::Registered, why)
                }
                PriorFact::Garbled(reason) => (None, ProfileAction::Registered, Some(reason.clone())),
                PriorFact::Broken(reason) => (None, ProfileAction::Skipped, Some(reason.clone())),
            };
            ReconciledProfile {
                profile: name.to_string(),
                name: Some(name.clone()),
                prior_state: prior.map(str::to_owned),
                action,
                reason,
                park: decided.park,
            }
        }
    }
}

/// Returns what becomes of a profile that shall run.
fn of_one_that_shall_run(from: ServedFrom) -> (ProfileAction, Option<String>) {
    match from {
        ServedFrom::Own => (ProfileAction::Started, None),
        ServedFrom::Server => {
            (ProfileAction::Registered, Some(format!("the gateway of {DEFAULT} serves it")))
        }
        ServedFrom::Nobody => {
            (ProfileAction::Registered, Some("it was taken out of those that are served".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts() -> ReconcileFacts {
        ReconcileFacts { root_gateway: true, ..ReconcileFacts::default() }
    }

    fn says(word: &str) -> PriorFact {
        PriorFact::Says(Prior::State(word.to_owned()))
    }

    fn profile(name: &str, fact: PriorFact) -> FoundProfile {
        FoundProfile::Profile(name.parse().unwrap(), fact, DecidedProfile::default())
    }

    fn from(name: &str, word: &str, from: ServedFrom) -> FoundProfile {
        let decided = DecidedProfile { from, ..DecidedProfile::default() };
        FoundProfile::Profile(name.parse().unwrap(), says(word), decided)
    }

    #[track_caller]
    fn check(facts: &ReconcileFacts, expected: &str) {
        let text = match plan(facts) {
            ReconcilePlan::NoGateways { .. } => "no gateways".to_owned(),
            ReconcilePlan::Act(steps) => {
                let migrate = steps.migrate.then(|| "migrate".to_owned());
                let actions = steps.actions.iter().map(ToString::to_string);
                let sweep = steps.sweep.iter().map(|entry| format!("sweep {entry}"));
                migrate.into_iter().chain(actions).chain(sweep).collect::<Vec<_>>().join("\n")
            }
        };
        let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(text, expected.join("\n"));
    }

    #[test]
    fn gateways_that_run_in_another_container_are_left_alone() {
        let expected = ReconcileFacts {
            root: says("running"),
            profiles: vec![profile("a", says("running")), profile("b", says("stopped"))],
            ..facts()
        };
        check(
            &ReconcileFacts { elsewhere: true, ..expected },
            "profile=default prior_state=running action=registered reason=another container runs the gateways of this home
             profile=a prior_state=running action=registered reason=another container runs the gateways of this home
             profile=b prior_state=stopped action=registered",
        );
        let former = ReconcileFacts { role: ContainerRole::FormerGateway, elsewhere: true, ..facts() };
        check(&former, "profile=default prior_state=None action=registered");
    }

    #[test]
    fn an_empty_home_has_the_root_profiles_slot_and_it_is_down() {
        check(&facts(), "profile=default prior_state=None action=registered");
    }

    #[test]
    fn exactly_those_that_were_running_are_started() {
        let profiles = ["running", "stopped", "starting", "startup_failed", "Running"];
        let profiles = profiles.iter().map(|word| profile(&word.to_lowercase(), says(word))).collect();
        check(
            &ReconcileFacts { root: says("running"), profiles, ..facts() },
            "profile=default prior_state=running action=started
             profile=running prior_state=running action=started
             profile=stopped prior_state=stopped action=registered
             profile=starting prior_state=starting action=registered
             profile=startup_failed prior_state=startup_failed action=registered
             profile=running prior_state=Running action=registered",
        );
    }

    #[test]
    fn a_broken_profile_is_skipped_and_stops_no_other() {
        let broken = PriorFact::Broken("it is a list".to_owned());
        let profiles = vec![
            FoundProfile::Misnamed("Bad".to_owned(), "upper case".to_owned()),
            profile("alpha", broken.clone()),
            profile("beta", PriorFact::Garbled("not JSON".to_owned())),
            profile("gamma", says("running")),
        ];
        check(
            &ReconcileFacts { root: broken, profiles, ..facts() },
            "profile=default prior_state=None action=registered reason=it is a list
             profile=Bad prior_state=None action=skipped reason=upper case
             profile=alpha prior_state=None action=skipped reason=it is a list
             profile=beta prior_state=None action=registered reason=not JSON
             profile=gamma prior_state=running action=started",
        );
    }

    #[test]
    fn a_profile_that_the_root_profiles_gateway_serves_starts_that_and_not_its_own() {
        use ServedFrom::{Nobody, Own, Server};
        let profiles = vec![
            from("alone", "running", Own),
            from("coder", "running", Server),
            from("parked", "running", Nobody),
            from("quiet", "stopped", Server),
            from("writer", "running", Server),
        ];
        let rest = "profile=alone prior_state=running action=started
             profile=coder prior_state=running action=registered reason=the gateway of default serves it
             profile=parked prior_state=running action=registered reason=it was taken out of those that are served
             profile=quiet prior_state=stopped action=registered
             profile=writer prior_state=running action=registered reason=the gateway of default serves it";
        let because = "action=started reason=it serves coder, writer, which shall run";
        for (root, line) in [
            (says("running"), "profile=default prior_state=running action=started".to_owned()),
            (says("stopped"), format!("profile=default prior_state=stopped {because}")),
            (PriorFact::default(), format!("profile=default prior_state=None {because}")),
            (PriorFact::Broken("a list".to_owned()), format!("profile=default prior_state=None {because}")),
        ] {
            let facts = ReconcileFacts { root, profiles: profiles.clone(), ..facts() };
            check(&facts, &format!("{line}\n{rest}"));
        }
        let profiles = vec![from("parked", "running", Nobody), from("quiet", "stopped", Server)];
        check(
            &ReconcileFacts { profiles, ..facts() },
            "profile=default prior_state=None action=registered
             profile=parked prior_state=running action=registered reason=it was taken out of those that are served
             profile=quiet prior_state=stopped action=registered",
        );
    }

    #[test]
    fn a_dashboard_container_gets_nothing_at_all() {
        let slots = vec!["gateway-default".to_owned()];
        check(
            &ReconcileFacts { role: ContainerRole::NoGateways, slots, root: says("running"), ..facts() },
            "no gateways",
        );
    }

    #[test]
    fn an_old_style_command_is_a_desired_state_unless_there_is_a_state_file_or_it_is_declined() {
        let former = ReconcileFacts { role: ContainerRole::FormerGateway, ..facts() };
        check(&former, "migrate\nprofile=default prior_state=running action=started");
        let down = "profile=default prior_state=None action=registered";
        check(&ReconcileFacts { declined: true, ..former.clone() }, down);
        check(&ReconcileFacts { root_state_exists: true, ..former.clone() }, down);
        check(&ReconcileFacts { root_gateway: false, ..former }, "");
    }

    #[test]
    fn slots_of_vanished_and_skipped_profiles_and_leftovers_go() {
        let slots = ["gateway-a", "gateway-b", "gateway-default", "gateway-gone"].map(str::to_owned).to_vec();
        let profiles = vec![profile("a", says("running")), profile("b", PriorFact::Broken("x".to_owned()))];
        check(
            &ReconcileFacts { slots, profiles, leftovers: vec![".new-1".to_owned()], ..facts() },
            "profile=default prior_state=None action=registered
             profile=a prior_state=running action=started
             profile=b prior_state=None action=skipped reason=x
             sweep .new-1
             sweep gateway-b
             sweep gateway-gone",
        );
    }

    fn any_prior() -> impl Strategy<Value = PriorFact> {
        prop_oneof![
            Just(PriorFact::default()),
            "[a-z_]{1,8}|running".prop_map(|word| says(&word)),
            ".{0,9}".prop_map(PriorFact::Garbled),
            ".{0,9}".prop_map(PriorFact::Broken),
        ]
    }

    fn any_origin() -> impl Strategy<Value = ServedFrom> {
        prop_oneof![Just(ServedFrom::Own), Just(ServedFrom::Server), Just(ServedFrom::Nobody)]
    }

    fn any_profile() -> impl Strategy<Value = FoundProfile> {
        prop_oneof![
            ("[a-c]{1,2}", any_prior(), any_origin()).prop_map(|(name, fact, from)| {
                let decided = DecidedProfile { from, ..DecidedProfile::default() };
                FoundProfile::Profile(name.parse().unwrap(), fact, decided)
            }),
            (".{0,9}", ".{0,9}").prop_map(|(name, reason)| FoundProfile::Misnamed(name, reason)),
        ]
    }

    proptest! {
        #[test]
        fn invariant_every_profile_has_one_line_and_the_root_profile_the_first(
            root in any_prior(),
            profiles in proptest::collection::vec(any_profile(), 0..8),
            slots in proptest::collection::vec("gateway-[a-c]{1,2}", 0..4),
        ) {
            let facts = ReconcileFacts { root, profiles, slots, ..facts() };
            let ReconcilePlan::Act(steps) = plan(&facts) else { panic!("there are gateways") };
            prop_assert_eq!(steps.actions.len(), facts.profiles.len() + 1);
            prop_assert!(steps.actions[0].to_string().starts_with("profile=default "));
            for action in &steps.actions {
                prop_assert!(!action.to_string().contains('\n'));
                prop_assert!(action.action != ProfileAction::Skipped || action.reason.is_some());
                let entry = action.name.as_ref().map(ProfileName::service_entry);
                let live = action.action != ProfileAction::Skipped;
                prop_assert!(!live || !steps.sweep.iter().any(|swept| Some(swept) == entry.as_ref()));
                let shall_run = action.prior_state.as_deref() == Some("running");
                let serves = action.profile == "default"
                    && facts.profiles.iter().any(|profile| wants_server(profile).is_some());
                prop_assert!(action.action != ProfileAction::Started || shall_run || serves);
            }
        }
    }
}
