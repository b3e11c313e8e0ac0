//! *Lives here:* what is asked of a gateway during its drain, one question after the other, and the
//! process that asks.
//!
//! *Does not live here:* what follows from an answer (`held`).
//!
//! A question may take as long as a frozen gateway lets it wait. So a process asks it, and the
//! drains of other gateways go on meanwhile.

use std::collections::VecDeque;

use super::asking::AskingProcess;

/// What is asked of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DrainQuestion {
    /// To take no new work.
    Ask,
    /// What work it has.
    Look,
    /// The same, so that the request to an idle gateway goes on.
    Renew,
}

/// What is still to be asked during a drain, and the question that is being asked.
#[derive(Debug, Default)]
pub(super) struct DrainQuestions {
    /// Each with the time since when it waits, in milliseconds.
    waiting: VecDeque<(DrainQuestion, u64)>,
    running: Option<(DrainQuestion, AskingProcess)>,
}

impl DrainQuestions {
    /// Adds a question, unless it waits or runs already.
    pub fn add(&mut self, question: DrainQuestion, now_ms: u64) {
        let waits = self.waiting.iter().any(|(waiting, _)| *waiting == question);
        let runs = self.running.as_ref().is_some_and(|(running, _)| *running == question);
        if !waits && !runs {
            self.waiting.push_back((question, now_ms));
        }
    }

    /// Returns the next question, and since when it waits. There is none while one runs.
    pub fn next(&self) -> Option<(DrainQuestion, u64)> {
        self.waiting.front().copied().filter(|_| self.running.is_none())
    }

    /// Removes the next question.
    pub fn take(&mut self) -> Option<DrainQuestion> {
        self.next()?;
        self.waiting.pop_front().map(|(question, _)| question)
    }

    /// Keeps the process that asks a question.
    pub fn runs(&mut self, question: DrainQuestion, process: AskingProcess) {
        self.running = Some((question, process));
    }

    /// Returns the process that asks now.
    pub fn running(&self) -> Option<&AskingProcess> {
        self.running.as_ref().map(|(_, process)| process)
    }

    /// Returns the answer to the question that runs, if there is one by now.
    pub fn answer(&mut self) -> Option<(DrainQuestion, Result<Vec<u8>, String>)> {
        let (question, process) = self.running.as_mut()?;
        let answer = (*question, process.answer()?);
        self.running = None;
        Some(answer)
    }

    /// Gives up every question. The process that asks is killed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::{DrainQuestion, DrainQuestions};

    #[test]
    fn the_same_question_waits_once_and_the_first_one_is_asked_first() {
        let mut questions = DrainQuestions::default();
        questions.add(DrainQuestion::Ask, 5);
        questions.add(DrainQuestion::Look, 6);
        questions.add(DrainQuestion::Look, 7);
        assert_eq!(questions.next(), Some((DrainQuestion::Ask, 5)));
        assert_eq!(questions.take(), Some(DrainQuestion::Ask));
        assert_eq!(questions.take(), Some(DrainQuestion::Look));
        assert_eq!((questions.take(), questions.answer()), (None, None));
        questions.add(DrainQuestion::Renew, 8);
        questions.clear();
        assert_eq!(questions.next(), None);
    }
}
