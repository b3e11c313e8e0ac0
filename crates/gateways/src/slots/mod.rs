//! *Lives here:* the slot of a gateway: its files, publishing it, and removing it.
//!
//! *Does not live here:* supervising it; deciding whether it shall run.
//!
//! **Source:** docs/reference/slot.md; docs/design/behaviour.md, *Slots*.

mod open;
mod publish;
mod render;
mod renew;

pub(crate) use open::OpenSlot;
pub(crate) use publish::orphaned_status;
pub use publish::{
    ForeignScandir, PublishError, Published, follows_a_killed_one, may_make_slots, publish, replace,
};
pub use render::{RenderSlotError, SlotFile, SlotFiles, render};
pub use renew::{SlotChanges, SlotChangesError, adoption, changes, renew, runs_older};
pub(crate) use renew::{changes_of, is_older_process};

/// The descriptor on which a gateway's interpreter reports readiness.
pub const NOTIFICATION_FD: u32 = 3;
/// Extra file below `data/` that names the profile.
pub const DATA_PROFILE: &str = "data/profile";
/// Extra file below `data/` that names the process which was started before the directory was made
/// as it is.
pub const DATA_OLDER_PROCESS: &str = "data/older-process";
/// Extra file below `data/` that names the agent.
pub const DATA_AGENT: &str = "data/agent";
/// Extra file below `data/` with the exit codes after which the gateway is not started again.
pub const DATA_FAIL_CODES: &str = "data/fail-codes";
/// Extra file below `data/` with the exit codes that request a restart.
pub const DATA_RESTART_CODES: &str = "data/restart-codes";
