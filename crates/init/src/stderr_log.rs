//! The supervisor's messages on standard error.
//!
//! A stalled terminal must not stop supervision, so nothing is written while standard error cannot
//! accept it. Lines that had to be left out are counted, and the next line that fits reports their
//! number. Each line is escaped.
#![expect(clippy::disallowed_methods, reason = "the supervisor's own printer, which does not wait")]

use std::cell::{Cell, OnceCell};
use std::fmt::Arguments;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use gatevisor_term::{escape, stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

/// The length of a line in bytes, approximately: well below what a writable pipe accepts at once.
const MAX_BYTES: usize = 2000;

thread_local! {
    static UNSAID: Cell<u32> = const { Cell::new(0) };
    /// Standard error, opened once more so that writing to it does not block.
    static OWN: OnceCell<Option<OwnedFd>> = const { OnceCell::new() };
}

/// Writes one line to standard error, after our name, if that is possible without waiting.
pub(crate) fn say_line(what: Arguments<'_>) {
    let unsaid = UNSAID.get();
    let note =
        if unsaid > 0 { format!(" ({unsaid} earlier lines could not be shown)") } else { String::new() };
    let line = one_line(&what.to_string(), &note);
    let said = OWN.with(|own| match own.get_or_init(|| reopened(stream::stderr_fd())) {
        // A pipe accepts it completely or not at all.
        Some(own) => rustix::io::write(own, line.as_bytes()).is_ok(),
        None => is_writable() && rustix::io::write(stream::stderr_fd(), line.as_bytes()).is_ok(),
    });
    UNSAID.set(if said { 0 } else { unsaid.saturating_add(1) });
}

/// Opens standard error once more if it is a pipe or a terminal. Other processes write to the same
/// one or stop it, so it may be full again between a poll and a blocking write. The non-blocking
/// flag must not be set for them.
fn reopened(stderr: impl AsFd) -> Option<OwnedFd> {
    let stderr = stderr.as_fd();
    let stat = fstat(stderr).ok()?;
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let kind = FileType::from_raw_mode(stat.st_mode);
    (kind.is_fifo() || kind.is_char_device())
        .then(|| openat(CWD, format!("/proc/self/fd/{}", stderr.as_raw_fd()), flags, Mode::empty()).ok())?
}

fn is_writable() -> bool {
    let stderr = stream::stderr_fd();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(n) if n > 0)
        && fds.iter().all(|fd| fd.revents().contains(PollFlags::OUT))
}

/// Returns the message as one line that fits into any writable pipe as a whole. So lines of other
/// processes do not come between, and nothing blocks. A name in it cannot end the line or control a
/// terminal.
fn one_line(what: &str, note: &str) -> String {
    // Escaping never shortens a text, so the part that is cut off here would be cut off later.
    let escaped = escape::line(up_to(what, MAX_BYTES));
    let shown = up_to(&escaped, MAX_BYTES);
    let is_cut = what.len() > MAX_BYTES || escaped.len() > MAX_BYTES;
    format!("gatevisor: {shown}{}{note}\n", if is_cut { "…" } else { "" })
}

/// Returns the beginning of a text, of at most this many bytes.
fn up_to(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// Writes one line to standard error; takes the arguments of `format!`.
macro_rules! say {
    ($($arguments:tt)*) => { $crate::stderr_log::say_line(format_args!($($arguments)*)) };
}
pub(crate) use say;

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, one_line, reopened};

    #[test]
    fn a_standard_error_that_others_can_stop_is_opened_once_more_so_that_no_write_waits() {
        let flags = |fd| rustix::fs::fcntl_getfl(fd).unwrap();
        let (_reader, pipe) = rustix::pipe::pipe().unwrap();
        let device = std::fs::File::options().write(true).open("/dev/null").unwrap();
        for stderr in [pipe, device.into()] {
            let own = reopened(&stderr).unwrap();
            assert!(flags(own).contains(rustix::fs::OFlags::NONBLOCK));
            assert!(!flags(stderr).contains(rustix::fs::OFlags::NONBLOCK), "others have it as it was");
        }
        assert!(reopened(tempfile::tempfile().unwrap()).is_none(), "a file never waits");
    }

    #[test]
    fn what_is_said_is_one_line_whatever_is_in_it() {
        assert_eq!(one_line("web: cannot start", ""), "gatevisor: web: cannot start\n");
        assert_eq!(one_line("a\nb\u{1b}[31m", " (2 more)"), "gatevisor: a\\nb\\u{1b}[31m (2 more)\n");
    }

    #[test]
    fn what_is_said_fits_into_a_pipe_at_once() {
        for what in ["ä".repeat(100_000), "\u{1b}".repeat(100_000), "\u{202e}".repeat(1000)] {
            let line = one_line(&what, " (4294967295 earlier lines could not be shown)");
            assert!(line.len() > MAX_BYTES - 10 && line.len() < 4096, "{}", line.len());
            assert!(line.ends_with("… (4294967295 earlier lines could not be shown)\n"));
        }
    }
}
