//! *Lives here:* following gateways while they run: the watcher, what it publishes, and reading that.
//!
//! *Does not live here:* what is decided (`gatevisor-liveness`); how a gateway is to be followed (`gatevisor-slot`'s `[live]`);
//! evidence on disk.
//!
//! One watcher a scandir, a process of the gateways' user, which the supervisor knows nothing of. What it publishes counts only
//! while it reports: it rewrites a line with the moment all the time, and each record bears its epoch. So what a watcher that is
//! gone, frozen or stuck has said last is said by nobody.

mod act;
mod asking;
mod command;
mod notice;
mod probe;
mod process;
mod publish;
mod record;
mod report;
mod slot;
mod watcher;

pub use notice::{Collect, LiveNotice, LiveWatchError, Silent, Tell};
pub use publish::{DIRECTORY, beat_of};
pub use record::{LiveRecord, LiveRestart, WatcherPulse};
pub use report::{LiveReport, LiveState, look, of_service, restarted, said};
pub use watcher::{LiveWatcher, directory};
