//! `gatevisor profile-watcher`: gives new profiles a slot and takes those of vanished ones away, as long as it runs.
//!
//! *Lives here:* what a watcher works on, and saying what it does.
//! *Does not live here:* watching (`gatevisor_gateways::watch`), and whose gateways they are (`takeover`).
//!
//! In a container it is a service like any other, of the agent's user, in the container that runs the gateways of its
//! home. Beside `gatevisor up` it is a process of its own, which ends with the supervisor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gatevisor_client::Waiter;
use gatevisor_gateways::manager::ServiceManager;
use gatevisor_gateways::watch::{ProfileNotice, ProfileWatcher, WatchProfilesError};

use crate::context::CommandContext;
use crate::exit::{CommandError, Exit};
use crate::{live, out};

/// What this is called in the scandir, and as a verb.
pub const NAME: &str = "profile-watcher";

/// How long a supervisor that has just been started may take to take on the slots.
const SUPERVISED_WITHIN: Duration = Duration::from_secs(30);

/// Watches the profiles beside the supervisor that the process which forked this one becomes; returns an exit code.
pub fn beside(context: &CommandContext) -> i32 {
    let manager = &context.manager;
    // Before there is a second thread.
    if let Err(failure) = live::beside(manager) {
        out::warn(&failure.message);
    }
    let watcher = ProfileWatcher::new(Arc::new(manager.clone()), tell);
    // What has come since is done when there is somebody to do it with.
    let first = manager.list().ok().and_then(|names| names.into_iter().next());
    if let Some(mut waiter) = first.and_then(|name| Waiter::subscribe(&manager.slot(&name)).ok()) {
        let _ = waiter.supervised(Instant::now().checked_add(SUPERVISED_WITHIN));
    }
    let error = match watcher {
        Ok(watcher) => {
            watcher.remembering().honouring_stops().map_or_else(|error| error, ProfileWatcher::run)
        }
        Err(error) => error,
    };
    i32::from(out::fail(&failure(&error)))
}

/// Says what a watcher did.
#[expect(clippy::needless_pass_by_value, reason = "it is what a watcher tells")]
pub fn tell(notice: ProfileNotice) {
    out::say(format_args!("{notice}"));
}

/// Returns the failure that a watcher ended with.
pub fn failure(error: &WatchProfilesError) -> CommandError {
    CommandError::of(Exit::System, error)
}
