//! *Lives here:* asking a gateway one question after another, each in its own way.
//!
//! *Does not live here:* the ways (`probe`, `command`), and what an answer means.

use std::net::SocketAddr;

use gatevisor_liveness::EvidenceKind;
use rustix::event::PollFd;

use super::command::CommandProbe;
use super::probe::{Answer, LiveProbe, Question};

/// A question that was asked, and what is asked next where there is no answer to it.
pub(super) struct Asking {
    asked: Asked,
    pub rest: Vec<Question>,
    /// Why there was no answer to those before.
    pub why: Vec<String>,
}

enum Asked {
    Gateway(LiveProbe),
    Command(CommandProbe),
    /// It could not be asked, for this reason.
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
        Self { asked, rest, why }
    }

    /// Returns what was asked.
    pub const fn kind(&self) -> EvidenceKind {
        match &self.asked {
            Asked::Gateway(probe) => probe.kind(),
            Asked::Command(_) => EvidenceKind::Command,
            Asked::Nobody(kind, _) => *kind,
        }
    }

    /// Returns when it is given up.
    pub const fn until_ms(&self) -> u64 {
        match &self.asked {
            Asked::Gateway(probe) => probe.until_ms(),
            Asked::Command(probe) => probe.until_ms(),
            Asked::Nobody(..) => 0,
        }
    }

    /// Returns what is to be polled.
    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        match &self.asked {
            Asked::Gateway(probe) => probe.poll_fd(),
            Asked::Command(probe) => Some(probe.poll_fd()),
            Asked::Nobody(..) => None,
        }
    }

    /// Returns the address that was asked, where whoever has its port answers.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.asked {
            Asked::Gateway(probe) => probe.address(),
            Asked::Command(_) | Asked::Nobody(..) => None,
        }
    }

    /// Goes on as far as that is possible now; returns the answer when there is one.
    pub fn step(&mut self, now_ms: u64) -> Option<Answer> {
        match &mut self.asked {
            Asked::Gateway(probe) => probe.step(now_ms),
            Asked::Command(probe) => probe.step(now_ms),
            Asked::Nobody(_, why) => Some(Answer::None(std::mem::take(why))),
        }
    }
}
