//! The lines that were left out of a file since it was last written.
//!
//! *Lives here:* the count, and leaving out the rest of a line whose beginning was left out.
//! *Does not live here:* when lines are left out (`sink`).

use gatevisor_wire::log_counts::LogCounts;
use memchr::{memchr, memchr_iter};
use rustix::io::Errno;

use crate::directory::DirError;

/// The largest error number of the kernel.
const MAX_ERRNO: i32 = 4095;

/// Why lines were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SkipReason {
    Locked,
    Gone,
    System(Errno),
}

impl From<DirError> for SkipReason {
    fn from(error: DirError) -> Self {
        match error {
            DirError::Locked => Self::Locked,
            DirError::Gone => Self::Gone,
            DirError::System { source, .. } => Self::System(source),
        }
    }
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Locked => DirError::Locked.fmt(f),
            Self::Gone => DirError::Gone.fmt(f),
            Self::System(errno) => {
                let words = gatevisor_wire::exit::error_chain(errno);
                write!(f, "the directory could not be used (errno {}): {words}", errno.raw_os_error())
            }
        }
    }
}

/// Counts what was left out of a file since it was last written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Skipped {
    /// How many lines ended in the bytes that were left out.
    pub lines: u64,
    /// Whether the beginning of the unfinished line was left out, so that the rest of it is left
    /// out, too.
    pub mid_line: bool,
    pub reason: Option<SkipReason>,
}

impl Skipped {
    /// Returns whether nothing was left out.
    pub const fn is_nothing(&self) -> bool {
        self.lines == 0 && !self.mid_line
    }

    /// Returns what is new beside `before`, of the same stream: the lines that were left out since,
    /// and the gap, if one begins here.
    pub fn since(&self, before: &Self) -> LogCounts {
        LogCounts {
            missing: self.lines.saturating_sub(before.lines),
            gaps: u64::from(before.is_nothing() && !self.is_nothing()),
            ..LogCounts::default()
        }
    }

    /// Counts bytes that are left out.
    pub fn add(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        let ends = memchr_iter(b'\n', bytes).count();
        self.lines = self.lines.saturating_add(u64::try_from(ends).unwrap_or(u64::MAX));
        self.mid_line = *last != b'\n';
    }

    /// Leaves out the rest of a line whose beginning was left out, and returns the bytes after it.
    pub fn end_of_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if !self.mid_line {
            return bytes;
        }
        let end = memchr(b'\n', bytes).map_or(bytes.len(), |at| at.saturating_add(1));
        let (rest_of_line, after) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        self.add(rest_of_line);
        after
    }

    /// Ends a line whose end will not come.
    pub fn end(&mut self) {
        if self.mid_line {
            self.add(b"\n");
        }
    }

    /// Returns everything but the count, as a number.
    pub fn flags(&self) -> u64 {
        let (kind, errno) = match self.reason {
            None => (0, 0),
            Some(SkipReason::Locked) => (1, 0),
            Some(SkipReason::Gone) => (2, 0),
            Some(SkipReason::System(errno)) => (3, u64::from(errno.raw_os_error().unsigned_abs())),
        };
        u64::from(self.mid_line) | kind << 1 | errno << 32
    }

    /// Restores the state from the result of [`Skipped::flags`].
    pub fn from_flags(lines: u64, flags: u64) -> Self {
        let reason = match flags >> 1 & 3 {
            0 => None,
            1 => Some(SkipReason::Locked),
            2 => Some(SkipReason::Gone),
            _ => {
                let errno = i32::try_from(flags >> 32).ok().filter(|errno| (1..=MAX_ERRNO).contains(errno));
                Some(SkipReason::System(errno.map_or(Errno::IO, Errno::from_raw_os_error)))
            }
        };
        Self { lines, mid_line: flags & 1 != 0, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_begun_outside_stays_outside() {
        let mut skipped = Skipped::default();
        skipped.add(b"one\ntw");
        assert_eq!(skipped.end_of_line(b"o"), b"");
        assert_eq!(skipped.end_of_line(b" and a half\nthree\n"), b"three\n");
        assert_eq!((skipped.lines, skipped.mid_line), (2, false));
        assert_eq!(skipped.end_of_line(b"four"), b"four");
        skipped.add(b"four");
        skipped.end();
        skipped.end();
        assert_eq!(skipped, Skipped { lines: 3, ..Skipped::default() });
    }

    #[test]
    fn the_record_of_skipped_lines_survives_its_numbers() {
        for reason in
            [None, Some(SkipReason::Locked), Some(SkipReason::Gone), Some(SkipReason::System(Errno::ACCESS))]
        {
            for mid_line in [false, true] {
                let skipped = Skipped { lines: 3, mid_line, reason };
                assert_eq!(Skipped::from_flags(skipped.lines, skipped.flags()), skipped);
            }
        }
    }
}
