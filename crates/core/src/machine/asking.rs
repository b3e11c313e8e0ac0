//! Asks a service that has ended whether it wants to be started again, before deciding that.
//!
//! *Lives here:* after which ends the question is asked, and the fate of the question if somebody
//! decides meanwhile.
//! *Does not live here:* the meaning of each answer (`answers`); how the service is asked; a child
//! of the service's user does that (`gatevisor-slot`).
//!
//! A failed question is no answer. It is asked again after growing delays, and neither a restart
//! nor a stop is guessed.

use gatevisor_wire::event::ServiceEvent::Died;
use gatevisor_wire::wait::WaitStatus;
use gatevisor_wire::{Pid, policy, signal};

use super::phase::{HandoffInquiry, HandoffQuestion, ServicePhase};
use super::state::Machine;
use crate::effect::{ServiceEffect, ServiceEffects};
use crate::restart::{RestartPolicy, Rules};
use crate::time::Now;

impl Machine {
    /// Returns the question about a death, if there is one.
    pub(super) fn question_about(
        &self,
        died: Pid,
        ran_ms: u64,
        how: WaitStatus,
        policy: &RestartPolicy,
    ) -> Option<HandoffQuestion> {
        let code = how.exit_code().filter(|code| policy.handoff_codes.contains(code))?;
        // If somebody else has decided already, by a stop or by a signal that restarts it, the
        // service is not asked.
        let is_open = self.rules == Rules::Native && self.status.want_up && !self.last && !self.asked_to_die;
        is_open.then_some(HandoffQuestion { died, code, ran_ms, problem: None })
    }

    /// Asks, unless somebody has decided meanwhile; returns whether it did. `unannounced` tells
    /// whether the death before it has not been announced yet.
    pub(super) fn ask(&mut self, unannounced: bool, out: &mut ServiceEffects) -> bool {
        let open = self.question.filter(|_| self.status.want_up && !self.last);
        self.question = open;
        let Some(HandoffQuestion { died, code, .. }) = open else { return false };
        self.phase = ServicePhase::Asking(HandoffInquiry { pid: None, kill_at: None, unannounced });
        out.add(ServiceEffect::AskHandoff(died, code));
        true
    }

    pub(super) fn ask_forked(&mut self, now: Now, pid: Pid, ms: u64, out: &mut ServiceEffects) {
        let kill_at = self.kill_at(now, ms);
        let ServicePhase::Asking(inquiry @ HandoffInquiry { pid: None, .. }) = &mut self.phase else {
            out.add(ServiceEffect::Signal(pid, signal::KILL));
            return;
        };
        inquiry.pid = Some(pid);
        inquiry.kill_at = kill_at;
        let unannounced = std::mem::take(&mut inquiry.unannounced);
        // Others see it as a finish script.
        self.status.pid = Some(pid);
        self.status.finishing = true;
        self.publish_question(None, out);
        out.add(ServiceEffect::PublishStatus(self.status));
        if unannounced {
            out.add(ServiceEffect::Broadcast(&[Died]));
        }
        if self.question.is_none() {
            self.drop_question(out);
        }
    }

    /// Publishes that the question is being asked, or when it is asked again.
    pub(super) fn publish_question(
        &mut self,
        until: Option<gatevisor_wire::tai::Tai64n>,
        out: &mut ServiceEffects,
    ) {
        let Some(HandoffQuestion { code, problem, .. }) = self.question else { return };
        let again = if problem.is_some() { " again" } else { "" };
        let why = problem.map_or_else(String::new, |problem| format!(": {problem}"));
        let reason = format!("exit code {code}: it is asked{again} whether it wants to be started{why}");
        self.write_policy(policy::RestartPhase::Asking, until, Some(reason), out);
    }

    /// Notes that somebody has decided, so that the answer does not matter any more.
    pub(super) fn drop_question(&mut self, out: &mut ServiceEffects) {
        self.question = None;
        if let ServicePhase::Asking(HandoffInquiry { pid: Some(pid), .. }) = self.phase {
            out.add(ServiceEffect::Signal(pid, signal::CONT));
            out.add(ServiceEffect::Signal(pid, signal::TERM));
        }
    }
}
