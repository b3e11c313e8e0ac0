//! What the helper processes of a service have found: whether it wants to be started again, and
//! whether its leftovers are ended.
//!
//! *Lives here:* the meaning of each answer.
//! *Does not live here:* when they are started (`asking`, `clearing`), and what follows
//! (`settle`).

use gatevisor_wire::handoff::HandoffAnswer;
use gatevisor_wire::policy;
use gatevisor_wire::wait::WaitStatus;

use super::phase::{Cleanup, HandoffInquiry, HandoffQuestion, ServicePhase};
use super::state::Machine;
use crate::effect::{Leftover, ServiceEffect, ServiceEffects};
use crate::restart::{RestartDecision, RestartPolicy};
use crate::time::Now;

impl Machine {
    pub(super) fn ask_failed(&mut self, now: Now, policy: &RestartPolicy, out: &mut ServiceEffects) {
        if let ServicePhase::Asking(inquiry) = self.phase {
            // The command was not even tried.
            self.answered(now, inquiry, HandoffAnswer::Failed, policy, out);
        }
    }

    /// Handles the answer of the asking process, and settles the consequences of the death.
    pub(super) fn answered(
        &mut self,
        now: Now,
        inquiry: HandoffInquiry,
        answer: HandoffAnswer,
        policy: &RestartPolicy,
        out: &mut ServiceEffects,
    ) {
        if let Some(question) = self.question.take() {
            match answer {
                HandoffAnswer::Restart => {
                    self.starts.is_asked_for = true;
                    let wait_ms = self.history.after_request(policy, question.ran_ms);
                    self.not_before = self.requested(now, wait_ms);
                }
                HandoffAnswer::Stop => {
                    self.starts.is_asked_for = true;
                    self.status.want_up = false;
                    self.cause = Some(match question.problem {
                        None => policy::ENDED_ON_PURPOSE,
                        Some(_) => policy::ENDED_UNANSWERED,
                    });
                }
                HandoffAnswer::TimedOut
                | HandoffAnswer::NotUnderstood
                | HandoffAnswer::NoCommand
                | HandoffAnswer::NotExecuted
                | HandoffAnswer::Failed => self.unanswered(now, question, answer, policy),
            }
        }
        self.finished_and_asked(now, inquiry.unannounced, out);
    }

    /// Schedules the question again after a growing delay, or gives up if the service sets a limit.
    fn unanswered(
        &mut self,
        now: Now,
        question: HandoffQuestion,
        answer: HandoffAnswer,
        policy: &RestartPolicy,
    ) {
        let problem = answer.problem();
        match self.history.after_failed_start(policy) {
            RestartDecision::After(ms) => {
                self.not_before = now.tick.after(ms);
                self.question = Some(HandoffQuestion { problem, ..question });
            }
            RestartDecision::Never(_) | RestartDecision::GivenUp(_) => {
                let HandoffQuestion { code, .. } = question;
                self.fail(format!("exit code {code}, and given up: {}", problem.unwrap_or_default()));
            }
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
        let failed = format!("what an earlier supervisor may have left of it could not be ended ({how})");
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
            // The time for it is over. A process that cannot even be killed would otherwise keep
            // the service down for ever.
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
}
