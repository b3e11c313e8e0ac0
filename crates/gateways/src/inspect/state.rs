//! *Lives here:* the states of a service, in the words that a report uses.
//!
//! *Does not live here:* when a service is in which.

use gatevisor_client::status_view::StateName;
use gatevisor_liveness::Liveness;
use serde::Serialize;

use crate::live::LiveState;

/// The state of a service, in the words that a report uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Up: its command was executed. Either nothing can show whether it works, or it has been
    /// shown.
    Up,
    /// Up, and it is known to be ready.
    Ready,
    /// Its command is about to be executed, or was executed and has not shown yet that it works.
    Starting,
    /// Down, and it will be started again.
    BackingOff,
    /// Still up, and requested to be down.
    Stopping,
    /// Its process has ended, and its finish script runs, or its supervisor is about to notice.
    Finishing,
    /// Down, as requested.
    Down,
    /// Down for good.
    Failed,
    /// Down, because its command could not be executed, or ended within the start window. It will
    /// be started again.
    FailedToStart,
    /// No supervisor holds it.
    NotSupervised,
    /// Up, and paused by a command.
    Paused,
    /// Down, until a process that an earlier run has left behind is ended.
    Waiting,
    /// Down, and it is being asked whether it wants to be started again.
    Asking,
    /// Up, and for too long there was no evidence that it works.
    Unresponsive,
    /// Up, and it reports that not all is well.
    Degraded,
    /// Up, and it reports that it takes no new work.
    Draining,
    /// Up, and held by a debugger.
    Traced,
    /// It may not be looked at.
    Unknown,
    /// Without a process of its own: the gateway of another profile serves this one.
    Served,
}

impl ServiceState {
    /// Returns whether a gateway works. If it does not report readiness, being up is enough. If
    /// another gateway serves the profile, that is enough, too.
    pub const fn works(self) -> bool {
        matches!(self, Self::Up | Self::Ready | Self::Degraded | Self::Draining | Self::Served)
    }

    /// Returns whether a gateway in this state can do nothing any more if a signal stops it.
    pub(super) const fn stops(self) -> bool {
        matches!(self, Self::Up | Self::Ready | Self::Starting | Self::Degraded | Self::Draining)
    }

    /// Returns whether a gateway is not up although it should be.
    pub const fn fails(self) -> bool {
        matches!(self, Self::Failed | Self::FailedToStart | Self::BackingOff)
    }

    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Up,
        Self::Ready,
        Self::Starting,
        Self::BackingOff,
        Self::Stopping,
        Self::Finishing,
        Self::Down,
        Self::Failed,
        Self::FailedToStart,
        Self::NotSupervised,
        Self::Paused,
        Self::Waiting,
        Self::Asking,
        Self::Unresponsive,
        Self::Degraded,
        Self::Draining,
        Self::Traced,
        Self::Unknown,
        Self::Served,
    ];

    /// Returns the words for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::BackingOff => "backing off",
            Self::Stopping => "stopping",
            Self::Finishing => "finishing",
            Self::Down => "down",
            Self::Failed => "failed",
            Self::FailedToStart => "failed to start",
            Self::NotSupervised => "not supervised",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::Asking => "asking",
            Self::Unresponsive => "unresponsive",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Traced => "traced",
            Self::Unknown => "unknown",
            Self::Served => "served",
        }
    }

    /// Returns the state of a gateway that is followed, if the watcher knows more than the
    /// supervisor.
    pub(super) const fn followed(self, live: LiveState) -> Self {
        match (self, live) {
            (Self::Up | Self::Ready | Self::Starting, LiveState::Said(Liveness::Unresponsive)) => {
                Self::Unresponsive
            }
            (Self::Up, LiveState::Said(Liveness::Starting)) => Self::Starting,
            // The gateway reports itself what keeps it from being ready.
            (Self::Up | Self::Ready | Self::Starting, LiveState::Said(Liveness::Degraded)) => Self::Degraded,
            (Self::Up | Self::Ready, LiveState::Said(Liveness::Draining)) => Self::Draining,
            (Self::Up | Self::Ready | Self::Starting, LiveState::Said(Liveness::Traced)) => Self::Traced,
            _ => self,
        }
    }
}

impl From<&StateName> for ServiceState {
    fn from(name: &StateName) -> Self {
        match name {
            StateName::Up => Self::Up,
            StateName::Ready => Self::Ready,
            StateName::Starting => Self::Starting,
            StateName::BackingOff { .. } => Self::BackingOff,
            StateName::Stopping => Self::Stopping,
            StateName::Finishing => Self::Finishing,
            StateName::Down => Self::Down,
            StateName::Failed { .. } => Self::Failed,
            StateName::FailedToStart { .. } => Self::FailedToStart,
            StateName::NotSupervised => Self::NotSupervised,
            StateName::Paused => Self::Paused,
            StateName::Waiting { .. } => Self::Waiting,
            StateName::Asking { .. } => Self::Asking,
            StateName::Unknown => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_show_that_it_works_is_starting_until_it_does_unless_it_said_itself_that_it_is_ready() {
        let starting = LiveState::Said(Liveness::Starting);
        assert_eq!(ServiceState::Up.followed(starting), ServiceState::Starting);
        assert!(!ServiceState::Up.followed(starting).works());
        assert_eq!(ServiceState::Ready.followed(starting), ServiceState::Ready);
        for live in [LiveState::Said(Liveness::Live), LiveState::Said(Liveness::Up), LiveState::Unknown] {
            assert_eq!(ServiceState::Up.followed(live), ServiceState::Up, "{live:?}");
        }
    }
}
