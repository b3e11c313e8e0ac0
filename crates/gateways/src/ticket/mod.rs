//! *Lives here:* restart tickets: the requests of gateways for their own restart. The gateway or a
//! program in it asks, the ticket is kept on disk, and the watcher of gateways carries it out.
//!
//! *Does not live here:* draining (`crate::drain`), restarting (`crate::manager`), and the question
//! that a supervisor asks after an exit (`gatevisor_slot::handoff`).
//!
//! The process that asks ends with the gateway, so it can neither wait nor see the result. It
//! leaves a ticket, and gets its answer at once. The watcher has a child carry the ticket out. A
//! ticket names the process that is to end. So if the child, the watcher or the supervisor is
//! killed, whoever finds the ticket later sees whether that process still runs. It then begins
//! anew, or records that the restart has happened. Afterwards the ticket stays in the home with its
//! outcome, for the next process of the gateway.
//!
//! For a daily restart of the agent definition, the watcher leaves a ticket.
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
