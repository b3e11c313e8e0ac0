//! What any client of a scandir does: sends commands, reads what is so, and waits for what happens.
//!
//! *Lives here:* service directories and scandirs as a client sees them, listeners in `event/`, waiting for states
//! of one service or of many with one poll, whether a command was executed, and the words for what a service is doing.
//!
//! *Does not live here:* any format (`wire`), any decision of a supervisor (`core`), profiles and desired state
//! (`gateways`), and any output. Everything here works on a genuine s6 tree as on ours, as whichever user the
//! directory's modes allow.
//!
//! *May depend on it:* whatever talks to a scandir: `gateways`, `applets`, the binary. Never `init`.
//!
//! A client subscribes before it acts and waits for an event or a deadline. Nothing here sleeps or asks twice.
//! The process must ignore SIGPIPE, as Rust programs do: a supervisor may go away between opening and writing.
#![forbid(unsafe_code)]

mod asked;

mod descriptors;
mod dir;
pub mod engine;
mod exec_watch;
mod listener;
pub mod look;
mod open;

mod refusal_watch;
mod scandir;
mod status_changes;
pub mod status_view;
mod supervisor_watch;
mod unsupervised;
mod waiting;

pub use descriptors::{RaisedLimit, room_for};
pub use dir::{SendError, ServiceDir, StatusError};
pub use exec_watch::{ExecProgress, ExecWatch};
pub use listener::Listener;
pub use open::HeldDir;
pub use refusal_watch::RefusalWatch;
pub use scandir::{OURS, ScanDir, ScanSendError};
pub use supervisor_watch::SupervisorWatch;
pub use unsupervised::{Unsupervised, wait_supervised};
pub use waiting::{
    Condition, Quantifier, WaitError, Waited, WaitedTogether, Waiter, act, act_all, wait, wait_together,
};
