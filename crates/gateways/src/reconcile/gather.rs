//! *Lives here:* gathering the facts for a reconciliation. It only reads.
//!
//! *Does not live here:* the plan that is made from them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use gatevisor_client::ScanDir;
use gatevisor_paths::by_path;
use gatevisor_wire::exit::error_chain;

use super::plan::{FoundProfile, PriorFact, ReconcileFacts};
use super::role::role;
use super::{ReconcileError, ReconcileSettings};
use crate::desired::{self, Prior, ReadStateError};
use crate::files::is_leftover;
use crate::profile::{self, Candidate, Home, ProfileName, SERVICE_PREFIX};
use crate::topology::TopologyReader;

/// The most entries of a scandir that are looked at.
const MAX_ENTRIES: usize = 100_000;
/// Words that decline the supervisor, in any case.
///
/// **Source:** REC-11, RUN-2.
const DECLINING: [&str; 3] = ["1", "true", "yes"];

/// Returns the facts, and warnings about what concerns no single profile.
///
/// # Errors
/// The scandir exists and cannot be read. Everything else is a fact or a warning.
pub fn gather(
    settings: &ReconcileSettings<'_>,
    topology: &TopologyReader<'_>,
) -> Result<(ReconcileFacts, Vec<String>), ReconcileError> {
    let ReconcileSettings { agent, home, .. } = settings;
    let mut warnings = Vec::new();
    let candidates = profile::scan(home, agent).unwrap_or_else(|error| {
        warnings.push(error_chain(&error));
        Vec::new()
    });
    let state_file = &agent.gateway.state_file;
    let prior = |name: &ProfileName| prior(home, name, state_file);
    let served = topology.served_since_boot();
    let profiles = candidates.into_iter().map(|candidate| match candidate {
        Candidate::Profile(found) => {
            let (fact, decided) = (prior(&found.name), topology.decide(&found.name));
            let is_served = served.contains(found.name.as_str());
            let decided = if is_served { decided.served_since() } else { decided };
            let decided = if topology.park().is_some() { fact.applied_to(decided) } else { decided };
            FoundProfile::Profile(found.name, fact, decided)
        }
        Candidate::Misnamed { shown, reason } => FoundProfile::Misnamed(shown, reason),
    });
    let (slots, leftovers) = entries(settings)?;
    let container = &agent.container;
    let says = |variable: &Option<String>, words: &[&str]| {
        let value = variable.as_deref().and_then(settings.variable);
        value.is_some_and(|value| is_one_of(&value, words))
    };
    let facts = ReconcileFacts {
        role: role(agent, settings.container_argv),
        elsewhere: settings.elsewhere,
        declined: says(&container.decline_variable, &DECLINING),
        root_gateway: agent.default_profile.gateway,
        root_state_exists: by_path::look_itself(home.root().join(state_file)).is_ok(),
        root: prior(&ProfileName::root()),
        profiles: profiles.collect(),
        slots,
        leftovers,
    };
    Ok((facts, warnings))
}

fn prior(home: &Home, name: &ProfileName, file: &str) -> PriorFact {
    match desired::read(&home.profile_dir(name), file) {
        Ok(recorded) => PriorFact::Says(recorded.map_or(Prior::None, |recorded| recorded.prior)),
        Err(error @ ReadStateError::Syntax { .. }) => PriorFact::Garbled(error.reason(file)),
        Err(error) => PriorFact::Broken(error.reason(file)),
    }
}

/// Returns the slots of gateways and the leftovers in the scandir, sorted.
fn entries(settings: &ReconcileSettings<'_>) -> Result<(Vec<String>, Vec<String>), ReconcileError> {
    let wrong = |source| ReconcileError::Scandir { scandir: settings.scandir.to_owned(), source };
    let (mut slots, mut leftovers) = (Vec::new(), Vec::new());
    let entries = match by_path::names(settings.scandir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((slots, leftovers)),
        Err(source) => return Err(wrong(source)),
    };
    for (entry, kind) in entries.into_iter().take(MAX_ENTRIES) {
        let is_directory = || kind.is_dir() || by_path::is_directory(settings.scandir.join(&entry));
        let Some(name) = entry.to_str().map(str::to_owned) else { continue };
        if is_staging(&entry) {
            leftovers.push(name);
        } else if name.starts_with(SERVICE_PREFIX) && is_directory() {
            slots.push(name);
        }
    }
    slots.sort();
    leftovers.sort();
    Ok((slots, leftovers))
}

/// Returns whether an entry of a scandir is an unfinished slot, of ours or of the agent's command.
///
/// **Source:** L-21.
fn is_staging(name: &OsStr) -> bool {
    is_leftover(name) || name.as_bytes().starts_with(format!(".{SERVICE_PREFIX}").as_bytes())
}

fn is_one_of(value: &OsString, words: &[&str]) -> bool {
    value.to_str().is_some_and(|value| words.iter().any(|word| word.eq_ignore_ascii_case(value.trim())))
}

/// Returns an error if a supervisor runs on the scandir.
pub(super) fn refuse_if_supervised(settings: &ReconcileSettings<'_>) -> Result<(), ReconcileError> {
    let scandir = settings.scandir.to_owned();
    match ScanDir::new(settings.scandir).running() {
        Ok(false) => Ok(()),
        Ok(true) => Err(ReconcileError::Supervised { scandir }),
        Err(source) => Err(ReconcileError::Scandir { scandir, source }),
    }
}
