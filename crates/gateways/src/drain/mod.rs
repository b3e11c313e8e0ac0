//! *Lives here:* drains: gateways take no new work and finish what they have, before something is
//! done to them.
//!
//! *Does not live here:* the decisions (`gatevisor_liveness::drain`), the next step
//! (`crate::manager`), and the part of the agent definition (`crate::agent`).
//!
//! A drain has an owner: the process that waits. The owner holds a lock. A record beside the lock
//! says which gateway was asked, how, and until when. The kernel frees the lock when the owner
//! ends, in whatever way. So a process that finds a record with a free lock undoes that drain: the
//! watcher of gateways, the next command for that gateway, or the next start of a supervisor.
//!
//! **Source:** docs/guides/drain.md.

mod asking;
mod error;
mod held;
mod leftover;
mod over;
mod own;
mod question;
mod record;
mod report;
mod work;

pub use error::DrainError;
pub use held::{DrainOrder, HeldDrain, run};
pub use leftover::{CancelledDrain, cancel};
pub(crate) use leftover::{forget_all, undo_left, undo_marker};
pub use over::DrainCounts;
pub use own::{OWN_DRAIN_VARIABLE, own_drain_s};
pub use record::{DrainThen, counts, directory};
pub(crate) use report::{DrainReader, heeds_no_restart};
pub use report::{DrainReport, recorded, words_of};
