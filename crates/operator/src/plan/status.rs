//! The status of a home: its four conditions, and the events about their changes.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::Value;

use super::objects::is_owned_by;
use super::types::{HomeNews, Kind, LiveObjects};
use crate::api::{AgentHome, AgentHomeStatus, NAME_MAX};

/// How long a pod may take to become ready before its home is degraded. The first boot of a large
/// home takes minutes, and the startup probe allows it 300 s.
pub const READY_WITHIN: Duration = Duration::from_mins(10);

/// Why a condition is as it is. The words are stable: scripts may compare them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// All gateways that should run are running.
    AllRun,
    /// The pod does not run yet, or not all gateways that should run do.
    NotReady,
    /// The home is suspended.
    Suspended,
    /// Its pod is ending.
    Stopping,
    /// `spec.suspend` is not set.
    NotSuspended,
    /// A pod is being made, replaced or ended.
    RollingOut,
    /// The pod is as the home describes it.
    Settled,
    /// The storage of the home was changed, and is kept as it was.
    StorageCannotChange,
    /// The home's name is too long.
    NameTooLong,
    /// An object that the home needs exists and belongs to somebody else.
    NameTaken,
    /// The API server refuses to write an object that the home needs.
    Refused,
    /// The pod has not become ready for [`READY_WITHIN`].
    NotReadyInTime,
    /// Nothing is wrong.
    AsExpected,
}

impl Reason {
    /// Returns the word.
    pub fn word(self) -> &'static str {
        match self {
            Self::AllRun => "AllGatewaysRun",
            Self::NotReady => "NotReady",
            Self::Suspended => "Suspended",
            Self::Stopping => "Stopping",
            Self::NotSuspended => "NotSuspended",
            Self::RollingOut => "RollingOut",
            Self::Settled => "Settled",
            Self::StorageCannotChange => "StorageCannotChange",
            Self::NameTooLong => "NameTooLong",
            Self::NameTaken => "NameTaken",
            Self::Refused => "Refused",
            Self::NotReadyInTime => "NotReadyInTime",
            Self::AsExpected => "AsExpected",
        }
    }

    /// Returns what it means, as a sentence.
    fn message(self) -> &'static str {
        match self {
            Self::AllRun => "all gateways that should run do",
            Self::NotReady => "the pod is not ready: it does not run, or not all of its gateways do",
            Self::Suspended => "the home is suspended, and no pod runs",
            Self::Stopping => "the home is suspended, and its pod is ending",
            Self::NotSuspended => "the home is not suspended",
            Self::RollingOut => "the pod is being made, replaced or ended",
            Self::Settled => "the pod is what the home says",
            Self::StorageCannotChange => {
                "`spec.storage` cannot be changed once the home exists, so it is kept as it was; \
                 change it back, or make another home"
            }
            Self::NameTooLong => "the name has more than 40 characters; make a home with a shorter one",
            Self::NameTaken => {
                "an object that has the home's name belongs to somebody else, and is left alone; \
                 remove it, or make a home with another name"
            }
            Self::Refused => "the API server refuses a part of the home; change the home, or what forbids it",
            Self::NotReadyInTime => {
                "the pod has not become ready for 10 minutes; look at its events and logs"
            }
            Self::AsExpected => "nothing is wrong",
        }
    }
}

/// The facts that the status is made from.
pub struct Seen<'s> {
    /// The home, with its previous status.
    pub home: &'s AgentHome,
    /// The objects that the API server has.
    pub observed: &'s LiveObjects,
    /// Whether the storage differs from what the home describes.
    pub is_storage_kept: bool,
    /// Whether an object of somebody else has the name of one of ours.
    pub is_name_taken: bool,
    /// The answer of the API server, if it refused to write something.
    pub refused: Option<&'s str>,
    /// When the status is made.
    pub now: Timestamp,
}

/// Returns the status of a home.
pub fn of(seen: &Seen<'_>) -> AgentHomeStatus {
    let set = Set::of(seen);
    let suspend = seen.home.spec.suspend;
    let (is_ready, ready) = match (suspend, set.is_ready) {
        (true, _) => (false, Reason::Suspended),
        (false, true) => (true, Reason::AllRun),
        (false, false) => (false, Reason::NotReady),
    };
    let (is_moving, progressing) = match set.is_moving || (suspend && seen.observed.pods > 0) {
        _ if seen.refused.is_some() => (false, Reason::Refused),
        true => (true, Reason::RollingOut),
        false => (false, Reason::Settled),
    };
    let suspended = match (suspend, seen.observed.pods) {
        (false, _) => Reason::NotSuspended,
        (true, 0) => Reason::Suspended,
        (true, _) => Reason::Stopping,
    };
    let make = |kind, is_true, reason| condition(seen, kind, is_true, reason);
    let ready = make("Ready", is_ready, ready);
    let fault = fault(seen, &ready);
    AgentHomeStatus {
        observed_generation: seen.home.metadata.generation,
        conditions: vec![
            make("Progressing", is_moving, progressing),
            make("Degraded", fault.is_some(), fault.unwrap_or(Reason::AsExpected)),
            make("Suspended", suspended == Reason::Suspended, suspended),
            ready,
        ],
    }
}

/// Returns what is wrong, if anything is.
fn fault(seen: &Seen<'_>, ready: &Condition) -> Option<Reason> {
    let name = seen.home.metadata.name.as_deref().unwrap_or_default();
    if name.len() > NAME_MAX {
        return Some(Reason::NameTooLong);
    }
    if seen.is_name_taken {
        return Some(Reason::NameTaken);
    }
    if seen.refused.is_some() {
        return Some(Reason::Refused);
    }
    if seen.is_storage_kept {
        return Some(Reason::StorageCannotChange);
    }
    (late_in(ready, seen.now)? == Duration::ZERO).then_some(Reason::NotReadyInTime)
}

/// Returns the time until a pod that is not ready counts as late; `None` if it is ready, or does
/// not have to be.
fn late_in(ready: &Condition, now: Timestamp) -> Option<Duration> {
    if ready.reason != Reason::NotReady.word() {
        return None;
    }
    let waited = Duration::try_from(now.duration_since(ready.last_transition_time.0)).unwrap_or_default();
    Some(READY_WITHIN.saturating_sub(waited))
}

/// Returns when to look again even if nothing happens, which is when a pod becomes late.
pub fn look_again(status: &AgentHomeStatus, now: Timestamp) -> Option<Duration> {
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
    late_in(ready, now).filter(|left| !left.is_zero()).map(|left| left + Duration::from_secs(1))
}

/// Returns the events about the change from one status to the next.
pub fn news(before: Option<&AgentHomeStatus>, after: &AgentHomeStatus) -> Vec<HomeNews> {
    let told = |condition: &Condition| match condition.type_.as_str() {
        "Degraded" => condition.status == "True",
        "Suspended" | "Ready" => condition.status == "True" || condition.reason == Reason::NotReady.word(),
        _ => false,
    };
    let known = |condition: &Condition| {
        let same =
            before.and_then(|status| status.conditions.iter().find(|old| old.type_ == condition.type_));
        same.is_some_and(|old| old.status == condition.status && old.reason == condition.reason)
    };
    let fresh = after.conditions.iter().filter(|condition| told(condition) && !known(condition));
    fresh
        .map(|condition| HomeNews {
            is_warning: condition.type_ == "Degraded",
            reason: condition.reason.clone(),
            note: condition.message.clone(),
        })
        .collect()
}

/// Returns a condition. Its time is the last change of its status or of its reason. So a pod that
/// is not ready after a suspension is not late at once.
fn condition(seen: &Seen<'_>, kind: &str, is_true: bool, reason: Reason) -> Condition {
    let word = if is_true { "True" } else { "False" };
    let before = seen.home.status.as_ref().and_then(|status| {
        status.conditions.iter().find(|condition| {
            condition.type_ == kind && condition.status == word && condition.reason == reason.word()
        })
    });
    // An API server keeps only whole seconds.
    let now = Timestamp::from_second(seen.now.as_second()).unwrap_or(seen.now);
    let message = match seen.refused.filter(|_| reason == Reason::Refused) {
        Some(said) => format!("{}: {said}", reason.message()),
        None => reason.message().to_owned(),
    };
    Condition {
        type_: kind.to_owned(),
        status: word.to_owned(),
        reason: reason.word().to_owned(),
        message,
        observed_generation: seen.home.metadata.generation,
        last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time.clone()),
    }
}

/// What a stateful set reports about its pod.
struct Set {
    is_ready: bool,
    is_moving: bool,
}

impl Set {
    fn of(seen: &Seen<'_>) -> Self {
        let object = seen.observed.get(Kind::StatefulSet).filter(|set| is_owned_by(set, seen.home));
        let Some(object) = object else { return Self { is_ready: false, is_moving: true } };
        let number = |path: &str| object.pointer(path).and_then(Value::as_i64).unwrap_or(0);
        let word = |path: &str| object.pointer(path).and_then(Value::as_str);
        let is_seen = number("/status/observedGeneration") >= number("/metadata/generation");
        let is_current = word("/status/updateRevision") == word("/status/currentRevision");
        let is_moving = !is_seen || !is_current || number("/status/replicas") != number("/spec/replicas");
        Self { is_ready: is_seen && is_current && number("/status/readyReplicas") > 0, is_moving }
    }
}
