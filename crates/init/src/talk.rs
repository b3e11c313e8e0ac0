//! What the supervisor says on standard error.
//!
//! A stalled terminal must not stop supervision, so nothing is written while standard error cannot
//! take it; what had to be left out is counted and said with the next line that fits.

use std::cell::Cell;
use std::fmt::Arguments;
use std::io::Write;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Bytes of a line, about: well below what a pipe that can be written to takes at once.
const MAX_BYTES: usize = 2000;

thread_local! {
    static UNSAID: Cell<u32> = const { Cell::new(0) };
}

/// Says one line on standard error, prefixed with our name, if that can be done without waiting.
pub(crate) fn say_line(what: Arguments<'_>) {
    let stderr = std::io::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let writable = matches!(poll(&mut fds, Some(&now)), Ok(n) if n > 0)
        && fds.iter().all(|fd| fd.revents().contains(PollFlags::OUT));
    let unsaid = UNSAID.get();
    if !writable {
        UNSAID.set(unsaid.saturating_add(1));
        return;
    }
    let note =
        if unsaid > 0 { format!(" ({unsaid} earlier lines could not be shown)") } else { String::new() };
    UNSAID.set(0);
    let _ = stderr.lock().write_all(one_line(&what.to_string(), &note).as_bytes());
}

/// Returns what is said as one line that a pipe with room for anything takes whole: so lines of other processes
/// do not come between, and nothing waits. A name in it cannot end the line or command a terminal.
fn one_line(what: &str, note: &str) -> String {
    let mut line = String::from("gatevisor: ");
    for c in what.chars() {
        if line.len() > MAX_BYTES {
            line.push('…');
            break;
        }
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line.push_str(note);
    line.push('\n');
    line
}

/// Says one line on standard error, with the arguments of `format!`.
macro_rules! say {
    ($($arguments:tt)*) => { $crate::talk::say_line(format_args!($($arguments)*)) };
}
pub(crate) use say;

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, one_line};

    #[test]
    fn what_is_said_is_one_line_whatever_is_in_it() {
        assert_eq!(one_line("web: cannot start", ""), "gatevisor: web: cannot start\n");
        assert_eq!(one_line("a\nb\u{1b}[31m", " (2 more)"), "gatevisor: a\\nb\\u{1b}[31m (2 more)\n");
    }

    #[test]
    fn what_is_said_fits_into_a_pipe_at_once() {
        for what in ["ä".repeat(100_000), "\u{1b}".repeat(100_000)] {
            let line = one_line(&what, " (4294967295 earlier lines could not be shown)");
            assert!(line.len() > MAX_BYTES && line.len() < 4096, "{}", line.len());
            assert!(line.ends_with("… (4294967295 earlier lines could not be shown)\n"));
        }
    }
}
