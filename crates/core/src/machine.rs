//! The life of one supervised service.
//!
//! *Lives here:* the state × event table: what a control byte, a death or a deadline means in each
//! phase.
//! *Does not live here:* when a restart is due (see [`crate::restart`]) and everything that touches the kernel.
//!
//! **Source:** s6-supervise(8) and its table of actions; the restart policy of docs/slot.md where the rules are native.

mod clearing;
mod commands;
pub mod memory;
mod starts;

use gatevisor_wire::Pid;
use gatevisor_wire::control::Control;
use gatevisor_wire::event::ServiceEvent::{
    self, Died, Finished, PermanentFailure, Ready, SupervisionEnded, Up,
};
use gatevisor_wire::policy::{self, PublishedPolicy};
use gatevisor_wire::signal;
use gatevisor_wire::status::Status;
use gatevisor_wire::tally::Death;
use gatevisor_wire::wait::WaitStatus;

use crate::effect::{Leftover, ServiceEffect, ServiceEffects};
use crate::machine::clearing::Cleanup;
use crate::restart::{History, RestartDecision, RestartPolicy, Rules};
use crate::time::{Now, Tick};
use starts::{Killer, Starts};

/// Milliseconds between two attempts to kill what should have been dead.
const KILL_AGAIN_MS: u64 = 5000;
/// Milliseconds after a death, or after readiness, before s6 starts a service again.
const S6_PAUSE_MS: u64 = 1000;
/// Milliseconds before s6 2.11 tries again to execute a `run` that could not be.
const S6_EXEC_RETRY_MS: u64 = 10_000;
/// The exit code of a finish script that declares a permanent failure.
const FINISH_PERMANENT: u8 = 125;
/// What `supervise/policy` says while a start waits for the lock.
const BLOCKED: &str = "another instance of the service is already running and holds ./supervise/service-lock; it is started \
                       when that has ended";

/// What happened. Facts the machine needs from disk travel inside the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceInput {
    /// A byte came through the control FIFO.
    Control(Control),
    /// A process was forked for `run`; it has not reached its program yet.
    Forked(Pid),
    /// An earlier process of the service lives on and holds its lock; the one that was started waits for that.
    Blocked,
    /// The process reached its program.
    Spawned,
    /// No process was made, or it did not reach its program; the text says at which step and why.
    SpawnFailed(String),
    /// The down signal was sent; `SIGKILL` is due after so many milliseconds, 0: never.
    Terminating(u64),
    /// A process was forked for `finish`, which may take so many milliseconds, 0: for ever.
    FinishForked(Pid, u64),
    /// There is no `finish` to run, or it cannot be.
    FinishAbsent,
    /// A process was forked that ends what was left behind, which may take so many milliseconds.
    ClearForked(Pid, u64),
    /// No process was made for that, or it did not reach its program; the text says why.
    ClearFailed(String),
    /// The kernel killed the service's process for want of memory; its end comes next.
    OutOfMemory,
    /// The process of the current phase ended.
    Exited(WaitStatus),
    /// The service wrote a newline to its notification descriptor.
    Ready,
    /// The time returned by [`Machine::deadline`] has come.
    Deadline,
    /// The supervisor is going down: bring the service down, then end.
    Shutdown,
    /// The service directory is gone: bring the service down, kill it after so many milliseconds, end.
    Withdraw(u64),
    /// Nothing more will be written for it to read: let it come to the end of its input by itself, bring it
    /// down after so many milliseconds if it does not, then end.
    Drain(u64),
    /// Everything is killed now: kill what runs.
    KillNow,
}

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServicePhase {
    /// Nothing; a start may be due.
    Down { start_at: Option<Tick> },
    /// A process that has not reached its program; the pid is unknown until the fork is done.
    Starting { pid: Option<Pid>, kill_at: Option<Tick> },
    /// A process that waits until an earlier one lets go of the lock. To others the service is down.
    Waiting { pid: Pid },
    /// The service.
    Up { pid: Pid, since: Tick, kill_at: Option<Tick> },
    /// The finish script; the pid is unknown until the fork is done.
    Finishing { pid: Option<Pid>, kill_at: Option<Tick> },
    /// What ends the processes that an earlier life of the service has left behind; nothing of it is left after that.
    Clearing(Cleanup),
    /// Nothing, ever again.
    Ended,
}

/// The machine of one service.
#[derive(Debug)]
pub struct Machine {
    phase: ServicePhase,
    status: Status,
    rules: Rules,
    history: History,
    /// End supervision when the service is down next.
    last: bool,
    /// No start before this, once down.
    not_before: Tick,
    /// Cap on the time to `SIGKILL`, whatever the directory says.
    kill_within_ms: Option<u64>,
    ready_since: Option<Tick>,
    /// Somebody told the running process to end: its death is no failure.
    asked_to_die: bool,
    starts: Starts,
    failure: Option<Box<str>>,
    /// What brought the last death about, where its exit code or signal does not tell.
    cause: Option<&'static str>,
    /// What an earlier supervision that did not end in order has left, until that is ended.
    inherited: Option<Leftover>,
    /// The process that died, where what it left behind is to be ended before the next start.
    bereaved: Option<Pid>,
    /// What `supervise/policy` says, to avoid writing the same again.
    published: policy::RestartPhase,
    /// It gives a reason.
    has_published_reason: bool,
}

impl Machine {
    /// Returns the machine of a service that has never run, and asks for its first status.
    ///
    /// `want_up` is false where a `down` file is present; `seed` spreads the delays of many services.
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
            inherited: None,
            bereaved: None,
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
            // Without a process this reads as "not started yet" to s6 2.13 and newer; 2.11 does not write it.
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
            // What was forked is about to be told.
            ServicePhase::Starting { pid: None, .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Finishing { pid: None, .. }
            | ServicePhase::Ended => None,
        }
    }

    /// Returns the process that runs now, be it the service, its finish script or one that is starting.
    pub fn pid(&self) -> Option<Pid> {
        match self.phase {
            ServicePhase::Up { pid, .. } | ServicePhase::Waiting { pid } => Some(pid),
            ServicePhase::Starting { pid, .. } | ServicePhase::Finishing { pid, .. } => pid,
            ServicePhase::Clearing(clearing) => clearing.pid(),
            ServicePhase::Down { .. } | ServicePhase::Ended => None,
        }
    }

    /// Returns whether a `run` was asked for and not forked yet.
    pub fn awaits_fork(&self) -> bool {
        matches!(self.phase, ServicePhase::Starting { pid: None, .. })
    }

    /// Returns whether supervision is over.
    pub fn ended(&self) -> bool {
        self.phase == ServicePhase::Ended
    }

    /// Returns the status as last published or about to be.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Decides what `event` means now. Total: every event has a meaning in every phase, even if that
    /// meaning is "nothing".
    ///
    /// `policy` is the slot's; it matters for [`ServiceInput::Exited`] and [`ServiceInput::SpawnFailed`] only.
    pub fn step(&mut self, now: Now, event: ServiceInput, policy: &RestartPolicy, out: &mut ServiceEffects) {
        match event {
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
                ServicePhase::Finishing { pid: Some(pid), .. } => {
                    out.add(ServiceEffect::Signal(pid, signal::KILL));
                }
                ServicePhase::Clearing(_) => self.advance_cleanup(now, out),
                ServicePhase::Waiting { .. } => self.end(out),
                ServicePhase::Down { .. }
                | ServicePhase::Starting { pid: None, .. }
                | ServicePhase::Finishing { pid: None, .. }
                | ServicePhase::Ended => {}
            },
        }
    }

    fn is_up(&self) -> bool {
        matches!(self.phase, ServicePhase::Up { .. })
    }

    /// Returns whether a process of the service itself runs, or is still starting.
    fn runs_service(&self) -> bool {
        matches!(self.phase, ServicePhase::Up { .. } | ServicePhase::Starting { pid: Some(_), .. })
    }

    /// Ends the service's process, which had its time.
    fn kill(&mut self, pid: Pid, out: &mut ServiceEffects) {
        self.starts.killer = Killer::Ourselves;
        out.add(ServiceEffect::KillOverdue(pid));
    }

    fn start(&mut self, out: &mut ServiceEffects) {
        if let Some(Leftover::OfSupervision(pid)) = self.inherited {
            return self.clear_orphans(pid, out);
        }
        // Whatever was wrong before, this life is not to blame.
        self.failure = None;
        self.asked_to_die = false;
        self.starts.killer = Killer::Unknown;
        self.phase = ServicePhase::Starting { pid: None, kill_at: None };
        out.add(ServiceEffect::SpawnRun);
    }

    fn forked(&mut self, pid: Pid, out: &mut ServiceEffects) {
        match self.phase {
            ServicePhase::Starting { pid: None, kill_at } => {
                self.phase = ServicePhase::Starting { pid: Some(pid), kill_at };
            }
            // Nobody asked for it, or no longer: it must not run.
            ServicePhase::Down { .. }
            | ServicePhase::Starting { pid: Some(_), .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Up { .. }
            | ServicePhase::Finishing { .. }
            | ServicePhase::Clearing(_)
            | ServicePhase::Ended => out.add(ServiceEffect::Signal(pid, signal::KILL)),
        }
    }

    fn blocked(&mut self, out: &mut ServiceEffects) {
        let ServicePhase::Starting { pid: Some(pid), .. } = self.phase else { return };
        self.phase = ServicePhase::Waiting { pid };
        if self.last {
            self.end(out);
        } else if self.asked_to_die && !self.status.want_up {
            // It may have missed the signal that it was sent meanwhile.
            self.give_up_waiting(pid, out);
        } else {
            self.write_policy(policy::RestartPhase::FailedToStart, None, Some(BLOCKED.to_owned()), out);
        }
    }

    /// The service is not to be started any more, and never was.
    fn give_up_waiting(&mut self, pid: Pid, out: &mut ServiceEffects) {
        self.phase = ServicePhase::Down { start_at: None };
        out.add(ServiceEffect::Signal(pid, signal::KILL));
        self.publish_policy(policy::RestartPhase::Running, None, out);
        self.set_want(false, out);
    }

    fn spawned(&mut self, now: Now, out: &mut ServiceEffects) {
        let (pid, kill_at) = match self.phase {
            ServicePhase::Starting { pid: Some(pid), kill_at } => (pid, kill_at),
            ServicePhase::Waiting { pid } => (pid, None),
            ServicePhase::Down { .. }
            | ServicePhase::Starting { pid: None, .. }
            | ServicePhase::Up { .. }
            | ServicePhase::Finishing { .. }
            | ServicePhase::Clearing(_)
            | ServicePhase::Ended => return,
        };
        self.phase = ServicePhase::Up { pid, since: now.tick, kill_at };
        self.status.pid = Some(pid);
        self.status.ready = false;
        self.status.paused = false;
        self.status.changed = now.wall;
        self.ready_since = None;
        let is_first = !self.starts.started;
        self.starts.count();
        if !is_first || self.published != policy::RestartPhase::Running {
            self.write_policy(policy::RestartPhase::Running, None, self.cause.map(str::to_owned), out);
        }
        out.add(ServiceEffect::PublishStatus(self.status));
        out.add(ServiceEffect::Broadcast(&[Up]));
    }

    fn spawn_failed(&mut self, now: Now, why: &str, policy: &RestartPolicy, out: &mut ServiceEffects) {
        let (ServicePhase::Starting { .. } | ServicePhase::Waiting { .. }) = self.phase else { return };
        self.not_started(now, why, policy, out);
    }

    /// The service is down because its start failed; the next one comes later, or never.
    fn not_started(&mut self, now: Now, why: &str, policy: &RestartPolicy, out: &mut ServiceEffects) {
        self.phase = ServicePhase::Down { start_at: None };
        if self.last {
            self.end(out);
            return;
        }
        let decision = match self.rules {
            Rules::Native => self.history.after_failed_start(policy),
            Rules::S6 => RestartDecision::After(S6_EXEC_RETRY_MS),
        };
        let retry_ms = match decision {
            RestartDecision::After(ms) if self.status.want_up => Some(ms),
            RestartDecision::After(_) | RestartDecision::Hopeless(_) => None,
            RestartDecision::GivenUp(_) => {
                self.set_want(false, out);
                None
            }
        };
        self.phase = ServicePhase::Down { start_at: retry_ms.map(|ms| now.tick.after(ms)) };
        let until = retry_ms.map(|ms| now.wall_after(ms));
        self.write_policy(policy::RestartPhase::FailedToStart, until, Some(why.to_owned()), out);
    }

    fn terminating(&mut self, now: Now, ms: u64) {
        let due = self.kill_at(now, ms);
        match &mut self.phase {
            // Also while it is starting: the signal may come when the program ignores it already.
            ServicePhase::Up { kill_at, .. } | ServicePhase::Starting { pid: Some(_), kill_at } => {
                *kill_at = due;
            }
            ServicePhase::Down { .. }
            | ServicePhase::Starting { pid: None, .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Finishing { .. }
            | ServicePhase::Clearing(_)
            | ServicePhase::Ended => {}
        }
    }

    /// Returns when to kill what may take so many milliseconds, 0: for ever.
    fn kill_at(&self, now: Now, ms: u64) -> Option<Tick> {
        let ms = match (self.kill_within_ms, ms) {
            (Some(cap), 0) => cap,
            (Some(cap), ms) => ms.min(cap),
            (None, ms) => ms,
        };
        (ms > 0).then(|| now.tick.after(ms))
    }

    fn exited(&mut self, now: Now, how: WaitStatus, policy: &RestartPolicy, out: &mut ServiceEffects) {
        match self.phase {
            ServicePhase::Up { pid, since, .. } => self.died(now, pid, since, how, policy, out),
            ServicePhase::Starting { pid: Some(pid), .. } => {
                // It was killed while it was starting: a life without an instant of being up.
                self.starts.started = true;
                self.died(now, pid, now.tick, how, policy, out);
            }
            ServicePhase::Waiting { .. } => {
                self.spawn_failed(now, &format!("it waited for its lock: {how}"), policy, out);
            }
            ServicePhase::Finishing { pid: Some(_), .. } => {
                if how.exit_code() == Some(FINISH_PERMANENT) {
                    self.fail("finish exited 125".to_owned());
                }
                self.finished(now, false, out);
            }
            ServicePhase::Clearing(clearing) => self.cleared(now, clearing, how, policy, out),
            ServicePhase::Down { .. }
            | ServicePhase::Starting { pid: None, .. }
            | ServicePhase::Finishing { pid: None, .. }
            | ServicePhase::Ended => {}
        }
    }

    fn died(
        &mut self,
        now: Now,
        pid: Pid,
        since: Tick,
        how: WaitStatus,
        policy: &RestartPolicy,
        out: &mut ServiceEffects,
    ) {
        self.status.last = how;
        self.status.paused = false;
        self.status.ready = false;
        self.status.changed = now.wall;
        let was_wanted = self.status.want_up;
        self.cause = (self.starts.killer == Killer::Kernel).then_some(memory::OUT_OF_MEMORY);
        self.not_before = match self.rules {
            Rules::Native => self.judge(now, since, how, policy),
            Rules::S6 => self.ready_since.map_or(now.tick.after(S6_PAUSE_MS), |at| at.after(S6_PAUSE_MS)),
        };
        self.ready_since = None;
        self.starts.ran_ms = Some(now.tick.since(since));
        let asked_back = how.exit_code().is_some_and(|code| policy.restart_codes.contains(&code));
        let by_command = how.signal().is_some() && how.signal() == self.starts.sent;
        self.starts.is_asked_for |= self.asked_to_die || asked_back || by_command || !was_wanted;
        self.asked_to_die = false;
        self.bereaved = policy.kill_survivors.then_some(pid);
        self.phase = ServicePhase::Finishing { pid: None, kill_at: None };
        out.add(ServiceEffect::CloseReadiness);
        out.add(ServiceEffect::RecordDeath(Death::new(now.wall, how)));
        out.add(ServiceEffect::SpawnFinish(pid, how));
    }

    /// Returns when the native policy allows the next start.
    fn judge(&mut self, now: Now, since: Tick, how: WaitStatus, policy: &RestartPolicy) -> Tick {
        if !self.status.want_up || self.last {
            return now.tick;
        }
        let hopeless = how.exit_code().is_some_and(|code| policy.fail_codes.contains(&code));
        if self.asked_to_die && !hopeless {
            return now.tick;
        }
        match self.history.after_death(policy, since, now.tick, how) {
            RestartDecision::After(ms) => now.tick.after(ms),
            RestartDecision::Hopeless(code) => {
                self.fail(format!("exit code {code} means that a restart cannot help"));
                now.tick
            }
            RestartDecision::GivenUp(times) => {
                let last = self.cause.map_or_else(|| how.to_string(), str::to_owned);
                self.fail(format!("given up after {times} failures in a row ({last})"));
                now.tick
            }
        }
    }

    /// Stops wanting the service up, for a reason that is kept.
    fn fail(&mut self, reason: String) {
        self.status.want_up = false;
        self.failure = Some(reason.into_boxed_str());
    }

    fn finish_forked(&mut self, now: Now, pid: Pid, ms: u64, out: &mut ServiceEffects) {
        let ServicePhase::Finishing { pid: None, .. } = self.phase else {
            out.add(ServiceEffect::Signal(pid, signal::KILL));
            return;
        };
        let kill_at = self.kill_at(now, ms);
        self.phase = ServicePhase::Finishing { pid: Some(pid), kill_at };
        self.status.pid = Some(pid);
        self.status.finishing = true;
        out.add(ServiceEffect::PublishStatus(self.status));
        out.add(ServiceEffect::Broadcast(&[Died]));
    }

    fn finish_absent(&mut self, now: Now, out: &mut ServiceEffects) {
        if let ServicePhase::Finishing { pid, .. } = self.phase {
            // A finish script that was forked but not executed has been announced already.
            self.finished(now, pid.is_none(), out);
        }
    }

    /// The finish script is over; `died_now` when the death is not announced yet.
    fn finished(&mut self, now: Now, died_now: bool, out: &mut ServiceEffects) {
        match self.bereaved.take() {
            Some(pid) => self.clear_survivors(pid, died_now, out),
            None => self.settle(now, died_now, out),
        }
    }

    /// The service is down for good or until the next start; `died_now` when its death is not announced yet.
    fn settle(&mut self, now: Now, died_now: bool, out: &mut ServiceEffects) {
        self.status.pid = None;
        self.status.finishing = false;
        self.status.ready = true;
        self.status.ready_at = now.wall;
        let failed = self.failure.is_some() && !self.status.want_up;
        let events: &'static [ServiceEvent] = match (died_now, failed) {
            (true, false) => &[Died, Finished],
            (true, true) => &[Died, PermanentFailure, Finished],
            (false, false) => &[Finished],
            (false, true) => &[PermanentFailure, Finished],
        };
        let wanted = self.status.want_up && !self.last;
        let waits_ms = self.not_before.since(now.tick);
        self.phase = ServicePhase::Down { start_at: wanted.then_some(self.not_before) };
        // What the policy says comes first: whoever receives the event must find it.
        if failed {
            self.publish_policy(policy::RestartPhase::Failed, None, out);
        } else if wanted && waits_ms > 0 && self.rules == Rules::Native {
            self.publish_policy(policy::RestartPhase::Backoff, Some(now.wall_after(waits_ms)), out);
        } else {
            self.publish_policy(policy::RestartPhase::Running, None, out);
        }
        out.add(ServiceEffect::PublishStatus(self.status));
        out.add(ServiceEffect::Broadcast(events));
        if self.last {
            self.end(out);
        } else if wanted && waits_ms == 0 {
            self.start(out);
        }
    }

    /// Publishes the policy unless it would only repeat that nothing is special.
    fn publish_policy(
        &mut self,
        phase: policy::RestartPhase,
        until: Option<gatevisor_wire::tai::Tai64n>,
        out: &mut ServiceEffects,
    ) {
        let reason = self.failure.as_deref().or(self.cause).map(str::to_owned);
        let is_plain = phase == policy::RestartPhase::Running && reason.is_none();
        if is_plain && self.published == policy::RestartPhase::Running && !self.has_published_reason {
            return;
        }
        self.write_policy(phase, until, reason, out);
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
        let Starts { restarts, commanded, ran_ms, .. } = self.starts;
        out.add(ServiceEffect::PublishPolicy(PublishedPolicy {
            phase,
            restarts,
            commanded,
            failures,
            ran_ms,
            until,
            reason,
        }));
    }

    fn ready(&mut self, now: Now, out: &mut ServiceEffects) {
        if let ServicePhase::Up { .. } = self.phase
            && !self.status.ready
        {
            self.status.ready = true;
            self.status.ready_at = now.wall;
            self.ready_since = Some(now.tick);
            out.add(ServiceEffect::PublishStatus(self.status));
            out.add(ServiceEffect::Broadcast(&[Ready]));
        }
    }

    fn due(&mut self, now: Now, out: &mut ServiceEffects) {
        if self.deadline().is_none_or(|at| at > now.tick) {
            return;
        }
        match self.phase {
            ServicePhase::Down { .. } if self.status.want_up => self.start(out),
            ServicePhase::Down { .. } => self.phase = ServicePhase::Down { start_at: None },
            // Nobody has asked it to go yet: it was given time to read the rest of its input.
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
            ServicePhase::Clearing(_) => self.advance_cleanup(now, out),
            ServicePhase::Finishing { pid: None, .. }
            | ServicePhase::Starting { pid: None, .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Ended => {}
        }
    }

    fn withdraw(&mut self, now: Now, ms: u64, out: &mut ServiceEffects) {
        self.kill_within_ms = Some(ms);
        let cap = now.tick.after(ms);
        match &mut self.phase {
            ServicePhase::Finishing { pid: Some(_), kill_at } => {
                *kill_at = Some(kill_at.map_or(cap, |at| at.min(cap)));
            }
            ServicePhase::Clearing(clearing) => clearing.end_by(cap),
            ServicePhase::Down { .. }
            | ServicePhase::Starting { .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Up { .. }
            | ServicePhase::Finishing { pid: None, .. }
            | ServicePhase::Ended => {}
        }
        self.shut_down(out);
    }

    fn drain(&mut self, now: Now, ms: u64, out: &mut ServiceEffects) {
        self.kill_within_ms = Some(ms);
        match &mut self.phase {
            ServicePhase::Up { kill_at, .. }
            | ServicePhase::Starting { kill_at, .. }
            | ServicePhase::Finishing { kill_at, .. } => {
                let cap = now.tick.after(ms);
                *kill_at = Some(kill_at.map_or(cap, |at| at.min(cap)));
                self.last = true;
            }
            ServicePhase::Clearing(clearing) => {
                clearing.end_by(now.tick.after(ms));
                self.last = true;
            }
            ServicePhase::Waiting { .. } | ServicePhase::Down { .. } => self.end(out),
            ServicePhase::Ended => {}
        }
    }

    fn shut_down(&mut self, out: &mut ServiceEffects) {
        match self.phase {
            ServicePhase::Down { .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Starting { pid: None, .. } => self.end(out),
            ServicePhase::Up { .. } | ServicePhase::Starting { pid: Some(_), .. } => {
                self.last = true;
                self.want_down(out);
            }
            ServicePhase::Finishing { .. } | ServicePhase::Clearing(_) => self.last = true,
            ServicePhase::Ended => {}
        }
    }

    fn end(&mut self, out: &mut ServiceEffects) {
        if let ServicePhase::Waiting { pid } = self.phase {
            out.add(ServiceEffect::Signal(pid, signal::KILL));
        }
        self.phase = ServicePhase::Ended;
        out.add(ServiceEffect::Broadcast(&[SupervisionEnded]));
        out.add(ServiceEffect::End);
    }
}
