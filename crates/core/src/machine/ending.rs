//! From the end of a service's process to the end of its finish script.
//!
//! *Lives here:* the consequences of a death, and the effect of the finish script on them.
//! *Does not live here:* when a restart is due (see [`crate::restart`]), and what comes after the
//! finish script (`settle`).

use gatevisor_wire::event::ServiceEvent::Died;
use gatevisor_wire::exit::FINISH_PERMANENT;
use gatevisor_wire::handoff::HandoffAnswer;
use gatevisor_wire::tally::Death;
use gatevisor_wire::wait::WaitStatus;
use gatevisor_wire::{Pid, signal};

use super::memory;
use super::phase::{HandoffInquiry, ServicePhase};
use super::starts::Killer;
use super::state::Machine;
use crate::effect::{ServiceEffect, ServiceEffects};
use crate::restart::{RestartDecision, RestartPolicy, Rules};
use crate::time::{Now, Tick};

/// Milliseconds after a death, or after readiness, before s6 starts a service again.
const S6_PAUSE_MS: u64 = 1000;

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
                    self.fail(format!("finish exited {FINISH_PERMANENT}"));
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
        self.wait_reason = None;
        self.history.ran(policy, now.tick.since(since));
        if self.starts.is_signalled {
            // Somebody sent a signal, and the process may have asked for its restart because of
            // that. So earlier requests no longer count.
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
    fn judge(&mut self, now: Now, since: Tick, how: WaitStatus, policy: &RestartPolicy) -> Tick {
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
}
