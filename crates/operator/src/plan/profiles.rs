//! The file that tells the Gatevisor in the pod which profiles the home has, as a `ConfigMap`.
//!
//! **Source:** docs/reference/profiles-file.md.

use serde_json::{Value, json};

use crate::api::{AgentHome, Drift, HomeProfile, ProfileState};

/// The key of the file in the `ConfigMap`.
pub const FILE: &str = "profiles.toml";
/// Where the file is in the pod.
pub const DIRECTORY: &str = "/etc/gatevisor/profiles";

/// Returns the body of the `ConfigMap`. `live` is the present one, if there is one.
///
/// The file names the generation of the home that declared these profiles. A later generation that
/// declares the same ones changes nothing.
pub fn body(home: &AgentHome, live: Option<&Value>) -> Value {
    let profiles: String = home.spec.profiles.iter().map(profile).collect();
    let known = live.and_then(|live| live.pointer("/data")?.get(FILE)?.as_str());
    let generation = known.and_then(|text| generation_of(home, text.strip_suffix(&profiles)?));
    let generation = generation.or(home.metadata.generation).unwrap_or_default();
    let text = format!("{}{profiles}", head(home, generation));
    json!({"data": {FILE: text}})
}

/// Returns the first line, which says who declares.
fn head(home: &AgentHome, generation: i64) -> String {
    let name = home.metadata.name.as_deref().unwrap_or_default();
    format!("set-by = {}\n", quoted(&format!("AgentHome {name} generation {generation}")))
}

/// Returns the generation that a first line of ours names.
fn generation_of(home: &AgentHome, line: &str) -> Option<i64> {
    let number = line.trim_end().trim_end_matches('"').rsplit(' ').next()?.parse().ok()?;
    (line == head(home, number)).then_some(number)
}

fn profile(profile: &HomeProfile) -> String {
    let desired = match profile.desired {
        ProfileState::Running => "running",
        ProfileState::Stopped => "stopped",
    };
    let drift = match profile.drift {
        Drift::Revert => "revert",
        Drift::Report => "report",
    };
    let name = quoted(&profile.name);
    format!("\n[[profile]]\nname = {name}\ndesired = \"{desired}\"\ndrift = \"{drift}\"\n")
}

/// Returns a text in quotes. A text in JSON is one in TOML, too.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
