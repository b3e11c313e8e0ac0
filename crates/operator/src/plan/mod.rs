//! What to write for one home, given what is there: objects in, objects out.
//!
//! *Lives here:* the objects of a home, its status, and the order of its end. Time is an argument.
//! *Does not live here:* reading and writing them (`reconcile`).
//!
//! A second plan of an unchanged home writes nothing. That is a property of this module, and its
//! tests check it with random homes.

mod differs;
mod objects;
mod status;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::api::{AgentHome, AgentHomeStatus, NAME_MAX};

pub use objects::{Kind, MANAGER};

/// The finalizer with which a home waits until its pod has ended by itself.
pub const FINALIZER: &str = "gatevisor.dev/drain";

/// How often the pods of a deleted home are counted until there is none.
const PODS_AGAIN: Duration = Duration::from_secs(2);

/// Which version of a disruption budget the API server has: `v1` since 1.21, `v1beta1` until 1.24.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetVersion {
    /// `policy/v1`.
    V1,
    /// `policy/v1beta1`.
    V1Beta1,
}

/// The objects of a home that the API server has, as it has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Those of [`Kind::ALL`] that exist.
    pub objects: Vec<(Kind, Value)>,
    /// How many pods of the home exist, those that are ending included. It is counted only if the
    /// home is suspended or deleted.
    pub pods: usize,
}

impl Observed {
    /// Returns the object of a kind.
    pub fn get(&self, kind: Kind) -> Option<&Value> {
        self.objects.iter().find(|(other, _)| *other == kind).map(|(_, object)| object)
    }
}

/// What is said about a home, once, as an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Whether somebody has to look.
    pub is_warning: bool,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub note: String,
}

/// What is to be written. Nothing of it is to be written if all of it is empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The list of finalizers, if it is to change. It is written before anything else.
    pub finalizers: Option<Vec<String>>,
    /// Objects that are to be applied, in this order.
    pub apply: Vec<(Kind, Value)>,
    /// Objects that are to be deleted.
    pub delete: Vec<Kind>,
    /// The status, if it is to change.
    pub status: Option<AgentHomeStatus>,
    /// What to say once all that is written.
    pub news: Vec<News>,
    /// When to look again even if nothing changes.
    pub look_again: Option<Duration>,
}

/// Returns what is to be written for a home.
pub fn plan(home: &AgentHome, observed: &Observed, budget: BudgetVersion, now: Timestamp) -> Plan {
    if home.metadata.deletion_timestamp.is_some() {
        return end(home, observed);
    }
    let mut plan = Plan::default();
    let finalizers = home.metadata.finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|name| name == FINALIZER) {
        plan.finalizers = Some([finalizers, vec![FINALIZER.to_owned()]].concat());
    }
    let own = |kind| observed.get(kind).filter(|live| objects::is_owned_by(live, home));
    let is_name_too_long = home.metadata.name.as_ref().is_some_and(|name| name.len() > NAME_MAX);
    let mut wanted = objects::wanted(home, own(Kind::StatefulSet), budget);
    // One of the same name that somebody else made is neither changed nor deleted.
    let is_taken = |kind| observed.get(kind).is_some() && own(kind).is_none();
    let is_name_taken = wanted.objects.iter().any(|(kind, _)| is_taken(*kind));
    for kind in Kind::ALL {
        let place = wanted.objects.iter().position(|(other, _)| *other == kind);
        let Some(place) = place else {
            plan.delete.extend(own(kind).map(|_| kind));
            continue;
        };
        let (_, object) = wanted.objects.remove(place);
        let is_so = own(kind).is_some_and(|live| !differs::differs(&object, live));
        if !is_so && !is_name_taken && !is_name_too_long {
            plan.apply.push((kind, object));
        }
    }
    let seen = status::Seen {
        home,
        observed,
        is_storage_kept: wanted.is_storage_kept,
        is_name_taken,
        is_pod_written: plan.apply.iter().any(|(kind, _)| *kind == Kind::StatefulSet),
        now,
    };
    let status = status::of(&seen);
    plan.news = status::news(home.status.as_ref(), &status);
    plan.look_again = status::look_again(&status, now);
    if home.status.as_ref() != Some(&status) {
        plan.status = Some(status);
    }
    plan
}

/// A home that is deleted: its pod ends as it would on a drain of its node, and only then the home
/// goes, with all that it owns. The claim stays.
fn end(home: &AgentHome, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let finalizers = home.metadata.finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|name| name == FINALIZER) {
        return plan;
    }
    if let Some(live) = observed.get(Kind::StatefulSet)
        && objects::is_owned_by(live, home)
        && live.pointer("/spec/replicas") != Some(&Value::from(0))
    {
        plan.look_again = Some(PODS_AGAIN);
        plan.apply.push((Kind::StatefulSet, objects::without_pods(live)));
        plan.news.push(News {
            is_warning: false,
            reason: "Draining".to_owned(),
            note: format!("the pod ends by itself within {} s", objects::pod_grace(&home.spec)),
        });
        return plan;
    }
    if observed.pods > 0 {
        plan.look_again = Some(PODS_AGAIN);
    } else {
        plan.finalizers = Some(finalizers.into_iter().filter(|name| name != FINALIZER).collect());
    }
    plan
}

#[cfg(test)]
mod tests;
