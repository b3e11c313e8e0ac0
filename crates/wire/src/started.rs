//! *Lives here:* `data/started`, the line in which our interpreter of `run` records that it is
//! about to become the command, and who will announce the service's readiness.
//!
//! *Does not live here:* the lock on the file, which shows when it has become the command
//! (`gatevisor-client`, `gatevisor-slot`).
//!
//! The line is `PID` or `PID WORD`. It overwrites the older line in place, so the bytes after it
//! mean nothing.

use crate::{Pid, number};

/// Who announces that a service is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Announcer {
    /// Nobody: the service can be up, and is never ready.
    Nobody,
    /// A prober that asks the service.
    Prober,
    /// The service itself, through the descriptor that `notification-fd` names.
    Service,
}

impl Announcer {
    /// Every announcer.
    pub const ALL: [Self; 3] = [Self::Nobody, Self::Prober, Self::Service];

    /// Returns the word for it in the file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Prober => "prober",
            Self::Service => "service",
        }
    }
}

/// The content of `data/started`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartMark {
    /// The process that becomes, or became, the command.
    pub pid: Pid,
    /// Who announces that the service is ready; older interpreters do not tell.
    pub announcer: Option<Announcer>,
}

impl StartMark {
    /// Returns the line.
    pub fn encode(&self) -> String {
        match self.announcer {
            Some(announcer) => format!("{} {}\n", self.pid, announcer.word()),
            None => format!("{}\n", self.pid),
        }
    }

    /// Returns the content of a file, if it begins with such a line.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let line = bytes.split(|&byte| byte == b'\n').next()?;
        let mut words = line.split(|&byte| byte == b' ');
        let pid = Pid::new(i32::try_from(number::parse(words.next()?)?).ok()?)?;
        let word = words.next();
        let announcer = Announcer::ALL.into_iter().find(|known| word == Some(known.word().as_bytes()));
        Some(Self { pid, announcer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_read_as_it_was_written() {
        let pid = Pid::new(4711).unwrap();
        for announcer in Announcer::ALL.map(Some).into_iter().chain([None]) {
            let started = StartMark { pid, announcer };
            assert_eq!(StartMark::decode(started.encode().as_bytes()), Some(started));
        }
    }

    #[test]
    fn what_is_left_of_an_older_line_and_words_that_are_not_known_are_ignored() {
        let pid = |n| Pid::new(n).unwrap();
        for (bytes, expected) in [
            (
                &b"42 prober\n7 nobody\n"[..],
                Some(StartMark { pid: pid(42), announcer: Some(Announcer::Prober) }),
            ),
            (b"42 oracle\n", Some(StartMark { pid: pid(42), announcer: None })),
            (b"42", Some(StartMark { pid: pid(42), announcer: None })),
            (b"0 nobody\n", None),
            (b"-1\n", None),
            (b"nobody\n", None),
            (b"\xff\n", None),
            (b"", None),
        ] {
            assert_eq!(StartMark::decode(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
