//! *Lives here:* the events that a supervisor sends to subscribers, and the names of subscribers'
//! FIFOs in `event/`.
//!
//! *Does not live here:* sending and receiving them.

use crate::{
    bytes::join,
    tai::{HEX_SIZE, Tai64n},
};

/// The beginning of every subscriber's FIFO name, for notifiers old and new.
const PREFIX: &[u8; 8] = b"ftrig1:@";
/// The number of random characters at the end of a subscriber's FIFO name.
pub const RANDOM_SIZE: usize = 6;
/// Length of the name of a subscriber's FIFO: `ftrig1:@`, 24 digits, `:`, 6 random characters.
pub const NAME_SIZE: usize = PREFIX.len() + HEX_SIZE + 1 + RANDOM_SIZE;

/// An event of a service, as subscribers receive it.
///
/// **Source:** <https://skarnet.org/software/s6/s6-supervise.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceEvent {
    /// `s`: a supervisor began to supervise the service.
    SupervisionStarted,
    /// `u`: the service is up.
    Up,
    /// `U`: the service is up and ready.
    Ready,
    /// `d`: the service died.
    Died,
    /// `D`: the finish script has ended too; the service may be started again.
    Finished,
    /// `O`: the service will not be started again by itself; `D` follows.
    PermanentFailure,
    /// `x`: supervision ended.
    SupervisionEnded,
}

impl ServiceEvent {
    /// Every event.
    pub const ALL: [Self; 7] = [
        Self::SupervisionStarted,
        Self::Up,
        Self::Ready,
        Self::Died,
        Self::Finished,
        Self::PermanentFailure,
        Self::SupervisionEnded,
    ];

    /// Returns the byte that subscribers read.
    pub const fn byte(self) -> u8 {
        match self {
            Self::SupervisionStarted => b's',
            Self::Up => b'u',
            Self::Ready => b'U',
            Self::Died => b'd',
            Self::Finished => b'D',
            Self::PermanentFailure => b'O',
            Self::SupervisionEnded => b'x',
        }
    }

    /// Returns the event of a byte, or `None` for a byte that has no meaning.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.byte() == byte)
    }
}

/// Returns the name of a subscriber's FIFO made at `at`, with six random characters.
///
/// The characters should be letters or digits. Of other characters, only `/` and NUL, which no file
/// name can hold, are replaced (by `_`).
pub fn subscriber_name(at: Tai64n, random: [u8; RANDOM_SIZE]) -> [u8; NAME_SIZE] {
    let random = random.map(|byte| if matches!(byte, b'/' | 0) { b'_' } else { byte });
    join([PREFIX, &at.hex(), b":", &random])
}

/// Returns whether a notifier writes to an entry of this name in `event/`.
///
/// **Source:** s6 2.11 `ftrigw_notifyb_nosig`, which looks at the prefix and the length.
pub fn is_subscriber_name(name: &[u8]) -> bool {
    name.len() == NAME_SIZE && name.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::{ServiceEvent, is_subscriber_name, subscriber_name};
    use crate::tai::Tai64n;

    #[test]
    fn every_byte_is_one_event_or_means_nothing() {
        for byte in 0..=u8::MAX {
            let event = ServiceEvent::from_byte(byte);
            assert_eq!(event.is_some(), b"suUdDOx".contains(&byte), "{byte}");
            assert!(event.is_none_or(|event| event.byte() == byte), "{byte}");
        }
        for event in ServiceEvent::ALL {
            assert_eq!(ServiceEvent::from_byte(event.byte()), Some(event));
        }
    }

    #[test]
    fn a_subscriber_is_named_by_time_and_chance() {
        let name = subscriber_name(Tai64n::from_unix(0, 1), *b"aZ09/\0");
        assert_eq!(name.escape_ascii().to_string(), "ftrig1:@400000000000002500000001:aZ09__");
        assert!(is_subscriber_name(&name));
    }

    #[test]
    fn notifiers_skip_names_of_another_shape() {
        for name in [
            "",
            ".",
            "ftrig1:@400000000000002500000001:aZ09_",
            "ftrig1:@400000000000002500000001:aZ09__x",
            ".ftrig1:@40000000000000250000001:aZ09__",
            "ftrig2:@400000000000002500000001:aZ09__",
        ] {
            assert!(!is_subscriber_name(name.as_bytes()), "{name}");
        }
    }
}
