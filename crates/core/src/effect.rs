//! The effects of a step: the shell's next actions.

use gatevisor_wire::Pid;
use gatevisor_wire::event::ServiceEvent;
use gatevisor_wire::policy::PublishedPolicy;
use gatevisor_wire::status::Status;
use gatevisor_wire::tally::Death;
use gatevisor_wire::wait::WaitStatus;

/// The processes that must end before the service may start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// Those of an earlier supervision that did not end in order, with the service's process at
    /// that time if it is known.
    OfSupervision(Option<Pid>),
    /// Those that the service's process with this pid left behind when it died.
    OfProcess(Pid),
}

/// An action for the shell. Actions are performed in the given order.
#[derive(Debug, Clone, PartialEq)]
pub enum ServiceEffect {
    /// Start `run`. Answer with `Forked`, then `Spawned` or `SpawnFailed`.
    SpawnRun,
    /// Start `finish` after the death of the process with this pid and outcome. Answer with
    /// `FinishForked` or `FinishAbsent`.
    SpawnFinish(Pid, WaitStatus),
    /// Start the process that asks whether the service wants to be started again. Its process with
    /// this pid ended with this exit code. Answer with `AskForked` or `AskFailed`.
    AskHandoff(Pid, u8),
    /// Start the process that ends leftover processes. Answer with `ClearForked` or `ClearFailed`.
    Clear(Leftover),
    /// Send a signal to the process. If a process that waits for its lock is killed, it never ran:
    /// it is forgotten at once, and its end is not reported as an input.
    Signal(Pid, u8),
    /// Send a signal to the process group.
    SignalGroup(Pid, u8),
    /// Send the down signal, then `SIGCONT`. Answer with `Terminating`.
    Terminate(Pid),
    /// Send the down signal, without `SIGCONT`.
    DownSignal(Pid),
    /// Send the reload signal.
    ReloadSignal(Pid),
    /// Send `SIGKILL`; to the group if `flag-timeout-killpg` exists.
    KillOverdue(Pid),
    /// Close our end of the readiness pipe.
    CloseReadiness,
    /// Append to the death tally.
    RecordDeath(Death),
    /// Replace `supervise/status`.
    PublishStatus(Status),
    /// Replace `supervise/policy`.
    PublishPolicy(PublishedPolicy),
    /// Send the events to the subscribers in `event/`.
    Broadcast(&'static [ServiceEvent]),
    /// Make the `down` file.
    CreateDownFile,
    /// Remove the `down` file, so that the service starts with the next supervisor too.
    RemoveDownFile,
    /// Supervision of this service is over: release everything of it.
    End,
}

/// The effects of one step, in order. No step has more than [`ServiceEffects::MAX`].
#[derive(Debug, Default)]
pub struct ServiceEffects(Vec<ServiceEffect>);

impl ServiceEffects {
    /// The most effects of one step.
    pub const MAX: usize = 12;

    /// Returns an empty list.
    pub fn new() -> Self {
        Self(Vec::with_capacity(Self::MAX))
    }

    /// Appends an effect.
    pub(crate) fn add(&mut self, effect: ServiceEffect) {
        debug_assert!(self.0.len() < Self::MAX, "a step has at most {} effects", Self::MAX);
        self.0.push(effect);
    }

    /// Removes the effect that publishes the status, for a status that is on disk already.
    pub fn leave_out_status(&mut self) {
        self.0.retain(|effect| !matches!(effect, ServiceEffect::PublishStatus(_)));
    }

    /// Returns the effects, oldest first, and leaves the list empty for the next step.
    pub fn drain(&mut self) -> impl Iterator<Item = ServiceEffect> + '_ {
        self.0.drain(..)
    }
}

/// Publications that are held back while a service has many commands to obey. Only the last of each
/// kind counts.
#[derive(Debug, Default)]
pub struct Coalesced {
    down_file: Option<ServiceEffect>,
    policy: Option<ServiceEffect>,
    status: Option<ServiceEffect>,
}

/// What to do with an effect while publications are held back.
#[derive(Debug, PartialEq)]
pub enum Coalescing {
    /// Hold it back.
    Held,
    /// Perform it now.
    Perform(ServiceEffect),
    /// Perform it after everything that is held back, so that a receiver of the event finds the
    /// published state.
    PerformAfterHeld(ServiceEffect),
}

impl Coalesced {
    /// Handles the next effect.
    pub fn add(&mut self, effect: ServiceEffect) -> Coalescing {
        let place = match effect {
            ServiceEffect::PublishStatus(_) => &mut self.status,
            ServiceEffect::PublishPolicy(_) => &mut self.policy,
            ServiceEffect::CreateDownFile | ServiceEffect::RemoveDownFile => &mut self.down_file,
            ServiceEffect::Broadcast(_) | ServiceEffect::End => return Coalescing::PerformAfterHeld(effect),
            other => return Coalescing::Perform(other),
        };
        *place = Some(effect);
        Coalescing::Held
    }

    /// Returns what was held back, in the order in which to perform it.
    pub fn drain(&mut self) -> impl Iterator<Item = ServiceEffect> + use<> {
        let held = std::mem::take(self);
        [held.down_file, held.policy, held.status].into_iter().flatten()
    }
}
