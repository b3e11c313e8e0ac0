//! The log daemon, the logger of a single service, and s6-log.
//!
//! *Lives here:* the processing of lines that services write, in layers, each of which uses only
//! those before it: [`directory`] (log directories as s6-log keeps them), `handover` (the state
//! that outlives a killed daemon), [`console`] (the copy to standard output), [`pipeline`] (the way
//! of a batch of bytes), [`daemon`]; and [`script`] (s6-log's language), which uses `directory`
//! alone.
//!
//! *Does not live here:* the pipes, which the supervisor makes and keeps so that neither side can
//! break one by restarting; the format of `log/run` (`gatevisor-slot`); reading logs back
//! (`gatevisor-logreader`).
//!
//! *May depend on it:* `applets`, for the language of s6-log, and the binary. Never `init`.
//!
//! Two rules determine the order. The file comes first: bytes that cannot be written wait in the
//! pipe, and then the service waits. The console comes second: standard output may stall for ever
//! without delaying a file or a service, and lines that are left out meanwhile are counted and
//! announced in their place.
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
