//! Names and marks in a log directory.
//!
//! *Lives here:* the names of archives, in s6-log's form and in our compressed form, and the mark
//! of a line of standard error.
//! *Does not live here:* writing a log directory (`gatevisor-logd`) and reading one
//! (`gatevisor-logreader`).

use std::time::Duration;

use crate::tai::{HEX_SIZE, Tai64n};

/// The mark of a line of standard error in a file, after its stamp, if the streams are
/// distinguished.
pub const STDERR_MARK: &[u8] = b"[stderr] ";
/// The suffix of a compressed archive, after the archive's former name.
pub const COMPRESSED: &str = ".zst";

/// A file that `current` became.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Archive {
    /// When it was archived; archives are ordered by it.
    pub stamp: Tai64n,
    /// Whether it was synced and closed (`.s`), as opposed to found after a crash (`.u`).
    pub safe: bool,
}

impl Archive {
    /// Returns the archive with this file name, if it is an archive's name.
    ///
    /// **Source:** s6-log, the names that it counts when it trims a directory.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let (stamp, suffix) = name.split_at_checked(HEX_SIZE.saturating_add(1))?;
        let safe = match suffix {
            b".s" => true,
            b".u" => false,
            _ => return None,
        };
        let stamp = if stamp.starts_with(b"@") { Tai64n::parse_hex(stamp)? } else { return None };
        Some(Self { stamp, safe })
    }

    /// Returns the archive with this file name, and whether the name is that of its compressed
    /// form.
    pub fn parse_file(name: &[u8]) -> Option<(Self, bool)> {
        match name.strip_suffix(COMPRESSED.as_bytes()) {
            Some(plain) => Some((Self::parse(plain)?, true)),
            None => Some((Self::parse(name)?, false)),
        }
    }

    /// Returns the file name of the plain form.
    pub fn name(self) -> String {
        format!("{}.{}", self.stamp, if self.safe { 's' } else { 'u' })
    }

    /// Returns the archive to make now, given the present ones.
    ///
    /// It is newer than all of them even if the clock was set back. Otherwise it would be taken for
    /// the oldest and deleted first.
    pub fn next(now: Tai64n, present: &[Self], safe: bool) -> Self {
        let newest = present.iter().map(|archive| archive.stamp).max();
        let after_newest = newest.and_then(|stamp| stamp.checked_add(Duration::from_nanos(1)));
        Self { stamp: after_newest.map_or(now, |after| after.max(now)), safe }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_have_s6_logs_names() {
        let name = b"@400000006b00d4d2075bcd15.s";
        let archive = Archive::parse(name).unwrap();
        assert_eq!(archive.name().as_bytes(), name);
        assert!(archive.safe);
        assert!(!Archive::parse(b"@400000006b00d4d2075bcd15.u").unwrap().safe);
        for other in [
            "current",
            "@400000006b00d4d2075bcd15",
            "@400000006b00d4d2075bcd15.x",
            "@400000006b00d4d2075bcd15.ss",
            "x400000006b00d4d2075bcd15.s",
            "@400000006b00d4d2075bcd1g.s",
            "@400000006b00d4d2ffffffff.s",
            "",
        ] {
            assert_eq!(Archive::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_new_archive_is_newer_than_the_others_even_if_the_clock_is_not() {
        let now = Tai64n::from_unix(100, 0);
        let at = |secs| Archive { stamp: Tai64n::from_unix(secs, 0), safe: true };
        assert_eq!(Archive::next(now, &[], true).stamp, now);
        assert_eq!(Archive::next(now, &[at(50), at(99)], true).stamp, now);
        let after = Archive::next(now, &[at(500), at(99)], false);
        assert_eq!(after, Archive { stamp: Tai64n::from_unix(500, 1), safe: false });
    }

    #[test]
    fn a_compressed_archive_is_the_same_archive() {
        let plain = Archive::parse(b"@400000006b00d4d2075bcd15.s").unwrap();
        assert_eq!(Archive::parse_file(b"@400000006b00d4d2075bcd15.s"), Some((plain, false)));
        assert_eq!(Archive::parse_file(b"@400000006b00d4d2075bcd15.s.zst"), Some((plain, true)));
        assert_eq!(Archive::parse_file(b".@400000006b00d4d2075bcd15.s.zst"), None);
        assert_eq!(Archive::parse_file(b"current.zst"), None);
    }
}
