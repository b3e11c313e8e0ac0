//! The objects that must be applied to a cluster so that the operator runs in it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

use crate::api::{self, GROUP, NAME_MAX};
use crate::plan::MANAGER;

/// The port of the operator's own health and metrics.
const PORT: u16 = 8080;

/// The settings that differ between clusters.
pub struct Settings {
    /// The namespace that the operator runs in.
    pub namespace: String,
    /// The image of its pods.
    pub image: String,
}

/// Returns all objects, in the order in which they can be applied.
pub fn all(settings: &Settings) -> Result<Vec<Value>, serde_json::Error> {
    let mut objects = vec![definition(api::definition())?, namespace(settings)];
    objects.extend(rights(settings));
    objects.push(deployment(settings));
    Ok(objects)
}

/// Returns the definition with a limit for the length of a home's name, which cannot be written at
/// a field of ours.
fn definition(definition: CustomResourceDefinition) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(definition)?;
    if let Some(versions) = value.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for version in versions {
            let schema = version.pointer_mut("/schema/openAPIV3Schema/properties");
            if let Some(schema) = schema.and_then(Value::as_object_mut) {
                let name = json!({"type": "string", "maxLength": NAME_MAX});
                schema.insert("metadata".to_owned(), json!({"type": "object", "properties": {"name": name}}));
            }
            let profiles = "/schema/openAPIV3Schema/properties/spec/properties/profiles";
            if let Some(profiles) = version.pointer_mut(profiles).and_then(Value::as_object_mut) {
                list_by(profiles, "name");
            }
            // `status.profiles` is no such list: Kubernetes 1.20 makes null of one that an apply
            // empties, and refuses that.
            let conditions =
                version.pointer_mut("/schema/openAPIV3Schema/properties/status/properties/conditions");
            if let Some(conditions) = conditions.and_then(Value::as_object_mut) {
                list_by(conditions, "type");
            }
        }
    }
    Ok(value)
}

/// Has an API server refuse two entries of a list with the same key.
fn list_by(list: &mut Map<String, Value>, key: &str) {
    list.insert("x-kubernetes-list-type".to_owned(), json!("map"));
    list.insert("x-kubernetes-list-map-keys".to_owned(), json!([key]));
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": MANAGER})
}

fn namespace(settings: &Settings) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": settings.namespace, "labels": {
            // The network policies of homes admit this namespace. Kubernetes sets it since 1.21.
            "kubernetes.io/metadata.name": settings.namespace,
            "pod-security.kubernetes.io/enforce": "restricted",
        }},
    })
}

/// Returns the rights of the operator. A call of `reconcile` or `election` needs each of them.
fn rights(settings: &Settings) -> Vec<Value> {
    let own = || json!({"name": MANAGER, "namespace": settings.namespace, "labels": labels()});
    let wide = || json!({"name": MANAGER, "labels": labels()});
    let written = ["get", "list", "watch", "create", "patch"];
    let subject = json!([{"kind": "ServiceAccount", "name": MANAGER, "namespace": settings.namespace}]);
    let refer = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": MANAGER});
    let rules = json!([
        {"apiGroups": [GROUP], "resources": ["agenthomes"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": [GROUP], "resources": ["agenthomes/status"], "verbs": ["patch"]},
        // Where an admission plugin checks owner references, setting one needs this right.
        {"apiGroups": [GROUP], "resources": ["agenthomes/finalizers"], "verbs": ["update"]},
        {"apiGroups": [""], "resources": ["configmaps", "serviceaccounts", "services"], "verbs": written},
        {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": written},
        {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": written},
        {
            "apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"],
            "verbs": ["get", "list", "watch", "create", "patch", "delete"],
        },
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "delete"]},
        // For the tokens. Kubernetes cannot limit a right to names that end in the same way.
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
    ]);
    let lease = json!([
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {
            "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [crate::election::NAME],
            "verbs": ["get", "update"],
        },
    ]);
    let rbac = "rbac.authorization.k8s.io/v1";
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": own()}),
        json!({"apiVersion": rbac, "kind": "ClusterRole", "metadata": wide(), "rules": rules}),
        json!({
            "apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": wide(),
            "roleRef": refer("ClusterRole"), "subjects": subject,
        }),
        json!({"apiVersion": rbac, "kind": "Role", "metadata": own(), "rules": lease}),
        json!({
            "apiVersion": rbac, "kind": "RoleBinding", "metadata": own(),
            "roleRef": refer("Role"), "subjects": subject,
        }),
    ]
}

/// It has two replicas: one acts, and the other takes over when the first one is gone.
fn deployment(settings: &Settings) -> Value {
    let from_pod =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": MANAGER, "namespace": settings.namespace, "labels": labels()},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels()},
            "template": {
                "metadata": {"labels": labels()},
                "spec": {
                    "serviceAccountName": MANAGER,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 10000, "runAsGroup": 10000,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": "operator",
                        "image": settings.image,
                        "args": ["run", "--port", PORT.to_string()],
                        "env": [
                            from_pod("POD_NAME", "metadata.name"), from_pod("POD_NAMESPACE", "metadata.namespace"),
                            from_pod("POD_IP", "status.podIP"),
                        ],
                        "ports": [{"name": "metrics", "containerPort": PORT}],
                        "livenessProbe": {
                            "httpGet": {"path": "/healthz", "port": "metrics"},
                            "periodSeconds": 30, "timeoutSeconds": 10, "failureThreshold": 3,
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "resources": {
                            "requests": {"cpu": "10m", "memory": "32Mi"},
                            "limits": {"memory": "128Mi"},
                        },
                    }],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects() -> Vec<Value> {
        all(&Settings {
            namespace: "gatevisor-system".to_owned(),
            image: "gatevisor-operator:latest".to_owned(),
        })
        .unwrap()
    }

    /// `gatevisor-operator manifests >deploy/kubernetes/operator.yaml` writes it.
    #[test]
    fn the_manifests_of_the_repository_are_those_that_the_program_prints() {
        let text = include_str!("../../../deploy/kubernetes/operator.yaml");
        assert!(text == crate::yaml::documents(&objects()), "write deploy/kubernetes/operator.yaml anew");
    }

    /// What an API server of 1.20 does not know, or refuses in a structural schema.
    #[test]
    fn the_schema_is_structural_and_has_no_rules_in_cel() {
        fn visit(schema: &Value, at: &str) {
            let Some(map) = schema.as_object() else { return };
            for refused in [
                "x-kubernetes-validations",
                "$ref",
                "definitions",
                "additionalItems",
                "oneOf",
                "anyOf",
                "allOf",
            ] {
                assert!(!map.contains_key(refused), "{at} has {refused}");
            }
            let is_free = map.get("x-kubernetes-preserve-unknown-fields").is_some();
            assert!(map.contains_key("type") || is_free, "{at} has no type");
            for (name, inner) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
                visit(inner, &format!("{at}.{name}"));
            }
            for key in ["items", "additionalProperties"] {
                if let Some(inner) = map.get(key) {
                    visit(inner, &format!("{at}[]"));
                }
            }
        }
        let definition = &objects()[0];
        visit(definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap(), "AgentHome");
    }

    #[test]
    fn each_default_is_in_the_schema() {
        let definition = &objects()[0];
        let spec =
            definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").unwrap();
        for (field, default) in [
            ("agent", json!("hermes")),
            ("args", json!(["gateway", "run"])),
            ("homePath", json!("/opt/data")),
            ("suspend", json!(false)),
            ("stopGraceSeconds", json!(30)),
            ("userId", json!(10000)),
        ] {
            assert_eq!(spec.pointer(&format!("/{field}/default")), Some(&default), "{field}");
        }
        assert_eq!(spec.pointer("/storage/properties/size/default"), Some(&json!("10Gi")));
        assert_eq!(spec.pointer("/network/properties/policy/default"), Some(&json!("Internet")));
        let profile = "/profiles/items/properties";
        assert_eq!(spec.pointer(&format!("{profile}/desired/default")), Some(&json!("Running")));
        assert_eq!(spec.pointer(&format!("{profile}/drift/default")), Some(&json!("Revert")));
        assert_eq!(spec.pointer("/profiles/x-kubernetes-list-map-keys"), Some(&json!(["name"])));
    }
}
