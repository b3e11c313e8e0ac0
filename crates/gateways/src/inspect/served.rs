//! *Lives here:* whether the gateway of another profile serves a profile, according to the agent
//! itself.
//!
//! *Does not live here:* which gateway should serve it (see [`crate::topology`]).

use std::collections::BTreeMap;
use std::path::PathBuf;

use gatevisor_paths::by_path;
use gatevisor_wire::Pid;
use rustix::io::Errno;
use serde::Serialize;
use serde_json::Value;

use crate::agent::{ServedFrom, TopologyDefinition};
use crate::files::read_bounded;
use crate::manager::ScandirManager;
use crate::planned_stop_marker::start_time;
use crate::profile::ProfileName;

/// Platforms that a report holds at the most.
const PLATFORMS: usize = 64;
/// Bytes of a text of the agent's.
const TEXT_BYTES: usize = 300;

/// A profile that another profile's gateway serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServedReport {
    /// The profile whose gateway serves it.
    pub by: ProfileName,
    /// That gateway's process.
    pub pid: i32,
    /// Its own platforms, as far as the gateway tells of them.
    pub platforms: Vec<PlatformReport>,
}

/// A messenger or an interface of a profile, as the gateway that serves it tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlatformReport {
    /// What the gateway calls it.
    pub name: String,
    /// The agent's word for its state.
    pub state: String,
    /// What is wrong with it.
    pub error: Option<String>,
}

/// What the gateway of the root profile says while it runs.
pub(crate) struct ServerState {
    state: Value,
    /// The gateway of the root profile, which wrote the state.
    pub(crate) pid: Pid,
}

impl ServerState {
    /// Reads it; `None` if the file is not of the process that is its gateway now.
    pub(crate) fn read(manager: &ScandirManager) -> Option<Self> {
        manager.agent().topology.served_profiles.as_ref()?;
        let root = ProfileName::root();
        let file = manager.home().profile_dir(&root).join(&manager.agent().gateway.state_file);
        let bytes = read_bounded(&file, crate::desired::MAX_BYTES).ok()??;
        let state: Value = serde_json::from_slice(&bytes).ok()?;
        let pid = running(manager, &root)?;
        is_of(&state, pid).then_some(Self { state, pid })
    }

    /// Returns whether it serves a profile; `None` if it has not said whom it serves.
    pub(crate) fn serves(&self, topology: &TopologyDefinition, name: &ProfileName) -> Option<bool> {
        let served = self.state.get(topology.served_profiles.as_ref()?)?.as_array()?;
        Some(served.iter().any(|served| served == name.as_str()))
    }

    /// Returns the other profiles that it serves.
    fn names(&self, topology: &TopologyDefinition) -> impl Iterator<Item = ProfileName> {
        let served = topology.served_profiles.as_ref().and_then(|key| self.state.get(key)?.as_array());
        let names = served.into_iter().flatten().filter_map(|name| name.as_str()?.parse().ok());
        names.filter(|name: &ProfileName| !name.is_root())
    }

    /// Returns why it serves only its own profile, if it says so.
    pub(crate) fn alone_reason(&self, topology: &TopologyDefinition) -> Option<String> {
        text(self.state.get(topology.alone_reason.as_ref()?)?)
    }

    /// Returns what is known of a profile that it serves beside its own.
    pub(super) fn report(&self, topology: &TopologyDefinition, name: &ProfileName) -> Option<ServedReport> {
        let is_served = !name.is_root() && self.serves(topology, name)?;
        is_served.then(|| ServedReport {
            by: ProfileName::root(),
            pid: self.pid.get(),
            platforms: self.platforms(topology, name).unwrap_or_default(),
        })
    }

    fn platforms(&self, topology: &TopologyDefinition, name: &ProfileName) -> Option<Vec<PlatformReport>> {
        let all = self.state.get(topology.platforms.as_ref()?)?.as_object()?;
        let own = all.iter().filter_map(|(key, value)| {
            let platform = key.strip_prefix(name.as_str())?.strip_prefix(':')?;
            let word = |key: &str| value.get(key).and_then(text);
            let state = word("state").unwrap_or_else(|| "unknown".to_owned());
            Some(PlatformReport { name: bounded(platform), state, error: word("error_message") })
        });
        Some(own.take(PLATFORMS).collect())
    }
}

/// Returns the profile whose gateway serves this one, if one does.
///
/// Only the root profile's gateway can serve others, and it says so in its state file. That counts
/// while the process that the file names is its gateway.
pub fn by(manager: &ScandirManager, name: &ProfileName) -> Option<ProfileName> {
    let server = ServerState::read(manager)?;
    server.report(&manager.agent().topology, name).map(|served| served.by)
}

/// Returns the profiles that the gateway of another one serves now, each with that one's process.
pub fn all(manager: &ScandirManager) -> BTreeMap<ProfileName, i32> {
    let Some(server) = ServerState::read(manager) else { return BTreeMap::new() };
    server.names(&manager.agent().topology).map(|name| (name, server.pid.get())).collect()
}

/// Returns the file in which a gateway says whom it serves; `None` if none serves others.
pub fn file(manager: &ScandirManager) -> Option<PathBuf> {
    manager.agent().topology.served_profiles.as_ref()?;
    let file = &manager.agent().gateway.state_file;
    Some(manager.home().profile_dir(&ProfileName::root()).join(file))
}

/// Returns why no other gateway serves a profile, if a reason is known.
pub fn why_not(manager: &ScandirManager, name: &ProfileName) -> Option<String> {
    let place = manager.home().profile_dir(name);
    if by_path::directory(&place).is_err_and(|errno| errno == Errno::NOENT) {
        return Some("the profile has gone".to_owned());
    }
    let server = ServerState::read(manager);
    why_down(manager, server.as_ref(), manager.topology().decide(name).from)
}

/// Returns the process of a profile's own gateway, if it is up. What a supervisor that has gone
/// wrote last says nothing.
fn running(manager: &ScandirManager, name: &ProfileName) -> Option<Pid> {
    let slot = manager.slot(name);
    let is_held = slot.supervised().unwrap_or(true);
    slot.status().ok().filter(|status| is_held && status.is_up())?.pid
}

/// Returns why a gateway that is down is so, where another one serves the profile, or should.
pub(super) fn why_down(
    manager: &ScandirManager,
    server: Option<&ServerState>,
    from: ServedFrom,
) -> Option<String> {
    let root = ProfileName::root();
    match from {
        ServedFrom::Own => None,
        ServedFrom::Nobody => Some(format!("taken out of the profiles that {root} serves")),
        ServedFrom::Server => {
            let up = running(manager, &root).is_some();
            let alone = server.and_then(|server| server.alone_reason(&manager.agent().topology));
            Some(match (up, alone) {
                (false, _) => format!("{root} serves it, and is not up"),
                (true, Some(why)) => format!("{root} should serve it, and serves only itself: {why}"),
                (true, None) => format!("{root} serves it, and does not list it yet"),
            })
        }
    }
}

/// Returns whether a state file is of this process, and not of an earlier one with its number. One
/// that does not say when its process began is believed.
fn is_of(state: &Value, pid: Pid) -> bool {
    let began = state.get("start_time").and_then(Value::as_u64);
    state.get("pid").and_then(Value::as_i64) == Some(i64::from(pid.get()))
        && began.is_none_or(|began| start_time(pid) == Some(began))
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(bounded)
}

fn bounded(text: &str) -> String {
    let line = gatevisor_wire::policy::one_line(text);
    line.chars().take(TEXT_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_state_file_of_an_earlier_process_with_the_same_number_is_not_of_this_process() {
        let pid = Pid::new(std::process::id().cast_signed()).unwrap();
        let began = start_time(pid).unwrap();
        for (state, expected) in [
            (json!({ "pid": pid.get() }), true),
            (json!({ "pid": pid.get(), "start_time": began }), true),
            (json!({ "pid": pid.get(), "start_time": null }), true),
            (json!({ "pid": pid.get(), "start_time": began - 1 }), false),
            (json!({ "pid": pid.get() + 1, "start_time": began }), false),
            (json!({ "start_time": began }), false),
        ] {
            assert_eq!(is_of(&state, pid), expected, "{state}");
        }
    }
}
