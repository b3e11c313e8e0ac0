//! *Lives here:* everything that an explanation goes by, as values.
//!
//! *Does not live here:* finding it out (`gather`); what follows from it (`causes`).

use gatevisor_client::status_view::StateName;
use serde::Deserialize;

use crate::desired::Recorded;
use crate::doctor::facts::{Facts, ProfileFact, ServiceFact};
use crate::incidents::Incident;
use crate::inspect::ServiceReport;
use crate::profile::ProfileName;

/// A gateway, and what was found out about it.
#[derive(Debug)]
pub(crate) struct Subject {
    pub name: ProfileName,
    /// What is known of the home and of everything supervised.
    pub facts: Facts,
    /// What the state file says, or what is wrong with it.
    pub recorded: Result<Recorded, String>,
    /// The state of its process, in the letter that the kernel has for it.
    pub process: Option<char>,
    /// Processes of it that run although nobody supervises them.
    pub orphans: Vec<(i32, String)>,
    /// Whose gateway says that it serves this profile.
    pub served_by: Option<ProfileName>,
    /// Why the watcher of gateways ended a process of it last.
    pub ended_by_watcher: Option<EndedByWatcher>,
    /// Evidence that was collected about it, the newest first.
    pub incidents: Vec<Incident>,
    /// What the last reconciliation did, and when.
    pub reconciled: Option<(String, String)>,
    /// What the process that ended last printed at its end.
    pub printed: Vec<String>,
}

/// Why the watcher of gateways ended a process.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct EndedByWatcher {
    /// When, in RFC 3339.
    pub at: String,
    /// Why, in its words.
    pub reason: String,
    /// The directory with what could be found out.
    pub incident: Option<String>,
}

impl Subject {
    /// Returns what is known of its service directory, if it has one.
    pub fn service(&self) -> Option<&ServiceFact> {
        self.facts.slot(&self.name)
    }

    pub fn report(&self) -> Option<&ServiceReport> {
        Some(&self.service()?.report)
    }

    pub fn state(&self) -> Option<&StateName> {
        Some(&self.service()?.observed.state)
    }

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

    pub fn is_wanted(&self) -> bool {
        self.desired() == Some("running")
    }

    /// Returns whether a process of it runs, or has just been started.
    pub fn is_up(&self) -> bool {
        matches!(
            self.state(),
            Some(StateName::Up | StateName::Ready | StateName::Starting | StateName::Paused)
        )
    }
}
