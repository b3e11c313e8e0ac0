//! From the end of a finish script to the next start.
//!
//! *Lives here:* what comes before the next start: a question, the end of leftovers, a delay.
//! *Does not live here:* when a restart is due (see [`crate::restart`]), and the answers
//! (`answers`).

use gatevisor_wire::event::ServiceEvent::{self, Died, Finished, PermanentFailure, SupervisionEnded};
use gatevisor_wire::policy;

use super::phase::ServicePhase;
use super::state::Machine;
use crate::effect::{ServiceEffect, ServiceEffects};
use crate::restart::Rules;
use crate::time::Now;

impl Machine {
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
        // If nothing follows, the subscribers are looked for once.
        let events: &'static [ServiceEvent] = match (died_now, failed, self.last) {
            (true, false, false) => &[Died, Finished],
            (true, true, false) => &[Died, PermanentFailure, Finished],
            (false, false, false) => &[Finished],
            (false, true, false) => &[PermanentFailure, Finished],
            (true, false, true) => &[Died, Finished, SupervisionEnded],
            (true, true, true) => &[Died, PermanentFailure, Finished, SupervisionEnded],
            (false, false, true) => &[Finished, SupervisionEnded],
            (false, true, true) => &[PermanentFailure, Finished, SupervisionEnded],
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
            self.end_told(out);
        } else if wanted && waits_ms == 0 && !asks_again {
            self.start(out);
        }
    }
}
