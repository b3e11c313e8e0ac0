//! Ends the processes that an earlier run of the service left behind, before the next run begins.
//!
//! *Lives here:* when that is done, and how long it may take.
//! *Does not live here:* the consequences of its end (`answers`); which processes are meant; a
//! child of the service's user finds them (`gatevisor-slot`).
//!
//! If an earlier supervision was killed, the service itself is left behind, and no second one is
//! started while it runs. If a process of the service died, the processes that it had started are
//! left behind. They are ended if the service directory says so.

use gatevisor_wire::{Pid, policy, signal};

use super::phase::{Cleanup, KILL_AGAIN_MS, ServicePhase};
use super::state::Machine;
use crate::effect::{Leftover, ServiceEffect, ServiceEffects};
use crate::restart::Rules;
use crate::time::Now;

impl Machine {
    /// Notes that an earlier supervision of the service did not end in order. Its leftovers (the
    /// process `pid`, if that is known) are ended before anything is started.
    ///
    /// Call it only for a new machine.
    pub fn inherit(&mut self, pid: Option<Pid>, out: &mut ServiceEffects) {
        self.inherited = Some(Leftover::OfSupervision(pid));
        self.clear_orphans(pid, out);
    }

    pub(super) fn clear_orphans(&mut self, pid: Option<Pid>, out: &mut ServiceEffects) {
        self.phase = ServicePhase::Clearing(Cleanup::of(Leftover::OfSupervision(pid), false));
        // Whether there is anything to end, the child finds out.
        let whom = pid.map_or_else(|| "processes of it".to_owned(), |pid| format!("process {pid} of it"));
        let reason =
            format!("an earlier supervisor was killed: if it left {whom} running, that is ended first");
        self.write_policy(policy::RestartPhase::Clearing, None, Some(reason), out);
        out.add(ServiceEffect::Clear(Leftover::OfSupervision(pid)));
    }

    pub(super) fn clear_survivors(&mut self, pid: Pid, unannounced: bool, out: &mut ServiceEffects) {
        let whose = Leftover::OfProcess(pid);
        self.phase = ServicePhase::Clearing(Cleanup::of(whose, unannounced));
        self.publish_unasked_death(out);
        out.add(ServiceEffect::Clear(whose));
    }

    /// Publishes a death that nobody asked for. To end what it left takes seconds, in which nobody
    /// else could tell such a death from a restart.
    fn publish_unasked_death(&mut self, out: &mut ServiceEffects) {
        let is_settled = self.question.is_none() && !self.starts.is_asked_for;
        if is_settled && self.rules == Rules::Native {
            let reason = policy::ENDING_SURVIVORS.to_owned();
            self.write_policy(policy::RestartPhase::Clearing, None, Some(reason), out);
        }
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
        // Others see it as a finish script.
        self.status.pid = Some(pid);
        self.status.finishing = true;
        out.add(ServiceEffect::PublishStatus(self.status));
        if unannounced {
            out.add(ServiceEffect::Broadcast(&[gatevisor_wire::event::ServiceEvent::Died]));
        }
    }

    /// Kills the leftovers at once, because the time for them is over or everything is being
    /// killed. The second call kills the process that ends them.
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
