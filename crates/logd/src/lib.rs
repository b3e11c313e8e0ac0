//! The log daemon, the logger of a single service, and s6-log.
//!
//! *Lives here:* what happens to a line once a service has written it, in rooms of which each uses only those before it:
//! [`directory`] (log directories as s6-log keeps them), `handover` (what outlives a daemon that is killed),
//! [`console`] (the copy to standard output), [`pipeline`] (the way of a batch of bytes), [`daemon`]; and
//! [`script`] (s6-log's language), which uses `directory` alone.
//!
//! *Does not live here:* the pipes, which the supervisor makes and keeps so that neither side can break one by
//! restarting; the format of `log/run` (`gatevisor-slot`); reading logs back (`gatevisor-logreader`).
//!
//! *May depend on it:* `applets`, for the language of s6-log, and the binary. Never `init`.
//!
//! *May depend on it:* `applets`, for the language of s6-log, and the binary. Never `init`.
//!
//! Two rules order everything. The file comes first: what cannot be written waits in the pipe, and then the service
//! waits. What is shown comes second: standard output may stall for ever without delaying a file or a service, and
//! what is left out meanwhile is counted and announced in its place.
#![forbid(unsafe_code)]

pub mod console;
pub mod daemon;
pub mod directory;
mod handover;
pub mod pipeline;
pub mod script;
mod time;

pub use directory::{DirError, LogDir, LogLimits};
pub use pipeline::settings::OutputOwner;
pub use time::BatchTime;
