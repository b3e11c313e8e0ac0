//! Printing: data to standard output, talk to standard error, colour only where it is wanted.

use std::fmt::Arguments;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};

use crate::exit::{Exit, Failure};

/// Whether to colour what goes to a stream.
#[derive(Debug, Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// Returns the answer for standard output: on a terminal, and `NO_COLOR` is not set.
    pub fn stdout() -> Self {
        Self(io::stdout().is_terminal() && wanted())
    }

    /// Returns the answer for standard error.
    pub fn stderr() -> Self {
        Self(io::stderr().is_terminal() && wanted())
    }

    /// Returns `text` in a colour, or as it is.
    pub fn colour(self, colour: AnsiColor, text: &str) -> String {
        self.style(Style::new().fg_color(Some(colour.into())), text)
    }

    /// Returns `text` in bold, or as it is.
    pub fn bold(self, text: &str) -> String {
        self.style(Style::new().bold(), text)
    }

    /// Returns `text` dimmed, or as it is.
    pub fn dim(self, text: &str) -> String {
        self.style(Style::new().dimmed(), text)
    }

    fn style(self, style: Style, text: &str) -> String {
        if self.0 { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes a line of data; a reader that has gone is no error, it ends the command quietly.
pub fn line(text: Arguments<'_>) -> Result<(), Failure> {
    write(format!("{text}\n").as_bytes())
}

/// Writes bytes of data, as [`line()`] does.
pub fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        // An empty message is not printed.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::new(Exit::Done, "")),
        Err(error) => Err(Failure::new(Exit::System, format!("cannot write to standard output: {error}"))),
    }
}

/// Writes one object of data on a line of its own.
pub fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    match serde_json::to_string(value) {
        Ok(text) => line(format_args!("{text}")),
        Err(error) => Err(Failure::new(Exit::System, format!("cannot write JSON: {error}"))),
    }
}

/// Says something to the person at the terminal.
pub fn say(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_all(format!("gatevisor: {text}\n").as_bytes());
}

/// Warns, and goes on.
pub fn warn(text: &str) {
    say(format_args!("{}{text}", Paint::stderr().colour(AnsiColor::Yellow, "warning: ")));
}

/// Warns of each, and goes on.
pub fn warn_all(warnings: &[String]) {
    for warning in warnings {
        warn(warning);
    }
}

/// Prints a failure and returns its exit code.
pub fn fail(failure: &Failure) -> u8 {
    if !failure.message.is_empty() {
        say(format_args!("{}{}", Paint::stderr().colour(AnsiColor::Red, "error: "), failure.message));
    }
    failure.code
}
