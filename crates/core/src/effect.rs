//! What the shell does next.

use gatevisor_wire::Pid;
use gatevisor_wire::event::ServiceEvent;
use gatevisor_wire::policy::PublishedPolicy;
use gatevisor_wire::status::Status;
use gatevisor_wire::tally::Death;
use gatevisor_wire::wait::WaitStatus;

/// Whose processes are ended before the service may start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// Those of an earlier supervision that did not end in order; the service's process then, where
    /// that is known.
    OfSupervision(Option<Pid>),
    /// Those that the service's process with this pid, which has died, has left behind.
    OfProcess(Pid),
}

/// Something for the shell to do, in the order given.
#[derive(Debug, Clone, PartialEq)]
pub enum ServiceEffect {
    /// Start `run`. Answer with `Forked`, then `Spawned` or `SpawnFailed`.
    SpawnRun,
    /// Start `finish` after the death of the process with this pid and outcome. Answer with
    /// `FinishForked` or `FinishAbsent`.
    SpawnFinish(Pid, WaitStatus),
    /// Start what ends processes that were left behind. Answer with `ClearForked` or `ClearFailed`.
    Clear(Leftover),
    /// Send a signal to the process. One that waits for its lock and is killed never ran: it is
    /// forgotten at once, and its end is no event.
    Signal(Pid, u8),
    /// Send a signal to the process group.
    SignalGroup(Pid, u8),
    /// Send the down signal, then `SIGCONT`. Answer with `Terminating`.
    Terminate(Pid),
    /// Send the down signal and nothing else.
    DownSignal(Pid),
    /// Send the reload signal.
    ReloadSignal(Pid),
    /// Send `SIGKILL`: to the group where `flag-timeout-killpg` says so.
    KillOverdue(Pid),
    /// Close our end of the readiness pipe.
    CloseReadiness,
    /// Append to the death tally.
    RecordDeath(Death),
    /// Replace `supervise/status`.
    PublishStatus(Status),
    /// Replace `supervise/policy`.
    PublishPolicy(PublishedPolicy),
    /// Tell the listeners of `event/`.
    Broadcast(&'static [ServiceEvent]),
    /// Make the `down` file.
    CreateDownFile,
    /// Remove the `down` file.
    RemoveDownFile,
    /// Supervision of this service is over: let go of it.
    End,
}

/// The effects of one step, in order. Bounded: no step has more than [`ServiceEffects::MAX`].
#[derive(Debug, Default)]
pub struct ServiceEffects(Vec<ServiceEffect>);

impl ServiceEffects {
    /// How many effects one step can have at the most.
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

    /// Leaves out the status, for one that is on disk already.
    pub fn leave_out_status(&mut self) {
        self.0.retain(|effect| !matches!(effect, ServiceEffect::PublishStatus(_)));
    }

    /// Takes the effects out, oldest first, and leaves the list empty for the next step.
    pub fn drain(&mut self) -> impl Iterator<Item = ServiceEffect> + '_ {
        self.0.drain(..)
    }
}

/// What is not published yet of a service that has many commands to obey: only the last of each
/// counts.
#[derive(Debug, Default)]
pub struct Coalesced {
    down_file: Option<ServiceEffect>,
    policy: Option<ServiceEffect>,
    status: Option<ServiceEffect>,
}

/// What becomes of an effect while others are coalesced.
#[derive(Debug, PartialEq)]
pub enum Coalescing {
    /// It is held until more has happened.
    Held,
    /// It is performed now.
    Perform(ServiceEffect),
    /// It is performed when what is held has been: whoever receives the event finds what it is
    /// about.
    PerformAfterHeld(ServiceEffect),
}

impl Coalesced {
    /// Takes in the next effect.
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

    /// Returns what is held, in the order in which it is performed.
    pub fn drain(&mut self) -> impl Iterator<Item = ServiceEffect> + use<> {
        let held = std::mem::take(self);
        [held.down_file, held.policy, held.status].into_iter().flatten()
    }
}
