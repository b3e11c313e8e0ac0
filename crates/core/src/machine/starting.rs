//! From the decision to start a service until its program runs.
//!
//! *Lives here:* the meaning of the fork, the lock, the exec and their failures, and of readiness.
//! *Does not live here:* forking.

use gatevisor_wire::event::ServiceEvent::{Ready, Up};
use gatevisor_wire::{Pid, policy, signal};

use super::phase::ServicePhase;
use super::starts::Killer;
use super::state::Machine;
use crate::effect::{Leftover, ServiceEffect, ServiceEffects};
use crate::restart::{RestartDecision, RestartPolicy, Rules};
use crate::time::Now;

/// Milliseconds before s6 2.11 tries again to execute a `run` that could not be executed.
const S6_EXEC_RETRY_MS: u64 = 10_000;
/// The reason in `supervise/policy` while a start waits for the lock.
const BLOCKED: &str = "another instance of the service is already running and holds ./supervise/service-lock; it is started \
                       when that has ended";

impl Machine {
    pub(super) fn start(&mut self, out: &mut ServiceEffects) {
        if let Some(Leftover::OfSupervision(pid)) = self.inherited {
            return self.clear_orphans(pid, out);
        }
        // An earlier failure does not concern this process.
        self.failure = None;
        self.question = None;
        self.asked_to_die = false;
        self.ready_since = None;
        self.starts.killer = Killer::Unknown;
        self.phase = ServicePhase::Starting { pid: None, kill_at: None };
        out.add(ServiceEffect::SpawnRun);
    }

    pub(super) fn forked(&mut self, pid: Pid, out: &mut ServiceEffects) {
        match self.phase {
            ServicePhase::Starting { pid: None, kill_at } => {
                self.phase = ServicePhase::Starting { pid: Some(pid), kill_at };
            }
            // Nobody wants it to run, or not any longer, so it must not run.
            ServicePhase::Down { .. }
            | ServicePhase::Starting { pid: Some(_), .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Up { .. }
            | ServicePhase::Finishing { .. }
            | ServicePhase::Clearing(_)
            | ServicePhase::Asking(_)
            | ServicePhase::Ended => out.add(ServiceEffect::Signal(pid, signal::KILL)),
        }
    }

    pub(super) fn blocked(&mut self, out: &mut ServiceEffects) {
        let ServicePhase::Starting { pid: Some(pid), .. } = self.phase else { return };
        self.phase = ServicePhase::Waiting { pid };
        if self.last {
            self.end(out);
        } else if self.asked_to_die && !self.status.want_up {
            // The process may have missed the signal that it was sent meanwhile.
            self.give_up_waiting(pid, out);
        } else {
            self.write_policy(policy::RestartPhase::FailedToStart, None, Some(BLOCKED.to_owned()), out);
        }
    }

    /// The service must not be started any more, and never was up.
    pub(super) fn give_up_waiting(&mut self, pid: Pid, out: &mut ServiceEffects) {
        self.phase = ServicePhase::Down { start_at: None };
        out.add(ServiceEffect::Signal(pid, signal::KILL));
        self.publish_policy(policy::RestartPhase::Running, None, out);
        self.set_want(false, out);
    }

    pub(super) fn spawned(&mut self, now: Now, out: &mut ServiceEffects) {
        let (pid, kill_at) = match self.phase {
            ServicePhase::Starting { pid: Some(pid), kill_at } => (pid, kill_at),
            ServicePhase::Waiting { pid } => (pid, None),
            ServicePhase::Down { .. }
            | ServicePhase::Starting { pid: None, .. }
            | ServicePhase::Up { .. }
            | ServicePhase::Finishing { .. }
            | ServicePhase::Clearing(_)
            | ServicePhase::Asking(_)
            | ServicePhase::Ended => return,
        };
        self.phase = ServicePhase::Up { pid, since: now.tick, kill_at };
        self.status.pid = Some(pid);
        self.status.ready = false;
        self.status.paused = false;
        self.status.changed = now.wall;
        let is_first = !self.starts.started;
        self.starts.count();
        if !is_first || self.published != policy::RestartPhase::Running {
            self.write_policy(policy::RestartPhase::Running, None, self.reason().map(str::to_owned), out);
        }
        out.add(ServiceEffect::PublishStatus(self.status));
        out.add(ServiceEffect::Broadcast(&[Up]));
        if self.ready_since.is_some() {
            self.ready(now, out);
        }
    }

    pub(super) fn spawn_failed(
        &mut self,
        now: Now,
        why: &str,
        policy: &RestartPolicy,
        out: &mut ServiceEffects,
    ) {
        let (ServicePhase::Starting { .. } | ServicePhase::Waiting { .. }) = self.phase else { return };
        self.not_started(now, why, policy, out);
    }

    /// The service is down because its start failed. The next start comes later, or never.
    pub(super) fn not_started(
        &mut self,
        now: Now,
        why: &str,
        policy: &RestartPolicy,
        out: &mut ServiceEffects,
    ) {
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
            RestartDecision::After(_) | RestartDecision::Never(_) => None,
            RestartDecision::GivenUp(_) => {
                self.set_want(false, out);
                None
            }
        };
        self.phase = ServicePhase::Down { start_at: retry_ms.map(|ms| now.tick.after(ms)) };
        let until = retry_ms.map(|ms| now.wall_after(ms));
        self.write_policy(policy::RestartPhase::FailedToStart, until, Some(why.to_owned()), out);
    }

    pub(super) fn ready(&mut self, now: Now, out: &mut ServiceEffects) {
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
}
