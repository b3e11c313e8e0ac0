//! Printing: data to standard output, messages to standard error, colour only if it is wanted.
//!
//! *Lives here:* all output of the command line. Every text is foreign: it is escaped when it is
//! printed, and only the printer adds line ends and styles.
//! *Does not live here:* which characters are escaped (`gatevisor_term::escape`).

mod page;
mod table;
mod text;

use std::io;
use std::process::ExitCode;

use anstyle::AnsiColor;
use gatevisor_term::{escape, stream};
use gatevisor_wire::exit::without_numbers;

use crate::exit::{CommandError, Exit, Outcome};

pub use page::Page;
pub use table::TextTable;
pub use text::{BOLD, DIM, Text, colour};

/// Whether to use colours on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Paint(bool);

impl Paint {
    /// Returns the answer for standard output: on a terminal, and `NO_COLOR` is not set.
    fn stdout() -> Self {
        Self(stream::stdout_is_terminal() && wanted())
    }

    /// Returns the answer for standard error.
    fn stderr() -> Self {
        Self(stream::stderr_is_terminal() && wanted())
    }
}

/// Returns whether standard output shows colours.
pub fn is_coloured() -> bool {
    Paint::stdout().0
}

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Reports the failure of a command, if there is one, and returns the exit code.
pub fn ended(outcome: Outcome) -> ExitCode {
    ExitCode::from(outcome.unwrap_or_else(|failure| fail(&failure)))
}

/// Writes a line of data. If the reader has gone, the command ends quietly.
pub fn line(text: impl Into<Text>) -> Result<(), CommandError> {
    let mut page = Page::new();
    page.text(&text.into());
    page.end_line();
    page.print()
}

/// Writes lines of data.
pub fn lines(lines: &[Text]) -> Result<(), CommandError> {
    let mut page = Page::new();
    for line in lines {
        page.text(line);
        page.end_line();
    }
    page.print()
}

/// Writes an empty line.
pub fn empty_line() -> Result<(), CommandError> {
    line("")
}

/// Writes one object of data on a line of its own.
pub fn json(value: &impl serde::Serialize) -> Result<(), CommandError> {
    let mut page = Page::new();
    page.json(value)?;
    page.end_line();
    page.print()
}

/// Writes objects of data, each on a line of its own.
pub fn objects(values: &[impl serde::Serialize]) -> Result<(), CommandError> {
    let mut page = Page::new();
    for value in values {
        page.json(value)?;
        page.end_line();
    }
    page.print()
}

/// Writes a shell script of ours unchanged.
pub fn script(bytes: &[u8]) -> Result<(), CommandError> {
    written(bytes)
}

/// Clears a terminal and moves its cursor home; does nothing otherwise.
pub fn clear_screen() -> Result<(), CommandError> {
    if !stream::stdout_is_terminal() {
        return Ok(());
    }
    // Home first, then clear to the end, so that nothing flickers.
    written(b"\x1b[H\x1b[J")
}

#[expect(clippy::disallowed_methods, reason = "called with what is escaped, or ours from beginning to end")]
fn written(bytes: &[u8]) -> Result<(), CommandError> {
    match stream::unescaped_stdout(bytes) {
        Ok(()) => Ok(()),
        // An empty message is not printed.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(CommandError::new(Exit::Done, "")),
        Err(error) => {
            Err(CommandError::new(Exit::System, format!("cannot write to standard output: {error}")))
        }
    }
}

/// Writes a message for the person at the terminal.
pub fn say(text: impl Into<Text>) {
    tell(&Text::from("gatevisor: ").then(text.into()), "\n");
}

/// Writes a hint where to find more, if a person reads it; programs that read the output need no
/// hint.
pub fn hint(text: impl Into<Text>) {
    if stream::stderr_is_terminal() {
        say(text);
    }
}

/// Writes a question, without ending the line.
pub fn ask(text: impl Into<Text>) {
    tell(&text.into(), "");
}

#[expect(clippy::disallowed_methods, reason = "a text is escaped as it is rendered")]
fn tell(text: &Text, end: &'static str) {
    let mut line = Vec::new();
    text.render(Paint::stderr(), &mut line);
    line.extend_from_slice(end.as_bytes());
    stream::unescaped_stderr(&line);
}

/// Writes a warning.
pub fn warn(text: &str) {
    say(Text::from("").styled(colour(AnsiColor::Yellow), "warning: ").and(without_numbers(text)));
}

/// Writes several warnings.
pub fn warn_all(warnings: &[String]) {
    for warning in warnings {
        warn(warning);
    }
}

/// Prints a failure and returns its exit code.
pub fn fail(failure: &CommandError) -> u8 {
    if !failure.message.is_empty() {
        say(Text::from("").styled(colour(AnsiColor::Red), "error: ").and(&failure.message));
    }
    for line in &failure.lines {
        say(Text::from("it printed: ").and(line));
    }
    if let Some(text) = &failure.hint {
        hint(&**text);
    }
    failure.code
}

/// Prints the output of the command-line parser: help to standard output, errors to standard error.
///
/// Its lines are ours. Arguments that it repeats are escaped if they were escaped before parsing.
pub fn clap(error: &clap::Error) -> Result<(), CommandError> {
    let (is_error, rendered) = (error.use_stderr(), error.render());
    let paint = if is_error { Paint::stderr() } else { Paint::stdout() };
    let text = if paint.0 { rendered.ansi().to_string() } else { rendered.to_string() };
    let mut page = Page::new();
    for line in text.lines() {
        page.ours_with_colours(line);
        page.end_line();
    }
    if is_error {
        page.say();
    } else {
        page.print()?;
    }
    Ok(())
}

/// Returns an argument in the form in which it is repeated to the caller.
pub fn escaped_argument(argument: &std::ffi::OsStr) -> std::ffi::OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut out = Vec::new();
    escape::append(argument.as_bytes(), escape::Tab::Escaped, &mut out);
    std::ffi::OsString::from_vec(out)
}
