//! *Lives here:* the state of a request between telling the supervisor and the end of the wait.
//!
//! *Does not live here:* telling it, and waiting (`up`).

use std::time::Instant;

use gatevisor_wire::Pid;
use jiff::Timestamp;

use super::follow::{Follower, RecordedMeanwhile};
use super::{Registered, RestartOutcome, StartOutcome};
use crate::desired::DesiredState;
use crate::profile::ProfileName;

/// A gateway whose supervisor was told something, and which is waited for.
pub(super) struct Pending {
    /// `None` if the desired state is not changed.
    pub(super) desired_state: Option<DesiredState>,
    pub(super) warnings: Vec<String>,
    pub(super) follower: Option<Follower>,
    /// When its supervisor was told.
    pub(super) told: Instant,
    pub(super) was: Was,
    /// The profile whose gateway was told instead, if it is another one.
    pub(super) server: Option<ProfileName>,
}

impl Pending {
    /// From now on, the wait also ends if somebody records that the gateway should be down.
    pub(super) fn unless(mut self, meanwhile: RecordedMeanwhile) -> Self {
        if let Some(follower) = &mut self.follower {
            follower.unless(meanwhile);
        }
        self
    }
}

/// Whether a new slot is up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotStart {
    /// A `down` file keeps it down.
    Down,
    /// It is up. A stop that is recorded after `since` is newer than the request for that.
    Up { since: Option<Timestamp> },
}

/// The state of a gateway before its supervisor was told.
pub(super) enum Was {
    Up(Option<Pid>),
    Down,
    /// It had no slot. Registering it had this result.
    Absent(Registered),
}

impl Was {
    /// Returns that the gateway was up before if the start has not changed its process.
    pub(super) fn unless_same(&self, started: StartOutcome) -> StartOutcome {
        match (self, started) {
            (Self::Up(was), StartOutcome::Up(pid) | StartOutcome::Live(pid) | StartOutcome::Ready(pid))
                if *was == pid =>
            {
                StartOutcome::WasUp(pid)
            }
            _ => started,
        }
    }

    /// Returns the outcome of a restart.
    pub(super) const fn restarted(self, started: StartOutcome) -> RestartOutcome {
        match (self, started) {
            (Self::Down | Self::Absent(_), started) => RestartOutcome::WasDown(started),
            (Self::Up(_), StartOutcome::Told) => RestartOutcome::Told,
            (Self::Up(_), StartOutcome::Live(pid)) => RestartOutcome::Live(pid),
            (Self::Up(_), StartOutcome::Ready(pid)) => RestartOutcome::Ready(pid),
            (Self::Up(_), StartOutcome::Up(pid) | StartOutcome::WasUp(pid)) => RestartOutcome::Up(pid),
            (Self::Up(_), StartOutcome::Served(pid)) => RestartOutcome::Served(pid),
        }
    }
}
