//! *Lives here:* what is waited for when a gateway is followed, and how that may end.
//!
//! *Does not live here:* following it (`follower`).

use std::time::Duration;

use gatevisor_client::status_view::StateName;
use gatevisor_wire::Pid;
use gatevisor_wire::wait::WaitStatus;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::manager) enum Aim {
    /// A supervisor has taken the slot.
    Supervised,
    /// Its command is executed.
    Up,
    /// There is evidence that it works: it is ready or, if nothing reports that, live. If nothing
    /// reports either, or only the gateway itself says that it is ready, it has stayed up for this
    /// time.
    Started(Duration),
    /// A probe has found that it works, or it has said so itself and has stayed up for this time.
    Ready(Duration),
    /// It is up, however often it dies before that.
    UpAtLast,
    /// It is ready, however often it dies before that.
    ReadyAtLast,
}

/// How following ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::manager) enum FollowEnd {
    /// A supervisor has taken the slot.
    Supervised,
    /// Its command is executed, by this process.
    Up(Option<Pid>),
    /// It is up, and has shown that it works.
    Live(Option<Pid>),
    /// It is up and ready.
    Ready(Option<Pid>),
    /// It is up, and does not show that it works, for this reason.
    Unresponsive(Option<String>),
    /// Somebody has told it to be down meanwhile.
    Stopped,
    /// It is up, and nothing will ever report that it is ready.
    NeverReady(Option<Pid>),
    /// Its command could not be executed.
    FailedToStart(Option<String>),
    /// It ended before the aim was reached.
    Ended(GatewayEnd),
    /// It failed for good.
    Failed(Option<String>),
    /// Its supervisor refuses the slot, for this reason.
    Refused(String),
    /// Its supervisor went away.
    Gone,
    /// A signal has stopped its supervisor, this process, which published this state last.
    SupervisorStopped(Pid, StateName),
    /// The deadline passed in this state.
    TimedOut(StateName),
}

/// How a gateway ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::manager) struct GatewayEnd {
    /// How long it was up, if that is known.
    pub after: Option<Duration>,
    /// Its exit code or signal, if that is known.
    pub how: Option<WaitStatus>,
}
