//! The life of one supervised service.
//!
//! *Lives here:* the table of phases and inputs: the meaning of a control byte, a death or a
//! deadline in each phase.
//! *Does not live here:* when a restart is due (see [`crate::restart`]) and everything that touches
//! the kernel.
//!
//! **Source:** s6-supervise(8) and its table of actions; the restart policy of
//! docs/reference/slot.md where the rules are native.

mod asking;
mod clearing;
mod commands;
mod ending;
pub mod memory;
mod phase;
mod starting;
mod starts;

use gatevisor_wire::Pid;
use gatevisor_wire::event::ServiceEvent::{self, Ready};
use gatevisor_wire::policy::{self, PublishedPolicy};
use gatevisor_wire::signal;
use gatevisor_wire::status::Status;
use gatevisor_wire::wait::WaitStatus;

use crate::effect::{Leftover, ServiceEffect, ServiceEffects};
use crate::input::ServiceInput;
use crate::restart::{History, RestartPolicy, Rules};
use crate::time::{Now, Tick};
use phase::{HandoffInquiry, HandoffQuestion, KILL_AGAIN_MS, ServicePhase};
use starts::{Killer, Starts};

/// The machine of one service.
#[derive(Debug)]
pub struct Machine {
    phase: ServicePhase,
    status: Status,
    rules: Rules,
    history: History,
    /// Whether supervision ends when the service is next down.
    last: bool,
    /// The earliest time of the next start.
    not_before: Tick,
    /// The longest time to `SIGKILL`, whatever the directory says.
    kill_within_ms: Option<u64>,
    /// When the process announced its readiness, be it before we learned that it has reached its
    /// program.
    ready_since: Option<Tick>,
    /// Whether somebody told the running process to end, so that its death is not a failure.
    asked_to_die: bool,
    starts: Starts,
    failure: Option<Box<str>>,
    /// The cause of the last death, if its exit code or signal does not tell it.
    cause: Option<&'static str>,
    /// Why the start after the last death has to wait, if not because of the death.
    wait_reason: Option<&'static str>,
    /// The leftovers of an earlier supervision that did not end in order, until they are ended.
    inherited: Option<Leftover>,
    /// The process that died and whose leftovers must be ended before the next start.
    bereaved: Option<Pid>,
    /// The question to ask about the last death before the next start.
    question: Option<HandoffQuestion>,
    /// The published phase, so that the same is not written again.
    published: policy::RestartPhase,
    /// Whether the published policy holds a reason.
    has_published_reason: bool,
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

    /// Returns when the next [`ServiceInput::Deadline`] is due.
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

    /// Returns whether supervision is over.
    pub fn ended(&self) -> bool {
        self.phase == ServicePhase::Ended
    }

    /// Returns the status that was published last or is about to be.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Decides the meaning of `input` now. It is total: every input has a meaning in every phase,
    /// even if that meaning is "nothing".
    ///
    /// `policy` is the service's; it matters for [`ServiceInput::Exited`] and
    /// [`ServiceInput::SpawnFailed`] only.
    pub fn step(&mut self, now: Now, input: ServiceInput, policy: &RestartPolicy, out: &mut ServiceEffects) {
        match input {
            ServiceInput::Control(control) => self.control(now, control, out),
            ServiceInput::Forked(pid) => self.forked(pid, out),
            ServiceInput::Blocked => self.blocked(out),
            ServiceInput::Spawned => self.spawned(now, out),
            ServiceInput::SpawnFailed(why) => self.spawn_failed(now, &why, policy, out),
            ServiceInput::Terminating(ms) => self.terminating(now, ms),
            ServiceInput::FinishForked(pid, ms) => self.finish_forked(now, pid, ms, out),
            ServiceInput::FinishAbsent => self.finish_absent(now, out),
            ServiceInput::ClearForked(pid, ms) => self.clear_forked(now, pid, ms, out),
            ServiceInput::ClearFailed(why) => self.clear_failed(now, &why, policy, out),
            ServiceInput::AskForked(pid, ms) => self.ask_forked(now, pid, ms, out),
            ServiceInput::AskFailed(_) => self.ask_failed(now, policy, out),
            ServiceInput::OutOfMemory if self.runs_service() => self.starts.killer = Killer::Kernel,
            ServiceInput::OutOfMemory => {}
            ServiceInput::Exited(how) => self.exited(now, how, policy, out),
            ServiceInput::Ready => self.ready(now, out),
            ServiceInput::Deadline => self.due(now, out),
            ServiceInput::Shutdown => self.shut_down(out),
            ServiceInput::Withdraw(ms) => self.withdraw(now, ms, out),
            ServiceInput::Drain(ms) => self.drain(now, ms, out),
            ServiceInput::KillNow => match self.phase {
                ServicePhase::Up { pid, .. } | ServicePhase::Starting { pid: Some(pid), .. } => {
                    self.kill(pid, out);
                }
                ServicePhase::Finishing { pid: Some(pid), .. }
                | ServicePhase::Asking(HandoffInquiry { pid: Some(pid), .. }) => {
                    out.add(ServiceEffect::Signal(pid, signal::KILL));
                }
                ServicePhase::Clearing(_) => self.advance_cleanup(now, out),
                ServicePhase::Waiting { .. } => self.end(out),
                ServicePhase::Down { .. }
                | ServicePhase::Starting { pid: None, .. }
                | ServicePhase::Finishing { pid: None, .. }
                | ServicePhase::Asking(HandoffInquiry { pid: None, .. })
                | ServicePhase::Ended => {}
            },
        }
    }

    fn is_up(&self) -> bool {
        matches!(self.phase, ServicePhase::Up { .. })
    }

    /// Returns whether a process of the service itself runs or is starting.
    fn runs_service(&self) -> bool {
        matches!(self.phase, ServicePhase::Up { .. } | ServicePhase::Starting { pid: Some(_), .. })
    }

    /// Kills the service's process, whose time is over.
    fn kill(&mut self, pid: Pid, out: &mut ServiceEffects) {
        self.starts.killer = Killer::Ourselves;
        out.add(ServiceEffect::KillOverdue(pid));
    }

    /// Returns when to kill a process that may take this many milliseconds; 0 means no limit.
    fn kill_at(&self, now: Now, ms: u64) -> Option<Tick> {
        let ms = match (self.kill_within_ms, ms) {
            (Some(cap), 0) => cap,
            (Some(cap), ms) => ms.min(cap),
            (None, ms) => ms,
        };
        (ms > 0).then(|| now.tick.after(ms))
    }

    /// Publishes the policy, unless it would only repeat that nothing special happens.
    fn publish_policy(
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
    fn reason(&self) -> Option<&'static str> {
        self.cause.or(self.wait_reason)
    }

    /// Returns whether it ends what its last process left. That death counts with the start that
    /// follows, and is published before.
    const fn is_ending_survivors(&self) -> bool {
        let ServicePhase::Clearing(clearing) = self.phase else { return false };
        matches!(clearing.whose, Leftover::OfProcess(_))
    }

    fn write_policy(
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

    fn ready(&mut self, now: Now, out: &mut ServiceEffects) {
        match self.phase {
            ServicePhase::Up { .. } if !self.status.ready => {
                self.status.ready = true;
                self.status.ready_at = now.wall;
                self.ready_since = Some(now.tick);
                out.add(ServiceEffect::PublishStatus(self.status));
                out.add(ServiceEffect::Broadcast(&[Ready]));
            }
            // The report of the exec comes later if a process that was forked at the same time
            // still holds its end of the report's pipe. Without an exec, this does not count.
            ServicePhase::Starting { pid: Some(_), .. } | ServicePhase::Waiting { .. } => {
                self.ready_since = Some(now.tick);
            }
            ServicePhase::Up { .. }
            | ServicePhase::Starting { pid: None, .. }
            | ServicePhase::Down { .. }
            | ServicePhase::Finishing { .. }
            | ServicePhase::Clearing(_)
            | ServicePhase::Asking(_)
            | ServicePhase::Ended => {}
        }
    }

    /// Handles a deadline of a service that is down.
    fn due_down(&mut self, out: &mut ServiceEffects) {
        if self.ask(false, out) {
            return;
        }
        if self.status.want_up {
            self.start(out);
        } else {
            self.phase = ServicePhase::Down { start_at: None };
        }
    }

    fn due(&mut self, now: Now, out: &mut ServiceEffects) {
        if self.deadline().is_none_or(|at| at > now.tick) {
            return;
        }
        match self.phase {
            ServicePhase::Down { .. } => self.due_down(out),
            // Nobody has asked it to end yet, because it had time to read the rest of its input.
            ServicePhase::Up { .. } if self.last && self.status.want_up => self.want_down(out),
            ServicePhase::Up { pid, since, .. } => {
                self.kill(pid, out);
                self.phase = ServicePhase::Up { pid, since, kill_at: Some(now.tick.after(KILL_AGAIN_MS)) };
            }
            ServicePhase::Finishing { pid: Some(pid), .. } => {
                out.add(ServiceEffect::Signal(pid, signal::CONT));
                out.add(ServiceEffect::Signal(pid, signal::KILL));
                let kill_at = Some(now.tick.after(KILL_AGAIN_MS));
                self.phase = ServicePhase::Finishing { pid: Some(pid), kill_at };
            }
            ServicePhase::Starting { pid: Some(pid), .. } => {
                self.kill(pid, out);
                let kill_at = Some(now.tick.after(KILL_AGAIN_MS));
                self.phase = ServicePhase::Starting { pid: Some(pid), kill_at };
            }
            ServicePhase::Asking(HandoffInquiry { pid: Some(pid), unannounced, .. }) => {
                out.add(ServiceEffect::Signal(pid, signal::CONT));
                out.add(ServiceEffect::Signal(pid, signal::KILL));
                let kill_at = Some(now.tick.after(KILL_AGAIN_MS));
                self.phase = ServicePhase::Asking(HandoffInquiry { pid: Some(pid), kill_at, unannounced });
            }
            ServicePhase::Clearing(_) => self.advance_cleanup(now, out),
            ServicePhase::Asking(HandoffInquiry { pid: None, .. })
            | ServicePhase::Finishing { pid: None, .. }
            | ServicePhase::Starting { pid: None, .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Ended => {}
        }
    }
}
