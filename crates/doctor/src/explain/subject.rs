//! *Lives here:* everything that an explanation goes by, as values.
//!
//! *Does not live here:* finding it out (`gather`); what follows from it (`causes`).

use gatevisor_client::status_view::StateName;
use serde::Deserialize;

use crate::facts::{Facts, ProfileFact, ServiceFact};
use gatevisor_gateways::desired::Recorded;
use gatevisor_gateways::incidents::Incident;
use gatevisor_gateways::inspect::ServiceReport;
use gatevisor_gateways::profile::ProfileName;

/// A gateway, and the facts about it.
#[derive(Debug)]
pub struct Subject {
    /// The profile whose gateway it is.
    pub name: ProfileName,
    /// The facts about the home and about every service.
    pub facts: Facts,
    /// What the state file says, or what is wrong with it.
    pub recorded: Result<Recorded, String>,
    /// The state of its process, as `/proc/PID/stat` names it.
    pub process: Option<char>,
    /// Its processes that run although nobody supervises them, each with its command line.
    pub orphans: Vec<(i32, String)>,
    /// The profile whose gateway says that it serves this profile too.
    pub served_by: Option<ProfileName>,
    /// Why the watcher of gateways last ended one of its processes.
    pub ended_by_watcher: Option<EndedByWatcher>,
    /// Evidence that was collected about it, the newest first.
    pub incidents: Vec<Incident>,
    /// When the last reconciliation found it, and what it did.
    pub reconciled: Option<(String, String)>,
    /// The last lines of the process that ended last.
    pub printed: Vec<String>,
}

/// Why the watcher of gateways ended a process.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EndedByWatcher {
    /// When, in RFC 3339.
    pub at: String,
    /// The reason, as the watcher wrote it.
    pub reason: String,
    /// The directory with the evidence that was collected.
    pub incident: Option<String>,
}

impl Subject {
    /// Returns its service, if it has a service directory.
    pub fn service(&self) -> Option<&ServiceFact> {
        self.facts.slot(&self.name)
    }

    /// Returns its report, if it has a service directory.
    pub fn report(&self) -> Option<&ServiceReport> {
        Some(&self.service()?.report)
    }

    /// Returns its state as its supervisor tells it, if it has a service directory.
    pub fn state(&self) -> Option<&StateName> {
        Some(&self.service()?.observed.state)
    }

    /// Returns the facts about its profile, if there is one.
    pub fn profile(&self) -> Option<&ProfileFact> {
        self.facts.profiles.iter().find(|profile| profile.name == self.name)
    }

    /// Returns the word of the desired state, where one is recorded.
    pub fn desired(&self) -> Option<&str> {
        self.recorded.as_ref().ok()?.prior.word()
    }

    /// Returns whether there is no such profile, as far as profiles can be listed.
    pub fn has_lost_its_profile(&self) -> bool {
        !self.name.is_root() && self.profile().is_none() && self.facts.unread.is_empty()
    }

    /// Returns whether its desired state is `running`.
    pub fn is_wanted(&self) -> bool {
        self.desired() == Some("running")
    }

    /// Returns whether its process runs, or has just been started.
    pub fn is_up(&self) -> bool {
        matches!(
            self.state(),
            Some(StateName::Up | StateName::Ready | StateName::Starting | StateName::Paused)
        )
    }
}
