//! *Lives here:* the status file, `supervise/status`: a supervisor's record of one service.
//!
//! *Does not live here:* reading or replacing the file; the words for the state, which clients
//! choose.

use crate::{
    Pid,
    bytes::join,
    tai::{self, Tai64n},
    wait::WaitStatus,
};

/// Length of the file that we write; the same as in all versions of s6 but 2.13.
pub const SIZE: usize = 35;
/// Length of the file of s6 2.13: 8 bytes of process group id stand between pid and wait status.
pub const SIZE_2_13: usize = 43;

const PAUSED: u8 = 1;
const FINISHING: u8 = 1 << 1;
const WANT_UP: u8 = 1 << 2;
const READY: u8 = 1 << 3;

/// Holds the content of the status file.
///
/// **Source:** s6 2.11 `s6_svstatus_pack`;
/// <https://skarnet.org/software/s6/libs6/s6-supervise.html>
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the flags of the file, and all 16 mixtures occur"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// When the service last went up or down.
    pub changed: Tai64n,
    /// When it last became ready: up and ready, or down and ready to start again.
    pub ready_at: Tai64n,
    /// The service's process, or its finish script's while `finishing`; `None` if neither runs.
    pub pid: Option<Pid>,
    /// How the service's last process ended.
    pub last: WaitStatus,
    /// Whether a command has paused the process; without a process, whether the service was never
    /// started.
    pub paused: bool,
    /// Whether `pid` is the finish script's.
    pub finishing: bool,
    /// Whether the service is wanted up.
    pub want_up: bool,
    /// Whether the service is ready.
    pub ready: bool,
}

/// Why bytes are not a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatusDecodeError {
    /// The file has a length that no version of s6 writes.
    #[error("a status is 35 bytes long, or 43 from s6 2.13, and this is {0}")]
    Length(usize),
    /// A stamp has a thousand million nanoseconds or more.
    #[error("a time in the status has more nanoseconds than a second")]
    Stamp,
    /// The process number is negative or too large.
    #[error("the status holds {0:#x} as a process id")]
    Pid(u64),
}

impl Status {
    /// Returns the 35 bytes of the status file.
    pub fn encode(&self) -> [u8; SIZE] {
        let pid = self.pid.map_or(0, |pid| u64::from(pid.get().unsigned_abs()));
        join([
            &self.changed.encode(),
            &self.ready_at.encode(),
            &pid.to_be_bytes(),
            &self.last.raw().to_be_bytes(),
            &[self.flags()],
        ])
    }

    /// Decodes a status file of 35 bytes, or of 43 bytes as in s6 2.13.
    ///
    /// The process group id of s6 2.13 and unused flag bits are ignored, as in s6.
    pub fn decode(bytes: &[u8]) -> Result<Self, StatusDecodeError> {
        let length = StatusDecodeError::Length(bytes.len());
        let (changed, rest) = bytes.split_first_chunk::<{ tai::SIZE }>().ok_or(length)?;
        let (ready_at, rest) = rest.split_first_chunk::<{ tai::SIZE }>().ok_or(length)?;
        let (pid, rest) = rest.split_first_chunk::<8>().ok_or(length)?;
        let (last, flags) = match *rest {
            [a, b, flags] | [_, _, _, _, _, _, _, _, a, b, flags] => (u16::from_be_bytes([a, b]), flags),
            _ => return Err(length),
        };
        let pid = match u64::from_be_bytes(*pid) {
            0 => None,
            raw => Some(i32::try_from(raw).ok().and_then(Pid::new).ok_or(StatusDecodeError::Pid(raw))?),
        };
        Ok(Self {
            changed: Tai64n::decode(*changed).ok_or(StatusDecodeError::Stamp)?,
            ready_at: Tai64n::decode(*ready_at).ok_or(StatusDecodeError::Stamp)?,
            pid,
            last: WaitStatus::from_raw(i32::from(last)),
            paused: flags & PAUSED != 0,
            finishing: flags & FINISHING != 0,
            want_up: flags & WANT_UP != 0,
            ready: flags & READY != 0,
        })
    }

    /// Returns whether the service has not been started since supervision began.
    ///
    /// **Source:** s6 2.12 and newer give this meaning to "no process, not finishing, paused".
    pub const fn never_started(&self) -> bool {
        self.pid.is_none() && !self.finishing && self.paused
    }

    /// Returns whether the service's own process runs, as opposed to its finish script or nothing.
    pub const fn is_up(&self) -> bool {
        self.pid.is_some() && !self.finishing
    }

    const fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.paused {
            flags |= PAUSED;
        }
        if self.finishing {
            flags |= FINISHING;
        }
        if self.want_up {
            flags |= WANT_UP;
        }
        if self.ready {
            flags |= READY;
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::{SIZE, SIZE_2_13, Status, StatusDecodeError};
    use crate::{Pid, tai::Tai64n, wait::WaitStatus};

    const EXAMPLE: Status = Status {
        changed: Tai64n::from_unix(1_795_218_439, 5),
        ready_at: Tai64n::from_unix(1_795_218_440, 6),
        pid: Pid::new(0x0102_0304),
        last: WaitStatus::exited(3),
        paused: false,
        finishing: false,
        want_up: true,
        ready: true,
    };

    #[test]
    fn a_status_has_its_fields_where_s6_has_them() {
        let bytes = EXAMPLE.encode();
        assert_eq!(bytes[..12], EXAMPLE.changed.encode());
        assert_eq!(bytes[12..24], EXAMPLE.ready_at.encode());
        assert_eq!(bytes[24..], [0, 0, 0, 0, 1, 2, 3, 4, 3, 0, 0b1100]);
        assert_eq!(Status::decode(&bytes), Ok(EXAMPLE));
    }

    #[test]
    fn a_status_of_s6_2_13_is_read_without_its_process_group() {
        let ours = EXAMPLE.encode();
        let mut theirs = [0; SIZE_2_13];
        theirs[..32].copy_from_slice(&ours[..32]);
        theirs[32..40].copy_from_slice(&0x0a0b_0c0d_u64.to_be_bytes());
        theirs[40..].copy_from_slice(&ours[32..]);
        assert_eq!(Status::decode(&theirs), Ok(EXAMPLE));
    }

    #[test]
    fn a_status_of_any_other_length_is_refused() {
        for length in (0..=64).filter(|length| ![SIZE, SIZE_2_13].contains(length)) {
            assert_eq!(Status::decode(&vec![0; length]), Err(StatusDecodeError::Length(length)));
        }
    }

    #[test]
    fn each_flag_is_one_bit_and_unknown_bits_are_ignored() {
        for flags in 0..=u8::MAX {
            let mut bytes = EXAMPLE.encode();
            bytes[34] = flags;
            let status = Status::decode(&bytes).unwrap();
            let bits = [status.paused, status.finishing, status.want_up, status.ready];
            assert_eq!(bits, [1, 2, 4, 8].map(|bit| flags & bit != 0), "{flags:#b}");
            bytes[34] &= 0xf;
            assert_eq!(status.encode(), bytes);
        }
    }

    #[test]
    fn a_number_that_is_no_process_id_is_refused() {
        for raw in [0x8000_0000_u64, 0xffff_ffff, 0x1_0000_0001, u64::MAX] {
            let mut bytes = EXAMPLE.encode();
            bytes[24..32].copy_from_slice(&raw.to_be_bytes());
            assert_eq!(Status::decode(&bytes), Err(StatusDecodeError::Pid(raw)));
        }
        let mut bytes = EXAMPLE.encode();
        bytes[8..12].fill(0xff);
        assert_eq!(Status::decode(&bytes), Err(StatusDecodeError::Stamp));
    }

    #[test]
    fn never_started_is_no_process_not_finishing_and_paused() {
        let down = Status { pid: None, paused: true, ..EXAMPLE };
        assert!(down.never_started() && !down.is_up());
        for other in [
            Status { paused: false, ..down },
            Status { finishing: true, ..down },
            Status { pid: EXAMPLE.pid, ..down },
        ] {
            assert!(!other.never_started());
        }
    }

    #[test]
    fn a_finish_script_is_not_the_service_being_up() {
        assert!(EXAMPLE.is_up());
        assert!(!Status { finishing: true, ..EXAMPLE }.is_up());
    }

    #[test]
    fn refusals_say_what_was_wrong() {
        let said = [StatusDecodeError::Length(7), StatusDecodeError::Stamp, StatusDecodeError::Pid(u64::MAX)]
            .map(|e| e.to_string());
        assert_eq!(
            said,
            [
                "a status is 35 bytes long, or 43 from s6 2.13, and this is 7",
                "a time in the status has more nanoseconds than a second",
                "the status holds 0xffffffffffffffff as a process id",
            ]
        );
    }
}
