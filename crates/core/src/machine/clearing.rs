//! Ending what an earlier life of the service has left behind, before the next life begins.
//!
//! *Lives here:* when that is done, how long it may take, and what follows from its end.
//! *Does not live here:* which processes are meant; a child of the service's user finds them
//! (`gatevisor-slot`).
//!
//! An earlier supervision that was killed leaves the service itself: no other one is started while
//! it lives. A process of the service that died leaves what it started; that is ended where its
//! directory says so.

use gatevisor_wire::wait::WaitStatus;
use gatevisor_wire::{Pid, policy, signal};

use super::Machine;
use super::phase::{Cleanup, KILL_AGAIN_MS, ServicePhase};
use crate::effect::{Leftover, ServiceEffect, ServiceEffects};
use crate::restart::RestartPolicy;
use crate::time::Now;

impl Machine {
    /// An earlier supervision of the service did not end in order: what it left, the process `pid`
    /// if that is known, ends before anything is started.
    ///
    /// For a machine that was made just now.
    pub fn inherit(&mut self, pid: Option<Pid>, out: &mut ServiceEffects) {
        self.inherited = Some(Leftover::OfSupervision(pid));
        self.clear_orphans(pid, out);
    }

    pub(super) fn clear_orphans(&mut self, pid: Option<Pid>, out: &mut ServiceEffects) {
        self.phase = ServicePhase::Clearing(Cleanup::of(Leftover::OfSupervision(pid), false));
        let who = pid.map_or_else(|| "what is left of it".to_owned(), |pid| format!("process {pid}"));
        let reason =
            format!("{who} is being ended first: an earlier supervisor was killed and left it running");
        self.write_policy(policy::RestartPhase::Clearing, None, Some(reason), out);
        out.add(ServiceEffect::Clear(Leftover::OfSupervision(pid)));
    }

    pub(super) fn clear_survivors(&mut self, pid: Pid, unannounced: bool, out: &mut ServiceEffects) {
        let whose = Leftover::OfProcess(pid);
        self.phase = ServicePhase::Clearing(Cleanup::of(whose, unannounced));
        out.add(ServiceEffect::Clear(whose));
    }

    pub(super) fn clear_forked(&mut self, now: Now, pid: Pid, ms: u64, out: &mut ServiceEffects) {
        let due = self.kill_at(now, ms);
        let ServicePhase::Clearing(clearing @ Cleanup { pid: None, .. }) = &mut self.phase else {
            out.add(ServiceEffect::Signal(pid, signal::KILL));
            return;
        };
        clearing.pid = Some(pid);
        clearing.due = clearing.due.or(due);
        let unannounced = std::mem::take(&mut clearing.unannounced);
        // To others it is what a finish script is.
        self.status.pid = Some(pid);
        self.status.finishing = true;
        out.add(ServiceEffect::PublishStatus(self.status));
        if unannounced {
            out.add(ServiceEffect::Broadcast(&[gatevisor_wire::event::ServiceEvent::Died]));
        }
    }

    pub(super) fn clear_failed(
        &mut self,
        now: Now,
        why: &str,
        policy: &RestartPolicy,
        out: &mut ServiceEffects,
    ) {
        if let ServicePhase::Clearing(clearing) = self.phase {
            self.after_clearing(now, clearing, Err(why), policy, out);
        }
    }

    pub(super) fn cleared(
        &mut self,
        now: Now,
        clearing: Cleanup,
        how: WaitStatus,
        policy: &RestartPolicy,
        out: &mut ServiceEffects,
    ) {
        if clearing.pid.is_none() {
            return;
        }
        let failed = format!("what an earlier supervisor left of it could not be ended ({how})");
        let outcome = if how.success() { Ok(()) } else { Err(failed.as_str()) };
        self.after_clearing(now, clearing, outcome, policy, out);
    }

    fn after_clearing(
        &mut self,
        now: Now,
        clearing: Cleanup,
        outcome: Result<(), &str>,
        policy: &RestartPolicy,
        out: &mut ServiceEffects,
    ) {
        match (clearing.whose, outcome) {
            // It has taken what time it might; a process that cannot even be killed would keep the
            // service down for ever.
            (Leftover::OfProcess(_), _) => self.settle(now, clearing.unannounced, out),
            (Leftover::OfSupervision(_), Ok(())) => {
                self.inherited = None;
                self.not_before = now.tick;
                self.settle(now, false, out);
            }
            (Leftover::OfSupervision(_), Err(why)) => {
                self.status.pid = None;
                self.status.finishing = false;
                out.add(ServiceEffect::PublishStatus(self.status));
                self.not_started(now, why, policy, out);
            }
        }
    }

    /// Has what was left behind killed at once, because the time for it is over or everything is
    /// killed; the second time it kills the process that does it.
    pub(super) fn advance_cleanup(&mut self, now: Now, out: &mut ServiceEffects) {
        let ServicePhase::Clearing(clearing @ Cleanup { pid: Some(_), .. }) = &mut self.phase else { return };
        let Some(pid) = clearing.pid else { return };
        out.add(ServiceEffect::Signal(pid, signal::CONT));
        let number =
            if std::mem::replace(&mut clearing.advanced, true) { signal::KILL } else { signal::TERM };
        out.add(ServiceEffect::Signal(pid, number));
        clearing.due = Some(now.tick.after(KILL_AGAIN_MS));
    }
}
