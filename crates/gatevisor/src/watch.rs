//! `gatevisor profile-watcher`: gives new profiles a slot and takes those of vanished ones away, as long as it runs.
//!
//! *Lives here:* what a container's watcher works on, and saying what it does.
//! *Does not live here:* watching (`gatevisor_gateways::watch`).
//!
//! A service like any other, of the agent's user: it is in the scandir of the container that runs the gateways of its home.

use std::path::PathBuf;
use std::sync::Arc;

use gatevisor_boot::environment::{self, Variable};
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_gateways::profile::Home;
use gatevisor_gateways::watch::{Notice, WatchError, Watcher};

use crate::exit::{Exit, Failure};
use crate::{context, enter, out};

/// What this is called in the scandir, and as a verb.
pub const NAME: &str = "profile-watcher";

/// Watches the profiles of this container; returns only why it cannot any longer.
pub fn run() -> Failure {
    let variables: Vec<Variable> = std::env::vars_os().collect();
    let watcher = manager(&variables)
        .and_then(|manager| Watcher::new(Arc::new(manager), tell).map_err(|error| failure(&error)));
    match watcher {
        Ok(watcher) => failure(&watcher.run()),
        Err(failure) => failure,
    }
}

/// Says what a watcher did.
#[expect(clippy::needless_pass_by_value, reason = "it is what a watcher tells")]
pub fn tell(notice: Notice) {
    out::say(format_args!("{notice}"));
}

/// Returns the failure that a watcher ended with.
pub fn failure(error: &WatchError) -> Failure {
    Failure::of(Exit::System as u8, error)
}

/// Returns the manager of a container's gateways, as a service of the container finds it in its environment.
pub fn manager(variables: &[Variable]) -> Result<ScandirManager, Failure> {
    let agent = enter::agent()?;
    let home = enter::home(&agent, variables)?;
    let home = Home::new(&home).map_err(|error| Failure::of(error.exit_code(), &error))?;
    let scandir = environment::get(variables, context::SCANDIR_VARIABLE).filter(|path| !path.is_empty());
    let scandir = scandir.map_or_else(|| PathBuf::from(context::CONTAINER_SCANDIR), PathBuf::from);
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(Exit::System, format!("cannot find this program's own file: {error}"))
    })?;
    Ok(ScandirManager::new(agent, home, scandir, program))
}
