//! *Lives here:* what is waited for, when a state of a service fulfils it, and how waiting ends.
//!
//! *Does not live here:* waiting (`waiting`), and finding out the state (`waiting::tracked`).

use std::{fmt, io, path::PathBuf};

use gatevisor_wire::{event::ServiceEvent, status::Status};

use crate::{SendError, StatusError};

/// The state that is waited for.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svwait.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The service is up (`-u`).
    Up,
    /// The service is up and has announced its readiness (`-U`).
    ///
    /// A service without a `notification-fd` never does; ask `ServiceDir::has_readiness` first.
    Ready,
    /// The service is down; its finish script may still run (`-d`).
    Down,
    /// The service is down, its finish script has ended, and it may be started again (`-D`).
    Finished,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Self; 4] = [Self::Up, Self::Ready, Self::Down, Self::Finished];

    /// Returns whether a status fulfils the condition.
    pub fn holds(self, status: &Status) -> bool {
        self.is_met(KnownState::by_status(status))
    }

    pub(super) const fn is_met(self, known: KnownState) -> bool {
        match self {
            Self::Up => known.up,
            Self::Ready => known.up && known.ready,
            Self::Down => !known.up,
            Self::Finished => !known.up && known.ready,
        }
    }

    /// Returns whether a service that failed for good cannot fulfil it by itself.
    pub const fn wants_up(self) -> bool {
        matches!(self, Self::Up | Self::Ready)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Ready => "ready",
            Self::Down => "down",
            Self::Finished => "finished",
        })
    }
}

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Waited {
    /// The service is, or has been, in the requested state.
    Reached,
    /// The service failed for good, so it will not come up by itself.
    Failed,
    /// No supervisor has the service, or the one that did has gone.
    SupervisorGone,
    /// The deadline passed.
    TimedOut,
}

/// Why waiting was not possible.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum WaitError {
    /// There is no such directory.
    #[error("there is no service directory `{}`", dir.display())]
    Missing { dir: PathBuf },
    /// No subscriber can be made.
    #[error("cannot listen for events in `{}`", dir.display())]
    Subscribe {
        /// The path of the event fifodir.
        dir: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The subscriber cannot be read.
    #[error("cannot read the events from `{}`", dir.display())]
    Listen {
        /// The path of the event fifodir.
        dir: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// It is unknown whether a supervisor reads the control FIFO.
    #[error("cannot open control FIFO `{}`", fifo.display())]
    Control {
        /// The path of the control FIFO.
        fifo: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The status cannot be read.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The commands were not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Waiting itself failed.
    #[error("cannot wait for events")]
    Poll {
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl WaitError {
    /// Returns what to look at next, if there is a suggestion.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } => Some("is the name right, and is the service registered?"),
            Self::Status(error) => error.hint(),
            Self::Send(error) => error.hint(),
            Self::Subscribe { .. } | Self::Listen { .. } | Self::Control { .. } | Self::Poll { .. } => None,
        }
    }
}

pub(super) type WaitResult = Result<Waited, WaitError>;

/// The state of a service, from its status and the events since.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownState {
    pub(super) up: bool,
    /// Up and ready, or down and finished.
    pub(super) ready: bool,
}

impl KnownState {
    pub(super) const fn by_status(status: &Status) -> Self {
        let up = status.is_up();
        Self { up, ready: if up { status.ready } else { status.pid.is_none() } }
    }

    /// Returns the state after an event, or `None` if the event tells neither up nor down.
    pub(super) const fn after(event: ServiceEvent) -> Option<Self> {
        let (up, ready) = match event {
            ServiceEvent::Up => (true, false),
            ServiceEvent::Ready => (true, true),
            ServiceEvent::Died => (false, false),
            ServiceEvent::Finished => (false, true),
            ServiceEvent::SupervisionStarted
            | ServiceEvent::SupervisionEnded
            | ServiceEvent::PermanentFailure => return None,
        };
        Some(Self { up, ready })
    }
}
