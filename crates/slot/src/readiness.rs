//! How the supervisor learns that a service is ready, and the helper processes for that.
//!
//! *Lives here:* the ways, and running the prober and the relay beside the service.
//! *Does not live here:* probing (`probe`), receiving reports (`notify`); which way a `run` file
//! chooses (`interpreter`).

use std::os::fd::OwnedFd;

use gatevisor_wire::started::Announcer;
use rustix::fs::CWD;

use crate::answerer::ServiceProcesses;
use crate::data_files::NOT_READY;
use crate::failure::{FailedStart, one_line};
use crate::notify::{Receiver, relay};
use crate::os;
use crate::probe::ReadinessProbe;

/// The lowest descriptor that can be a notification descriptor; lower ones are the standard ones.
const FIRST_NOTIFICATION_FD: i32 = 3;

/// How the supervisor learns that the service is ready. The start of the command alone does not
/// show it.
pub(crate) enum Readiness {
    /// It does not learn it.
    Unannounced,
    /// The command itself announces it on the descriptor that it inherits.
    Inherited,
    /// The command announces it by `sd_notify`, and the relay passes it on to the descriptor.
    Relayed(OwnedFd),
    /// The prober announces it when a URL answers.
    Probed(ReadinessProbe, OwnedFd),
}

impl Readiness {
    pub const fn announcer(&self) -> Announcer {
        match self {
            Self::Unannounced => Announcer::Nobody,
            Self::Inherited | Self::Relayed(_) => Announcer::Service,
            Self::Probed(..) => Announcer::Prober,
        }
    }
}

/// Returns the number of the descriptor on which the supervisor waits for readiness, if it does.
pub(crate) fn notification_number() -> Option<i32> {
    let mut buffer = [0; 32];
    let bytes = gatevisor_sys::file::read_small(CWD, c"notification-fd", &mut buffer).ok()?;
    let number = i32::try_from(gatevisor_wire::number::parse(bytes)?).ok()?;
    (number >= FIRST_NOTIFICATION_FD).then_some(number)
}

/// Forks the helpers that ask the service and listen to it. They end with it.
pub(crate) fn fork_helpers(
    readiness: Readiness,
    receiver: Option<Receiver>,
    name: &str,
    directory: Option<&OwnedFd>,
) -> Result<(), FailedStart> {
    let (probed, relayed) = match readiness {
        Readiness::Probed(probe, notify) => (Some((probe, notify)), None),
        Readiness::Relayed(notify) => (None, Some(notify)),
        Readiness::Unannounced | Readiness::Inherited => (None, None),
    };
    if let Some(receiver) = receiver {
        fork_relay(&receiver, relayed, directory)?;
    }
    match probed {
        Some((probe, notify)) => {
            fork_prober(&probe, &notify, ServiceProcesses::of_this_process(name), directory)
        }
        None => Ok(()),
    }
}

fn fork_relay(
    receiver: &Receiver,
    ready: Option<OwnedFd>,
    directory: Option<&OwnedFd>,
) -> Result<(), FailedStart> {
    let failure =
        |errno| FailedStart::system("executing", "cannot start what listens to its notifications", errno);
    let alive = os::own_pidfd().map_err(failure)?;
    let (Some(leader), Some(directory)) = (os::own_pid(), directory) else { return Ok(()) };
    os::fork_detached(|| {
        // A reader of the service's output must not wait for the relay.
        os::let_go_of_stdio();
        relay(receiver, leader, &alive, directory, ready);
    })
    .map_err(failure)
}

fn fork_prober(
    probe: &ReadinessProbe,
    notify: &OwnedFd,
    mut service: ServiceProcesses,
    directory: Option<&OwnedFd>,
) -> Result<(), FailedStart> {
    let failure = |errno| FailedStart::system("executing", "cannot start the readiness probe", errno);
    let alive = os::own_pidfd().map_err(failure)?;
    os::fork_detached(|| {
        // A reader of the service's output must not wait for the prober.
        os::let_go_of_stdio();
        let mut told = String::new();
        // Best effort: if there is no place for it, only the reason is missing.
        let mut tell = |why: String| {
            if let Some(directory) = directory.filter(|_| why != told) {
                let line = format!("{}\n", one_line(&why));
                let _ = os::replace_in_data(directory, NOT_READY, line.as_bytes());
            }
            told = why;
        };
        let is_ready = probe.run(&alive, notify, &mut |sockets| service.whose(sockets), &mut tell);
        // What once was in the way is no reason any more.
        if let Some(directory) = directory.filter(|_| is_ready && !told.is_empty()) {
            let _ = os::remove_in_data(directory, NOT_READY);
        }
    })
    .map_err(failure)
}
