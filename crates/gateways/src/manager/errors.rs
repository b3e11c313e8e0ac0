//! *Lives here:* why a manager could not do what it was asked, in words for the next ten minutes.
//!
//! *Does not live here:* printing them.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use gatevisor_client::ScanSendError;
use gatevisor_slot::home_lock::Standing;
use gatevisor_wire::exit::{Exit, ExitError};

use super::look::LookError;
use crate::desired::{Desired, RecordError};
use crate::profile::ProfileName;
use crate::slots::{PublishError, RenderSlotError};

/// The command that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayVerb {
    /// A start.
    Start,
    /// A stop.
    Stop,
    /// A restart.
    Restart,
}

impl fmt::Display for GatewayVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        })
    }
}

/// Why a gateway was not started, stopped or restarted.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody may look.
    #[error(transparent)]
    Look(#[from] LookError),
    /// There is no such profile.
    #[error("there is no profile `{name}` in `{}`; `gatevisor profile create {name}` makes one", path.display())]
    NoProfile {
        /// The profile.
        name: ProfileName,
        /// Where it would be.
        path: PathBuf,
    },
    /// The agent gives the root profile no gateway.
    #[error("profile `{name}` has no gateway with this agent; name another profile with -p")]
    NoGateway {
        /// The profile.
        name: ProfileName,
    },
    /// The profile's gateway has no slot.
    #[error("the gateway of `{name}` is not registered in `{}`; `gatevisor -p {name} gateway start` registers and starts it", scandir.display())]
    NotRegistered {
        /// The profile.
        name: ProfileName,
        /// The scandir.
        scandir: PathBuf,
    },
    /// Nobody supervises; the desired state is recorded all the same.
    #[error(
        "no supervisor is running for `{name}` (`{}`); the desired state, {desired}, is recorded and takes effect at the next `gatevisor up`",
        scandir.display()
    )]
    NoSupervisor {
        /// The profile.
        name: ProfileName,
        /// The scandir.
        scandir: PathBuf,
        /// What is recorded.
        desired: Desired,
    },
    /// Another container runs the gateways of the home; nothing was done.
    #[error("cannot {verb} the gateway of `{name}` here, so nothing was done: {standing}")]
    Elsewhere {
        /// The command that was asked for.
        verb: GatewayVerb,
        /// The profile.
        name: ProfileName,
        /// How this container stands to the lock of the home.
        standing: Standing,
    },
    /// The desired state was not recorded, so nothing was done.
    #[error("cannot {verb} the gateway of `{name}`: its desired state is not recorded, so nothing was done")]
    Record {
        /// The command that was asked for.
        verb: GatewayVerb,
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// It is stopped, and what is wanted says otherwise.
    #[error(
        "the gateway of `{name}` is stopped, but its desired state cannot be kept, so it comes back with the next start of its \
         supervisor; fix what follows and stop it again"
    )]
    StoppedForNow {
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// It is not stopped, and what is wanted is as it was.
    #[error("the gateway of `{name}` is not stopped ({}), and its desired state cannot be kept", stop.in_short())]
    NeitherStoppedNorKept {
        /// The profile.
        name: ProfileName,
        /// Why it is not stopped.
        stop: Box<ControlError>,
        /// Why it is not kept.
        #[source]
        source: RecordError,
    },
    /// The missing slot could not be made.
    #[error("cannot start the gateway of `{name}`, which had no slot")]
    Register {
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: Box<RegisterError>,
    },
    /// The gateway's events cannot be followed or its supervisor not be told.
    #[error("cannot {verb} the gateway of `{name}`; the desired state is recorded")]
    System {
        /// The command that was asked for.
        verb: GatewayVerb,
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It did not happen in time.
    #[error("gave up waiting for the {verb} of `{name}` after {} s; it is {state}, and the supervisor goes on trying", after.as_secs())]
    TimedOut {
        /// The command that was asked for.
        verb: GatewayVerb,
        /// The profile.
        name: ProfileName,
        /// How long was waited.
        after: Duration,
        /// The state at the end.
        state: String,
    },
    /// The command could not be executed.
    #[error("the gateway of `{name}` failed to start: {reason}; it is tried again with growing pauses")]
    FailedToStart {
        /// The profile.
        name: ProfileName,
        /// Which stage, and why.
        reason: String,
    },
    /// Its command was executed, and ended before there was any evidence that it works.
    #[error("the gateway of `{name}` failed to start: it ended{}: {reason}; it is tried again with growing pauses", DurationSuffix(*after))]
    Ended {
        /// The profile.
        name: ProfileName,
        /// How long it was up, where that is known.
        after: Option<Duration>,
        /// How it ended, and what that means.
        reason: String,
    },
    /// It is up, and nobody would say that it is ready.
    #[error("the gateway of `{name}` is up{}, and nothing tells whether it is ready: nobody probes it; do without --ready, or give it a probe, `[gateway.ready]` in the agent definition", PidSuffix(*pid))]
    NeverReady {
        /// The profile.
        name: ProfileName,
        /// Its process, where that is known.
        pid: Option<gatevisor_wire::Pid>,
    },
    /// The gateway failed for good.
    #[error("the gateway of `{name}` failed for good: {reason}; fix that, then start it again")]
    Failed {
        /// The profile.
        name: ProfileName,
        /// Why.
        reason: String,
    },
    /// The supervisor refuses to hold its slot; the desired state is recorded all the same.
    #[error("the supervisor refuses the slot of `{name}`: {reason}; the desired state is recorded")]
    Refused {
        /// The profile.
        name: ProfileName,
        /// Why, in the supervisor's words.
        reason: String,
    },
    /// The supervisor went away meanwhile.
    #[error(
        "the supervisor of `{name}` went away; the desired state is recorded and takes effect at the next `gatevisor up`"
    )]
    SupervisorGone {
        /// The profile.
        name: ProfileName,
    },
}

impl ExitError for ControlError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoProfile { .. }
            | Self::NoGateway { .. }
            | Self::NotRegistered { .. }
            | Self::Elsewhere { .. }
            | Self::FailedToStart { .. }
            | Self::Ended { .. }
            | Self::NeverReady { .. }
            | Self::Failed { .. } => Exit::No,
            Self::NoSupervisor { .. } | Self::SupervisorGone { .. } => Exit::NotSupervised,
            Self::Look(error) => error.exit(),
            Self::Record { source, .. } | Self::StoppedForNow { source, .. } => source.exit(),
            Self::NeitherStoppedNorKept { stop, .. } => stop.exit(),
            Self::Register { source, .. } => source.exit(),
            Self::System { .. } | Self::Refused { .. } => Exit::System,
            Self::TimedOut { .. } => Exit::TimedOut,
        }
    }
}

impl ControlError {
    /// Returns why it did not happen, and nothing of what is recorded.
    fn in_short(&self) -> String {
        match self {
            Self::TimedOut { after, state, .. } => format!("it is {state} after {} s", after.as_secs()),
            Self::SupervisorGone { .. } | Self::NoSupervisor { .. } => "its supervisor went away".to_owned(),
            Self::System { source, .. } => source.to_string(),
            other => other.to_string(),
        }
    }

    /// Returns whether there is more to say about the gateway than this error does: `explain` says it.
    pub const fn is_explained(&self) -> bool {
        matches!(
            self,
            Self::FailedToStart { .. }
                | Self::Ended { .. }
                | Self::Failed { .. }
                | Self::Refused { .. }
                | Self::TimedOut { .. }
        )
    }

    /// Returns whether the gateway itself failed, so that its last lines say more. A command that was never executed has
    /// none.
    pub fn is_of_gateway(&self) -> bool {
        match self {
            Self::Ended { .. } | Self::Failed { .. } => true,
            Self::Register { source, .. } => source.is_of_gateway(),
            _ => false,
        }
    }
}

/// Why a gateway was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Nobody may look.
    #[error(transparent)]
    Look(#[from] LookError),
    /// There is no such profile.
    #[error("there is no profile `{name}` in `{}`; `gatevisor profile create {name}` makes one", path.display())]
    NoProfile {
        /// The profile.
        name: ProfileName,
        /// Where it would be.
        path: PathBuf,
    },
    /// The agent gives the root profile no gateway.
    #[error("profile `{name}` has no gateway with this agent; name another profile with -p")]
    NoGateway {
        /// The profile.
        name: ProfileName,
    },
    /// It shall be started, and another container runs the gateways of the home; no slot was made.
    #[error("the gateway of `{name}` is not registered, as it cannot be started here: {standing}")]
    Elsewhere {
        /// The profile.
        name: ProfileName,
        /// How this container stands to the lock of the home.
        standing: Standing,
    },
    /// It has a slot.
    #[error("the gateway of `{name}` is already registered in `{}`", scandir.display())]
    AlreadyRegistered {
        /// The profile.
        name: ProfileName,
        /// The scandir.
        scandir: PathBuf,
    },
    /// Nobody supervises; no slot remains.
    #[error("no supervisor is running on `{}`, so `{name}` is not registered; `gatevisor up` starts one and registers every profile", scandir.display())]
    NoSupervisor {
        /// The profile.
        name: ProfileName,
        /// The scandir.
        scandir: PathBuf,
    },
    /// The desired state could not be recorded; no slot was made.
    #[error("the gateway of `{name}` is not registered: its desired state is not recorded")]
    Record {
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// The slot cannot be rendered.
    #[error("the gateway of `{name}` cannot have a slot")]
    Render {
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: RenderSlotError,
    },
    /// The slot could not be made.
    #[error("the gateway of `{name}` is not registered")]
    Publish {
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: PublishError,
    },
    /// The supervisor could not be told; no slot remains.
    #[error("the gateway of `{name}` is not registered: its supervisor cannot be told")]
    Tell {
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: ScanSendError,
    },
    /// The events of the slot cannot be followed.
    #[error("the gateway of `{name}` is registered, but cannot be followed")]
    Follow {
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No supervisor took the slot in time; no slot remains.
    #[error("the supervisor of `{}` did not take the slot of `{name}` within {} s, so it is withdrawn", scandir.display(), after.as_secs())]
    NotTaken {
        /// The profile.
        name: ProfileName,
        /// The scandir.
        scandir: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// The supervisor refuses to hold the slot; no slot remains.
    #[error("the supervisor of `{}` refuses the slot of `{name}`, so it is withdrawn: {reason}", scandir.display())]
    Refused {
        /// The profile.
        name: ProfileName,
        /// The scandir.
        scandir: PathBuf,
        /// Why, in the supervisor's words.
        reason: String,
    },
    /// It is registered, but its gateway did not come up.
    #[error("the gateway of `{name}` is registered, but did not come up")]
    Start {
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: Box<ControlError>,
    },
}

impl RegisterError {
    /// Returns whether the gateway itself failed, so that its last lines say more.
    pub fn is_of_gateway(&self) -> bool {
        matches!(self, Self::Start { source, .. } if source.is_of_gateway())
    }
}

impl ExitError for RegisterError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoProfile { .. }
            | Self::NoGateway { .. }
            | Self::Elsewhere { .. }
            | Self::AlreadyRegistered { .. } => Exit::No,
            Self::NoSupervisor { .. } => Exit::NotSupervised,
            Self::Look(error) => error.exit(),
            Self::Record { source, .. } => source.exit(),
            Self::Render { source, .. } => source.exit(),
            Self::Publish { .. } | Self::Tell { .. } | Self::Follow { .. } | Self::Refused { .. } => {
                Exit::System
            }
            Self::NotTaken { .. } => Exit::TimedOut,
            Self::Start { source, .. } => source.exit(),
        }
    }
}

/// Why a gateway was not unregistered.
#[derive(Debug, thiserror::Error)]
pub enum UnregisterError {
    /// The slot could not be moved out of the way; it is as it was.
    #[error("cannot withdraw the slot of `{name}`; it is as it was")]
    Withdraw {
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The gateway's events cannot be followed; the slot is as it was.
    #[error("cannot follow the gateway of `{name}`; its slot is as it was")]
    Follow {
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: gatevisor_client::WaitError,
    },
    /// The process did not end.
    #[error("the gateway of `{name}` is unregistered, but has not ended after {} s{}; its slot is `{}` now", after.as_secs(), PidSuffix(*pid), left.display())]
    StillRunning {
        /// The profile.
        name: ProfileName,
        /// How long was waited.
        after: Duration,
        /// The process, if it is known.
        pid: Option<gatevisor_wire::Pid>,
        /// Where the slot is now.
        left: PathBuf,
    },
    /// Files of the slot are left.
    #[error("the gateway of `{name}` is unregistered, but files of its slot are left; remove `{}` by hand", left.display())]
    Remove {
        /// The profile.
        name: ProfileName,
        /// What is left.
        left: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

struct DurationSuffix(Option<Duration>);

impl fmt::Display for DurationSuffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |after| write!(f, " after {:.1} s", after.as_secs_f64()))
    }
}

struct PidSuffix(Option<gatevisor_wire::Pid>);

impl fmt::Display for PidSuffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, " (pid {pid})"))
    }
}

impl ExitError for UnregisterError {
    fn exit(&self) -> Exit {
        match self {
            Self::Withdraw { .. } | Self::Follow { .. } | Self::Remove { .. } => Exit::System,
            Self::StillRunning { .. } => Exit::TimedOut,
        }
    }
}

/// Why the gateways could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the scandir `{}`", scandir.display())]
pub struct ListServicesError {
    /// The scandir.
    pub scandir: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl ExitError for ListServicesError {
    fn exit(&self) -> Exit {
        Exit::System
    }
}

/// Why a gateway cannot be waited for.
#[derive(Debug, thiserror::Error)]
pub enum GatewayWaitError {
    /// Nobody may look.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The profile's gateway has no slot.
    #[error("the gateway of `{name}` is not registered in `{}`; `gatevisor -p {name} gateway start` registers and starts it", scandir.display())]
    NotRegistered {
        /// The profile.
        name: ProfileName,
        /// The scandir.
        scandir: PathBuf,
    },
    /// Nobody supervises it, or not any more.
    #[error("no supervisor is running for `{name}` (`{}`); `gatevisor up` starts one", scandir.display())]
    NotSupervised {
        /// The profile.
        name: ProfileName,
        /// The scandir.
        scandir: PathBuf,
    },
    /// A system call failed.
    #[error("cannot wait for the gateway of `{name}`")]
    System {
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: gatevisor_client::WaitError,
    },
    /// Its events cannot be followed.
    #[error("cannot follow the gateway of `{name}`")]
    Follow {
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ExitError for GatewayWaitError {
    fn exit(&self) -> Exit {
        match self {
            Self::Look(error) => error.exit(),
            Self::NotRegistered { .. } => Exit::No,
            Self::NotSupervised { .. } => Exit::NotSupervised,
            Self::System { .. } | Self::Follow { .. } => Exit::System,
        }
    }
}
