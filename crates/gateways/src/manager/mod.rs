//! *Lives here:* what any manager of gateways can be asked, wherever its gateways run, and the
//! answers.
//!
//! *Does not live here:* a manager (see [`ScandirManager`]); output.

mod again;
mod bring_up;
mod desired;
mod down;
mod ends;
mod errors;
mod follow;
mod look;
mod observe;
mod pending;
mod requests;
mod scandir;
mod served;
mod server;
mod settle;
mod starts;
mod stopped;
mod up;
mod waits;
mod withdraw;

use std::time::Duration;

use gatevisor_client::status_view::StateName;
use gatevisor_slot::start_permits::StartDelay;
use gatevisor_wire::Pid;
use gatevisor_wire::control::{Control, ControlSignal};
use gatevisor_wire::fail_code::FailCode;
use gatevisor_wire::policy::PublishedPolicy;
use gatevisor_wire::status::Status;
use gatevisor_wire::tally::Death;

use crate::desired::Provenance;
use crate::profile::ProfileName;

pub use errors::{
    ControlError, GatewayVerb, GatewayWaitError, ListServicesError, RegisterError, UnregisterError,
};
pub use look::{LookError, refused_looks};
pub use observe::observe_directory;
pub use scandir::ScandirManager;
pub use served::ServerTime;

/// How long a command waits for a supervisor that has nothing to do but answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How much longer than the time after which its supervisor kills it a gateway may take to be gone.
pub const GRACE: Duration = Duration::from_secs(5);
/// How long a supervisor must have been stopped by a signal before nobody waits for it any longer.
pub const STOPPED_FOR: Duration = Duration::from_secs(1);

/// What a command waits for before it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitFor {
    /// Nothing but that the supervisor is told.
    Nothing,
    /// The gateway's command is executed.
    Up,
    /// There is evidence that the gateway works: it is ready or live. If nothing reports either, or
    /// only the gateway itself does, it has stayed up for the start window.
    #[default]
    Started,
    /// The gateway is ready. It is an error if nothing reports readiness.
    Ready,
}

/// Who requests something, why, and what to wait for.
#[derive(Debug, Clone)]
pub struct GatewayRequest {
    /// The requester.
    pub by: Provenance,
    /// The reason, in the requester's words.
    pub reason: Option<String>,
    /// What to wait for.
    pub wait: WaitFor,
    /// For how long to wait. The default is a time that suits the agent.
    pub timeout: Option<Duration>,
    /// The start window: how long a gateway must stay up to count as started if nothing but the
    /// gateway itself shows that it works. The default is the agent's.
    pub window: Option<Duration>,
    /// What was spent on a gateway that serves other profiles.
    pub server_time: ServerTime,
}

impl GatewayRequest {
    /// Returns the request of the command that this process runs: without a reason, waiting for
    /// evidence.
    pub fn here(command: &str) -> Self {
        let by = Provenance::here(command);
        let server_time = ServerTime::default();
        Self { by, reason: None, wait: WaitFor::Started, timeout: None, window: None, server_time }
    }
}

/// An outcome, with warnings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Done<T> {
    /// What became of the request.
    pub outcome: T,
    /// What the requester should know although it worked.
    pub warnings: Vec<String>,
}

/// The outcome of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// A supervisor has taken the slot. The gateway is down.
    Down,
    /// A supervisor has taken the slot. The gateway is being started.
    Starting,
    /// The gateway is up.
    Up(Option<Pid>),
    /// The gateway is up, and has shown that it works.
    Live(Option<Pid>),
    /// The gateway is up and ready.
    Ready(Option<Pid>),
    /// The gateway of the root profile, which is this process, serves the profile.
    Served(Option<Pid>),
}

/// The outcome of an unregistration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unregistered {
    /// The slot is gone, and its process has ended.
    Gone,
    /// There was no slot.
    WasAbsent,
}

/// What became of a request to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOutcome {
    /// It was up already.
    WasUp(Option<Pid>),
    /// The supervisor was told.
    Told,
    /// Its command is executed, by this process.
    Up(Option<Pid>),
    /// It is up, and has shown that it works.
    Live(Option<Pid>),
    /// It is up and ready.
    Ready(Option<Pid>),
    /// The gateway of the root profile, which is this process, serves the profile.
    Served(Option<Pid>),
}

/// What became of a request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// It was down already, and was not waiting to start again.
    WasDown,
    /// The supervisor was told.
    Told,
    /// It is down, and its finish script has ended.
    Down,
}

/// What became of a request to restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartOutcome {
    /// The supervisor was told.
    Told,
    /// It is up again as another process.
    Up(Option<Pid>),
    /// It is up again as another process, which has shown that it works.
    Live(Option<Pid>),
    /// It is up again as another process, and ready.
    Ready(Option<Pid>),
    /// It was down, so it was started.
    WasDown(StartOutcome),
    /// The gateway of the root profile, which is this process, serves the profile anew.
    Served(Option<Pid>),
}

/// What became of a start that somebody else requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowedStart {
    /// It is up and has stayed up for the start window. Nothing shows whether it works.
    Up,
    /// The watcher has found that it works.
    Live,
    /// It has said, or a probe has found, that it works.
    Ready,
    /// It could not be started, ended before there was evidence that it works, or failed for good.
    Failed {
        /// The reason, if it is known.
        reason: Option<String>,
    },
    /// No supervisor runs.
    NotSupervised,
    /// The start takes longer than it should.
    Late {
        /// The state at the deadline.
        state: StateName,
    },
}

impl From<&Registered> for StartOutcome {
    fn from(registered: &Registered) -> Self {
        match *registered {
            Registered::Down | Registered::Starting => Self::Told,
            Registered::Up(pid) => Self::Up(pid),
            Registered::Live(pid) => Self::Live(pid),
            Registered::Ready(pid) => Self::Ready(pid),
            Registered::Served(pid) => Self::Served(pid),
        }
    }
}

impl From<StartOutcome> for Registered {
    fn from(started: StartOutcome) -> Self {
        match started {
            StartOutcome::Told => Self::Starting,
            StartOutcome::Up(pid) | StartOutcome::WasUp(pid) => Self::Up(pid),
            StartOutcome::Live(pid) => Self::Live(pid),
            StartOutcome::Ready(pid) => Self::Ready(pid),
            StartOutcome::Served(pid) => Self::Served(pid),
        }
    }
}

/// What a wait waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitUntil {
    /// The gateway's command is executed.
    Up,
    /// The gateway is up and ready.
    Ready,
    /// The gateway is down and may be started again.
    Down,
}

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitOutcome {
    /// The condition holds.
    Reached,
    /// Its command cannot be executed, or it failed for good.
    Failed {
        /// The reason, if it is known.
        reason: Option<String>,
    },
    /// Nothing will ever report that it is ready.
    NeverReady {
        /// Whether it is up.
        is_up: bool,
    },
    /// The time is over.
    TimedOut,
}

/// What can be seen of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Its name in the scandir.
    pub service: String,
    /// The profile whose gateway it is, if it is one.
    pub profile: Option<ProfileName>,
    /// Its state in one word.
    pub state: StateName,
    /// What its supervisor reports about it, or reported last.
    pub status: Option<Status>,
    /// Whether the process that the status names is the command already. Before that, it is the
    /// interpreter.
    pub executed: bool,
    /// What the restart policy is doing. Only our supervisor publishes that.
    pub policy: Option<PublishedPolicy>,
    /// Whether it is up by default, if we may look.
    pub normally_up: Option<bool>,
    /// Its last deaths, oldest first.
    pub deaths: Vec<Death>,
    /// Why its last start failed before its command was executed. That may be long ago.
    pub start_error: Option<String>,
    /// Why it is not ready while it is starting, according to its prober. That may be long ago.
    pub not_ready: Option<String>,
    /// What its start waits for, before its command is executed.
    pub delay: Option<StartDelay>,
    /// What could not be looked at.
    pub problem: Option<String>,
    /// Exit codes after which it is not started again; none if it is up and has never died.
    pub fail_codes: Vec<FailCode>,
    /// Exit codes that request a restart; none if it is up and has never died.
    pub restart_codes: Vec<u8>,
}

/// The answer of a gateway that served a profile beside others.
#[derive(Debug, Default)]
pub struct LetGo {
    /// Whether there was such a gateway.
    pub was_served: bool,
    /// Why it serves the profile all the same.
    pub warning: Option<String>,
}

/// A manager of gateways.
///
/// Nothing in this trait requires that the gateways are processes of this machine. A desired state
/// is on disk before its effect begins, and stays there if the effect fails.
pub trait ServiceManager {
    /// Gives a profile's gateway a slot. With `start`, also requests that it runs, and waits as
    /// requested. Returns when a supervisor has taken the slot.
    fn register(
        &self,
        name: &ProfileName,
        start: bool,
        request: &GatewayRequest,
    ) -> Result<Done<Registered>, RegisterError>;

    /// Stops a profile's gateway and removes its slot. Returns when its process is gone.
    ///
    /// The desired state stays: it belongs to the profile, and goes with the profile.
    fn unregister(&self, name: &ProfileName) -> Result<Done<Unregistered>, UnregisterError>;

    /// Has the gateway that serves this profile beside others let go of it, before it is deleted.
    fn let_go(&self, name: &ProfileName) -> LetGo;

    /// Removes what the gateway that served a deleted profile beside others makes of its directory
    /// anew, because it was in the middle of something. Returns a warning if that goes on.
    fn clear_remains(&self, name: &ProfileName) -> Option<String>;

    /// Records that a gateway shall run, and starts it.
    ///
    /// A gateway without a slot gets one.
    fn start(&self, name: &ProfileName, request: &GatewayRequest)
    -> Result<Done<StartOutcome>, ControlError>;

    /// Records that a gateway shall not run, and stops it.
    fn stop(&self, name: &ProfileName, request: &GatewayRequest) -> Result<Done<StopOutcome>, ControlError>;

    /// Records that a gateway shall run, and replaces its process by another one. Starts it if it
    /// is down.
    fn restart(
        &self,
        name: &ProfileName,
        request: &GatewayRequest,
    ) -> Result<Done<RestartOutcome>, ControlError>;

    /// Returns what can be seen of a gateway; `None` if it has no slot.
    fn observe(&self, name: &ProfileName) -> Result<Option<Observed>, LookError>;

    /// Returns the profiles whose gateways have a slot, sorted.
    fn list(&self) -> Result<Vec<ProfileName>, ListServicesError>;

    /// Waits until a gateway is as requested. Without a timeout, waits for ever.
    fn wait(
        &self,
        name: &ProfileName,
        until: WaitUntil,
        timeout: Option<Duration>,
    ) -> Result<WaitOutcome, GatewayWaitError>;

    /// Starts many gateways, and returns the results in the same order. A failure stops no other.
    fn start_all(
        &self,
        names: &[ProfileName],
        request: &GatewayRequest,
    ) -> Vec<Result<Done<StartOutcome>, ControlError>> {
        names.iter().map(|name| self.start(name, request)).collect()
    }

    /// Stops many gateways, as [`ServiceManager::start_all`] starts them.
    fn stop_all(
        &self,
        names: &[ProfileName],
        request: &GatewayRequest,
    ) -> Vec<Result<Done<StopOutcome>, ControlError>> {
        names.iter().map(|name| self.stop(name, request)).collect()
    }

    /// Restarts many gateways, as [`ServiceManager::start_all`] starts them.
    fn restart_all(
        &self,
        names: &[ProfileName],
        request: &GatewayRequest,
    ) -> Vec<Result<Done<RestartOutcome>, ControlError>> {
        names.iter().map(|name| self.restart(name, request)).collect()
    }
}

/// Returns the command that makes a supervisor send the named signal, if there is one.
pub(crate) fn restart_control(signal: &str) -> Option<Control> {
    let number = gatevisor_wire::signal::parse(signal.as_bytes())?;
    ControlSignal::ALL.into_iter().find(|control| control.number() == number).map(Control::Signal)
}
