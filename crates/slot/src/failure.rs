//! A failed start: its line and the exit code.
//!
//! *Lives here:* the form of the line, and where it is left for the supervisor and for people.
//! *Does not live here:* the reaction, which is restart policy.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::os::fd::AsFd;
use std::process::ExitCode;

use gatevisor_wire::exit::{Exit, error_chain};
use rustix::io::Errno;

use crate::data_files::START_ERROR;
use crate::error_reporter::ErrorReporter;
use crate::os;

/// The longest line in bytes.
const MAX_LINE: usize = 500;

/// Why the command could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedStart {
    /// The stage that failed, such as `changing directory`.
    pub stage: String,
    /// What went wrong, and what to do.
    pub message: String,
    /// The system's error, if it was asked.
    pub errno: Option<Errno>,
    /// The interpreter's exit code.
    pub exit: Exit,
}

impl FailedStart {
    /// Returns the failure of a system call on `what`.
    pub fn system(stage: impl Into<String>, what: impl fmt::Display, errno: Errno) -> Self {
        Self {
            stage: stage.into(),
            message: format!("{what}: {}", os::words(errno)),
            errno: Some(errno),
            exit: Exit::System,
        }
    }

    /// Returns a failure that no system call caused.
    pub fn plain(stage: impl Into<String>, error: &dyn Error, exit: Exit) -> Self {
        Self { stage: stage.into(), message: error_chain(error), errno: None, exit }
    }

    /// Returns the failure to execute a program that was looked up in `path`; in `run`, the program
    /// is the variable `variable`.
    pub fn not_executed(program: &str, variable: Option<&str>, path: &[u8], errno: Errno) -> Self {
        let missing = errno == Errno::NOENT;
        let hint = match errno {
            Errno::NOENT if program.contains('/') => {
                "; is the path right, and the interpreter in its first line there?".to_owned()
            }
            Errno::NOENT => format!("; it is in no directory of PATH={}", String::from_utf8_lossy(path)),
            Errno::ACCESS => "; is it executable by this user?".to_owned(),
            Errno::NOEXEC => "; does its first line begin with #!?".to_owned(),
            _ => String::new(),
        };
        // The variable is named before the path, which may be so long that the line is cut off.
        let named = variable.filter(|_| missing).map_or_else(String::new, |variable| {
            format!(
                "; {variable} names another: set it where the supervisor is started, as with `gatevisor up`"
            )
        });
        Self {
            stage: "executing".to_owned(),
            message: format!("`{program}`: {}{named}{hint}", os::words(errno)),
            errno: Some(errno),
            exit: if missing { Exit::NotFound } else { Exit::NotExecutable },
        }
    }

    /// Writes the failure to standard error and to `data/` below `directory`, and returns the exit
    /// code.
    ///
    /// An error reporter, if there is one, can still write when this process cannot.
    pub fn report(
        &self,
        service: &str,
        directory: Option<impl AsFd>,
        error_reporter: Option<ErrorReporter>,
    ) -> ExitCode {
        let line = self.to_string();
        os::say(&format!("gatevisor: {service}: {line}"));
        if let Some(error_reporter) = error_reporter {
            error_reporter.report(&format!("{line}\n"));
        } else if let Some(directory) = directory {
            // Best effort: if the service directory cannot be written, there is still the line on
            // standard error.
            let _ = os::replace_in_data(directory, START_ERROR, format!("{line}\n").as_bytes());
        }
        ExitCode::from(self.exit)
    }
}

/// One line: `<stage>: <message> (errno N)`. The last part is there only if the system gave a
/// number.
impl fmt::Display for FailedStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&format!("{}: {}", self.stage, self.message)))?;
        match self.errno {
            Some(errno) => write!(f, " (errno {})", errno.raw_os_error()),
            None => Ok(()),
        }
    }
}

/// Returns the text on one line that is short enough and has no control characters.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if line.len() >= MAX_LINE {
            line.push('…');
            break;
        }
        if c.is_control() {
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_its_stage_and_errno() {
        let failure = FailedStart::system("changing directory", "`/a\nb`", Errno::NOENT);
        assert_eq!(failure.to_string(), r"changing directory: `/a\nb`: No such file or directory (errno 2)");
    }

    #[test]
    fn a_failure_without_a_system_call_has_no_errno() {
        let failure = FailedStart::plain("expanding command", &crate::ExpandError::Depth, Exit::Usage);
        assert_eq!(failure.to_string(), "expanding command: variables are nested more than 16 deep");
    }

    #[test]
    fn a_failure_is_never_a_long_line() {
        let failure = FailedStart::system("x", "y".repeat(9000), Errno::NOENT);
        let line = failure.to_string();
        assert!(line.len() < MAX_LINE + 40, "{}", line.len());
        assert!(line.ends_with("… (errno 2)"), "{line}");
    }
}
