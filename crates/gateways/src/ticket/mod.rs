//! *Lives here:* a gateway's request for its own restart: asked for by the gateway or by what runs
//! in it, kept on disk, carried out by the watcher of gateways.
//!
//! *Does not live here:* draining (`crate::drain`), restarting (`crate::manager`), and the question
//! that a supervisor asks after an exit (`gatevisor_slot::handoff`).
//!
//! Whoever asks ends with the gateway, so it can neither wait nor see the result. It leaves a
//! ticket and gets its answer at once. The watcher has a child carry the ticket out. A ticket names
//! the process that is to end. So whoever finds it later, after a kill of the child, the watcher or
//! the supervisor, sees whether that process is still there, and begins anew or writes down that it
//! is done. The ticket stays in the home afterwards, with its outcome, for the next process.
//!
//! A daily restart that the agent definition wants is a ticket, too, which the watcher leaves.
//!
//! **Source:** docs/guides/drain.md.

mod brake;
mod carry;
mod daily;
mod decide;
mod error;
mod keeper;
mod look;
mod own;
mod record;
mod report;
mod schedule;

pub use brake::FREE;
pub use error::TicketError;
pub(crate) use keeper::TicketKeeper;
pub use own::{AskedRestart, OwnRestart, ask};
pub use record::{DIRECTORY, TicketStage};
pub(crate) use record::{forget, leave_reason};
pub(crate) use report::TicketReader;
pub use report::TicketReport;
pub(crate) use schedule::time_of_day;
