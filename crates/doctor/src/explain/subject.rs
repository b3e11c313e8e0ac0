//! *Lives here:* the facts for an explanation, as values.
//!
//! *Does not live here:* finding the facts (`gather`); the conclusions (`causes`).

use std::path::{Path, PathBuf};

use gatevisor_client::status_view::StateName;
use serde::Deserialize;

use crate::facts::{Facts, ProfileFact, ServiceFact};
use gatevisor_gateways::desired::{DesiredOrigin, Recorded};
use gatevisor_gateways::incidents::Incident;
use gatevisor_gateways::inspect::ServiceReport;
use gatevisor_gateways::profile::{PROFILES, ProfileName};

/// A gateway, and the facts about it.
#[derive(Debug)]
pub struct Subject {
    /// The profile whose gateway it is.
    pub name: ProfileName,
    /// The facts about the home and about every service.
    pub facts: Facts,
    /// The content of the state file, or what is wrong with it.
    pub recorded: Result<Recorded, String>,
    /// The state of its process, as `/proc/PID/stat` names it.
    pub process: Option<char>,
    /// Its processes that run without a supervisor, each with its command line.
    pub orphans: Vec<(i32, String)>,
    /// Its processes that an earlier run left and that are ended before the next start, each with
    /// its command line.
    pub leftovers: Vec<(i32, String)>,
    /// The profile whose gateway reports that it serves this profile, too.
    pub served_by: Option<ProfileName>,
    /// Why the watcher of gateways last ended one of its processes.
    pub ended_by_watcher: Option<EndedByWatcher>,
    /// Evidence that was collected about it, the newest first.
    pub incidents: Vec<Incident>,
    /// When the last reconciliation found it, and what it did.
    pub reconciled: Option<(String, String)>,
    /// The last output of the process that ended last.
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

    /// Returns the facts about its profile, if the profile exists.
    pub fn profile(&self) -> Option<&ProfileFact> {
        self.facts.profiles.iter().find(|profile| profile.name == self.name)
    }

    /// Returns the word of the desired state, where one is recorded.
    pub fn desired(&self) -> Option<&str> {
        self.recorded.as_ref().ok()?.prior.word()
    }

    /// Returns whether there is no such profile, as far as profiles can be listed.
    pub fn has_lost_its_profile(&self) -> bool {
        !self.name.is_root() && self.profile().is_none() && !self.facts.may_miss_profiles()
    }

    /// Returns the first place that may not be looked at, and the reason. Only places count that
    /// are in its home or its slot, or above them.
    pub fn unread(&self) -> Option<&(PathBuf, String)> {
        let home = &self.facts.home.path;
        let own =
            if self.name.is_root() { home.clone() } else { home.join(PROFILES).join(self.name.as_str()) };
        let slot = self.facts.supervision.scandir.join(self.name.service_entry());
        let is_about = |path: &Path| {
            [&own, &slot].into_iter().any(|place| place.starts_with(path) || path.starts_with(place))
        };
        // The home of the default profile contains the homes of other profiles.
        let others = self.facts.profiles.iter().filter(|profile| profile.name != self.name);
        let logs = others.filter_map(|profile| Some(profile.log.as_ref()?.path.clone()));
        let others: Vec<PathBuf> = logs.chain(self.name.is_root().then(|| home.join(PROFILES))).collect();
        let is_others = |path: &Path| others.iter().any(|place| path.starts_with(place));
        self.facts.unread.iter().find(|(path, _)| is_about(path) && !is_others(path))
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

/// Returns who set a desired state, when and why, as far as that is recorded.
pub(super) fn said_by(origin: &DesiredOrigin) -> String {
    let said = origin.to_string();
    let words = said.trim_start_matches([',', ' ', ':']);
    if words.is_empty() { "it is not recorded who said so".to_owned() } else { words.to_owned() }
}
