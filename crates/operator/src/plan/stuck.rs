//! A pod that its stateful set does not replace.
//!
//! *Lives here:* telling it from others. *Does not live here:* deleting it (`reconcile`).
//!
//! A stateful set that starts its pods in order waits until a pod is ready before it does anything
//! else. A pod whose image is wrong never is, so a corrected description would never reach it.
//!
//! **Source:** Kubernetes, *Stateful sets*, "Forced rollback".

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::set::{is_seen, number};

/// The label with the revision that a pod was made from.
const REVISION: &str = "controller-revision-hash";

/// Returns whether a stateful set may have a pod that is not ready and was made from another
/// description than the present one.
pub fn may_be_stuck(set: &Value) -> bool {
    let number = |path: &str| number(set, path);
    let has_pod = number("/spec/replicas") > 0 && number("/status/replicas") > 0;
    is_seen(set) && has_pod && number("/status/readyReplicas") == 0 && number("/status/updatedReplicas") == 0
}

/// Returns the uid of a pod that is to be deleted, so that its stateful set makes a new one.
pub fn stuck(set: &Value, pod: &Pod) -> Option<String> {
    let wanted = set.pointer("/status/updateRevision").and_then(Value::as_str)?;
    let set_uid = set.pointer("/metadata/uid").and_then(Value::as_str)?;
    let meta = &pod.metadata;
    let is_its = meta.owner_references.iter().flatten().any(|owner| owner.uid == set_uid);
    let revision = meta.labels.as_ref()?.get(REVISION)?;
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_ready =
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let is_stuck = is_its && revision != wanted && !is_ready && meta.deletion_timestamp.is_none();
    meta.uid.clone().filter(|_| is_stuck && may_be_stuck(set))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(changes: &[(&str, Value)]) -> Option<String> {
        let mut both = json!({
            "set": {
                "metadata": {"uid": "s", "generation": 3},
                "spec": {"replicas": 1},
                "status": {"observedGeneration": 3, "replicas": 1, "updateRevision": "coder-3"},
            },
            "pod": {
                "metadata": {
                    "uid": "p", "labels": {"controller-revision-hash": "coder-2"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "coder", "uid": "s"}],
                },
                "status": {"phase": "Pending"},
            },
        });
        for (path, value) in changes {
            let (parent, key) = path.rsplit_once('/').unwrap();
            both.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        stuck(&both["set"], &serde_json::from_value(both["pod"].clone()).unwrap())
    }

    #[test]
    fn only_a_pod_of_a_former_description_that_is_not_ready_is_replaced() {
        assert_eq!(told(&[]).as_deref(), Some("p"));
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let unready = json!([{"type": "Ready", "status": "False"}]);
        assert_eq!(told(&[("/pod/status/conditions", unready)]).as_deref(), Some("p"));
        for (path, value) in [
            ("/pod/status/conditions", ready),
            ("/pod/metadata/labels/controller-revision-hash", json!("coder-3")),
            ("/pod/metadata/labels", json!(null)),
            ("/pod/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
            ("/pod/metadata/ownerReferences/0/uid", json!("other")),
            ("/set/metadata/generation", json!(4)),
            ("/set/spec/replicas", json!(0)),
            ("/set/status/replicas", json!(0)),
            ("/set/status/readyReplicas", json!(1)),
            ("/set/status/updatedReplicas", json!(1)),
            ("/set/status/updateRevision", json!(null)),
        ] {
            assert_eq!(told(&[(path, value.clone())]), None, "{path} {value}");
        }
    }
}
