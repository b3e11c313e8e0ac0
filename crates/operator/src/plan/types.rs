//! What a plan is made from, and what it is.

use std::time::Duration;

use serde_json::Value;

use crate::api::AgentHomeStatus;

/// The name under which the API server records who set which field.
pub const MANAGER: &str = "gatevisor-operator";

/// The kinds of objects that a home has one of each, all under its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The identity of the pod, which may do nothing.
    ServiceAccount,
    /// The name of the pod in the network.
    Service,
    /// Who may reach the pod, and whom it may reach.
    NetworkPolicy,
    /// What an administrator who drains a node must respect.
    PodDisruptionBudget,
    /// The pod and its claim.
    StatefulSet,
}

impl Kind {
    /// All kinds, in the order in which they are written: the pod comes last.
    pub const ALL: [Self; 5] = [
        Self::ServiceAccount,
        Self::Service,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::StatefulSet,
    ];

    /// Returns group, version, kind and plural.
    pub fn resource(self, budget: BudgetVersion) -> (&'static str, &'static str, &'static str, &'static str) {
        match (self, budget) {
            (Self::ServiceAccount, _) => ("", "v1", "ServiceAccount", "serviceaccounts"),
            (Self::Service, _) => ("", "v1", "Service", "services"),
            (Self::NetworkPolicy, _) => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            (Self::PodDisruptionBudget, BudgetVersion::V1) => {
                ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
            }
            (Self::PodDisruptionBudget, BudgetVersion::V1Beta1) => {
                ("policy", "v1beta1", "PodDisruptionBudget", "poddisruptionbudgets")
            }
            (Self::StatefulSet, _) => ("apps", "v1", "StatefulSet", "statefulsets"),
        }
    }
}

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
pub struct LiveObjects {
    /// Those of [`Kind::ALL`] that exist.
    pub objects: Vec<(Kind, Value)>,
    /// How many pods of its stateful set exist, those that are ending included. It is counted only
    /// if the home is suspended or deleted.
    pub pods: usize,
}

impl LiveObjects {
    /// Returns the object of a kind.
    pub fn get(&self, kind: Kind) -> Option<&Value> {
        self.objects.iter().find(|(other, _)| *other == kind).map(|(_, object)| object)
    }

    /// Notes that the API server now has this object of a kind.
    pub fn set(&mut self, kind: Kind, object: Value) {
        self.objects.retain(|(other, _)| *other != kind);
        self.objects.push((kind, object));
    }
}

/// What is said about a home, once, as an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeNews {
    /// Whether somebody has to look.
    pub is_warning: bool,
    /// One word in CamelCase, by which a program recognizes it.
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
    /// What to say once all that is written.
    pub news: Vec<HomeNews>,
    /// When to look again even if nothing changes.
    pub look_again: Option<Duration>,
    /// The storage differs from what the home says, and is kept.
    pub is_storage_kept: bool,
    /// An object of somebody else has the name of one of ours.
    pub is_name_taken: bool,
}

/// What is said of a home after its plan was written, or refused.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HomeReport {
    /// The status, if it is to change.
    pub status: Option<AgentHomeStatus>,
    /// What to say once it is written.
    pub news: Vec<HomeNews>,
    /// When to look again even if nothing changes.
    pub look_again: Option<Duration>,
}
