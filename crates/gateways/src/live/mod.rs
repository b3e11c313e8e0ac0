//! *Lives here:* following gateways while they run: the watcher, what it publishes, and reading
//! that.
//!
//! *Does not live here:* the decisions (`gatevisor-liveness`); the settings (`[live]` of
//! `gatevisor-slot`); evidence on disk.
//!
//! There is one watcher for each scandir. It is a process of the gateways' user, and the supervisor
//! does not know it. What it publishes counts only as long as it reports: it keeps rewriting a line
//! with the time, and each record names the epoch of its watcher. So the last records of a watcher
//! that is gone, frozen or stuck do not count.

mod act;
mod again;
mod asking;
mod awaited;
mod clock;
mod command;
mod notice;
mod pauses;
mod probe;
mod process;
mod publish;
mod record;
mod report;
mod slot;
mod tally;
mod watcher;

pub use notice::{Collect, LiveNotice, LiveNoticeSink, LiveWatchError, Silent};
pub(crate) use publish::DATA_RESTARTED;
pub use publish::{DIRECTORY, beat_of, directory, probe_counts};
pub use record::{LiveRecord, LiveRestart, WatcherPulse};
pub(crate) use report::DATA_LIVE;
pub use report::{LiveReport, LiveState, look, missing, of_service, restarted, said, unwatched, was_watched};
pub(crate) use slot::is_of_this_process;
pub use tally::ProbeCounts;
pub use watcher::LiveWatcher;

/// Finds out about the starts of other services, for the interpreter of `run`.
pub const START_SIGHT: gatevisor_slot::start_permits::StartSight =
    gatevisor_slot::start_permits::StartSight { start: report::start_seen, awaited: awaited::awaited };
