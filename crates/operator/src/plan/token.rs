//! The token with which the operator asks the Gatevisor in a pod, as a `Secret`.
//!
//! It lets its holder look, and change nothing. Whoever may read secrets of the namespace has it.

use k8s_openapi::ByteString;
use serde_json::{Value, json};

/// The key of the token in the `Secret`, and the name of its file in the pod.
pub const KEY: &str = "token";
/// The fewest characters that a Gatevisor accepts as a token.
const SHORTEST: usize = 16;

/// Returns the body of the `Secret`. `live` is the present one, if there is one; its token stays.
pub fn body(live: Option<&Value>, new: &str) -> Value {
    let token = live.and_then(token_of).unwrap_or_else(|| new.to_owned());
    json!({"type": "Opaque", "data": {KEY: ByteString(token.into_bytes())}})
}

/// Returns the token in a `Secret`, if a Gatevisor would accept it.
pub fn token_of(secret: &Value) -> Option<String> {
    let encoded = secret.pointer("/data")?.get(KEY)?.clone();
    let ByteString(bytes) = serde_json::from_value(encoded).ok()?;
    let is_good = bytes.len() >= SHORTEST && bytes.iter().all(u8::is_ascii_graphic);
    String::from_utf8(bytes).ok().filter(|_| is_good)
}
