//! *Lives here:* whether another profile's gateway serves a profile, as the agent itself says it.
//!
//! *Does not live here:* which processes an agent should have.

use serde_json::Value;

use crate::files::read_bounded;
use crate::manager::{ScandirManager, ServiceManager};
use crate::profile::ProfileName;

/// Returns the profile whose gateway serves this one, if one does.
///
/// Only the root profile's can, and it says so in its state file. That counts while the process that the file names is its
/// gateway.
pub fn by(manager: &ScandirManager, name: &ProfileName) -> Option<ProfileName> {
    let key = manager.agent().gateway.served_profiles.as_deref().filter(|_| !name.is_root())?;
    let root = ProfileName::root();
    let file = manager.home().profile_dir(&root).join(&manager.agent().gateway.state_file);
    let bytes = read_bounded(&file, crate::desired::MAX_BYTES).ok()??;
    let state: Value = serde_json::from_slice(&bytes).ok()?;
    let is_listed = state.get(key)?.as_array()?.iter().any(|served| served == name.as_str());
    let running = manager.observe(&root).ok()??.status.filter(gatevisor_wire::status::Status::is_up)?.pid?;
    let is_its_own = state.get("pid").and_then(Value::as_i64) == Some(i64::from(running.get()));
    (is_listed && is_its_own).then_some(root)
}
