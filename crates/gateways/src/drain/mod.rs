//! *Lives here:* having gateways take no new work and end what is under way, before something is
//! done to them.
//!
//! *Does not live here:* what is decided about it (`gatevisor_liveness::drain`), what follows
//! (`crate::manager`), and what an agent's definition says about it (`crate::agent`).
//!
//! A drain has an owner: the process that waits. The owner holds a lock, and a record beside it
//! says what was asked of whom until when. The kernel gives the lock back when the owner ends, in
//! whatever way. So whoever finds a record whose lock is free undoes what it tells of: the watcher
//! of gateways, the next command for that gateway, or the next start of a supervisor.
//!
//! **Source:** docs/guides/drain.md.

mod asking;
mod error;
mod held;
mod leftover;
mod record;
mod report;
mod work;

pub use error::DrainError;
pub use held::{DrainOrder, HeldDrain, run};
pub use leftover::{CancelledDrain, cancel};
pub(crate) use leftover::{forget_all, undo_left, undo_marker};
pub use record::{DrainThen, directory};
pub(crate) use report::DrainReader;
pub use report::{DrainReport, recorded, words_of};
