//! *Lives here:* what any manager of gateways can be asked, whichever machine or machinery it manages, and the answers.
//!
//! *Does not live here:* a manager (see [`ScandirManager`]); output.

mod desired;
mod down;
mod errors;
mod follow;
mod look;
mod observe;
mod scandir;
mod up;
mod withdraw;

use std::time::Duration;

use gatevisor_client::status_view::StateName;
use gatevisor_wire::Pid;
use gatevisor_wire::control::{Control, ControlSignal};
use gatevisor_wire::policy::PublishedPolicy;
use gatevisor_wire::status::Status;
use gatevisor_wire::tally::Death;

use crate::desired::Provenance;
use crate::profile::ProfileName;

pub use errors::{
    ControlError, GatewayVerb, GatewayWaitError, ListServicesError, RegisterError, UnregisterError,
};
pub use look::LookError;
pub use observe::observe_directory;
pub use scandir::ScandirManager;

/// How long a command waits for a supervisor that has nothing to do but answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// What a gateway is given to be gone, beyond the time after which its supervisor kills it.
pub const GRACE: Duration = Duration::from_secs(5);

/// What a command waits for before it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitFor {
    /// Nothing: the supervisor was told.
    Nothing,
    /// The gateway's command is executed.
    Up,
    /// There is evidence that the gateway works: it is ready, or where nobody would say so it has stayed up for the
    /// start window.
    #[default]
    Started,
    /// The gateway is ready; it is an error where nobody would say so.
    Ready,
}

/// Who orders something, why, and what to wait for.
#[derive(Debug, Clone)]
pub struct GatewayRequest {
    /// Who.
    pub by: Provenance,
    /// Why, in the orderer's words.
    pub reason: Option<String>,
    /// What to wait for.
    pub wait: WaitFor,
    /// For how long; a time that suits the agent if not said.
    pub timeout: Option<Duration>,
    /// How long a gateway of which nobody says that it is ready must stay up to count as started; the agent's if not said.
    pub window: Option<Duration>,
}

impl GatewayRequest {
    /// Returns the order of the command that this process carries out, without a reason, waiting for evidence.
    pub fn here(command: &str) -> Self {
        let by = Provenance::here(command);
        Self { by, reason: None, wait: WaitFor::Started, timeout: None, window: None }
    }
}

/// An outcome, and what there is to say beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Done<T> {
    /// The outcome.
    pub outcome: T,
    /// What the orderer should know although it worked.
    pub warnings: Vec<String>,
}

/// The outcome of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// The slot is supervised, and down.
    Down,
    /// The slot is supervised, and its gateway is being started.
    Starting,
    /// The gateway is up.
    Up(Option<Pid>),
    /// The gateway is up and ready.
    Ready(Option<Pid>),
}

/// The outcome of an unregistration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unregistered {
    /// The slot and its process are gone.
    Gone,
    /// There was no slot.
    WasAbsent,
}

/// The outcome of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOutcome {
    /// It was up already.
    WasUp(Option<Pid>),
    /// The supervisor was told.
    Told,
    /// It is up.
    Up(Option<Pid>),
    /// It is up and ready.
    Ready(Option<Pid>),
}

/// The outcome of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// It was down already, and was not waiting to start again.
    WasDown,
    /// The supervisor was told.
    Told,
    /// It is down, and its finish script has ended.
    Down,
}

/// The outcome of a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartOutcome {
    /// The supervisor was told.
    Told,
    /// It is up again as another process.
    Up(Option<Pid>),
    /// It is up again as another process, and ready.
    Ready(Option<Pid>),
    /// It was down, so it was started.
    WasDown(StartOutcome),
}

/// What came of a start that somebody else asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowedStart {
    /// It is up, and has been for the start window; nobody says whether it is ready.
    Up,
    /// It is ready.
    Ready,
    /// It could not be started, ended before there was evidence that it works, or failed for good.
    Failed {
        /// Why, where that is known.
        reason: Option<String>,
    },
    /// Nobody supervises it.
    NotSupervised,
    /// It takes longer than it should.
    Late {
        /// Its state then.
        state: StateName,
    },
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
    /// It is so.
    Reached,
    /// Its command cannot be executed, or it failed for good.
    Failed {
        /// Why, where that is known.
        reason: Option<String>,
    },
    /// It is up, and nobody will ever say that it is ready.
    NeverReady,
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
    /// What its supervisor says of it, or said last.
    pub status: Option<Status>,
    /// Whether the process that the status names is the command, and not what is about to become it.
    pub executed: bool,
    /// What the restart policy is doing; only our supervisor says so.
    pub policy: Option<PublishedPolicy>,
    /// Whether it is up by default.
    pub normally_up: bool,
    /// Its last deaths, oldest first.
    pub deaths: Vec<Death>,
    /// Why its last start failed before its command was reached; it may be long ago.
    pub start_error: Option<String>,
    /// Why it is not ready although it is probed, where its prober says so; it may be long ago.
    pub not_ready: Option<String>,
    /// What could not be looked at.
    pub problem: Option<String>,
    /// Exit codes after which nothing more is tried.
    pub fail_codes: Vec<u8>,
    /// Exit codes that ask for a restart.
    pub restart_codes: Vec<u8>,
}

/// A manager of gateways.
///
/// Nothing in it says that the gateways are processes of this machine. A desired state is durable before its effect begins,
/// and stays when the effect fails.
pub trait ServiceManager {
    /// Gives a profile's gateway a slot, down or with `start` up, and returns when it is supervised and as requested.
    fn register(
        &self,
        name: &ProfileName,
        start: bool,
        order: &GatewayRequest,
    ) -> Result<Done<Registered>, RegisterError>;

    /// Stops a profile's gateway and takes its slot away, and returns when its process is gone.
    ///
    /// The desired state is left alone: it is the profile's, and goes with the profile.
    fn unregister(&self, name: &ProfileName) -> Result<Done<Unregistered>, UnregisterError>;

    /// Desired states a gateway running and starts it.
    ///
    /// A gateway without a slot gets one.
    fn start(&self, name: &ProfileName, order: &GatewayRequest) -> Result<Done<StartOutcome>, ControlError>;

    /// Desired states a gateway stopped and stops it.
    fn stop(&self, name: &ProfileName, order: &GatewayRequest) -> Result<Done<StopOutcome>, ControlError>;

    /// Desired states a gateway running, and has another process in its place; one that is down is started.
    fn restart(
        &self,
        name: &ProfileName,
        order: &GatewayRequest,
    ) -> Result<Done<RestartOutcome>, ControlError>;

    /// Returns what can be seen of a gateway; `None` if it has no slot.
    fn observe(&self, name: &ProfileName) -> Result<Option<Observed>, LookError>;

    /// Returns the profiles whose gateways have a slot, sorted.
    fn list(&self) -> Result<Vec<ProfileName>, ListServicesError>;

    /// Waits until a gateway is as asked; without a timeout, for ever.
    fn wait(
        &self,
        name: &ProfileName,
        until: WaitUntil,
        timeout: Option<Duration>,
    ) -> Result<WaitOutcome, GatewayWaitError>;

    /// Starts many, and returns each one's result in order. A failure stops no other.
    fn start_all(
        &self,
        names: &[ProfileName],
        order: &GatewayRequest,
    ) -> Vec<Result<Done<StartOutcome>, ControlError>> {
        names.iter().map(|name| self.start(name, order)).collect()
    }

    /// Stops many, as [`ServiceManager::start_all`] starts them.
    fn stop_all(
        &self,
        names: &[ProfileName],
        order: &GatewayRequest,
    ) -> Vec<Result<Done<StopOutcome>, ControlError>> {
        names.iter().map(|name| self.stop(name, order)).collect()
    }

    /// Restarts many, as [`ServiceManager::start_all`] starts them.
    fn restart_all(
        &self,
        names: &[ProfileName],
        order: &GatewayRequest,
    ) -> Vec<Result<Done<RestartOutcome>, ControlError>> {
        names.iter().map(|name| self.restart(name, order)).collect()
    }
}

/// Returns the command that makes a supervisor send the named signal, if there is one.
pub(crate) fn restart_control(signal: &str) -> Option<Control> {
    let number = gatevisor_wire::signal::parse(signal.as_bytes())?;
    ControlSignal::ALL.into_iter().find(|control| control.number() == number).map(Control::Signal)
}
