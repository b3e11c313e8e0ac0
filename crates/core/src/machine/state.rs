//! The state of a service's machine.
//!
//! *Lives here:* what it knows, publishing that, and the smallest changes.
//! *Does not live here:* what an input means, in which phase.

use gatevisor_wire::Pid;
use gatevisor_wire::event::ServiceEvent::{self, SupervisionEnded};
use gatevisor_wire::policy::{self, PublishedPolicy};
use gatevisor_wire::signal;
use gatevisor_wire::status::Status;
use gatevisor_wire::wait::WaitStatus;

use super::phase::{HandoffQuestion, ServicePhase};
use super::starts::{Killer, Starts};
use crate::effect::{Leftover, ServiceEffect, ServiceEffects};
use crate::restart::{History, Rules};
use crate::time::{Now, Tick};

/// The machine of one service.
#[derive(Debug)]
pub struct Machine {
    pub(super) phase: ServicePhase,
    pub(super) status: Status,
    pub(super) rules: Rules,
    pub(super) history: History,
    /// Whether supervision ends when the service is next down.
    pub(super) last: bool,
    /// The earliest time of the next start.
    pub(super) not_before: Tick,
    /// The longest time to `SIGKILL`, whatever the directory says.
    pub(super) kill_within_ms: Option<u64>,
    /// When the process announced its readiness, be it before we learned that it has reached its
    /// program.
    pub(super) ready_since: Option<Tick>,
    /// Whether somebody told the running process to end, so that its death is not a failure.
    pub(super) asked_to_die: bool,
    pub(super) starts: Starts,
    pub(super) failure: Option<Box<str>>,
    /// The cause of the last death, if its exit code or signal does not tell it.
    pub(super) cause: Option<&'static str>,
    /// Why the start after the last death has to wait, if not because of the death.
    pub(super) wait_reason: Option<&'static str>,
    /// The leftovers of an earlier supervision that did not end in order, until they are ended.
    pub(super) inherited: Option<Leftover>,
    /// The process that died and whose leftovers must be ended before the next start.
    pub(super) bereaved: Option<Pid>,
    /// The question to ask about the last death before the next start.
    pub(super) question: Option<HandoffQuestion>,
    /// The published phase, so that the same is not written again.
    pub(super) published: policy::RestartPhase,
    /// Whether the published policy holds a reason.
    pub(super) has_published_reason: bool,
}

impl Machine {
    /// Returns the machine of a service that has never run, and asks for its first status.
    ///
    /// `want_up` is false if there is a `down` file. `seed` makes the delays of many services
    /// differ.
    pub fn new(now: Now, rules: Rules, want_up: bool, seed: u64, out: &mut ServiceEffects) -> Self {
        let status = Self::first_status(now, rules, want_up);
        out.add(ServiceEffect::PublishStatus(status));
        out.add(ServiceEffect::Broadcast(&[ServiceEvent::SupervisionStarted]));
        Self {
            phase: ServicePhase::Down { start_at: want_up.then_some(now.tick) },
            status,
            rules,
            history: History::new(seed),
            last: false,
            not_before: now.tick,
            kill_within_ms: None,
            ready_since: None,
            asked_to_die: false,
            starts: Starts::default(),
            failure: None,
            cause: None,
            wait_reason: None,
            inherited: None,
            bereaved: None,
            question: None,
            published: policy::RestartPhase::Running,
            has_published_reason: false,
        }
    }

    /// Returns the status of a service that has never run.
    pub fn first_status(now: Now, rules: Rules, want_up: bool) -> Status {
        Status {
            changed: now.wall,
            ready_at: now.wall,
            pid: None,
            last: WaitStatus::from_raw(0),
            // Without a process, this means "not started yet" to s6 2.13 and newer. Version 2.11
            // does not write it.
            paused: rules == Rules::Native,
            finishing: false,
            want_up,
            ready: true,
        }
    }

    /// Returns when the next `ServiceInput::Deadline` is due.
    pub fn deadline(&self) -> Option<Tick> {
        match self.phase {
            ServicePhase::Down { start_at } => start_at,
            ServicePhase::Starting { pid: Some(_), kill_at }
            | ServicePhase::Up { kill_at, .. }
            | ServicePhase::Finishing { pid: Some(_), kill_at } => kill_at,
            ServicePhase::Clearing(clearing) => clearing.deadline(),
            ServicePhase::Asking(inquiry) => inquiry.pid.and(inquiry.kill_at),
            // The answer to the fork is about to come.
            ServicePhase::Starting { pid: None, .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Finishing { pid: None, .. }
            | ServicePhase::Ended => None,
        }
    }

    /// Returns the process that runs now: the service, its finish script, or a process that is
    /// starting.
    pub fn pid(&self) -> Option<Pid> {
        match self.phase {
            ServicePhase::Up { pid, .. } | ServicePhase::Waiting { pid } => Some(pid),
            ServicePhase::Starting { pid, .. } | ServicePhase::Finishing { pid, .. } => pid,
            ServicePhase::Clearing(clearing) => clearing.pid(),
            ServicePhase::Asking(inquiry) => inquiry.pid,
            ServicePhase::Down { .. } | ServicePhase::Ended => None,
        }
    }

    /// Returns whether a start of `run` was requested and has not been forked yet.
    pub fn awaits_fork(&self) -> bool {
        matches!(self.phase, ServicePhase::Starting { pid: None, .. })
    }

    /// Returns whether nothing follows its next death: its supervision is ending.
    pub const fn is_last(&self) -> bool {
        self.last
    }

    /// Returns whether supervision is over.
    pub fn ended(&self) -> bool {
        self.phase == ServicePhase::Ended
    }

    /// Returns the status that was published last or is about to be.
    pub fn status(&self) -> &Status {
        &self.status
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.phase, ServicePhase::Up { .. })
    }

    /// Returns whether a process of the service itself runs or is starting.
    pub(super) fn runs_service(&self) -> bool {
        matches!(self.phase, ServicePhase::Up { .. } | ServicePhase::Starting { pid: Some(_), .. })
    }

    /// Kills the service's process, whose time is over.
    pub(super) fn kill(&mut self, pid: Pid, out: &mut ServiceEffects) {
        self.starts.killer = Killer::Ourselves;
        out.add(ServiceEffect::KillOverdue(pid));
    }

    /// Returns when to kill a process that may take this many milliseconds; 0 means no limit.
    pub(super) fn kill_at(&self, now: Now, ms: u64) -> Option<Tick> {
        let ms = match (self.kill_within_ms, ms) {
            (Some(cap), 0) => cap,
            (Some(cap), ms) => ms.min(cap),
            (None, ms) => ms,
        };
        (ms > 0).then(|| now.tick.after(ms))
    }

    /// Publishes the policy, unless it would only repeat that nothing special happens.
    pub(super) fn publish_policy(
        &mut self,
        phase: policy::RestartPhase,
        until: Option<gatevisor_wire::tai::Tai64n>,
        out: &mut ServiceEffects,
    ) {
        let reason = self.failure.as_deref().or_else(|| self.reason()).map(str::to_owned);
        let is_plain = phase == policy::RestartPhase::Running && reason.is_none();
        if is_plain && self.published == policy::RestartPhase::Running && !self.has_published_reason {
            return;
        }
        self.write_policy(phase, until, reason, out);
    }

    /// Returns what is to be said of the last death, or of the wait after it.
    pub(super) fn reason(&self) -> Option<&'static str> {
        self.cause.or(self.wait_reason)
    }

    /// Returns whether it ends what its last process left. That death counts with the start that
    /// follows, and is published before.
    const fn is_ending_survivors(&self) -> bool {
        let ServicePhase::Clearing(clearing) = self.phase else { return false };
        matches!(clearing.whose, Leftover::OfProcess(_))
    }

    pub(super) fn write_policy(
        &mut self,
        phase: policy::RestartPhase,
        until: Option<gatevisor_wire::tai::Tai64n>,
        reason: Option<String>,
        out: &mut ServiceEffects,
    ) {
        self.published = phase;
        self.has_published_reason = reason.is_some();
        let failures = self.history.failures();
        let Starts { restarts, commanded, mut asked, ran_ms, .. } = self.starts;
        if self.is_ending_survivors() {
            asked.push(self.starts.is_asked_for);
        }
        out.add(ServiceEffect::PublishPolicy(PublishedPolicy {
            phase,
            restarts,
            commanded,
            asked,
            failures,
            ran_ms,
            until,
            reason,
        }));
    }

    /// Records the request and publishes it, unless supervision is ending and the request comes too
    /// late; s6 2.11 records it even then.
    pub(super) fn set_want(&mut self, up: bool, out: &mut ServiceEffects) {
        if self.rules == Rules::Native
            && self.last
            && (up
                || matches!(
                    self.phase,
                    ServicePhase::Finishing { .. } | ServicePhase::Clearing(_) | ServicePhase::Asking(_)
                ))
        {
            return;
        }
        self.status.want_up = up;
        out.add(ServiceEffect::PublishStatus(self.status));
    }

    /// Returns when the next start may come that the service itself requested, and notes whether it
    /// has to wait.
    pub(super) fn requested(&mut self, now: Now, wait_ms: u64) -> Tick {
        self.wait_reason = (wait_ms > 0).then_some(policy::ASKS_TOO_OFTEN);
        now.tick.after(wait_ms)
    }

    /// Stops wanting the service up, and keeps the reason.
    pub(super) fn fail(&mut self, reason: String) {
        self.status.want_up = false;
        self.failure = Some(reason.into_boxed_str());
    }

    pub(super) fn end(&mut self, out: &mut ServiceEffects) {
        if let ServicePhase::Waiting { pid } = self.phase {
            out.add(ServiceEffect::Signal(pid, signal::KILL));
        }
        out.add(ServiceEffect::Broadcast(&[SupervisionEnded]));
        self.end_told(out);
    }

    /// Ends, after everybody was told.
    pub(super) fn end_told(&mut self, out: &mut ServiceEffects) {
        self.phase = ServicePhase::Ended;
        out.add(ServiceEffect::End);
    }
}
