//! What to write for one home, given the present objects: objects in, objects out.
//!
//! *Lives here:* the objects of a home, its status, and the order of its end. Time is an argument.
//! The status is made after the writes, from what the API server has then or has refused.
//! *Does not live here:* reading and writing objects (`reconcile`).
//!
//! A second plan of an unchanged home writes nothing. That is a property of this module, and its
//! tests check it with random homes.

mod differs;
mod facts;
mod objects;
mod profiles;
mod set;
mod status;
mod stuck;
mod token;
mod types;
mod unknown;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::api::{AgentHome, NAME_MAX};

pub use facts::{GatewayFacts, cause};
pub use objects::{PAGE_PORT, pods_of};
pub use set::pod_state;
pub use stuck::{may_be_stuck, stuck};
pub use types::{BudgetVersion, Cluster, HomeNews, HomeReport, Kind, LiveObjects, MANAGER, Plan};
pub use unknown::{Unknown, address};

/// The finalizer that keeps a deleted home until its pod has ended.
pub const FINALIZER: &str = "gatevisor.dev/drain";

/// The time between two counts of the pods of a deleted home.
const PODS_AGAIN: Duration = Duration::from_secs(2);

/// Returns what is to be written for a home, except its status.
pub fn plan(home: &AgentHome, observed: &LiveObjects, cluster: &Cluster) -> Plan {
    if home.metadata.deletion_timestamp.is_some() {
        return end(home, observed);
    }
    let mut plan = Plan::default();
    let finalizers = home.metadata.finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|name| name == FINALIZER) {
        plan.finalizers = Some([finalizers, vec![FINALIZER.to_owned()]].concat());
    }
    let own = |kind| observed.own(kind, home);
    let is_name_too_long = home.metadata.name.as_ref().is_some_and(|name| name.len() > NAME_MAX);
    let mut wanted = objects::wanted(home, &own, cluster);
    // An object of the same name that somebody else made is neither changed nor deleted.
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
    plan.is_storage_kept = wanted.is_storage_kept;
    plan.is_name_taken = is_name_taken;
    plan
}

/// Returns the token of a home, if it has one.
pub fn token_of_home(home: &AgentHome, observed: &LiveObjects) -> Option<String> {
    observed.own(Kind::Secret, home).and_then(token::token_of)
}

/// Returns the status and the events of a home after its plan was written. `observed` are the
/// objects that are there now. `refused` is the answer of the API server if it refused a part of
/// the plan. `facts` are what the pod tells, if it was asked.
pub fn report(
    home: &AgentHome,
    observed: &LiveObjects,
    plan: Plan,
    refused: Option<&str>,
    facts: Option<&GatewayFacts>,
    now: Timestamp,
) -> HomeReport {
    let is_refused = refused.is_some();
    let news = if is_refused { Vec::new() } else { plan.news };
    let mut report = HomeReport { status: None, news, look_again: plan.look_again };
    if home.metadata.deletion_timestamp.is_some() && !is_refused {
        return report;
    }
    let seen = status::Seen {
        home,
        observed,
        is_storage_kept: plan.is_storage_kept,
        is_name_taken: plan.is_name_taken,
        refused,
        facts,
        now,
    };
    let status = status::of(&seen);
    report.news.extend(status::news(home.status.as_ref(), &status));
    report.look_again = report.look_again.or_else(|| status::look_again(&status, now));
    if home.status.as_ref() != Some(&status) {
        report.status = Some(status);
    }
    report
}

/// Returns the plan for a home that is being deleted. First its pod ends as it would on a drain of
/// its node. Then the home is removed with all objects that it owns. The claim stays.
fn end(home: &AgentHome, observed: &LiveObjects) -> Plan {
    let mut plan = Plan::default();
    let finalizers = home.metadata.finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|name| name == FINALIZER) {
        return plan;
    }
    if let Some(live) = observed.own(Kind::StatefulSet, home)
        && live.pointer("/spec/replicas") != Some(&Value::from(0))
    {
        plan.look_again = Some(PODS_AGAIN);
        plan.apply.push((Kind::StatefulSet, objects::without_pods(live)));
        plan.news.push(HomeNews {
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
