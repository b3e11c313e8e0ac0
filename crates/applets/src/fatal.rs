//! *Lives here:* how an applet fails, and saying so; writing data.
//!
//! *Does not live here:* the messages.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

use gatevisor_term::stream;
use gatevisor_wire::exit::{Exit, error_chain};

use crate::Applet;

/// Why an applet failed, and the exit code that says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// The command line is not one of this applet; its usage is said.
    #[error("the command line is wrong")]
    Usage,
    /// Something else, in one line.
    #[error("{message}")]
    Said {
        /// The exit code.
        code: u8,
        /// What was tried, why it failed, what to do.
        message: String,
    },
}

/// The exit code, or why there is none.
pub type Outcome = Result<u8, Fatal>;

impl Fatal {
    pub(crate) fn new(code: impl Into<u8>, message: impl Into<String>) -> Self {
        Self::Said { code: code.into(), message: message.into() }
    }

    /// Returns the failure that `error` is, with the whole chain of its causes and then the hint.
    pub(crate) fn of(exit: Exit, error: &dyn Error, hint: Option<&str>) -> Self {
        let mut message = error_chain(error);
        if let Some(hint) = hint {
            let _ = write!(message, "; {hint}");
        }
        Self::new(exit, message)
    }
}

/// Says why an applet failed and returns its exit code.
pub(crate) fn last_words(applet: &Applet, fatal: &Fatal) -> u8 {
    match fatal {
        Fatal::Usage => {
            say(applet.name, "usage", applet.usage);
            Exit::Usage.code()
        }
        Fatal::Said { code, message } => {
            say(applet.name, "fatal", message);
            *code
        }
    }
}

/// Warns, and goes on.
pub(crate) fn warn(applet: &str, message: &str) {
    say(applet, "warning", message);
}

fn say(applet: &str, kind: &str, message: &str) {
    stream::say(format_args!("{applet}: {kind}: {message}"));
}

/// Writes lines of data, each with its end, to standard output at once; a reader that has gone is no error.
pub(crate) fn print(lines: &str) -> Outcome {
    match stream::print_lines(lines) {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(Fatal::new(Exit::System, format!("cannot write to standard output: {error}"))),
    }
}
