//! *Lives here:* the exit codes that s6's tools, this program and a shell agree on, and how an error reads on one line.
//!
//! *Does not live here:* ending the process, and the text of any error.
//!
//! **Source:** s6's pages of each tool, *Exit codes*; POSIX `sh`, *Command Search and Execution*, for 126 and 127.

use std::{error::Error, process::ExitCode};

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
    /// The command line is wrong, whatever the facts are.
    Usage = 100,
    /// This program is wrong.
    Bug = 101,
    /// No supervisor answers, or it does not hold this service.
    NotSupervised = 102,
    /// The system refused something.
    System = 111,
    /// The program that was to be executed is there, and cannot be.
    NotExecutable = 126,
    /// There is no such program.
    NotFound = 127,
}

impl Exit {
    /// Returns the number that the process ends with.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        exit.code()
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that a command can end with.
pub trait ExitError: Error {
    /// Returns how a command ends that fails so.
    fn exit(&self) -> Exit;

    /// Returns the number that the process ends with.
    fn exit_code(&self) -> u8 {
        self.exit().code()
    }
}

/// Returns an error and its causes on one line, each after a colon.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::error_chain;
    use std::io;

    #[test]
    fn an_error_reads_with_its_causes_on_one_line() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read `x`")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::ErrorKind::NotFound.into());
        assert_eq!(error_chain(&error), "cannot read `x`: entity not found");
    }
}
