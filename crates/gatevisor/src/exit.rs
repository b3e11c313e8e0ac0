//! The end of a command: its exit code, and why it failed.
//!
//! *Lives here:* the result of a command, and turning any error into it.
//! *Does not live here:* the codes (`gatevisor_wire::exit`), and printing.

use std::error::Error;

pub use gatevisor_wire::exit::Exit;
use gatevisor_wire::exit::{ExitError, error_chain, without_numbers};

/// Why a command failed: its message and its exit code.
#[derive(Debug)]
pub struct CommandError {
    /// One line: what was tried, why it failed, what to do.
    pub message: String,
    /// The exit code.
    pub code: u8,
    /// The last lines of the gateway that it is about.
    pub lines: Vec<String>,
    /// Where to find more, for a person at a terminal.
    pub hint: Option<String>,
}

impl CommandError {
    /// Returns a failure with this message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { message: without_numbers(&message.into()), code: exit.code(), lines: Vec::new(), hint: None }
    }

    /// Returns the failure for `error` with its causes, if the error names no exit code itself.
    pub fn of(exit: Exit, error: &dyn Error) -> Self {
        Self::new(exit, error_chain(error))
    }

    /// Adds a hint where to find more.
    #[must_use]
    pub fn with_hint(mut self, hint: String) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Adds the last lines of the gateway that it is about.
    #[must_use]
    pub fn with_lines(mut self, lines: Vec<String>) -> Self {
        self.lines = lines;
        self
    }
}

impl<E: ExitError> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self::of(error.exit(), &error)
    }
}

/// The result of a command: an exit code, or why it failed.
pub type Outcome = Result<u8, CommandError>;

/// The result of a command that succeeded.
pub const DONE: Outcome = Ok(Exit::Done.code());
