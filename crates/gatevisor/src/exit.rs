//! The exit codes of every command, as s6 has them.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or the answer is yes.
    Done = 0,
    /// The answer is no, or the request does not fit the facts: it exists already, it does not exist.
    No = 1,
    /// What was waited for did not happen in time.
    TimedOut = 99,
    /// The command line is wrong.
    Usage = 100,
    /// This program is wrong.
    Bug = 101,
    /// No supervisor answers.
    NotSupervised = 102,
    /// The system refused something.
    System = 111,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: what to say, and how to end.
#[derive(Debug)]
pub struct CommandError {
    /// One line: what was tried, why it failed, what to do.
    pub message: String,
    /// The exit code.
    pub code: u8,
    /// The last lines of the gateway that it is about.
    pub lines: Vec<String>,
    /// Where more is said, for a person at a terminal.
    pub hint: Option<String>,
}

impl CommandError {
    /// Returns a failure with this message.
    pub fn new(code: Exit, message: impl Into<String>) -> Self {
        Self { message: message.into(), code: code as u8, lines: Vec::new(), hint: None }
    }

    /// Returns the failure that `error` is, with the whole chain of its causes.
    pub fn of(code: u8, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self { message, code, lines: Vec::new(), hint: None }
    }

    /// Returns the failure with a word where more is said.
    #[must_use]
    pub fn with_hint(mut self, hint: String) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Returns the failure with the last lines of the gateway that it is about.
    #[must_use]
    pub fn with_lines(mut self, lines: Vec<String>) -> Self {
        self.lines = lines;
        self
    }
}

/// What a command returns: an exit code other than failure, or why it failed.
pub type Outcome = Result<u8, CommandError>;

/// The outcome of a command that did what it was asked.
pub const DONE: Outcome = Ok(Exit::Done as u8);
