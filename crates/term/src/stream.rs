//! Standard output and standard error. Only this module names them.
//!
//! *Lives here:* writing to them, escaped unless the name of the function says otherwise.
//! *Does not live here:* waiting. Code that must not wait (the supervisor, the log daemon) takes
//! the descriptor, and escapes by itself.
//!
//! Everywhere else, clippy refuses the standard library's own names for the streams, and requires a
//! reason for the functions here that do not escape; `tests/cli/output.rs` lists the exceptions.
#![expect(clippy::disallowed_methods, reason = "this is what all others are to use instead")]

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::escape;

/// Writes one line for people to standard error, whatever is in it. A line that cannot be written
/// is lost.
pub fn say(line: impl Display) {
    unescaped_stderr(&one_line(&line));
}

/// Writes one line of data to standard output, whatever is in it.
///
/// # Errors
/// It could not be written; `BrokenPipe` if the reader has gone.
pub fn print(line: impl Display) -> io::Result<()> {
    unescaped_stdout(&one_line(&line))
}

/// Writes lines of data, each with its line end, to standard output in one piece.
///
/// # Errors
/// Those of [`print()`].
pub fn print_lines(lines: &str) -> io::Result<()> {
    unescaped_stdout(&lines.lines().flat_map(|line| one_line(&line)).collect::<Vec<u8>>())
}

fn one_line(line: &dyn Display) -> Vec<u8> {
    let text = line.to_string();
    let mut bytes = escape::line(&text).into_owned().into_bytes();
    bytes.push(b'\n');
    bytes
}

/// Writes bytes to standard output as they are.
///
/// # Errors
/// Those of [`print()`].
pub fn unescaped_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Writes bytes to standard error as they are, in one piece if possible.
pub fn unescaped_stderr(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}

/// Returns whether standard output is a terminal.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Returns whether standard error is a terminal.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Returns the rows and columns of the terminal on standard output, if it is one and knows its
/// size.
pub fn stdout_size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    Some((size.ws_row, size.ws_col))
}

/// Returns the descriptor of standard output, for callers that wait for it or pass it on.
pub fn stdout_fd() -> BorrowedFd<'static> {
    rustix::stdio::stdout()
}

/// Returns the descriptor of standard error, for callers that must not block on it.
pub fn stderr_fd() -> BorrowedFd<'static> {
    rustix::stdio::stderr()
}

/// Returns a duplicate of standard output.
///
/// # Errors
/// It is closed, or there are too many descriptors.
pub fn own_stdout() -> io::Result<OwnedFd> {
    io::stdout().as_fd().try_clone_to_owned()
}

/// Returns a duplicate of standard error.
///
/// # Errors
/// Those of [`own_stdout`].
pub fn own_stderr() -> io::Result<OwnedFd> {
    io::stderr().as_fd().try_clone_to_owned()
}
