//! The type `AgentHome`, `gatevisor.dev/v1alpha1`, as an API server keeps it.
//!
//! *Lives here:* the fields, their defaults, and the schema that follows from them. *Does not live
//! here:* what is made of a home (`plan`).
//!
//! The schema is structural and has no rules in CEL, so that Kubernetes 1.20 accepts it. What such
//! a schema cannot refuse, `plan` reports as the condition `Degraded`.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, CustomResourceExt, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The group of our types.
pub const GROUP: &str = "gatevisor.dev";

/// The longest name of a home. A pod's label holds the name, a hyphen and a hash of 10 characters,
/// and may have 63 characters; names of claims are longer than that of the home, too.
pub const NAME_MAX: usize = 40;

/// The desired state of one agent home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "gatevisor.dev",
    version = "v1alpha1",
    kind = "AgentHome",
    namespaced,
    shortname = "ah",
    category = "gatevisor",
    status = "AgentHomeStatus",
    doc = "One home of AI-agent gateways: a pod in which Gatevisor supervises them, and its volume",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.ready"}"#,
    printcolumn = r#"{"name":"Unresponsive","type":"integer","jsonPath":".status.unresponsive"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Agent","type":"string","jsonPath":".spec.agent"}"#,
    printcolumn = r#"{"name":"Suspended","type":"boolean","jsonPath":".spec.suspend","priority":1}"#,
    printcolumn = r#"{"name":"Image","type":"string","jsonPath":".spec.image","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AgentHomeSpec {
    /// The agent whose gateways the home has.
    #[serde(default)]
    pub agent: Agent,
    /// The image, which has Gatevisor as its entry point and the agent in it.
    #[schemars(length(min = 1))]
    pub image: String,
    /// The arguments of the image's entry point.
    #[serde(default = "default_args")]
    pub args: Vec<String>,
    /// Where the image expects the home, and so where the volume is mounted.
    #[serde(default = "default_home_path")]
    #[schemars(regex(pattern = r"^(/[A-Za-z0-9._-]+)+$"))]
    pub home_path: String,
    /// Whether no pod runs. The volume stays.
    #[serde(default)]
    pub suspend: bool,
    /// Seconds that the gateways have to end by themselves when the pod ends. Before that, they
    /// have as long to end their turns, but 20 s at the most. The pod has 15 s more.
    #[serde(default = "default_stop_grace")]
    #[schemars(range(min = 1, max = 3600))]
    pub stop_grace_seconds: i32,
    /// The user and group that the pod runs as, and that the volume belongs to.
    #[serde(default = "default_user")]
    #[schemars(range(min = 1, max = 4_294_967_294_i64))]
    pub user_id: i64,
    /// The volume of the home. It cannot be changed once the home exists.
    #[serde(default)]
    pub storage: Storage,
    /// What the pod may use.
    #[serde(default)]
    pub resources: Resources,
    /// The profiles that the home has, and which of their gateways run. Others are left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<HomeProfile>,
    /// Variables of the pod's environment, which all its gateways get.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Names of secrets; each of their keys is a variable, such as the key of a model's provider.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment_from_secrets: Vec<String>,
    /// Who may reach the pod, and whom it may reach.
    #[serde(default)]
    pub network: Network,
}

/// Which agent a home is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Agent {
    /// Hermes Agent, by the definition that Gatevisor has of it.
    #[default]
    Hermes,
    /// The one that the image's `/etc/gatevisor/agent.toml` defines.
    Image,
}

/// A profile that a home declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HomeProfile {
    /// Its name; `default` is the root profile.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9_-]*$"), length(max = 243))]
    pub name: String,
    /// Whether its gateway runs.
    #[serde(default)]
    pub desired: ProfileState,
    /// What becomes of another desired state that somebody sets inside of the home.
    #[serde(default)]
    pub drift: Drift,
}

/// Whether the gateway of a profile runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProfileState {
    /// It runs.
    #[default]
    Running,
    /// It does not run.
    Stopped,
}

/// What becomes of a desired state that differs from the declared one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Drift {
    /// The declared state is set again.
    #[default]
    Revert,
    /// It is kept and shown, until another state is declared.
    Report,
}

/// The volume of a home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// The size of the claim that is made.
    #[serde(default = "default_size")]
    #[schemars(regex(pattern = r"^[1-9][0-9]*(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$"))]
    pub size: String,
    /// The storage class of the claim that is made; by default, that of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
    /// A claim that exists, instead of one that is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing_claim: Option<String>,
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: default_size(), class_name: None, existing_claim: None }
    }
}

/// What a pod asks for, and what it may have at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// What a node must have free, by resource.
    #[serde(default = "default_requests")]
    pub requests: BTreeMap<String, String>,
    /// What the pod gets at most, by resource.
    #[serde(default = "default_limits")]
    pub limits: BTreeMap<String, String>,
}

impl Default for Resources {
    fn default() -> Self {
        Self { requests: default_requests(), limits: default_limits() }
    }
}

/// Which network policy a home has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Network {
    /// The rule for the pod.
    #[serde(default)]
    pub policy: NetworkRule,
}

/// A rule for the network of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NetworkRule {
    /// Nobody but the operator reaches the pod. It reaches name servers, and the ports 80 and 443
    /// of public addresses.
    #[default]
    Internet,
    /// The operator makes no network policy.
    None,
}

/// The observed state of a home.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentHomeStatus {
    /// The generation of the home that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Progressing`, `Degraded`, `Suspended` and `Reporting`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How many gateways work of those that should run, such as `3/4`; `?/4` if nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// How many gateways that should run are unresponsive, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unresponsive: Option<i32>,
    /// The gateways, by profile, as the Gatevisor in the pod tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<ProfileStatus>,
}

/// The observed state of one gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileStatus {
    /// Its profile; `default` is the root profile.
    pub name: String,
    /// Its state, such as `Ready` or `BackingOff`; `Unknown` if nobody knows.
    pub state: String,
    /// Whether it should run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<ProfileState>,
    /// Since when it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Starts after a death that nobody requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<i64>,
    /// How it ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<LastExit>,
    /// Why it is not well: the first cause that `gatevisor explain` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// How a gateway has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastExit {
    /// When it ended.
    pub at: Time,
    /// Its exit code, unless a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// What that means, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
}

fn default_args() -> Vec<String> {
    ["gateway", "run"].map(str::to_owned).into()
}

fn default_home_path() -> String {
    "/opt/data".to_owned()
}

fn default_stop_grace() -> i32 {
    30
}

fn default_user() -> i64 {
    10_000
}

fn default_size() -> String {
    "10Gi".to_owned()
}

fn default_requests() -> BTreeMap<String, String> {
    [("cpu", "100m"), ("memory", "512Mi")].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn default_limits() -> BTreeMap<String, String> {
    [("memory", "2Gi")].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Returns the name of a home in messages, and by which it is found.
pub fn key(home: &AgentHome) -> String {
    format!("{}/{}", home.namespace().unwrap_or_default(), home.name_any())
}

/// Returns the definition of `AgentHome` for an API server.
pub fn definition() -> CustomResourceDefinition {
    AgentHome::crd()
}
