//! The status of a home: its five conditions, and the events about their changes.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::Value;

use super::facts::GatewayFacts;
use super::set::{is_seen, number};
use super::types::{HomeNews, Kind, LiveObjects};
use super::unknown::Unknown;
use crate::api::{AgentHome, AgentHomeStatus, NAME_MAX, ProfileStatus};

/// How long a pod may take to become ready before its home is degraded. The first boot of a large
/// home takes minutes, and the startup probe allows it 300 s.
pub const READY_WITHIN: Duration = Duration::from_mins(10);

/// The states of gateways that do not respond, and of those that fail.
const UNRESPONSIVE: [&str; 1] = ["Unresponsive"];
const FAILED: [&str; 3] = ["Failed", "FailedToStart", "BackingOff"];
/// The most gateways that a message names.
const NAMED: usize = 3;

/// Why a condition is as it is. The words are stable: scripts may compare them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// All gateways that should run are running.
    AllRun,
    /// The pod does not run yet, or not all gateways that should run do.
    NotReady,
    /// The pod tells that gateways that should run do not work.
    GatewaysNotReady,
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
    /// A gateway that should run does not respond.
    GatewayUnresponsive,
    /// A gateway that should run fails.
    GatewayFailed,
    /// The pod tells how its gateways are.
    Answers,
    /// Nobody knows how the gateways are.
    Unknown(Unknown),
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
            Self::GatewaysNotReady => "GatewaysNotReady",
            Self::GatewayUnresponsive => "GatewayUnresponsive",
            Self::GatewayFailed => "GatewayFailed",
            Self::Answers => "PodAnswers",
            Self::Unknown(why) => why.word(),
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
            Self::GatewaysNotReady => "gateways that should run do not work",
            Self::GatewayUnresponsive => "gateways do not respond",
            Self::GatewayFailed => "gateways fail",
            Self::Answers => "the pod tells how its gateways are",
            Self::Unknown(why) => why.message(),
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
    /// What is known of the gateways; nothing if the pod was not asked yet.
    pub facts: Option<&'s GatewayFacts>,
    /// When the status is made.
    pub now: Timestamp,
}

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    const fn word(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(is_true: bool) -> Self {
        if is_true { Self::True } else { Self::False }
    }
}

/// Returns the status of a home.
pub fn of(seen: &Seen<'_>) -> AgentHomeStatus {
    let set = Set::of(seen);
    let suspend = seen.home.spec.suspend;
    let facts = facts(seen);
    let is_lacking = facts.unknown.is_none() && !facts.lacking().is_empty();
    let (is_ready, ready) = match (suspend, set.is_ready) {
        (true, _) => (false, Reason::Suspended),
        (false, _) if is_lacking => (false, Reason::GatewaysNotReady),
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
    let make = |kind, is: Truth, reason| condition(seen, &facts, kind, is, reason);
    let ready = make("Ready", is_ready.into(), ready);
    let (degraded, fault) = degraded(seen, &facts, &ready);
    let reporting = facts.unknown.map_or(Reason::Answers, Reason::Unknown);
    AgentHomeStatus {
        observed_generation: seen.home.metadata.generation,
        conditions: vec![
            make("Progressing", is_moving.into(), progressing),
            make("Degraded", degraded, fault),
            make("Suspended", (suspended == Reason::Suspended).into(), suspended),
            make("Reporting", facts.unknown.is_none().into(), reporting),
            ready,
        ],
        ready: (!suspend).then(|| facts.ready()),
        unresponsive: facts.unknown.is_none().then(|| count(&facts.wanted_in(&UNRESPONSIVE))),
        profiles: facts.profiles,
    }
}

/// Returns what is known of the gateways. As long as the pod was not asked, what was known before
/// counts. So a new leader changes no status before it knows more.
fn facts(seen: &Seen<'_>) -> GatewayFacts {
    if seen.home.spec.suspend {
        return GatewayFacts { profiles: Vec::new(), unknown: Some(Unknown::Suspended) };
    }
    let before = || {
        GatewayFacts::of(seen.home.status.as_ref()).filter(|facts| facts.unknown != Some(Unknown::Suspended))
    };
    let facts = seen.facts.cloned().or_else(before);
    facts.unwrap_or_else(|| GatewayFacts::unknown(seen.home, None, Unknown::Missing))
}

fn count(profiles: &[&ProfileStatus]) -> i32 {
    i32::try_from(profiles.len()).unwrap_or(i32::MAX)
}

/// Returns whether something is wrong, and what. If nobody knows how the gateways are although they
/// may run, nobody knows that either.
fn degraded(seen: &Seen<'_>, facts: &GatewayFacts, ready: &Condition) -> (Truth, Reason) {
    match (fault(seen, facts, ready), facts.unknown) {
        (Some(fault), _) => (Truth::True, fault),
        (None, Some(why)) if why.may_hide_a_fault() => (Truth::Unknown, Reason::Unknown(why)),
        (None, _) => (Truth::False, Reason::AsExpected),
    }
}

/// Returns what is wrong, if anything is.
fn fault(seen: &Seen<'_>, facts: &GatewayFacts, ready: &Condition) -> Option<Reason> {
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
    if let Some(why) = facts.unknown.filter(|why| why.is_fault()) {
        return Some(Reason::Unknown(why));
    }
    if !facts.wanted_in(&UNRESPONSIVE).is_empty() {
        return Some(Reason::GatewayUnresponsive);
    }
    if !facts.wanted_in(&FAILED).is_empty() {
        return Some(Reason::GatewayFailed);
    }
    (late_in(ready, seen.now)? == Duration::ZERO).then_some(Reason::NotReadyInTime)
}

/// Returns whether a reason means that the pod or its gateways are not ready, which one of them is
/// as long as the other is.
fn is_waiting(reason: &str) -> bool {
    [Reason::NotReady, Reason::GatewaysNotReady].iter().any(|waiting| waiting.word() == reason)
}

/// Returns the time until a pod that is not ready counts as late; `None` if it is ready, or does
/// not have to be.
fn late_in(ready: &Condition, now: Timestamp) -> Option<Duration> {
    if !is_waiting(&ready.reason) {
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
/// is not ready after a suspension is not late at once. One that is not ready for one reason after
/// another, as if it crashes again and again, is late.
fn condition(seen: &Seen<'_>, facts: &GatewayFacts, kind: &str, is: Truth, reason: Reason) -> Condition {
    let before = seen.home.status.as_ref().and_then(|status| {
        status.conditions.iter().find(|condition| {
            let is_same = condition.reason == reason.word()
                || (is_waiting(&condition.reason) && is_waiting(reason.word()));
            condition.type_ == kind && condition.status == is.word() && is_same
        })
    });
    // An API server keeps only whole seconds.
    let now = Timestamp::from_second(seen.now.as_second()).unwrap_or(seen.now);
    Condition {
        type_: kind.to_owned(),
        status: is.word().to_owned(),
        reason: reason.word().to_owned(),
        message: message(seen, facts, reason),
        observed_generation: seen.home.metadata.generation,
        last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time.clone()),
    }
}

/// Returns what a reason means here: with the words of the API server, or with the gateways that it
/// is about.
fn message(seen: &Seen<'_>, facts: &GatewayFacts, reason: Reason) -> String {
    let about = match reason {
        Reason::GatewaysNotReady => facts.lacking(),
        Reason::GatewayUnresponsive => facts.wanted_in(&UNRESPONSIVE),
        Reason::GatewayFailed => facts.wanted_in(&FAILED),
        _ => Vec::new(),
    };
    let one = |profile: &&ProfileStatus| match &profile.cause {
        Some(cause) => format!("`{}` ({cause})", profile.name),
        None => format!("`{}`", profile.name),
    };
    let named: Vec<String> = about.iter().take(NAMED).map(one).collect();
    let others = match about.len().saturating_sub(named.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match seen.refused.filter(|_| reason == Reason::Refused) {
        Some(said) => format!("{}: {said}", reason.message()),
        None if named.is_empty() => reason.message().to_owned(),
        None => format!("{}: {}{others}", reason.message(), named.join(", ")),
    }
}

/// What a stateful set reports about its pod.
struct Set {
    is_ready: bool,
    is_moving: bool,
}

impl Set {
    fn of(seen: &Seen<'_>) -> Self {
        let Some(object) = seen.observed.own(Kind::StatefulSet, seen.home) else {
            return Self { is_ready: false, is_moving: true };
        };
        let number = |path: &str| number(object, path);
        let word = |path: &str| object.pointer(path).and_then(Value::as_str);
        let is_seen = is_seen(object);
        let is_current = word("/status/updateRevision") == word("/status/currentRevision");
        let is_moving = !is_seen || !is_current || number("/status/replicas") != number("/spec/replicas");
        Self { is_ready: is_seen && is_current && number("/status/readyReplicas") > 0, is_moving }
    }
}
