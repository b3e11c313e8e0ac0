//! *Lives here:* asking a gateway one question after another.
//!
//! *Does not live here:* how each question is asked (`probe`, `command`), and the meaning of an
//! answer.

use std::net::SocketAddr;

use gatevisor_liveness::EvidenceKind;
use rustix::event::PollFd;

use super::command::CommandProbe;
use super::probe::{LiveProbe, ProbeAnswer, Question};

/// A question that was asked, and the questions that follow if it gets no answer.
pub(super) struct Asking {
    asked: Asked,
    pub rest: Vec<Question>,
    /// Why the questions before got no answer.
    pub why: Vec<String>,
    /// The evidence that has already shown that the gateway works, if there is any. Then the only
    /// question is which parts of it do not work.
    pub shown_by: Option<EvidenceKind>,
}

enum Asked {
    Gateway(LiveProbe),
    Command(CommandProbe),
    /// The question could not be asked, for this reason.
    Nobody(EvidenceKind, String),
}

impl Asking {
    /// Asks the first question.
    pub fn new(question: Question, rest: Vec<Question>, why: Vec<String>, now_ms: u64) -> Self {
        let asked = match question {
            Question::Command(command) => CommandProbe::new(&command, now_ms).map_or_else(
                |errno| Asked::Nobody(EvidenceKind::Command, format!("command: {errno}")),
                Asked::Command,
            ),
            question => Asked::Gateway(LiveProbe::new(question, now_ms)),
        };
        Self { asked, rest, why, shown_by: None }
    }

    /// Asks a working gateway which parts of it do not work.
    pub fn of_live(question: Question, shown_by: EvidenceKind, now_ms: u64) -> Self {
        Self { shown_by: Some(shown_by), ..Self::new(question, Vec::new(), Vec::new(), now_ms) }
    }

    /// Returns what was asked.
    pub const fn kind(&self) -> EvidenceKind {
        match &self.asked {
            Asked::Gateway(probe) => probe.kind(),
            Asked::Command(_) => EvidenceKind::Command,
            Asked::Nobody(kind, _) => *kind,
        }
    }

    /// Returns when the question is given up.
    pub const fn until_ms(&self) -> u64 {
        match &self.asked {
            Asked::Gateway(probe) => probe.until_ms(),
            Asked::Command(probe) => probe.until_ms(),
            Asked::Nobody(..) => 0,
        }
    }

    /// Returns the descriptor to poll.
    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        match &self.asked {
            Asked::Gateway(probe) => probe.poll_fd(),
            Asked::Command(probe) => Some(probe.poll_fd()),
            Asked::Nobody(..) => None,
        }
    }

    /// Returns the address that was asked, if any process that has its port could answer.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.asked {
            Asked::Gateway(probe) => probe.address(),
            Asked::Command(_) | Asked::Nobody(..) => None,
        }
    }

    /// Goes on as far as possible without waiting. Returns the answer if there is one.
    pub fn step(&mut self, now_ms: u64) -> Option<ProbeAnswer> {
        match &mut self.asked {
            Asked::Gateway(probe) => probe.step(now_ms),
            Asked::Command(probe) => probe.step(now_ms),
            Asked::Nobody(_, why) => Some(ProbeAnswer::None(std::mem::take(why))),
        }
    }
}
