//! Standard output and standard error: the only place in which they are named.
//!
//! *Lives here:* writing to them, escaped unless the name of the function says otherwise.
//! *Does not live here:* waiting: whoever may not wait (the supervisor, the log daemon) takes the descriptor, and
//! escapes by itself.
//!
//! Clippy refuses the standard library's own names for the streams everywhere else, and those here that escape nothing
//! but with a reason; `tests/cli/output.rs` lists who has one.
#![expect(clippy::disallowed_methods, reason = "this is what all others are to use instead")]

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::escape;

/// Says one line to people, on standard error, whatever is in it; one that cannot be written is lost.
pub fn say(line: impl Display) {
    unescaped_stderr(&one_line(&line));
}

/// Writes one line of data to standard output, whatever is in it.
///
/// # Errors
/// It could not be written; a reader that has gone is `BrokenPipe`.
pub fn print(line: impl Display) -> io::Result<()> {
    unescaped_stdout(&one_line(&line))
}

/// Writes lines of data, each with its end, to standard output at once.
///
/// # Errors
/// As [`print()`].
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
/// As [`print()`].
pub fn unescaped_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Writes bytes to standard error as they are, in one piece if it takes them so.
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

/// Returns how many rows and columns the terminal has that standard output is, if it is one and knows that.
pub fn stdout_size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    Some((size.ws_row, size.ws_col))
}

/// Returns the descriptor of standard output, for those who wait for it, or hand it on.
pub fn stdout_fd() -> BorrowedFd<'static> {
    rustix::stdio::stdout()
}

/// Returns the descriptor of standard error, for those who may not wait for it.
pub fn stderr_fd() -> BorrowedFd<'static> {
    rustix::stdio::stderr()
}

/// Returns standard output as a descriptor of its own.
///
/// # Errors
/// It is closed, or there are too many descriptors.
pub fn own_stdout() -> io::Result<OwnedFd> {
    io::stdout().as_fd().try_clone_to_owned()
}

/// Returns standard error as a descriptor of its own.
///
/// # Errors
/// As [`own_stdout`].
pub fn own_stderr() -> io::Result<OwnedFd> {
    io::stderr().as_fd().try_clone_to_owned()
}
