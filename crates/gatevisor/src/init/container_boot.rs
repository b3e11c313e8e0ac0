//! A boot of a container, as its steps share it.
//!
//! *Lives here:* what the boot knows, and how a step is carried out by a child.
//! *Does not live here:* the steps and their order (`init`).

use std::ffi::OsString;
use std::path::PathBuf;

use gatevisor_boot::child::{ChildError, ChildRunner};
use gatevisor_boot::environment::Variable;
use gatevisor_boot::volume;
use gatevisor_gateways::agent::AgentDefinition;
use gatevisor_paths::OpenHome;
use gatevisor_sys::user::{self, User};
use gatevisor_wire::wait::WaitStatus;

use super::limits;
use super::stop::Stop;
use crate::exit::Exit;
use crate::out;

/// The verb that becomes the container's command.
pub const COMMAND: &str = "container-command";

/// The state of the home's lock.
pub(super) enum HomeLock {
    /// It could not be requested.
    NotAsked,
    /// Another container has it, or this one runs no gateways.
    NotHeld,
    /// This container has it as long as this process lives.
    Held(volume::HeldHomeLock),
}

pub(super) struct ContainerBoot<'a> {
    pub(super) agent: AgentDefinition,
    pub(super) words: &'a [OsString],
    pub(super) program: PathBuf,
    pub(super) home: PathBuf,
    pub(super) variables: Vec<Variable>,
    pub(super) runner: ChildRunner,
    /// The agent's user, if this process is root.
    pub(super) user: Option<User>,
    /// The home, through which all work in it is done; `None` if the way to it was refused.
    pub(super) opened: Option<OpenHome>,
    /// Whether the gateways of the home run here.
    pub(super) lock: HomeLock,
}

/// Returns how a step ended; `None`, with a message, if it took too long.
pub(super) fn within(step: &str, ended: Result<WaitStatus, ChildError>) -> Result<Option<WaitStatus>, Stop> {
    match ended {
        Ok(status) => Ok(Some(status)),
        Err(error @ ChildError::TooLong(_)) => {
            out::warn(&format!("{step} {error} (`{}`); the boot goes on", limits::STEP_VARIABLE));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs `job` as this user, if there is one, in a process that ends afterwards.
pub(super) fn as_agent(user: Option<&User>, job: impl FnOnce() -> i32) -> i32 {
    if let Some(user) = user
        && let Err(errno) = user::assume(user)
    {
        out::warn(&format!("cannot become user `{}`: {errno}", String::from_utf8_lossy(&user.name)));
        return i32::from(Exit::System.code());
    }
    job()
}
