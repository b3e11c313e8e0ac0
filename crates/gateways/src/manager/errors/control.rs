//! *Lives here:* why a gateway was not started, stopped, restarted or registered.
//!
//! *Does not live here:* why it was not unregistered (`unregister`).

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use gatevisor_client::ScanSendError;
use gatevisor_slot::home_lock::Standing;
use gatevisor_wire::exit::{Exit, ExitError};

use super::pid_suffix::PidSuffix;
use crate::desired::{Desired, RecordError};
use crate::manager::look::LookError;
use crate::profile::ProfileName;
use crate::slots::{PublishError, RenderSlotError};

/// The command that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayVerb {
    /// The gateway shall run.
    Start,
    /// The gateway shall not run.
    Stop,
    /// The gateway shall end, and run again.
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
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum ControlError {
    /// The place cannot be looked at.
    #[error(transparent)]
    Look(#[from] LookError),
    /// There is no such profile.
    #[error("there is no profile `{name}` in `{}`; `gatevisor profile create {name}` makes one", path.display())]
    NoProfile {
        name: ProfileName,
        /// Where its home would be.
        path: PathBuf,
    },
    /// The agent gives the root profile no gateway.
    #[error("profile `{name}` has no gateway with this agent; name another profile with -p")]
    NoGateway { name: ProfileName },
    /// The profile's gateway has no slot.
    #[error("the gateway of `{name}` is not registered in `{}`; `gatevisor -p {name} gateway start` registers and starts it", scandir.display())]
    NotRegistered {
        name: ProfileName,
        /// Where its slot would be.
        scandir: PathBuf,
    },
    /// No supervisor runs. The desired state is recorded.
    #[error(
        "no supervisor is running for `{name}` (`{}`); the desired state, {desired}, is recorded and takes effect at the next `gatevisor up`",
        scandir.display()
    )]
    NoSupervisor {
        name: ProfileName,
        /// What a supervisor would supervise.
        scandir: PathBuf,
        /// The desired state that is recorded.
        desired: Desired,
    },
    /// Another container runs the gateways of the home; nothing was done.
    #[error("cannot {verb} the gateway of `{name}` here, so nothing was done: {standing}")]
    Elsewhere {
        /// The command that was asked for.
        verb: GatewayVerb,
        name: ProfileName,
        /// How this container stands to the lock of the home.
        standing: Standing,
    },
    /// The gateway of another profile serves it, and that does not happen for it alone.
    #[error("cannot {verb} the gateway of `{name}`, because the gateway of `default` serves it: {why}")]
    Served {
        /// The command that was asked for.
        verb: GatewayVerb,
        name: ProfileName,
        /// Why not, and what to do instead.
        why: String,
    },
    /// The desired state was not recorded, so nothing was done.
    #[error("cannot {verb} the gateway of `{name}`: its desired state is not recorded, so nothing was done")]
    Record {
        /// The command that was asked for.
        verb: GatewayVerb,
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: RecordError,
    },
    /// The gateway is stopped, but its desired state is still to run.
    #[error(
        "the gateway of `{name}` is stopped, but its desired state cannot be kept, so it comes back with the next start of its \
         supervisor; fix what follows and stop it again"
    )]
    StoppedForNow {
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: RecordError,
    },
    /// The gateway is not stopped, and its desired state is unchanged.
    #[error("the gateway of `{name}` is not stopped ({}), and its desired state cannot be kept", stop.in_short())]
    NeitherStoppedNorKept {
        name: ProfileName,
        /// Why it is not stopped.
        stop: Box<ControlError>,
        /// Why its desired state is unchanged.
        #[source]
        source: RecordError,
    },
    /// The missing slot could not be made.
    #[error("cannot start the gateway of `{name}`, which had no slot")]
    Register {
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: Box<RegisterError>,
    },
    /// The gateway's events cannot be followed, or its supervisor cannot be told.
    #[error("cannot {verb} the gateway of `{name}`; the desired state is recorded")]
    System {
        /// The command that was asked for.
        verb: GatewayVerb,
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
    /// The gateway did not get there in time.
    #[error("gave up waiting for the {verb} of `{name}` after {} s; it is {state}, and the supervisor goes on trying", after.as_secs())]
    TimedOut {
        /// The command that was asked for.
        verb: GatewayVerb,
        name: ProfileName,
        /// How long was waited.
        after: Duration,
        /// The state at the end.
        state: String,
    },
    /// The command could not be executed.
    #[error("the gateway of `{name}` failed to start: {reason}; it is tried again with growing pauses")]
    FailedToStart {
        name: ProfileName,
        /// Which stage, and why.
        reason: String,
    },
    /// The command was executed, and ended before there was evidence that it works.
    #[error("the gateway of `{name}` failed to start: it ended{}: {reason}; it is tried again with growing pauses", DurationSuffix(*after))]
    Ended {
        name: ProfileName,
        /// How long it was up, where that is known.
        after: Option<Duration>,
        /// How it ended, and what that means.
        reason: String,
    },
    /// The gateway is up, and nothing reports whether it is ready.
    #[error("the gateway of `{name}` is up{}, and nothing tells whether it is ready: nobody probes it; do without --ready, or give it a probe, `[gateway.ready]` in the agent definition", PidSuffix(*pid))]
    NeverReady {
        name: ProfileName,
        /// Its process, where that is known.
        pid: Option<gatevisor_wire::Pid>,
    },
    /// The gateway is up, and did not show in time that it works.
    #[error("the gateway of `{name}` failed to start: it is up, and does not show that it works: {reason}")]
    Unresponsive {
        name: ProfileName,
        /// What was looked for, and not found.
        reason: String,
    },
    /// Somebody stopped the gateway meanwhile.
    #[error("the {verb} of `{name}` was given up, because the gateway was stopped meanwhile: {by}")]
    Stopped {
        /// The command that was asked for.
        verb: GatewayVerb,
        name: ProfileName,
        /// Who stopped it, as far as that is known.
        by: String,
    },
    /// Somebody started the gateway that was being stopped.
    #[error("the stop of `{name}` was given up, because the gateway was started meanwhile: {by}")]
    Started {
        name: ProfileName,
        /// Who started it, as far as that is known.
        by: String,
    },
    /// A signal has stopped the supervisor, so nothing happens. It was told.
    #[error(
        "gave up waiting for the {verb} of `{name}`, because a signal has stopped the supervisor (process {pid}): it carries \
         the request out when it goes on; `kill -CONT {pid}` continues it (the last that it said of the gateway: {state})"
    )]
    SupervisorStopped {
        /// The command that was asked for.
        verb: GatewayVerb,
        name: ProfileName,
        pid: gatevisor_wire::Pid,
        /// The state that it published last.
        state: String,
    },
    /// The gateway failed for good.
    #[error("the gateway of `{name}` failed for good: {reason}; fix that, then start it again")]
    Failed {
        name: ProfileName,
        /// What the restart policy keeps as the reason.
        reason: String,
    },
    /// The supervisor refuses the slot. The desired state is recorded.
    #[error("the supervisor refuses the slot of `{name}`: {reason}; the desired state is recorded")]
    Refused {
        name: ProfileName,
        /// The reason, in the supervisor's words.
        reason: String,
    },
    /// The supervisor went away while it was waited for.
    #[error(
        "the supervisor of `{name}` went away; the desired state is recorded and takes effect at the next `gatevisor up`"
    )]
    SupervisorGone { name: ProfileName },
}

impl ExitError for ControlError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoProfile { .. }
            | Self::NoGateway { .. }
            | Self::NotRegistered { .. }
            | Self::Elsewhere { .. }
            | Self::Served { .. }
            | Self::FailedToStart { .. }
            | Self::Ended { .. }
            | Self::NeverReady { .. }
            | Self::Unresponsive { .. }
            | Self::Stopped { .. }
            | Self::Started { .. }
            | Self::Failed { .. } => Exit::No,
            Self::NoSupervisor { .. } | Self::SupervisorGone { .. } => Exit::NotSupervised,
            Self::Look(error) => error.exit(),
            Self::Record { source, .. } | Self::StoppedForNow { source, .. } => source.exit(),
            Self::NeitherStoppedNorKept { stop, .. } => stop.exit(),
            Self::Register { source, .. } => source.exit(),
            Self::System { .. } | Self::Refused { .. } => Exit::System,
            Self::TimedOut { .. } | Self::SupervisorStopped { .. } => Exit::TimedOut,
        }
    }
}

impl ControlError {
    /// Returns why the request failed, without what is recorded.
    fn in_short(&self) -> String {
        match self {
            Self::TimedOut { after, state, .. } => format!("it is {state} after {} s", after.as_secs()),
            Self::SupervisorStopped { pid, .. } => {
                format!("its supervisor, process {pid}, is stopped by a signal")
            }
            Self::SupervisorGone { .. } | Self::NoSupervisor { .. } => "its supervisor went away".to_owned(),
            Self::System { source, .. } => source.to_string(),
            other => other.to_string(),
        }
    }

    /// Returns whether `explain` knows more about the gateway than this error says.
    pub const fn is_explained(&self) -> bool {
        matches!(
            self,
            Self::FailedToStart { .. }
                | Self::Ended { .. }
                | Self::Unresponsive { .. }
                | Self::Failed { .. }
                | Self::Refused { .. }
                | Self::TimedOut { .. }
        )
    }

    /// Returns whether the gateway itself failed, so that its last lines tell more. A command that
    /// was never executed has printed none.
    pub fn is_of_gateway(&self) -> bool {
        match self {
            Self::Ended { .. } | Self::Unresponsive { .. } | Self::Failed { .. } => true,
            Self::Register { source, .. } => source.is_of_gateway(),
            _ => false,
        }
    }
}

/// Why a gateway was not registered.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum RegisterError {
    /// The place cannot be looked at.
    #[error(transparent)]
    Look(#[from] LookError),
    /// There is no such profile.
    #[error("there is no profile `{name}` in `{}`; `gatevisor profile create {name}` makes one", path.display())]
    NoProfile {
        name: ProfileName,
        /// Where its home would be.
        path: PathBuf,
    },
    /// The agent gives the root profile no gateway.
    #[error("profile `{name}` has no gateway with this agent; name another profile with -p")]
    NoGateway { name: ProfileName },
    /// The gateway shall be started, and another container runs the gateways of the home. No slot
    /// was made.
    #[error("the gateway of `{name}` is not registered, as it cannot be started here: {standing}")]
    Elsewhere {
        name: ProfileName,
        /// How this container stands to the lock of the home.
        standing: Standing,
    },
    /// The gateway has a slot already.
    #[error("the gateway of `{name}` is already registered in `{}`", scandir.display())]
    AlreadyRegistered {
        name: ProfileName,
        /// Where its slot is.
        scandir: PathBuf,
    },
    /// No supervisor runs. No slot remains.
    #[error("no supervisor is running on `{}`, so `{name}` is not registered; `gatevisor up` starts one and registers every profile", scandir.display())]
    NoSupervisor {
        name: ProfileName,
        /// What a supervisor would supervise.
        scandir: PathBuf,
    },
    /// The desired state could not be recorded. No slot was made.
    #[error("the gateway of `{name}` is not registered: its desired state is not recorded")]
    Record {
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: RecordError,
    },
    /// The slot cannot be rendered.
    #[error("the gateway of `{name}` cannot have a slot")]
    Render {
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: RenderSlotError,
    },
    /// The slot could not be made.
    #[error("the gateway of `{name}` is not registered")]
    Publish {
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: PublishError,
    },
    /// The supervisor could not be told. No slot remains.
    #[error("the gateway of `{name}` is not registered: its supervisor cannot be told")]
    Tell {
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: ScanSendError,
    },
    /// The events of the slot cannot be followed.
    #[error("the gateway of `{name}` is registered, but cannot be followed")]
    Follow {
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
    /// A signal has stopped the supervisor. No slot was made.
    #[error(
        "the gateway of `{name}` is not registered, because a signal has stopped the supervisor (process {pid}): `kill -CONT \
         {pid}` continues it"
    )]
    SupervisorStopped { name: ProfileName, pid: gatevisor_wire::Pid },
    /// No supervisor took the slot in time. No slot remains.
    #[error("the supervisor of `{}` did not take the slot of `{name}` within {} s, so it is withdrawn", scandir.display(), after.as_secs())]
    NotTaken {
        name: ProfileName,
        /// Where its slot was.
        scandir: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// The supervisor refuses the slot. No slot remains.
    #[error("the supervisor of `{}` refuses the slot of `{name}`, so it is withdrawn: {reason}", scandir.display())]
    Refused {
        name: ProfileName,
        /// Where its slot was.
        scandir: PathBuf,
        /// The reason, in the supervisor's words.
        reason: String,
    },
    /// The gateway is registered, but did not come up.
    #[error("the gateway of `{name}` is registered, but did not come up")]
    Start {
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: Box<ControlError>,
    },
}

impl RegisterError {
    /// Returns whether the gateway itself failed, so that its last lines tell more.
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
            Self::NotTaken { .. } | Self::SupervisorStopped { .. } => Exit::TimedOut,
            Self::Start { source, .. } => source.exit(),
        }
    }
}

struct DurationSuffix(Option<Duration>);

impl fmt::Display for DurationSuffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |after| write!(f, " after {:.1} s", after.as_secs_f64()))
    }
}
