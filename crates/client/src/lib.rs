//! The work of any client of a scandir: sending commands, reading states, and waiting for events.
//!
//! *Lives here:* service directories and scandirs as a client sees them, subscribers in `event/`,
//! waiting for states of one service or of many with one poll (`waiting`), whether a command was
//! executed, and the words for what a service is doing.
//!
//! *Does not live here:* any format (`wire`), any decision of a supervisor (`core`), profiles and
//! desired state (`gateways`), and any output. Everything here works on a genuine s6 tree as well
//! as on ours, for every user whom the directory's modes allow.
//!
//! *May depend on it:* `gateways`, `doctor`, `applets` and the binary, which talk to a scandir.
//! Never `init`.
//!
//! A client subscribes before it acts, and then waits for an event or a deadline. Nothing here
//! sleeps or polls repeatedly. The process must ignore SIGPIPE, as Rust programs do, because a
//! supervisor may go away between our opening and our writing.
#![forbid(unsafe_code)]

mod asking_process;

mod descriptors;
mod dir;
pub mod engine;
mod exec_watch;
pub mod look;
mod open;
mod subscription;

mod refusal_watch;
mod scandir;
mod status_changes;
pub mod status_view;
mod supervisor_watch;
mod unsupervised;
mod waiting;

pub use descriptors::{RaisedLimit, room_for};
pub use dir::{SendError, ServiceDir, StatusError};
pub use exec_watch::ExecProgress;
pub use open::HeldDir;
pub use refusal_watch::RefusalWatch;
pub use scandir::{OURS, ScanDir, ScanSendError};
pub use subscription::Subscription;
pub use supervisor_watch::SupervisorWatch;
pub use unsupervised::{Unsupervised, wait_supervised};
pub use waiting::{
    Beside, Condition, Quantifier, WaitError, Waited, WaitedTogether, Waiter, act, act_all, act_all_beside,
    wait, wait_together,
};
