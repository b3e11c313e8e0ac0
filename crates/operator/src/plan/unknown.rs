//! Why nobody knows how the gateways of a home are: what is seen of its pod.
//!
//! *Lives here:* telling a pod that is gone from one that starts, ends, or does not answer. Time is
//! an argument. *Does not live here:* asking it (`pod_api`).

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use super::objects::CONTAINER;

/// How long after its end a pod may still be there. A kubelet removes it within seconds, so without
/// that the node is lost.
const GONE_WITHIN: SignedDuration = SignedDuration::from_secs(60);

/// Why nobody knows how the gateways are. The words are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// There is no pod.
    Missing,
    /// The pod is being made, or its first boot goes on.
    Starting,
    /// Its container ends again and again, and the kubelet waits before it starts it again.
    Crashing,
    /// Its image cannot be had.
    NoImage,
    /// The pod is being ended.
    Ending,
    /// The pod's processes have ended.
    Ended,
    /// The pod should have been gone for a minute, so its node does nothing any more.
    Lost,
    /// It runs, and does not answer.
    Silent,
    /// It does not accept the operator's token.
    Refuses,
    /// It answers something else than a Gatevisor does.
    Strange,
    /// The pod of the home belongs to somebody else.
    Foreign,
    /// No pod shall run.
    Suspended,
}

impl Unknown {
    /// All of them.
    const ALL: [Self; 12] = [
        Self::Missing,
        Self::Starting,
        Self::Crashing,
        Self::NoImage,
        Self::Ending,
        Self::Ended,
        Self::Lost,
        Self::Silent,
        Self::Refuses,
        Self::Strange,
        Self::Foreign,
        Self::Suspended,
    ];

    /// Returns the word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "PodMissing",
            Self::Starting => "PodStarting",
            Self::Crashing => "PodCrashLooping",
            Self::NoImage => "PodImageNotPulled",
            Self::Ending => "PodEnding",
            Self::Ended => "PodEnded",
            Self::Lost => "PodLost",
            Self::Silent => "PodDoesNotAnswer",
            Self::Refuses => "PodRefusesToken",
            Self::Strange => "PodAnswerNotUnderstood",
            Self::Foreign => "PodOfSomebodyElse",
            Self::Suspended => "Suspended",
        }
    }

    /// Returns the one with this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }

    /// Returns what it means, as a sentence.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Missing => "there is no pod",
            Self::Starting => "the pod starts",
            Self::Crashing => "the pod's container ends again and again; look at its log",
            Self::NoImage => "the pod's image cannot be pulled; look at the pod's events",
            Self::Ending => "the pod is ending",
            Self::Ended => "the processes of the pod have ended",
            Self::Lost => {
                "the pod should have been gone for a minute, and its node does not end it; look at the node"
            }
            Self::Silent => {
                "the pod runs, and does not answer at port 9466; look at its log, and at network policies"
            }
            Self::Refuses => {
                "the pod does not accept the operator's token; a new one reaches it within two minutes"
            }
            Self::Strange => "the pod answers something else than a Gatevisor; look at the image",
            Self::Foreign => "a pod of somebody else has the name of the home's; remove it",
            Self::Suspended => "the home is suspended, and no pod runs",
        }
    }

    /// Returns whether that is a fault by itself.
    pub const fn is_fault(self) -> bool {
        matches!(self, Self::Crashing | Self::NoImage)
    }

    /// Returns whether the gateways may run all the same, and be degraded.
    pub const fn may_hide_a_fault(self) -> bool {
        matches!(self, Self::Lost | Self::Silent | Self::Refuses | Self::Strange | Self::Foreign)
    }
}

/// Returns where to ask the pod of a home, or why it cannot be asked.
pub fn address(home: &str, pod: Option<&Pod>, now: Timestamp) -> Result<IpAddr, Unknown> {
    let pod = pod.ok_or(Unknown::Missing)?;
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    // The token must not be sent to somebody else's pod.
    if !owners.iter().any(|owner| owner.kind == "StatefulSet" && owner.name == home) {
        return Err(Unknown::Foreign);
    }
    if let Some(until) = &pod.metadata.deletion_timestamp {
        let is_late = now.duration_since(until.0) > GONE_WITHIN;
        return Err(if is_late { Unknown::Lost } else { Unknown::Ending });
    }
    let status = pod.status.as_ref().ok_or(Unknown::Starting)?;
    // A container that somebody else has added to the pod says nothing of ours.
    let mut ours = status.container_statuses.iter().flatten().filter(|container| container.name == CONTAINER);
    if let Some(why) = ours.find_map(why_waiting) {
        return Err(why);
    }
    match status.phase.as_deref() {
        Some("Running") => {}
        Some("Succeeded" | "Failed") => return Err(Unknown::Ended),
        _ => return Err(Unknown::Starting),
    }
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    if containers.iter().any(|container| container.started == Some(false)) {
        return Err(Unknown::Starting);
    }
    reachable(status).ok_or(Unknown::Starting)
}

/// Returns the fault for which a kubelet waits before it starts a container.
fn why_waiting(container: &ContainerStatus) -> Option<Unknown> {
    match container.state.as_ref()?.waiting.as_ref()?.reason.as_deref()? {
        "CrashLoopBackOff" => Some(Unknown::Crashing),
        "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" => {
            Some(Unknown::NoImage)
        }
        _ => None,
    }
}

/// Returns the address to ask. The server in the pod listens to all addresses of version 4.
fn reachable(status: &PodStatus) -> Option<IpAddr> {
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut all = listed.chain(status.pod_ip.as_deref()).filter_map(|text| text.parse::<IpAddr>().ok());
    let first = all.next()?;
    Some(if first.is_ipv4() { first } else { all.find(IpAddr::is_ipv4).unwrap_or(first) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T00:10:00Z";

    fn seen(changes: &[(&str, Value)]) -> Result<IpAddr, Unknown> {
        let mut pod = json!({
            "metadata": {"ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "coder", "uid": "1"},
            ]},
            "status": {"phase": "Running", "podIP": "10.0.0.7"},
        });
        for (key, value) in changes {
            let (part, key) = key.split_once('.').unwrap();
            pod[part][key] = value.clone();
        }
        let pod: Pod = serde_json::from_value(pod).unwrap();
        address("coder", Some(&pod), NOW.parse().unwrap())
    }

    #[test]
    fn a_pod_that_is_gone_is_told_from_one_that_starts_ends_or_is_lost() {
        let ip = |text: &str| Ok(text.parse().unwrap());
        let container = |started: bool| json!([{"name": "home", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "started": started}]);
        let waiting = |reason: &str| json!([{"name": "home", "image": "i", "imageID": "", "ready": false, "restartCount": 4, "started": false, "state": {"waiting": {"reason": reason}}}]);
        let mut other = waiting("ErrImagePull");
        (other[0]["name"], other[0]["started"]) = (json!("added"), json!(true));
        let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "other", "uid": "1"}]);
        for (changes, expected) in [
            (vec![], ip("10.0.0.7")),
            (vec![("status.podIPs", json!([{"ip": "fd00::7"}, {"ip": "10.0.0.7"}]))], ip("10.0.0.7")),
            (vec![("status.podIP", json!("fd00::7"))], ip("fd00::7")),
            (vec![("status.containerStatuses", container(true))], ip("10.0.0.7")),
            (vec![("status.containerStatuses", container(false))], Err(Unknown::Starting)),
            (vec![("status.containerStatuses", waiting("ContainerCreating"))], Err(Unknown::Starting)),
            (vec![("status.containerStatuses", waiting("CrashLoopBackOff"))], Err(Unknown::Crashing)),
            (vec![("status.containerStatuses", other)], ip("10.0.0.7")),
            (
                vec![
                    ("status.phase", json!("Pending")),
                    ("status.containerStatuses", waiting("ErrImagePull")),
                ],
                Err(Unknown::NoImage),
            ),
            (vec![("status.podIP", json!(null))], Err(Unknown::Starting)),
            (vec![("status.phase", json!("Pending"))], Err(Unknown::Starting)),
            (vec![("status.phase", json!("Failed"))], Err(Unknown::Ended)),
            (vec![("metadata.deletionTimestamp", json!("2026-01-01T00:10:30Z"))], Err(Unknown::Ending)),
            (vec![("metadata.deletionTimestamp", json!("2026-01-01T00:09:00Z"))], Err(Unknown::Ending)),
            (vec![("metadata.deletionTimestamp", json!("2026-01-01T00:08:59Z"))], Err(Unknown::Lost)),
            (vec![("metadata.ownerReferences", owner)], Err(Unknown::Foreign)),
            (vec![("metadata.ownerReferences", json!(null))], Err(Unknown::Foreign)),
        ] {
            assert_eq!(seen(&changes), expected, "{changes:?}");
        }
        assert_eq!(address("coder", None, NOW.parse().unwrap()), Err(Unknown::Missing));
    }

    #[test]
    fn each_word_names_one_reason() {
        for one in Unknown::ALL {
            assert_eq!(Unknown::named(one.word()), Some(one));
        }
        assert_eq!(Unknown::named("PodAnswers"), None);
    }
}
