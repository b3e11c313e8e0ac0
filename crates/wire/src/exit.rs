//! *Lives here:* the exit codes that s6's tools, this program and a shell agree on, and printing an
//! error on one line.
//!
//! *Does not live here:* ending the process, and the text of any error.
//!
//! **Source:** s6's pages of each tool, *Exit codes*; POSIX `sh`, *Command Search and Execution*,
//! for 126 and 127.

use std::{error::Error, process::ExitCode};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or the answer is yes.
    Done = 0,
    /// The answer is no, or the request does not fit the facts, for example because something
    /// exists already or does not exist.
    No = 1,
    /// The awaited event did not happen in time.
    TimedOut = 99,
    /// The command line is wrong, whatever the facts are.
    Usage = 100,
    /// This program has a bug.
    Bug = 101,
    /// No supervisor answers, or it does not have this service.
    NotSupervised = 102,
    /// A supervisor is there already, so no second one begins.
    AlreadySupervised = 103,
    /// The system refused something.
    System = 111,
    /// The program that was to be executed exists, but cannot be executed.
    NotExecutable = 126,
    /// There is no such program.
    NotFound = 127,
}

impl Exit {
    /// Returns the exit code as a number.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Returns the exit code as the number that `_exit(2)` takes.
    pub const fn status(self) -> i32 {
        self as i32
    }
}

/// The exit code with which a finish script declares a permanent failure.
///
/// **Source:** s6's *service directory*, `finish`.
pub const FINISH_PERMANENT: u8 = 125;

/// Exit codes of an interpreter of `run` that did not reach the command.
///
/// **Source:** POSIX `sh` for 126 and 127; s6 and our own interpreter for 100 and 111.
pub const COMMAND_NOT_REACHED: [u8; 4] =
    [Exit::Usage.code(), Exit::System.code(), Exit::NotExecutable.code(), Exit::NotFound.code()];

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
    /// Returns the exit code for this error.
    fn exit(&self) -> Exit;

    /// Returns the exit code as a number.
    fn exit_code(&self) -> u8 {
        self.exit().code()
    }
}

/// Returns an error and its causes on one line, each after a colon, without the system's numbers:
/// the words before a number say the same.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    without_numbers(&text)
}

/// Removes each ` (os error N)`, which the standard library adds to the words of the system.
pub fn without_numbers(text: &str) -> String {
    const BEGIN: &str = " (os error ";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        out.push_str(before);
        let digits = after.trim_start_matches(|c: char| c.is_ascii_digit());
        match digits.strip_prefix(')') {
            Some(end) if digits.len() < after.len() => rest = end,
            _ => {
                out.push_str(BEGIN);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
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

    #[test]
    fn an_error_reads_without_the_systems_numbers_wherever_they_are() {
        let said = |text: &str| error_chain(&io::Error::other(text.to_owned()));
        assert_eq!(said(&io::Error::from_raw_os_error(2).to_string()), "No such file or directory");
        assert_eq!(said("`a`: No (os error 40), moved: No (os error 2)"), "`a`: No, moved: No");
        for whole in ["a file (os error 2", "(os error 2)", "a file (os error x)", "a file (os error )"] {
            assert_eq!(said(whole), whole);
        }
    }
}
