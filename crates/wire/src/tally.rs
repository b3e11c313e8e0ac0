//! *Lives here:* the death tally, `supervise/death_tally`: when and how the service died, oldest
//! first.
//!
//! *Does not live here:* the file, and how many deaths are kept.

use crate::{
    bytes::join,
    tai::{self, Tai64n},
    wait::WaitStatus,
};

/// Length of one death in bytes.
pub const SIZE: usize = tai::SIZE + 2;
/// The most deaths in a tally, whatever `max-death-tally` says.
pub const MAX: usize = 4096;
/// The number of deaths that are kept without `max-death-tally`.
pub const DEFAULT: usize = 100;
/// The exit code of a death by signal, less the signal's number.
const BY_SIGNAL: u8 = 128;

/// Holds one death.
///
/// **Source:** s6 2.11 `s6_dtally_pack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// When the service died.
    pub at: Tai64n,
    /// The exit code; 128 + the signal's number if a signal killed it.
    pub exit_code: u8,
    /// The signal that killed it; 0 if none did.
    pub signal: u8,
}

/// Why bytes are not a death tally.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TallyDecodeError {
    /// The last death is cut short.
    #[error("a death tally has 14 bytes for each death, and this one has {0} in all")]
    Length(usize),
    /// There are more deaths than a tally may hold.
    #[error("a death tally holds at most 4096 deaths, and this one holds {0}")]
    TooMany(usize),
    /// A stamp has a thousand million nanoseconds or more.
    #[error("a time in the death tally has more nanoseconds than a second")]
    Stamp,
}

impl Death {
    /// Returns the death at `at` of a process that ended in this way.
    pub fn new(at: Tai64n, how: WaitStatus) -> Self {
        let signal = how.signal().unwrap_or(0);
        let exit_code = how.exit_code().unwrap_or(BY_SIGNAL.saturating_add(signal));
        Self { at, exit_code, signal }
    }

    /// Returns how the process ended; no core dump is claimed.
    pub fn how(self) -> WaitStatus {
        WaitStatus::killed(self.signal).unwrap_or(WaitStatus::exited(self.exit_code))
    }

    /// Returns the 14 bytes of the death.
    pub fn encode(self) -> [u8; SIZE] {
        join([&self.at.encode(), &[self.exit_code, self.signal]])
    }

    /// Returns the death that these 14 bytes hold, or `None` if its stamp is none.
    pub fn decode(bytes: [u8; SIZE]) -> Option<Self> {
        let (at, rest) = bytes.split_first_chunk()?;
        match *rest {
            [exit_code, signal] => Some(Self { at: Tai64n::decode(*at)?, exit_code, signal }),
            _ => None,
        }
    }
}

/// Returns the deaths of a whole tally, oldest first.
pub fn decode_all(bytes: &[u8]) -> Result<Vec<Death>, TallyDecodeError> {
    let (deaths, []) = bytes.as_chunks::<SIZE>() else {
        return Err(TallyDecodeError::Length(bytes.len()));
    };
    if deaths.len() > MAX {
        return Err(TallyDecodeError::TooMany(deaths.len()));
    }
    deaths.iter().map(|death| Death::decode(*death).ok_or(TallyDecodeError::Stamp)).collect()
}

/// Returns the bytes of a whole tally.
pub fn encode_all(deaths: &[Death]) -> Vec<u8> {
    deaths.iter().flat_map(|death| death.encode()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Death, MAX, SIZE, TallyDecodeError, decode_all};
    use crate::{tai::Tai64n, wait::WaitStatus};

    const AT: Tai64n = Tai64n::from_unix(1_795_218_439, 5);

    #[test]
    fn a_death_by_signal_has_exit_code_128_and_the_signal() {
        for (how, exit_code, signal) in [
            (WaitStatus::exited(0), 0, 0),
            (WaitStatus::exited(255), 255, 0),
            (WaitStatus::killed(9).unwrap(), 137, 9),
            (WaitStatus::from_raw(0x008b), 139, 11),
        ] {
            let death = Death::new(AT, how);
            assert_eq!(death, Death { at: AT, exit_code, signal });
            assert_eq!((death.how().exit_code(), death.how().signal()), (how.exit_code(), how.signal()));
            assert_eq!(death.encode()[12..], [exit_code, signal]);
        }
    }

    #[test]
    fn a_tally_is_whole_deaths_and_at_most_4096() {
        let death = Death::new(AT, WaitStatus::exited(1));
        for count in [0, 1, MAX] {
            assert_eq!(decode_all(&death.encode().repeat(count)), Ok(vec![death; count]));
        }
        assert_eq!(decode_all(&death.encode().repeat(MAX + 1)), Err(TallyDecodeError::TooMany(MAX + 1)));
        for length in 1..SIZE {
            assert_eq!(decode_all(&[0; SIZE][..length]), Err(TallyDecodeError::Length(length)));
        }
        assert_eq!(decode_all(&[0xff; SIZE]), Err(TallyDecodeError::Stamp));
    }

    #[test]
    fn refusals_say_what_was_wrong() {
        let said = [TallyDecodeError::Length(7), TallyDecodeError::TooMany(4097), TallyDecodeError::Stamp]
            .map(|e| e.to_string());
        assert_eq!(
            said,
            [
                "a death tally has 14 bytes for each death, and this one has 7 in all",
                "a death tally holds at most 4096 deaths, and this one holds 4097",
                "a time in the death tally has more nanoseconds than a second",
            ]
        );
    }
}
