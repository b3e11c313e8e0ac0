//! *Lives here:* the failure of an applet, and reporting it; printing data.
//!
//! *Does not live here:* the texts of the messages.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

use gatevisor_term::stream;
use gatevisor_wire::exit::{Exit, error_chain, without_numbers};

/// Why an applet failed, and its exit code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// The command line is wrong for this applet; its usage is printed.
    #[error("the command line is wrong")]
    Usage,
    /// Any other failure, with a message of one line.
    #[error("{message}")]
    Said {
        /// The exit code.
        code: u8,
        /// What was tried, why it failed, what to do.
        message: String,
    },
}

/// The exit code, or why there is none.
pub type AppletOutcome = Result<u8, Fatal>;

impl Fatal {
    pub(crate) fn new(code: impl Into<u8>, message: impl Into<String>) -> Self {
        Self::Said { code: code.into(), message: message.into() }
    }

    /// Returns the failure for `error`, with its whole chain of causes and then the hint.
    pub(crate) fn of(exit: Exit, error: &dyn Error, hint: Option<&str>) -> Self {
        let mut message = error_chain(error);
        if let Some(hint) = hint {
            let _ = write!(message, "; {hint}");
        }
        Self::new(exit, message)
    }
}

/// Reports why an applet failed, and returns its exit code.
pub(crate) fn last_words(name: &str, usage: &str, fatal: &Fatal) -> u8 {
    match fatal {
        Fatal::Usage => {
            say(name, "usage", usage);
            Exit::Usage.code()
        }
        Fatal::Said { code, message } => {
            say(name, "fatal", message);
            *code
        }
    }
}

/// Prints a warning.
pub(crate) fn warn(applet: &str, message: &str) {
    say(applet, "warning", message);
}

fn say(applet: &str, kind: &str, message: &str) {
    stream::say(format_args!("{applet}: {kind}: {}", without_numbers(message)));
}

/// Writes lines of data, each with its line end, to standard output in one piece. It is no error if
/// the reader has gone.
pub(crate) fn print(lines: &str) -> AppletOutcome {
    match stream::print_lines(lines) {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(Fatal::new(Exit::System, format!("cannot write to standard output: {error}"))),
    }
}
