//! What a stateful set tells about its pod.
//!
//! *Lives here:* reading it. *Does not live here:* what follows for the status (`status`), and for
//! a pod that is not replaced (`stuck`).

use serde_json::Value;

use super::types::{Kind, LiveObjects};
use crate::api::AgentHome;

/// Returns a number of a stateful set; 0 if it is left out.
pub fn number(set: &Value, path: &str) -> i64 {
    set.pointer(path).and_then(Value::as_i64).unwrap_or(0)
}

/// Returns whether its controller has seen its last change, so that its status is about that.
pub fn is_seen(set: &Value) -> bool {
    number(set, "/status/observedGeneration") >= number(set, "/metadata/generation")
}

/// Returns a text that changes when the pod of a home does, as far as its stateful set tells.
pub fn pod_state(home: &AgentHome, observed: &LiveObjects) -> String {
    let set = observed.own(Kind::StatefulSet, home);
    let told = ["observedGeneration", "replicas", "readyReplicas", "updatedReplicas", "updateRevision"];
    let one = |key: &str| set.and_then(|set| set.pointer(&format!("/status/{key}"))).map(Value::to_string);
    told.map(|key| one(key).unwrap_or_default()).join(" ")
}
