//! The journal's knowledge about one stream, in numbers.
//!
//! *Lives here:* one entry and its form.
//! *Does not live here:* the place of entries, and replacing one by another (`journal`).

use std::ops::Range;

use super::skipped::Skipped;
use crate::directory::FilePosition;
use crate::time::BatchTime;
use gatevisor_wire::log_counts::LogCounts;

/// The number of numbers in one [`JournalEntry`].
pub(super) const ENTRY: usize = 20;

/// The progress of a stream's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum BatchPhase {
    /// No batch is in progress. The bytes belong to a line that is not decided on yet.
    #[default]
    Idle,
    /// Bytes are being moved from the pipe to the end of the stage.
    Taking,
    /// The bytes are being written.
    Writing,
    /// The bytes are being written, and no more will follow.
    Last,
}

/// What is known about a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct JournalEntry {
    pub phase: BatchPhase,
    /// Its bytes in the stage. While bytes are being taken, they end at the end of the stage.
    pub bytes: Range<u64>,
    /// The time that its lines are stamped with.
    pub moment: BatchTime,
    /// The composer's state before the batch.
    pub state: [u64; 4],
    /// How many composed bytes are certainly in the file.
    pub written: u64,
    /// The file that was last written, and its length before the last write.
    pub position: FilePosition,
    /// What was left out of the file before this batch.
    pub skipped: Skipped,
    /// Whether a write was announced, and perhaps done, that is not counted in `written` yet.
    pub is_writing: bool,
    /// Whether the batch was shown already.
    pub is_shown: bool,
    /// Lines that were passed to the console so far.
    pub due: u64,
    /// What became of all batches before this one.
    pub counts: LogCounts,
}

impl JournalEntry {
    /// Returns whether a batch waits to be written.
    pub const fn has_batch(&self) -> bool {
        matches!(self.phase, BatchPhase::Writing | BatchPhase::Last)
    }

    pub(super) fn to_words(&self) -> [u64; ENTRY] {
        let phase = match self.phase {
            BatchPhase::Idle => 0,
            BatchPhase::Taking => 1,
            BatchPhase::Writing => 2,
            BatchPhase::Last => 3,
        };
        let flags = phase | u64::from(self.is_shown) << 2 | u64::from(self.is_writing) << 3;
        let [a, b, c, d] = self.state;
        let [log_lines, log_bytes, missing, gaps] = self.counts.numbers();
        [
            flags | u64::from(self.moment.nanos) << 32,
            self.bytes.start,
            self.bytes.end,
            self.moment.seconds.cast_unsigned(),
            self.moment.tick_ms,
            a,
            b,
            c,
            d,
            self.written,
            self.position.device,
            self.position.inode,
            self.position.length,
            self.skipped.lines,
            self.skipped.flags(),
            self.due,
            log_lines,
            log_bytes,
            missing,
            gaps,
        ]
    }

    pub(super) fn from_words(words: [u64; ENTRY]) -> Self {
        let [
            flags,
            start,
            end,
            seconds,
            tick_ms,
            a,
            b,
            c,
            d,
            written,
            device,
            inode,
            length,
            lines,
            skipped,
            due,
            counts @ ..,
        ] = words;
        Self {
            phase: match flags & 3 {
                0 => BatchPhase::Idle,
                1 => BatchPhase::Taking,
                2 => BatchPhase::Writing,
                _ => BatchPhase::Last,
            },
            bytes: start..end,
            moment: BatchTime {
                seconds: seconds.cast_signed(),
                nanos: u32::try_from(flags >> 32).unwrap_or(0),
                tick_ms,
            },
            state: [a, b, c, d],
            written,
            position: FilePosition { device, inode, length },
            skipped: Skipped::from_flags(lines, skipped),
            is_writing: flags & 8 != 0,
            is_shown: flags & 4 != 0,
            due,
            counts: LogCounts::from_numbers(counts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_is_what_its_numbers_say(words in proptest::array::uniform20(any::<u64>())) {
            let entry = JournalEntry::from_words(words);
            prop_assert_eq!(JournalEntry::from_words(entry.to_words()), entry);
        }
    }
}
