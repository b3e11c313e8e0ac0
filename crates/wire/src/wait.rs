//! *Lives here:* how a process ended, as `wait(2)` tells it and as the status file keeps it.
//!
//! *Does not live here:* waiting.

use crate::signal;
use std::fmt;

const SIGNAL_MASK: u16 = 0x7f;
/// What the low seven bits hold for a process that was stopped, which is not an end.
const STOPPED: u16 = 0x7f;

/// Holds the low 16 bits of a wait status, all that Linux uses.
///
/// **Source:** POSIX `<sys/wait.h>`; Linux `wait(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct WaitStatus(u16);

impl WaitStatus {
    /// Returns the wait status that the kernel gave; bits above the 16th are dropped, for Linux
    /// leaves them 0.
    pub const fn from_raw(raw: i32) -> Self {
        let [low, high, _, _] = raw.to_le_bytes();
        Self(u16::from_le_bytes([low, high]))
    }

    /// Returns the wait status of a process that exited with `code`.
    pub const fn exited(code: u8) -> Self {
        Self(u16::from_le_bytes([0, code]))
    }

    /// Returns the wait status of a process that `signal` killed, or `None` if no signal has that
    /// number.
    ///
    /// No core dump is claimed.
    pub const fn killed(signal: u8) -> Option<Self> {
        match signal {
            1..=signal::MAX => Some(Self(u16::from_le_bytes([signal, 0]))),
            _ => None,
        }
    }

    /// Returns the 16 bits as the status file keeps them.
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// Returns the exit code, or `None` if the process did not exit by itself.
    pub const fn exit_code(self) -> Option<u8> {
        if self.0 & SIGNAL_MASK == 0 {
            let [_, code] = self.0.to_le_bytes();
            Some(code)
        } else {
            None
        }
    }

    /// Returns the number of the signal that killed the process, or `None` if none did.
    pub const fn signal(self) -> Option<u8> {
        match self.0 & SIGNAL_MASK {
            0 | STOPPED => None,
            _ => {
                let [low, _] = self.0.to_le_bytes();
                Some(low & 0x7f)
            }
        }
    }

    /// Returns whether the process exited with code 0.
    pub const fn success(self) -> bool {
        matches!(self.exit_code(), Some(0))
    }
}

impl fmt::Display for WaitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.exit_code(), self.signal()) {
            (Some(code), _) => write!(f, "exitcode {code}"),
            (None, Some(number)) => match signal::name(number) {
                Some(name) => write!(f, "signal {name}"),
                None => write!(f, "signal {number}"),
            },
            (None, None) => write!(f, "wait status {:#06x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::WaitStatus;

    #[test]
    fn a_wait_status_is_an_exit_code_or_a_signal_and_says_which() {
        let table = [
            (0x0000, Some(0), None, "exitcode 0"),
            (0x0300, Some(3), None, "exitcode 3"),
            (0xff00, Some(255), None, "exitcode 255"),
            (0x0009, None, Some(9), "signal SIGKILL"),
            (0x008b, None, Some(11), "signal SIGSEGV"),
            (0x0040, None, Some(64), "signal 64"),
            (0x137f, None, None, "wait status 0x137f"),
        ];
        for (raw, code, signal, text) in table {
            let status = WaitStatus::from_raw(raw);
            assert_eq!((status.exit_code(), status.signal()), (code, signal), "{raw:#x}");
            assert_eq!(status.to_string(), text, "{raw:#x}");
            assert_eq!(i32::from(status.raw()), raw);
            assert_eq!(status.success(), raw == 0);
        }
    }

    #[test]
    fn a_wait_status_can_be_made_from_what_it_says() {
        for code in 0..=u8::MAX {
            assert_eq!(WaitStatus::exited(code).exit_code(), Some(code));
        }
        for number in 0..=u8::MAX {
            let made = WaitStatus::killed(number);
            assert_eq!(made.is_some(), (1..=64).contains(&number), "{number}");
            assert_eq!(made.and_then(WaitStatus::signal), made.map(|_| number));
        }
    }
}
