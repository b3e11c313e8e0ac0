//! *Lives here:* making the slots anew from the profiles, each time before a supervisor starts.
//!
//! *Does not live here:* anything that happens while a supervisor runs.
//!
//! Facts are gathered, a plan is made from them without any I/O, and the plan is carried out. A
//! broken profile is skipped with its reason, and stops no other.
//!
//! **Source:** docs/design/behaviour.md, *Reconciliation*; L-1, L-21.

mod boot_log;
mod execute;
mod gather;
mod plan;
mod report;
mod role;

use gatevisor_wire::exit::error_chain;

use crate::agent::AgentDefinition;
use crate::declared;
use crate::profile::ProfileName;
use crate::topology::{DecidedProfile, KnownTopology, TopologyReader};

pub use gather::gather;
pub use plan::{FoundProfile, PriorFact, ReconcileFacts, ReconcilePlan, ReconcileSteps, plan};
pub use report::{ProfileAction, ReconcileError, ReconcileReport, ReconcileSettings, ReconciledProfile};
pub use role::{ContainerRole, role};

/// What a reconciliation found, and the agent as it is in the version that is installed.
struct FoundHome {
    agent: AgentDefinition,
    known: Option<KnownTopology>,
    facts: ReconcileFacts,
    warnings: Vec<String>,
}

impl FoundHome {
    fn new(settings: &ReconcileSettings<'_>) -> Result<Self, ReconcileError> {
        let topology = TopologyReader::at_boot(settings.agent, settings.home, settings.variable);
        let (facts, mut warnings) = gather(settings, &topology)?;
        let decided = facts.profiles.iter().filter_map(FoundProfile::decided);
        // Without a program no gateway starts, and that is said then.
        let is_installed = topology.is_installed();
        if let Some(why) = topology.version_problem().filter(|_| is_installed) {
            let name = &settings.agent.name;
            let instead = if topology.is_recalled() {
                "so the one that was known last counts"
            } else {
                "and none was known before, so nothing counts that depends on it"
            };
            warnings.push(format!("the version of {name} is unknown, {instead}: {why}"));
        } else if is_installed {
            let problem = |(name, decided): (&ProfileName, &DecidedProfile)| {
                let why = decided.problem.as_ref()?;
                Some(format!("profile {name}: which gateway serves it is {}: {why}", decided.guess()))
            };
            warnings.extend(decided.clone().filter_map(problem));
        }
        let agent = topology.fitted();
        let known = topology.to_keep(decided.map(|(name, decided)| (name, decided.from)));
        Ok(Self { agent, known: is_installed.then_some(known), facts, warnings })
    }

    fn settings<'a>(&'a self, settings: &ReconcileSettings<'a>) -> ReconcileSettings<'a> {
        ReconcileSettings { agent: &self.agent, now: settings.now.clone(), ..*settings }
    }

    /// Keeps what was found for commands and for the next supervisor.
    fn keep(&self, settings: &ReconcileSettings<'_>, mut report: ReconcileReport) -> ReconcileReport {
        if let Some(known) = self.known.as_ref().filter(|_| !settings.elsewhere)
            && let Err(error) = known.keep(settings.home.root())
        {
            let why = error_chain(&error);
            report.warnings.push(format!("cannot write down which gateway serves which profile: {why}"));
        }
        report
    }
}

/// Makes every slot anew, or with `dry_run` says what would be done and touches nothing.
///
/// # Errors
/// Nothing could be done at all. What goes wrong with one profile is in its action.
pub fn reconcile(settings: &ReconcileSettings<'_>, dry_run: bool) -> Result<ReconcileReport, ReconcileError> {
    let has_gateways = role(settings.agent, settings.container_argv) != ContainerRole::NoGateways;
    let may_act = has_gateways && !dry_run && !settings.elsewhere;
    // Nothing that is declared is carried out, and then not reported, because there are no slots.
    if may_act {
        execute::prepare(settings)?;
    }
    let declared = if may_act { declared::at_boot(settings) } else { Vec::new() };
    let found = FoundHome::new(settings)?;
    let settings = &found.settings(settings);
    let mut report = match plan(&found.facts) {
        ReconcilePlan::NoGateways { why } => {
            ReconcileReport { skipped: Some(why), ..ReconcileReport::default() }
        }
        ReconcilePlan::Act(steps) if dry_run => {
            ReconcileReport { actions: steps.actions, swept: steps.sweep, ..ReconcileReport::default() }
        }
        ReconcilePlan::Act(steps) => {
            let report = execute::execute(settings, steps)?;
            found.keep(settings, report)
        }
    };
    report.warnings.splice(0..0, found.warnings);
    report.declared = declared;
    Ok(report)
}

/// Cleans up after gateways that ran elsewhere until now. Returns which of them to start here.
///
/// The slots exist already, and a supervisor runs on them. Nothing is sent to it.
pub fn take_over(settings: &ReconcileSettings<'_>) -> Result<ReconcileReport, ReconcileError> {
    let found = FoundHome::new(settings)?;
    let settings = &found.settings(settings);
    let mut report = match plan(&found.facts) {
        ReconcilePlan::NoGateways { why } => {
            ReconcileReport { skipped: Some(why), ..ReconcileReport::default() }
        }
        ReconcilePlan::Act(steps) => {
            let report = execute::take_over(settings, steps);
            found.keep(settings, report)
        }
    };
    report.warnings.splice(0..0, found.warnings);
    Ok(report)
}
