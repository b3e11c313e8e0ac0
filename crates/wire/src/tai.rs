//! *Lives here:* `TAI64N` stamps: 8 bytes of seconds label and 4 bytes of nanoseconds, big endian,
//! and their text.
//!
//! *Does not live here:* the clock. Callers ask the system for the present time and convert it.

use crate::bytes::join;
use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// 2^62: the label of the first second of 1970 TAI.
const LABEL_1970: u64 = 1 << 62;
/// Seconds by which TAI was ahead of UTC in 1970, by the count of skarnet's tools.
const TAI_MINUS_UTC_1970: u64 = 10;
/// Leap seconds in the table with which Debian builds skalibs.
const LEAP_SECONDS: u64 = 27;
/// The label of second 0 of Unix time: 2^62 + 10 + 27.
///
/// With any other offset, `s6-svstat` shows wrong ages.
///
/// **Source:** skalibs 2.13, `tai_from_time` and `leapsecs.dat`.
pub const LEAP: u64 = LABEL_1970 + TAI_MINUS_UTC_1970 + LEAP_SECONDS;

const NANOS_PER_SECOND: u32 = 1_000_000_000;
/// Length of a stamp in bytes.
pub const SIZE: usize = 12;
/// Length of a stamp in hexadecimal digits.
pub const HEX_SIZE: usize = 24;

/// Holds a wall-clock moment as a `TAI64N` label.
///
/// Nanoseconds are always below one thousand million. Stamps are ordered like the moments.
///
/// **Source:** <https://cr.yp.to/libtai/tai64.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tai64n {
    label: u64,
    nanos: u32,
}

impl Tai64n {
    /// Label 0: the earliest stamp, which no clock gives.
    pub const ZERO: Self = Self { label: 0, nanos: 0 };
    /// Second 0 of Unix time.
    pub const EPOCH: Self = Self { label: LEAP, nanos: 0 };

    /// Returns the stamp with this label, or `None` if `nanos` is a second or more.
    pub const fn new(label: u64, nanos: u32) -> Option<Self> {
        if nanos < NANOS_PER_SECOND { Some(Self { label, nanos }) } else { None }
    }

    /// Returns the seconds label.
    pub const fn label(self) -> u64 {
        self.label
    }

    /// Returns the nanoseconds within the second.
    pub const fn nanos(self) -> u32 {
        self.nanos
    }

    /// Returns the stamp of a Unix time in seconds and nanoseconds.
    ///
    /// A second or more of nanoseconds is carried over. A moment before the first label becomes the
    /// first label.
    pub const fn from_unix(secs: i64, nanos: u32) -> Self {
        let carry = nanos / NANOS_PER_SECOND;
        let secs = secs.saturating_add(carry as i64);
        match LEAP.checked_add_signed(secs) {
            Some(label) => Self { label, nanos: nanos % NANOS_PER_SECOND },
            None => Self::ZERO,
        }
    }

    /// Returns the stamp of a system time.
    pub fn now_from(time: SystemTime) -> Self {
        let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self::from_unix(seconds(after), after.subsec_nanos()),
            Err(error) => {
                let before = error.duration();
                let whole = seconds(before).saturating_neg();
                match NANOS_PER_SECOND.checked_sub(before.subsec_nanos()) {
                    Some(nanos) if nanos < NANOS_PER_SECOND => {
                        Self::from_unix(whole.saturating_sub(1), nanos)
                    }
                    _ => Self::from_unix(whole, 0),
                }
            }
        }
    }

    /// Returns the Unix time in seconds and nanoseconds.
    ///
    /// A label outside the range of Unix time becomes the last second in the range.
    pub fn to_unix(self) -> (i64, u32) {
        let secs = i128::from(self.label).saturating_sub(i128::from(LEAP));
        (i64::try_from(secs).unwrap_or(i64::MAX), self.nanos)
    }

    /// Returns the Unix time in milliseconds, rounded down, at most what `i64` holds.
    pub fn to_unix_ms(self) -> i64 {
        let (secs, nanos) = self.to_unix();
        secs.saturating_mul(1000).saturating_add(i64::from(nanos / 1_000_000))
    }

    /// Returns the time since `earlier`, or `None` if `earlier` is later.
    pub fn since(self, earlier: Self) -> Option<Duration> {
        let secs = self.label.checked_sub(earlier.label)?;
        Duration::new(secs, self.nanos).checked_sub(Duration::new(0, earlier.nanos))
    }

    /// Returns the stamp that is `by` later, or `None` if no label can hold it.
    pub fn checked_add(self, by: Duration) -> Option<Self> {
        let nanos = self.nanos.checked_add(by.subsec_nanos())?;
        let label = self.label.checked_add(by.as_secs())?.checked_add(u64::from(nanos / NANOS_PER_SECOND))?;
        Self::new(label, nanos % NANOS_PER_SECOND)
    }

    /// Returns the 12 bytes of the stamp, big endian.
    pub fn encode(self) -> [u8; SIZE] {
        join([&self.label.to_be_bytes(), &self.nanos.to_be_bytes()])
    }

    /// Returns the stamp in these 12 bytes, or `None` if its nanoseconds are a second or more.
    pub fn decode(bytes: [u8; SIZE]) -> Option<Self> {
        let (label, rest) = bytes.split_first_chunk()?;
        let (nanos, _) = rest.split_first_chunk()?;
        Self::new(u64::from_be_bytes(*label), u32::from_be_bytes(*nanos))
    }

    /// Returns the stamp as 24 hexadecimal digits in lower case, without the `@`.
    pub fn hex(self) -> [u8; HEX_SIZE] {
        let mut out = [b'0'; HEX_SIZE];
        for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(self.encode()) {
            *pair = [digit(byte >> 4), digit(byte & 0xf)];
        }
        out
    }

    /// Parses 24 hexadecimal digits of either case, with or without a leading `@`.
    pub fn parse_hex(text: &[u8]) -> Option<Self> {
        let digits: &[u8; HEX_SIZE] = text.strip_prefix(b"@").unwrap_or(text).try_into().ok()?;
        let mut bytes = [0; SIZE];
        for (byte, [high, low]) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            *byte = (value(*high)? << 4) | value(*low)?;
        }
        Self::decode(bytes)
    }
}

impl fmt::Display for Tai64n {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{:016x}{:08x}", self.label, self.nanos)
    }
}

/// Returns the lower-case digit of a value below 16.
const fn digit(value: u8) -> u8 {
    match value {
        0..=9 => b'0'.wrapping_add(value),
        _ => b'a'.wrapping_add(value.wrapping_sub(10)),
    }
}

/// Returns the value of a hexadecimal digit of either case.
fn value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::{LEAP, Tai64n};
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn the_label_of_unix_second_0_is_2_to_the_62_and_37() {
        assert_eq!(LEAP, 0x4000_0000_0000_0025);
        assert_eq!(Tai64n::from_unix(0, 0).to_string(), "@400000000000002500000000");
        assert_eq!(Tai64n::from_unix(1_795_218_439, 0).to_string(), "@400000006b00dc2c00000000");
    }

    #[test]
    fn a_stamp_and_unix_time_are_the_same_moment() {
        let table = [
            ((0, 0), LEAP, (0, 0)),
            ((-1, 999_999_999), LEAP - 1, (-1, 999_999_999)),
            ((5, 1_000_000_000), LEAP + 6, (6, 0)),
            ((5, u32::MAX), LEAP + 9, (9, 294_967_295)),
            ((i64::MAX, 0), LEAP + (1 << 63) - 1, (i64::MAX, 0)),
            ((i64::MAX, 1_000_000_001), LEAP + (1 << 63) - 1, (i64::MAX, 1)),
        ];
        for ((secs, nanos), label, back) in table {
            let stamp = Tai64n::from_unix(secs, nanos);
            assert_eq!((stamp.label(), stamp.to_unix()), (label, back), "{secs} {nanos}");
        }
        assert_eq!(Tai64n::from_unix(i64::MIN, 7), Tai64n::ZERO);
        assert_eq!(Tai64n::new(u64::MAX, 0).unwrap().to_unix(), (i64::MAX, 0));
    }

    #[test]
    fn a_system_time_before_and_after_1970_keeps_its_nanoseconds() {
        let second = Duration::from_secs(1);
        let nano = Duration::from_nanos(1);
        for (time, unix) in [
            (UNIX_EPOCH, (0, 0)),
            (UNIX_EPOCH + second + nano, (1, 1)),
            (UNIX_EPOCH - nano, (-1, 999_999_999)),
            (UNIX_EPOCH - second, (-1, 0)),
            (UNIX_EPOCH - second - nano, (-2, 999_999_999)),
        ] {
            assert_eq!(Tai64n::now_from(time).to_unix(), unix, "{time:?}");
        }
    }

    #[test]
    fn milliseconds_of_unix_time_are_rounded_down() {
        for ((secs, nanos), ms) in [((1, 1_999_999), 1001), ((-1, 999_999_999), -1), ((-1, 0), -1000)] {
            assert_eq!(Tai64n::from_unix(secs, nanos).to_unix_ms(), ms);
        }
        assert_eq!(Tai64n::from_unix(i64::MAX, 999_000_000).to_unix_ms(), i64::MAX);
    }

    #[test]
    fn hexadecimal_is_read_in_either_case_with_or_without_the_at_sign() {
        let stamp = Tai64n::new(0x4000_0000_6b00_dc2d, 0x007b_763c).unwrap();
        for text in ["400000006b00dc2d007b763c", "400000006B00DC2D007B763C", "@400000006b00dc2d007b763c"] {
            assert_eq!(Tai64n::parse_hex(text.as_bytes()), Some(stamp), "{text}");
        }
        assert_eq!(&stamp.hex(), b"400000006b00dc2d007b763c");
    }

    #[test]
    fn what_is_no_stamp_is_refused() {
        for text in [
            "",
            "@",
            "@@400000006b00dc2d007b763",
            "400000006b00dc2d007b763",
            "400000006b00dc2d007b763c0",
            "400000006b00dc2d007b763g",
            "+00000006b00dc2d007b763c1",
            " 00000006b00dc2d007b763c",
            "400000006b00dc2d3b9aca00",
        ] {
            assert_eq!(Tai64n::parse_hex(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Tai64n::decode([0xff; 12]), None);
        assert_eq!(Tai64n::new(0, 1_000_000_000), None);
    }

    #[test]
    fn time_between_stamps_is_exact_and_never_negative() {
        let early = Tai64n::from_unix(10, 900_000_000);
        let late = Tai64n::from_unix(12, 100_000_000);
        assert_eq!(late.since(early), Some(Duration::from_millis(1200)));
        assert_eq!(early.since(late), None);
        assert_eq!(early.since(Tai64n::from_unix(10, 900_000_001)), None);
        assert_eq!(early.checked_add(Duration::from_millis(1200)), Some(late));
        assert_eq!(Tai64n::new(u64::MAX, 1).unwrap().checked_add(Duration::from_nanos(999_999_999)), None);
    }
}
