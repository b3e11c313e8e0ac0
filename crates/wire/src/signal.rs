//! *Lives here:* names and numbers of signals.
//!
//! *Does not live here:* sending, blocking and catching them.
//!
//! Numbers are those of Linux on every architecture but alpha, mips, parisc and sparc, for which we
//! do not build.

/// Signals with which the kernel ends a process because of a fault of that process.
///
/// **Source:** signal(7).
pub const FAULTS: [u8; 7] = [4, 5, 6, 7, 8, 11, 31];
/// Terminal gone, or reload.
pub const HUP: u8 = 1;
/// Interrupted from the terminal.
pub const INT: u8 = 2;
/// Quit from the terminal.
pub const QUIT: u8 = 3;
/// Aborted.
pub const ABRT: u8 = 6;
/// Killed without appeal.
pub const KILL: u8 = 9;
/// First signal without a meaning of its own.
pub const USR1: u8 = 10;
/// Second signal without a meaning of its own.
pub const USR2: u8 = 12;
/// Alarm clock.
pub const ALRM: u8 = 14;
/// Asked to end.
pub const TERM: u8 = 15;
/// A child process has ended.
pub const CHLD: u8 = 17;
/// Continued.
pub const CONT: u8 = 18;
/// Paused without appeal.
pub const STOP: u8 = 19;
/// Terminal resized.
pub const WINCH: u8 = 28;
/// Power is failing, or the machine is to go down.
pub const PWR: u8 = 30;
/// The largest signal number on Linux.
pub const MAX: u8 = 64;

/// Every signal that has a name; real-time signals have none.
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// Returns the name of a signal, such as `SIGTERM`, or `None` if it has none.
///
/// **Source:** Linux `signal(7)`.
pub fn name(number: u8) -> Option<&'static str> {
    NAMES.get(usize::from(number).checked_sub(1)?).copied()
}

/// Returns the number of a signal given as `TERM`, `SIGTERM` or `15`, in either case, or `None`.
pub fn parse(text: &[u8]) -> Option<u8> {
    if text.first().is_some_and(u8::is_ascii_digit) {
        let number = crate::number::parse_digits(text)?;
        return u8::try_from(number).ok().filter(|number| (1..=MAX).contains(number));
    }
    let bare = match text.split_first_chunk::<3>() {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(b"SIG") => rest,
        _ => text,
    };
    let alias: &[u8] = if bare.eq_ignore_ascii_case(b"POLL") { b"IO" } else { bare };
    (1..)
        .zip(NAMES)
        .find(|(_, name)| name.as_bytes().get(3..).is_some_and(|n| n.eq_ignore_ascii_case(alias)))
        .map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::{name, parse};

    #[test]
    fn a_signal_is_found_by_name_with_and_without_sig_and_by_number() {
        for number in 1..=31 {
            let full = name(number).unwrap();
            for text in
                [full, &full[3..], &full.to_lowercase(), &full[3..].to_lowercase(), &number.to_string()]
            {
                assert_eq!(parse(text.as_bytes()), Some(number), "{text}");
            }
        }
        assert_eq!((parse(b"64"), parse(b"POLL"), parse(b"SIGPOLL")), (Some(64), Some(29), Some(29)));
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in
            ["", "0", "65", "256", "99999999999", "SIG", "SIGSIGTERM", "TERM ", " TERM", "TERM\n", "-1", "+1"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn only_signals_1_to_31_have_names() {
        for number in 0..=u8::MAX {
            assert_eq!(name(number).is_some(), (1..=31).contains(&number), "{number}");
        }
        for (number, expected) in [
            (super::ABRT, "SIGABRT"),
            (super::TERM, "SIGTERM"),
            (super::STOP, "SIGSTOP"),
            (super::WINCH, "SIGWINCH"),
        ] {
            assert_eq!(name(number), Some(expected));
        }
    }
}
