//! *Lives here:* the slot of a gateway: what is in it, publishing it, taking it away.
//!
//! *Does not live here:* supervising it; deciding whether it shall run.
//!
//! **Source:** docs/slot.md; docs/behaviour.md, *Slots*.

mod publish;
mod render;
mod renew;

pub(crate) use publish::orphaned_status;
pub use publish::{ForeignScandir, PublishError, Published, may_make_slots, publish, replace};
pub use render::{RenderSlotError, SlotFile, SlotFiles, render};
pub use renew::{SlotChanges, changes, renew};

/// The number of the descriptor on which a gateway's interpreter says that it is ready.
pub const NOTIFICATION_FD: u32 = 3;
/// Extra file below `data/` that names the profile.
pub const DATA_PROFILE: &str = "data/profile";
/// Extra file below `data/` that names the agent.
pub const DATA_AGENT: &str = "data/agent";
/// Extra file below `data/` with the exit codes after which nothing more is tried.
pub const DATA_FAIL_CODES: &str = "data/fail-codes";
/// Extra file below `data/` with the exit codes that ask for a restart.
pub const DATA_RESTART_CODES: &str = "data/restart-codes";
