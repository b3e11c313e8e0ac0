//! How a command ends: its exit code, and why it failed.
//!
//! *Lives here:* what a command returns, and turning any error into that. *Does not live here:* the codes
//! (`gatevisor_wire::exit`), and printing.

use std::error::Error;

pub use gatevisor_wire::exit::Exit;
use gatevisor_wire::exit::{ExitError, error_chain};

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
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { message: message.into(), code: exit.code(), lines: Vec::new(), hint: None }
    }

    /// Returns the failure that `error` is, with its causes, for an error that names no exit code itself.
    pub fn of(exit: Exit, error: &dyn Error) -> Self {
        Self::new(exit, error_chain(error))
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

impl<E: ExitError> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self::of(error.exit(), &error)
    }
}

/// What a command returns: an exit code other than failure, or why it failed.
pub type Outcome = Result<u8, CommandError>;

/// The outcome of a command that did what it was asked.
pub const DONE: Outcome = Ok(Exit::Done.code());
