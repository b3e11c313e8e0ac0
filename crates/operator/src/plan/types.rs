//! The types of a plan, and of the objects that it is made from.

use std::time::Duration;

use serde_json::Value;

use crate::api::{AgentHome, AgentHomeStatus};

/// The name under which the API server records who set which field.
pub const MANAGER: &str = "gatevisor-operator";

/// The kinds of objects of a home. It has one object of each, mostly with its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The account of the pod, which has no rights.
    ServiceAccount,
    /// The name of the pod in the network.
    Service,
    /// Who may reach the pod, and whom it may reach.
    NetworkPolicy,
    /// The limit that an administrator who drains a node must respect.
    PodDisruptionBudget,
    /// The file that declares the profiles.
    ConfigMap,
    /// The token with which the operator asks the pod.
    Secret,
    /// The pod and its claim.
    StatefulSet,
}

impl Kind {
    /// All kinds, in the order in which they are written. The pod comes last.
    pub const ALL: [Self; 7] = [
        Self::ServiceAccount,
        Self::Service,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::ConfigMap,
        Self::Secret,
        Self::StatefulSet,
    ];

    /// Returns the name of the object of a home. A `ConfigMap` or a `Secret` that has the plain
    /// name is often somebody's own.
    pub fn object_name(self, home: &str) -> String {
        match self {
            Self::ConfigMap => format!("{home}-profiles"),
            Self::Secret => format!("{home}-operator-token"),
            _ => home.to_owned(),
        }
    }

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
            (Self::ConfigMap, _) => ("", "v1", "ConfigMap", "configmaps"),
            (Self::Secret, _) => ("", "v1", "Secret", "secrets"),
            (Self::StatefulSet, _) => ("apps", "v1", "StatefulSet", "statefulsets"),
        }
    }
}

/// The version of disruption budgets that the API server has: `v1` since 1.21, `v1beta1` until
/// 1.24.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetVersion {
    /// `policy/v1`.
    V1,
    /// `policy/v1beta1`.
    V1Beta1,
}

/// What the objects of all homes depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The version of disruption budgets.
    pub budget: BudgetVersion,
    /// The namespace of the operator, which alone may ask the pods.
    pub namespace: String,
    /// A token that nobody has used, for a home that has none.
    pub new_token: String,
}

/// The present objects of a home, as the API server has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveObjects {
    /// The objects that exist, by kind.
    pub objects: Vec<(Kind, Value)>,
    /// How many pods of its stateful set exist, including those that are ending. They are counted
    /// only if the home is suspended or deleted.
    pub pods: usize,
}

impl LiveObjects {
    /// Returns the object of a kind.
    pub fn get(&self, kind: Kind) -> Option<&Value> {
        self.objects.iter().find(|(other, _)| *other == kind).map(|(_, object)| object)
    }

    /// Returns the object of a kind, if it is the home's own.
    pub fn own(&self, kind: Kind, home: &AgentHome) -> Option<&Value> {
        self.get(kind).filter(|live| is_owned_by(live, home))
    }

    /// Notes that the API server now has this object of a kind.
    pub fn set(&mut self, kind: Kind, object: Value) {
        self.objects.retain(|(other, _)| *other != kind);
        self.objects.push((kind, object));
    }
}

/// An event about a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeNews {
    /// Whether somebody must do something about it.
    pub is_warning: bool,
    /// One word in CamelCase, by which a program recognizes it.
    pub reason: String,
    /// One sentence for people.
    pub note: String,
}

/// What is to be written for a home. An empty plan writes nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The list of finalizers, if it changes. It is written before everything else.
    pub finalizers: Option<Vec<String>>,
    /// Objects that are to be applied, in this order.
    pub apply: Vec<(Kind, Value)>,
    /// Objects that are to be deleted.
    pub delete: Vec<Kind>,
    /// The events to make after everything is written.
    pub news: Vec<HomeNews>,
    /// How soon to look again even if nothing changes.
    pub look_again: Option<Duration>,
    /// Whether the storage differs from what the home describes, and is kept.
    pub is_storage_kept: bool,
    /// Whether an object of somebody else has the name of one of ours.
    pub is_name_taken: bool,
}

impl Plan {
    /// Returns whether objects of the home are to be written.
    pub fn has_objects(&self) -> bool {
        !self.apply.is_empty() || !self.delete.is_empty()
    }
}

/// What is to be reported about a home after its plan was written or refused.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HomeReport {
    /// The status, if it changes.
    pub status: Option<AgentHomeStatus>,
    /// The events to make after the status is written.
    pub news: Vec<HomeNews>,
    /// How soon to look again even if nothing changes.
    pub look_again: Option<Duration>,
}

/// Returns whether the home owns an object. An object of the same name that somebody else made is
/// never deleted.
pub fn is_owned_by(object: &Value, home: &AgentHome) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.is_some_and(|owners| {
        owners.iter().any(|owner| owner.get("uid").and_then(Value::as_str) == home.metadata.uid.as_deref())
    })
}
