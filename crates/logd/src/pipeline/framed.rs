//! A batch as it is to be in the file.
//!
//! *Lives here:* the note about lines that were left out before, and what is counted of a batch.
//! *Does not live here:* writing it (`sink`), and its lines (`compose`).

use std::borrow::Cow;

use gatevisor_wire::log_counts::LogCounts;
use memchr::memchr_iter;

use crate::directory::stamp::Stamp;
use crate::handover::skipped::Skipped;

/// A batch as it is to be in the file: if lines were left out, it begins with a note about them.
pub(super) struct Framed<'a> {
    pub bytes: Cow<'a, [u8]>,
    /// How many bytes the note has.
    pub note: usize,
    /// What is new of the lines that were left out.
    pub ended: LogCounts,
}

impl<'a> Framed<'a> {
    /// Returns a batch before which these lines were left out; what is left out after it, if the
    /// whole batch belongs to a line whose beginning was.
    pub fn of(bytes: &'a [u8], last: bool, before: Skipped, stamp: &Stamp) -> Result<Self, Skipped> {
        let mut skipped = before;
        let rest = skipped.end_of_line(bytes);
        if last {
            skipped.end();
        }
        if skipped.is_nothing() {
            return Ok(Self { bytes: Cow::Borrowed(bytes), note: 0, ended: LogCounts::default() });
        }
        if skipped.mid_line {
            return Err(skipped);
        }
        let reason = skipped.reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let note = format!("[gatevisor: {} missing here{reason}]\n", lines_are(skipped.lines));
        let note = [stamp.as_bytes(), note.as_bytes()].concat();
        let ended = skipped.since(&before);
        Ok(Self { bytes: Cow::Owned([&note, rest].concat()), note: note.len(), ended })
    }
}

/// Returns what is to be counted for bytes that are in the file.
pub(super) fn kept(bytes: &[u8]) -> LogCounts {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let lines = count(memchr_iter(b'\n', bytes).count());
    LogCounts { lines, bytes: count(bytes.len()), ..LogCounts::default() }
}

/// Returns a number of lines as words.
pub(super) fn lines_are(count: u64) -> String {
    if count == 1 { "1 line is".to_owned() } else { format!("{count} lines are") }
}
