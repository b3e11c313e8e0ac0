//! *Lives here:* the exit codes of the process that asks for a handoff, and their meanings.
//!
//! *Does not live here:* asking, and the consequences of the answer.
//!
//! A gateway that wants to be started again leaves a handoff, and ends with an exit code that does
//! not tell. The supervisor parses no answer; it looks at the exit code of the process that asks.

use crate::exit::Exit;
use crate::wait::WaitStatus;

/// The mark after an exit code in `data/restart-codes`. It means that the gateway must be asked
/// whether it wants a restart.
pub const ASKED_MARK: u8 = b'?';

/// Whether a gateway that has ended wants to be started again, or why that is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HandoffAnswer {
    /// It left a handoff, so it wants to be started again.
    Restart,
    /// It left none, so it ended on purpose.
    Stop,
    /// The command for asking did not end in time.
    TimedOut,
    /// The command's output could not be understood.
    NotUnderstood,
    /// `run` has no section about a handoff, or is not executable TOML.
    NoCommand,
    /// The command could not be executed.
    NotExecuted,
    /// The asking process was killed, or failed.
    Failed,
}

impl HandoffAnswer {
    /// Every answer.
    pub const ALL: [Self; 7] = [
        Self::Restart,
        Self::Stop,
        Self::TimedOut,
        Self::NotUnderstood,
        Self::NoCommand,
        Self::NotExecuted,
        Self::Failed,
    ];

    /// Returns the exit code that stands for the answer.
    pub const fn code(self) -> u8 {
        match self {
            Self::Restart => Exit::Done.code(),
            Self::Stop => Exit::No.code(),
            Self::NotUnderstood => 2,
            Self::TimedOut => Exit::TimedOut.code(),
            Self::NoCommand => Exit::Usage.code(),
            Self::Failed => Exit::System.code(),
            Self::NotExecuted => Exit::NotExecutable.code(),
        }
    }

    /// Interprets how the asking process ended; an unknown end is a failure.
    pub fn of(how: WaitStatus) -> Self {
        let code = how.exit_code();
        Self::ALL.into_iter().find(|answer| Some(answer.code()) == code).unwrap_or(Self::Failed)
    }

    /// Returns what went wrong, if there is no answer.
    pub const fn problem(self) -> Option<&'static str> {
        match self {
            Self::Restart | Self::Stop => None,
            Self::TimedOut => Some("the handoff command did not end in time"),
            Self::NotUnderstood => Some("the handoff command gave no answer that can be understood"),
            Self::NoCommand => Some("`run` has no valid [handoff]"),
            Self::NotExecuted => Some("the handoff command cannot be executed"),
            Self::Failed => Some("what asks for the handoff was ended or failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HandoffAnswer;
    use crate::wait::WaitStatus;

    #[test]
    fn every_answer_has_a_code_of_its_own_and_any_other_end_is_a_failure() {
        for answer in HandoffAnswer::ALL {
            assert_eq!(HandoffAnswer::of(WaitStatus::exited(answer.code())), answer);
        }
        for code in [3, 77, 101, 127, 255] {
            assert_eq!(HandoffAnswer::of(WaitStatus::exited(code)), HandoffAnswer::Failed);
        }
        for signal in [9, 15] {
            let killed = WaitStatus::killed(signal).unwrap();
            assert_eq!(HandoffAnswer::of(killed), HandoffAnswer::Failed);
        }
    }

    #[test]
    fn an_answer_that_decides_has_no_problem_and_every_other_one_has() {
        for answer in HandoffAnswer::ALL {
            let decides = matches!(answer, HandoffAnswer::Restart | HandoffAnswer::Stop);
            assert_eq!(answer.problem().is_none(), decides, "{answer:?}");
        }
    }
}
