//! From the end of a service's process to the next start, or to the end of its supervision.
//!
//! *Lives here:* the consequences of a death, the effect of the finish script on them, and the end
//! of supervision.
//! *Does not live here:* when a restart is due (see [`crate::restart`]).

use gatevisor_wire::event::ServiceEvent::{self, Died, Finished, PermanentFailure, SupervisionEnded};
use gatevisor_wire::handoff::HandoffAnswer;
use gatevisor_wire::tally::Death;
use gatevisor_wire::wait::WaitStatus;
use gatevisor_wire::{Pid, policy, signal};

use super::phase::{HandoffInquiry, ServicePhase};
use super::starts::Killer;
use super::{Machine, memory};
use crate::effect::{ServiceEffect, ServiceEffects};
use crate::restart::{RestartDecision, RestartPolicy, Rules};
use crate::time::{Now, Tick};

/// Milliseconds after a death, or after readiness, before s6 starts a service again.
const S6_PAUSE_MS: u64 = 1000;
/// The exit code with which a finish script declares a permanent failure.
const FINISH_PERMANENT: u8 = 125;

impl Machine {
    pub(super) fn terminating(&mut self, now: Now, ms: u64) {
        let due = self.kill_at(now, ms);
        match &mut self.phase {
            // This holds during a start, too: when the signal comes, the program may already ignore
            // it.
            ServicePhase::Up { kill_at, .. } | ServicePhase::Starting { pid: Some(_), kill_at } => {
                *kill_at = due;
            }
            ServicePhase::Down { .. }
            | ServicePhase::Starting { pid: None, .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Finishing { .. }
            | ServicePhase::Clearing(_)
            | ServicePhase::Asking(_)
            | ServicePhase::Ended => {}
        }
    }

    pub(super) fn exited(
        &mut self,
        now: Now,
        how: WaitStatus,
        policy: &RestartPolicy,
        out: &mut ServiceEffects,
    ) {
        match self.phase {
            ServicePhase::Up { pid, since, .. } => self.died(now, pid, since, how, policy, out),
            ServicePhase::Starting { pid: Some(pid), .. } => {
                // It was killed during its start, so it was never up, and never ready.
                self.starts.started = true;
                self.ready_since = None;
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
            ServicePhase::Asking(inquiry @ HandoffInquiry { pid: Some(_), .. }) => {
                self.answered(now, inquiry, HandoffAnswer::of(how), policy, out);
            }
            ServicePhase::Asking(HandoffInquiry { pid: None, .. })
            | ServicePhase::Down { .. }
            | ServicePhase::Starting { pid: None, .. }
            | ServicePhase::Finishing { pid: None, .. }
            | ServicePhase::Ended => {}
        }
    }

    pub(super) fn died(
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
        self.wait_reason = None;
        self.history.ran(policy, now.tick.since(since));
        if self.starts.is_signalled {
            // What it requests now, a signal that somebody had sent may have asked it for.
            self.history.forget_requests();
        }
        self.question = self.question_about(pid, now.tick.since(since), how, policy);
        self.not_before = match self.rules {
            _ if self.question.is_some() => now.tick,
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
    pub(super) fn judge(&mut self, now: Now, since: Tick, how: WaitStatus, policy: &RestartPolicy) -> Tick {
        if !self.status.want_up || self.last {
            return now.tick;
        }
        let permanent_failure = how.exit_code().is_some_and(|code| policy.is_final(code));
        if self.asked_to_die && !permanent_failure {
            return now.tick;
        }
        match self.history.after_death(policy, since, now.tick, how) {
            RestartDecision::After(ms) => {
                let asks = how.exit_code().is_some_and(|code| policy.restart_codes.contains(&code));
                if asks { self.requested(now, ms) } else { now.tick.after(ms) }
            }
            RestartDecision::Never(code) => {
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

    pub(super) fn finish_forked(&mut self, now: Now, pid: Pid, ms: u64, out: &mut ServiceEffects) {
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

    pub(super) fn finish_absent(&mut self, now: Now, out: &mut ServiceEffects) {
        if let ServicePhase::Finishing { pid, .. } = self.phase {
            // The end of a finish script that was forked but not executed has been announced
            // already.
            self.finished(now, pid.is_none(), out);
        }
    }

    /// Handles the end of the finish script. `died_now` tells that the death has not been announced
    /// yet.
    pub(super) fn finished(&mut self, now: Now, died_now: bool, out: &mut ServiceEffects) {
        if !self.ask(died_now, out) {
            self.finished_and_asked(now, died_now, out);
        }
    }

    /// Continues after the question about the death, if there was one, has been answered.
    pub(super) fn finished_and_asked(&mut self, now: Now, died_now: bool, out: &mut ServiceEffects) {
        match self.bereaved.take() {
            Some(pid) => self.clear_survivors(pid, died_now, out),
            None => self.settle(now, died_now, out),
        }
    }

    /// The service is down, for good or until the next start. `died_now` tells that its death has
    /// not been announced yet.
    pub(super) fn settle(&mut self, now: Now, died_now: bool, out: &mut ServiceEffects) {
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
        let asks_again = self.question.is_some() && wanted;
        let waits_ms = self.not_before.since(now.tick);
        self.phase = ServicePhase::Down { start_at: wanted.then_some(self.not_before) };
        // The policy is published first, so that a receiver of the event finds it.
        if failed {
            self.publish_policy(policy::RestartPhase::Failed, None, out);
        } else if asks_again {
            self.publish_question(Some(now.wall_after(waits_ms)), out);
        } else if wanted && waits_ms > 0 && self.rules == Rules::Native {
            self.publish_policy(policy::RestartPhase::Backoff, Some(now.wall_after(waits_ms)), out);
        } else {
            self.publish_policy(policy::RestartPhase::Running, None, out);
        }
        out.add(ServiceEffect::PublishStatus(self.status));
        out.add(ServiceEffect::Broadcast(events));
        if self.last {
            self.end(out);
        } else if wanted && waits_ms == 0 && !asks_again {
            self.start(out);
        }
    }

    pub(super) fn withdraw(&mut self, now: Now, ms: u64, out: &mut ServiceEffects) {
        self.kill_within_ms = Some(ms);
        let cap = now.tick.after(ms);
        match &mut self.phase {
            ServicePhase::Finishing { pid: Some(_), kill_at } => {
                *kill_at = Some(kill_at.map_or(cap, |at| at.min(cap)));
            }
            ServicePhase::Clearing(clearing) => clearing.end_by(cap),
            ServicePhase::Asking(inquiry) => inquiry.end_by(cap),
            ServicePhase::Down { .. }
            | ServicePhase::Starting { .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Up { .. }
            | ServicePhase::Finishing { pid: None, .. }
            | ServicePhase::Ended => {}
        }
        self.shut_down(out);
    }

    pub(super) fn drain(&mut self, now: Now, ms: u64, out: &mut ServiceEffects) {
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
            ServicePhase::Asking(inquiry) => {
                inquiry.end_by(now.tick.after(ms));
                self.last = true;
                self.drop_question(out);
            }
            ServicePhase::Waiting { .. } | ServicePhase::Down { .. } => self.end(out),
            ServicePhase::Ended => {}
        }
    }

    pub(super) fn shut_down(&mut self, out: &mut ServiceEffects) {
        match self.phase {
            ServicePhase::Down { .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Starting { pid: None, .. } => self.end(out),
            ServicePhase::Up { .. } | ServicePhase::Starting { pid: Some(_), .. } => {
                self.last = true;
                self.want_down(out);
            }
            ServicePhase::Finishing { .. } | ServicePhase::Clearing(_) => self.last = true,
            ServicePhase::Asking(_) => {
                self.last = true;
                self.drop_question(out);
            }
            ServicePhase::Ended => {}
        }
    }

    pub(super) fn end(&mut self, out: &mut ServiceEffects) {
        if let ServicePhase::Waiting { pid } = self.phase {
            out.add(ServiceEffect::Signal(pid, signal::KILL));
        }
        self.phase = ServicePhase::Ended;
        out.add(ServiceEffect::Broadcast(&[SupervisionEnded]));
        out.add(ServiceEffect::End);
    }
}
