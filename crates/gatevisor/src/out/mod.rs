//! Printing: data to standard output, talk to standard error, colour only where it is wanted.
//!
//! *Lives here:* every way in which the command line says something. Whatever text is given is foreign: it is escaped
//! as it is printed, and only the printer adds line ends and styles. *Does not live here:* which characters are
//! escaped (`gatevisor_term::escape`).

mod page;
mod table;
mod text;

use std::io;

use anstyle::AnsiColor;
use gatevisor_term::{escape, stream};

use crate::exit::{CommandError, Exit};

pub use page::Page;
pub use table::TextTable;
pub use text::{BOLD, DIM, Text, colour};

/// Whether to colour what goes to a stream.
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

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes a line of data; a reader that has gone is no error, it ends the command quietly.
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

/// Writes a program of ours for a shell, as it is.
pub fn script(bytes: &[u8]) -> Result<(), CommandError> {
    written(bytes)
}

/// Puts the cursor of a terminal home and clears what follows; anything else is left alone.
pub fn clear_screen() -> Result<(), CommandError> {
    if !stream::stdout_is_terminal() {
        return Ok(());
    }
    // Home, then clear to the end: no flicker.
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

/// Says something to the person at the terminal.
pub fn say(text: impl Into<Text>) {
    tell(&Text::from("gatevisor: ").then(text.into()), "\n");
}

/// Says where more is said, to a person: who reads what a program wrote needs no hint.
pub fn hint(text: impl Into<Text>) {
    if stream::stderr_is_terminal() {
        say(text);
    }
}

/// Asks something: the line is not ended.
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

/// Warns, and goes on.
pub fn warn(text: &str) {
    say(Text::from("").styled(colour(AnsiColor::Yellow), "warning: ").and(text));
}

/// Warns of each, and goes on.
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

/// Prints what the parser of the command line has to say: help to standard output, errors to standard error.
///
/// Its lines are ours; what it repeats of the arguments is escaped if they were before they were parsed.
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

/// Returns an argument as it is repeated to whoever gave it.
pub fn escaped_argument(argument: &std::ffi::OsStr) -> std::ffi::OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut out = Vec::new();
    escape::append(argument.as_bytes(), escape::Tab::Escaped, &mut out);
    std::ffi::OsString::from_vec(out)
}
