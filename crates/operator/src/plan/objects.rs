//! The wanted objects of a home.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Map, Value, json};

use super::differs::differs;
use super::types::{Cluster, Kind, MANAGER, is_owned_by};
use super::{profiles, token};
use crate::api::{Agent, AgentHome, AgentHomeSpec, NetworkRule};

/// The first part of the claim's name; the second is the name of the pod.
const CLAIM: &str = "home";

/// The container of the home in its pod.
pub const CONTAINER: &str = "home";
/// The port at which the Gatevisor in the pod answers.
pub const PAGE_PORT: u16 = 9466;
/// The file with the operator's token in the pod, as the key of the secret and its directory.
const TOKEN_DIRECTORY: &str = "/etc/gatevisor/operator";

const PROGRAM: &str = "/usr/local/bin/gatevisor";
/// Seconds that the pod has after the gateways' grace has ended.
const GRACE_AFTER: i32 = 15;
/// Seconds that gateways have at the most to end their turns before they are told to end.
const LONGEST_DRAIN: i32 = 20;

/// The wanted objects of a home.
pub struct Wanted {
    /// The objects, in the order of [`Kind::ALL`].
    pub objects: Vec<(Kind, Value)>,
    /// Whether the storage was changed. A stateful set does not allow that, so the old storage is
    /// kept.
    pub is_storage_kept: bool,
}

/// Returns the objects of a home. `live` returns the object of a kind that it has now, if any.
pub fn wanted<'l>(home: &AgentHome, live: &dyn Fn(Kind) -> Option<&'l Value>, cluster: &Cluster) -> Wanted {
    let base = Base { home, cluster };
    let mut pod = stateful_set(&base);
    let is_storage_kept = live(Kind::StatefulSet).is_some_and(|live| keep_storage(&mut pod, live));
    let mut objects = vec![
        (
            Kind::ServiceAccount,
            base.object(Kind::ServiceAccount, &json!({"automountServiceAccountToken": false})),
        ),
        (Kind::Service, base.object(Kind::Service, &service(&base))),
    ];
    if home.spec.network.policy == NetworkRule::Internet {
        objects.push((Kind::NetworkPolicy, base.object(Kind::NetworkPolicy, &network_policy(&base))));
    }
    let disruption = json!({"spec": {"maxUnavailable": 1, "selector": {"matchLabels": base.selector()}}});
    objects.push((Kind::PodDisruptionBudget, base.object(Kind::PodDisruptionBudget, &disruption)));
    let declared = profiles::body(home, live(Kind::ConfigMap));
    objects.push((Kind::ConfigMap, base.object(Kind::ConfigMap, &declared)));
    let token = token::body(live(Kind::Secret), &cluster.new_token);
    objects.push((Kind::Secret, base.object(Kind::Secret, &token)));
    objects.push((Kind::StatefulSet, base.object(Kind::StatefulSet, &pod)));
    Wanted { objects, is_storage_kept }
}

/// Returns how many of these pods belong to the stateful set of a home. The labels do not decide,
/// because pods of others may have them, too. If the set is gone, its name in the owner reference
/// decides.
pub fn pods_of(home: &AgentHome, set: Option<&Value>, pods: &[ObjectMeta]) -> usize {
    let uid = |set: &Value| set.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
    let own = set.map(|set| uid(set).filter(|_| is_owned_by(set, home)));
    let is_its = |owner: &OwnerReference| match &own {
        Some(own) => own.as_deref() == Some(&owner.uid),
        None => owner.kind == "StatefulSet" && Some(&owner.name) == home.metadata.name.as_ref(),
    };
    pods.iter().filter(|pod| pod.owner_references.iter().flatten().any(is_its)).count()
}

/// Returns an object that makes a stateful set end its pod, and changes nothing else.
///
/// Server-side apply removes a field that we no longer name, so the object repeats all fields.
pub fn without_pods(live: &Value) -> Value {
    let mut kept = Map::new();
    for key in ["apiVersion", "kind", "spec"] {
        if let Some(value) = live.get(key) {
            kept.insert(key.to_owned(), value.clone());
        }
    }
    let mut metadata = Map::new();
    for key in ["name", "namespace", "labels", "ownerReferences"] {
        if let Some(value) = live.pointer(&format!("/metadata/{key}")) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    kept.insert("metadata".to_owned(), Value::Object(metadata));
    let mut object = Value::Object(kept);
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("replicas".to_owned(), json!(0));
    }
    object
}

/// Returns how many seconds the pod has to end.
pub fn pod_grace(spec: &AgentHomeSpec) -> i32 {
    spec.stop_grace_seconds.saturating_add(drain(spec)).saturating_add(GRACE_AFTER)
}

/// Returns the seconds that gateways have to end their turns. Who gives them little time to end
/// wants the pod to end soon.
fn drain(spec: &AgentHomeSpec) -> i32 {
    spec.stop_grace_seconds.min(LONGEST_DRAIN)
}

/// What all objects of a home have in common.
struct Base<'h> {
    home: &'h AgentHome,
    cluster: &'h Cluster,
}

impl Base<'_> {
    fn name(&self) -> &str {
        self.home.metadata.name.as_deref().unwrap_or_default()
    }

    fn selector(&self) -> Value {
        json!({"app.kubernetes.io/name": "agent-home", "app.kubernetes.io/instance": self.name()})
    }

    fn labels(&self) -> Value {
        let mut labels = self.selector();
        if let Some(labels) = labels.as_object_mut() {
            labels.insert("app.kubernetes.io/managed-by".to_owned(), json!(MANAGER));
        }
        labels
    }

    /// Returns a whole object: the common head, and `body`.
    fn object(&self, kind: Kind, body: &Value) -> Value {
        let (group, version, name, _) = kind.resource(self.cluster.budget);
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let owner = json!({
            "apiVersion": "gatevisor.dev/v1alpha1",
            "kind": "AgentHome",
            "name": self.name(),
            "uid": self.home.metadata.uid.as_deref().unwrap_or_default(),
            "controller": true,
            "blockOwnerDeletion": true,
        });
        let mut object = json!({
            "apiVersion": api_version,
            "kind": name,
            "metadata": {
                "name": kind.object_name(self.name()),
                "namespace": self.home.metadata.namespace.as_deref().unwrap_or_default(),
                "labels": self.labels(),
                "ownerReferences": [owner],
            },
        });
        if let (Some(object), Some(body)) = (object.as_object_mut(), body.as_object()) {
            object.extend(body.clone());
        }
        object
    }
}

fn service(base: &Base<'_>) -> Value {
    // Gateways call messengers, and nobody calls gateways. The service only gives the pod a name.
    json!({"spec": {"clusterIP": "None", "selector": base.selector()}})
}

fn network_policy(base: &Base<'_>) -> Value {
    json!({"spec": {
        "podSelector": {"matchLabels": base.selector()},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{
            "ports": [{"protocol": "TCP", "port": PAGE_PORT}],
            "from": [{
                // Kubernetes gives each namespace this label since 1.21. Ours has it anyway.
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": base.cluster.namespace}},
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": MANAGER}},
            }],
        }],
        "egress": [
            {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
            {
                "ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 80}],
                "to": [
                    {"ipBlock": {"cidr": "0.0.0.0/0", "except": [
                        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
                    ]}},
                    {"ipBlock": {"cidr": "::/0", "except": ["fc00::/7", "fe80::/10"]}},
                ],
            },
        ],
    }})
}

fn stateful_set(base: &Base<'_>) -> Value {
    let spec = &base.home.spec;
    let mut volumes = vec![
        json!({"name": "run", "emptyDir": {"medium": "Memory"}}),
        json!({"name": "tmp", "emptyDir": {}}),
        json!({"name": "profiles", "configMap": {"name": Kind::ConfigMap.object_name(base.name())}}),
        // The group is that of the pod, and others may not read it.
        json!({"name": "token", "secret": {"secretName": Kind::Secret.object_name(base.name()), "defaultMode": 0o440}}),
    ];
    let mut claims = Vec::new();
    if let Some(claim) = &spec.storage.existing_claim {
        volumes.push(json!({"name": CLAIM, "persistentVolumeClaim": {"claimName": claim}}));
    } else {
        let mut claim = json!({
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": spec.storage.size}},
        });
        if let (Some(class), Some(claim)) = (&spec.storage.class_name, claim.as_object_mut()) {
            claim.insert("storageClassName".to_owned(), json!(class));
        }
        claims.push(json!({"metadata": {"name": CLAIM}, "spec": claim}));
    }
    json!({"spec": {
        "serviceName": base.name(),
        // At most one, because a home has one supervisor. A stateful set never runs two pods of one
        // name.
        "replicas": i32::from(!spec.suspend),
        "selector": {"matchLabels": base.selector()},
        "template": {
            "metadata": {"labels": base.labels()},
            "spec": {
                "serviceAccountName": base.name(),
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": pod_grace(spec),
                "securityContext": {
                    "runAsNonRoot": true,
                    "runAsUser": spec.user_id,
                    "runAsGroup": spec.user_id,
                    "fsGroup": spec.user_id,
                    "fsGroupChangePolicy": "OnRootMismatch",
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container(spec)],
                "volumes": volumes,
            },
        },
        "volumeClaimTemplates": claims,
    }})
}

fn container(spec: &AgentHomeSpec) -> Value {
    // The startup and the liveness probe ask only about the supervisor, because a gateway that
    // fails must not end all others. The readiness probe asks about all gateways that should run.
    let supervisor = json!({"command": [PROGRAM, "health", "--supervisor"]});
    let secrets: Vec<Value> =
        spec.environment_from_secrets.iter().map(|name| json!({"secretRef": {"name": name}})).collect();
    let end = [PROGRAM, "down", &format!("--drain={}s", drain(spec))];
    json!({
        "name": CONTAINER,
        "image": spec.image,
        "args": spec.args,
        "env": environment(spec),
        "envFrom": secrets,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        // The gateways end their turns, and then the supervisor ends everything.
        "lifecycle": {"preStop": {"exec": {"command": end}}},
        // This allows for the first boot, which fills the home.
        "startupProbe": {"exec": supervisor, "periodSeconds": 2, "timeoutSeconds": 10, "failureThreshold": 150},
        "livenessProbe": {"exec": supervisor, "periodSeconds": 30, "timeoutSeconds": 10, "failureThreshold": 3},
        "readinessProbe": {"exec": {"command": [PROGRAM, "health"]}, "periodSeconds": 15, "timeoutSeconds": 10},
        "resources": {"requests": spec.resources.requests, "limits": spec.resources.limits},
        "volumeMounts": [
            {"name": CLAIM, "mountPath": spec.home_path},
            {"name": "run", "mountPath": "/run"},
            {"name": "tmp", "mountPath": "/tmp"},
            // Without a `subPath`, which would not change with the ConfigMap.
            {"name": "profiles", "mountPath": profiles::DIRECTORY, "readOnly": true},
            {"name": "token", "mountPath": TOKEN_DIRECTORY, "readOnly": true},
        ],
    })
}

/// Returns the environment. The variables of the home come first, and a later variable of ours
/// replaces one of the same name.
fn environment(spec: &AgentHomeSpec) -> Vec<Value> {
    let mut ours = vec![
        ("GATEVISOR_GRACE", spec.stop_grace_seconds.to_string()),
        // A step of the boot that hangs must end before the startup probe gives up.
        ("GATEVISOR_STEP_TIMEOUT", "20".to_owned()),
        ("GATEVISOR_PROFILES_FILE", format!("{}/{}", profiles::DIRECTORY, profiles::FILE)),
        // The operator asks there, and only looks.
        ("GATEVISOR_WEB", "1".to_owned()),
        ("GATEVISOR_WEB_READ_ONLY", "1".to_owned()),
        ("GATEVISOR_WEB_LISTEN", format!("0.0.0.0:{PAGE_PORT}")),
        ("GATEVISOR_WEB_TOKEN_FILE", format!("{TOKEN_DIRECTORY}/{}", token::KEY)),
    ];
    if spec.agent == Agent::Hermes {
        ours.push(("GATEVISOR_AGENT", "hermes".to_owned()));
        ours.push(("HERMES_HOME", spec.home_path.clone()));
    }
    let own = |name: &String| ours.iter().any(|(our, _)| our == name);
    let theirs = spec.environment.iter().filter(|(name, _)| !own(name));
    theirs
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .chain(ours.iter().map(|(name, value)| (*name, value.as_str())))
        .map(
            |(name, value)| {
                if value.is_empty() { json!({"name": name}) } else { json!({"name": name, "value": value}) }
            },
        )
        .collect()
}

/// Replaces the wanted storage by that of the live stateful set if they differ, and returns whether
/// they did. An API server refuses a change of the storage, and with it the whole write.
fn keep_storage(wanted: &mut Value, live: &Value) -> bool {
    const CLAIMS: &str = "/spec/volumeClaimTemplates";
    const VOLUMES: &str = "/spec/template/spec/volumes";
    let none = json!([]);
    let (new, old) = (wanted.pointer(CLAIMS).unwrap_or(&none), live.pointer(CLAIMS).unwrap_or(&none));
    let home_volume = |object: &Value| {
        let volumes = object.pointer(VOLUMES).and_then(Value::as_array)?;
        volumes.iter().find(|volume| volume.get("name").and_then(Value::as_str) == Some(CLAIM)).cloned()
    };
    let (new_volume, old_volume) = (home_volume(wanted), home_volume(live));
    let is_same_volume = match (&new_volume, &old_volume) {
        (Some(new), Some(old)) => !differs(new, old),
        (None, None) => true,
        _ => false,
    };
    let is_same_class = class(new) == class(old) || class(new).is_none();
    if is_same_volume && is_same_class && !differs(new, old) {
        return false;
    }
    let old = old.clone();
    if let Some(claims) = wanted.pointer_mut(CLAIMS) {
        *claims = old;
    }
    if let Some(volumes) = wanted.pointer_mut(VOLUMES).and_then(Value::as_array_mut) {
        volumes.retain(|volume| volume.get("name").and_then(Value::as_str) != Some(CLAIM));
        volumes.extend(old_volume);
    }
    true
}

fn class(claims: &Value) -> Option<&Value> {
    claims.pointer("/0/spec/storageClassName")
}
