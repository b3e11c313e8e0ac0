//! The log daemon, the stand-alone logger, and the log reader.
//!
//! *Lives here:* what happens to a line once a service has written it: the daemon that reads every service's pipe
//! ([`daemon`]), the same for one service under a genuine s6-svscan ([`standalone`]), log directories as s6-log
//! keeps them, the copy to standard output, and reading logs back ([`reader`]).
//!
//! *Does not live here:* the pipes, which the supervisor makes and keeps so that neither side can break one by
//! restarting; the format of `log/run` (`gatevisor-slot`).
//!
//! *May depend on it:* `applets`, for the language of s6-log, and the binary. Never `init`.
//!
//! Two rules order everything. The file comes first: what cannot be written waits in the pipe, and then the service
//! waits. What is shown comes second: standard output may stall for ever without delaying a file or a service, and
//! what is left out meanwhile is counted and announced in its place.
#![forbid(unsafe_code)]

pub mod batch;
pub mod compose;
mod compress;
mod console;
pub mod daemon;
mod error_note;
mod forward;
mod journal;
pub mod lines;
mod logdir;
mod moment;
pub mod reader;
pub mod rotation;
pub mod script;
mod segments;
mod service;
mod settings;
mod sink;
mod skipped;
mod stage;
pub mod stamp;
pub mod standalone;
mod stream;
mod warnings;
mod words;

pub use logdir::{DirError, LogDir, LogLimits};
pub use moment::BatchTime;
pub use settings::OutputOwner;
