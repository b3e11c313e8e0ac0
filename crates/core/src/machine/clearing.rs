//! Ending what an earlier life of the service has left behind, before the next life begins.
//!
//! *Lives here:* when that is done, how long it may take, and what follows from its end.
//! *Does not live here:* which processes are meant; a child of the service's user finds them (`gatevisor-slot`).
//!
//! An earlier supervision that was killed leaves the service itself: no other one is started while it lives. A
//! process of the service that died leaves what it started; that is ended where the slot says so.

use gatevisor_wire::wait::WaitStatus;
use gatevisor_wire::{Pid, policy, signal};

use super::{KILL_AGAIN_MS, Machine, Phase};
use crate::effect::{Effect, Effects, Leftover};
use crate::restart::Numbers;
use crate::time::{Moment, Tick};

/// What ends processes that were left behind, on its way or at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clearing {
    whose: Leftover,
    /// The process that does it; unknown until the fork is done.
    pid: Option<Pid>,
    /// It is told to hurry then, or is killed.
    due: Option<Tick>,
    hurried: bool,
    /// The death before it is not announced yet.
    unannounced: bool,
}

impl Clearing {
    fn of(whose: Leftover, unannounced: bool) -> Self {
        Self { whose, pid: None, due: None, hurried: false, unannounced }
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        self.pid
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        // What was forked is about to be told.
        self.pid.and(self.due)
    }

    /// Gives it no more time than until then.
    pub(super) fn end_by(&mut self, cap: Tick) {
        self.due = Some(self.due.map_or(cap, |due| due.min(cap)));
    }
}

impl Machine {
    /// An earlier supervision of the service did not end in order: what it left, the process `pid` if that is known,
    /// ends before anything is started.
    ///
    /// For a machine that was made just now.
    pub fn inherit(&mut self, pid: Option<Pid>, out: &mut Effects) {
        self.inherited = Some(Leftover::OfSupervision(pid));
        self.clear_orphans(pid, out);
    }

    pub(super) fn clear_orphans(&mut self, pid: Option<Pid>, out: &mut Effects) {
        self.phase = Phase::Clearing(Clearing::of(Leftover::OfSupervision(pid), false));
        let who = pid.map_or_else(|| "what is left of it".to_owned(), |pid| format!("process {pid}"));
        let reason =
            format!("{who} is being ended first: an earlier supervisor was killed and left it running");
        self.write_policy(policy::Phase::Clearing, None, Some(reason), out);
        out.add(Effect::Clear(Leftover::OfSupervision(pid)));
    }

    pub(super) fn clear_survivors(&mut self, pid: Pid, unannounced: bool, out: &mut Effects) {
        let whose = Leftover::OfProcess(pid);
        self.phase = Phase::Clearing(Clearing::of(whose, unannounced));
        out.add(Effect::Clear(whose));
    }

    pub(super) fn clear_forked(&mut self, now: Moment, pid: Pid, ms: u64, out: &mut Effects) {
        let due = self.kill_at(now, ms);
        let Phase::Clearing(clearing @ Clearing { pid: None, .. }) = &mut self.phase else {
            out.add(Effect::Signal(pid, signal::KILL));
            return;
        };
        clearing.pid = Some(pid);
        clearing.due = clearing.due.or(due);
        let unannounced = std::mem::take(&mut clearing.unannounced);
        // To others it is what a finish script is.
        self.status.pid = Some(pid);
        self.status.finishing = true;
        out.add(Effect::PublishStatus(self.status));
        if unannounced {
            out.add(Effect::Broadcast(&[gatevisor_wire::event::ServiceEvent::Died]));
        }
    }

    pub(super) fn clear_failed(&mut self, now: Moment, why: &str, numbers: &Numbers, out: &mut Effects) {
        if let Phase::Clearing(clearing) = self.phase {
            self.after_clearing(now, clearing, Err(why), numbers, out);
        }
    }

    pub(super) fn cleared(
        &mut self,
        now: Moment,
        clearing: Clearing,
        how: WaitStatus,
        numbers: &Numbers,
        out: &mut Effects,
    ) {
        if clearing.pid.is_none() {
            return;
        }
        let failed = format!("what an earlier supervisor left of it could not be ended ({how})");
        let outcome = if how.success() { Ok(()) } else { Err(failed.as_str()) };
        self.after_clearing(now, clearing, outcome, numbers, out);
    }

    fn after_clearing(
        &mut self,
        now: Moment,
        clearing: Clearing,
        outcome: Result<(), &str>,
        numbers: &Numbers,
        out: &mut Effects,
    ) {
        match (clearing.whose, outcome) {
            // It has taken what time it might; a process that cannot even be killed would keep the service down for ever.
            (Leftover::OfProcess(_), _) => self.settle(now, clearing.unannounced, out),
            (Leftover::OfSupervision(_), Ok(())) => {
                self.inherited = None;
                self.not_before = now.tick;
                self.settle(now, false, out);
            }
            (Leftover::OfSupervision(_), Err(why)) => {
                self.status.pid = None;
                self.status.finishing = false;
                out.add(Effect::PublishStatus(self.status));
                self.not_started(now, why, numbers, out);
            }
        }
    }

    /// Its time is over, or nobody has patience any more: what is left behind is killed at once, and then what does that.
    pub(super) fn hurry_clearing(&mut self, now: Moment, out: &mut Effects) {
        let Phase::Clearing(clearing @ Clearing { pid: Some(_), .. }) = &mut self.phase else { return };
        let Some(pid) = clearing.pid else { return };
        out.add(Effect::Signal(pid, signal::CONT));
        let number = if std::mem::replace(&mut clearing.hurried, true) { signal::KILL } else { signal::TERM };
        out.add(Effect::Signal(pid, number));
        clearing.due = Some(now.tick.after(KILL_AGAIN_MS));
    }
}
