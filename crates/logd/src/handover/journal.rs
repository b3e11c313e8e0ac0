//! The state that a restarted daemon needs after the daemon was killed.
//!
//! *Lives here:* for each stream, which bytes of the stage belong to it, how many of them are
//! written, how many of its lines were shown, and how many lines and bytes are in its log.
//! *Does not live here:* the bytes (`stage`), and their processing (`stream`).
//!
//! The journal and the stage are files in memory that the supervisor makes and keeps. A daemon maps
//! the former and writes the latter, and the next daemon finds both as the last one left them. No
//! change can be half done: a [`JournalEntry`] is written beside the valid one, and then a single
//! store of one number makes it valid.
//!
//! Being killed does no harm at any step of a batch:
//!
//! 1. The entry says [`BatchPhase::Taking`] and holds the end of the stage. Then the kernel moves
//!    bytes from the pipe to the stage in one step; everything after that end belongs to this
//!    stream.
//! 2. Before anything is written, the entry says [`BatchPhase::Writing`], with the time of the
//!    batch and the composer's state before it. The written bytes are a function of these and of
//!    the batch, so a restarted daemon composes the same.
//! 3. Before each write, the entry says which file is written, how long that file is, and how many
//!    bytes of the batch were written before. A restarted daemon compares the file after that place
//!    with the composed bytes, and so finds out how many are written.
//! 4. When everything is written, the entry says [`BatchPhase::Idle`], and the bytes belong to no
//!    stream any more.
//!
//! Nothing is ever removed from a log file, and no two changes need to happen at the same moment.

use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, compiler_fence};

use gatevisor_sys::memory::Words;
use gatevisor_wire::log_counts::LogCounts;
use rustix::io::Errno;

use super::entry::{BatchPhase, ENTRY, JournalEntry};
use super::skipped::Skipped;
use super::stage::StagedBytes;
use crate::directory::FilePosition;
use crate::time::BatchTime;

/// The numbers of one stream: its key, which of its two entries is valid, the two entries, and how
/// many lines were shown.
const STREAM: usize = 3 + 2 * ENTRY;
/// The numbers before the first stream.
const HEAD: usize = 2;
/// The most streams in a daemon's journal, more than the pipes that a process can have.
pub(crate) const STREAMS: usize = 1 << 17;
/// The fewest streams for which a journal is made.
const FEWEST_STREAMS: usize = 1 << 8;
/// The first number of a journal: it tells who wrote it, and in which form.
const FORM: u64 = 0x6776_6c6f_6764_0002;
/// The first number while the bytes are not in the stage, so that no daemon can continue them.
const LEFT: u64 = !FORM;

const OWNER: usize = 0;
const COMMITS: usize = 1;
const SHOWN: usize = 2;
const ENTRIES: usize = 3;

/// The place of a stream in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EntryIndex(usize);

/// The numbers, which one daemon after another maps.
#[derive(Debug)]
struct Memory(Words);

impl Memory {
    fn word(&self, at: usize) -> Option<&AtomicU64> {
        self.0.as_slice().get(at)
    }

    fn of(&self, index: EntryIndex, which: usize) -> Option<&AtomicU64> {
        self.word(index.0.checked_mul(STREAM)?.checked_add(HEAD)?.checked_add(which)?)
    }

    fn get(&self, index: EntryIndex, which: usize) -> u64 {
        self.of(index, which).map_or(0, |word| word.load(Acquire))
    }

    fn set(&self, index: EntryIndex, which: usize, value: u64) {
        if let Some(word) = self.of(index, which) {
            word.store(value, Release);
        }
    }

    fn entry(&self, index: EntryIndex) -> JournalEntry {
        let begin = entry_at(self.get(index, COMMITS));
        JournalEntry::from_words(std::array::from_fn(|n| self.get(index, begin.saturating_add(n))))
    }

    fn put(&self, index: EntryIndex, entry: &JournalEntry) {
        let commits = self.get(index, COMMITS).wrapping_add(1);
        let begin = entry_at(commits);
        // A process is killed between two instructions, so only their order matters, and only the
        // compiler could change it.
        compiler_fence(Release);
        for (n, value) in entry.to_words().into_iter().enumerate() {
            if let Some(word) = self.of(index, begin.saturating_add(n)) {
                word.store(value, Relaxed);
            }
        }
        compiler_fence(Release);
        self.set(index, COMMITS, commits);
        compiler_fence(Acquire);
    }
}

/// Returns where the entry of commit number `commits` begins.
fn entry_at(commits: u64) -> usize {
    if commits & 1 == 0 { ENTRIES } else { ENTRIES + ENTRY }
}

/// One stream's place in the journal, and what is known about the stream.
#[derive(Debug)]
pub(crate) struct StreamRecord {
    place: Option<(Arc<Memory>, EntryIndex)>,
    pub entry: JournalEntry,
    /// Whether some of the batch may be in the file although the entry does not say so.
    pub is_uncertain: bool,
}

impl StreamRecord {
    /// Returns a record for a stream that is in no journal.
    #[cfg(test)]
    pub fn private() -> Self {
        Self { place: None, entry: JournalEntry::default(), is_uncertain: false }
    }

    /// Makes the entry valid.
    pub fn commit(&self) {
        if let Some((memory, index)) = &self.place {
            memory.put(*index, &self.entry);
        }
    }

    /// Counts what became of a batch. The entry is valid with the batch's end, so each counts once.
    pub fn count(&mut self, more: LogCounts) {
        self.entry.counts = self.entry.counts.plus(more);
    }

    /// Records what is left out of the file, and counts what is new of it.
    pub fn skip(&mut self, skipped: Skipped) {
        self.count(skipped.since(&self.entry.skipped));
        self.entry.skipped = skipped;
    }

    /// Returns how many bytes of the batch are certainly in the file.
    pub fn written(&self) -> usize {
        usize::try_from(self.entry.written).unwrap_or(usize::MAX)
    }

    /// Records that this many bytes of the batch are written, the last of them at the end of the
    /// file.
    pub fn advance(&mut self, written: usize) {
        let written = u64::try_from(written).unwrap_or(u64::MAX);
        let more = written.saturating_sub(self.entry.written);
        self.entry.position.length = self.entry.position.length.saturating_add(more);
        self.entry.written = written;
        self.entry.is_writing = false;
    }

    /// Records where the next bytes are about to be written, or that the file is about to be
    /// archived, after this many bytes of the batch.
    pub fn announce(&mut self, position: FilePosition, written: usize) {
        self.entry.position = position;
        self.entry.written = u64::try_from(written).unwrap_or(u64::MAX);
        self.entry.is_writing = true;
        self.commit();
    }

    /// Returns the stream's place, by which the console counts its lines.
    pub fn index(&self) -> Option<EntryIndex> {
        self.place.as_ref().map(|(_, index)| *index)
    }

    /// Returns how many lines a killed daemon had taken and perhaps not shown.
    pub fn unshown(&self) -> u64 {
        let shown = self.place.as_ref().map_or(u64::MAX, |(memory, index)| memory.get(*index, SHOWN));
        self.entry.due.saturating_sub(shown)
    }
}

/// Counts how many lines of each stream were shown; the console's thread uses it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally(Option<Arc<Memory>>);

impl Tally {
    /// Counts lines of a stream that were shown or announced as missing.
    pub fn add(&self, index: EntryIndex, lines: u64) {
        if let Some(word) = self.0.as_ref().and_then(|memory| memory.of(index, SHOWN)) {
            word.fetch_add(lines, Release);
        }
    }

    /// Records whether standard output is, or may be, in the middle of a line.
    pub fn set_mid_line(&self, mid_line: bool) {
        if let Some(word) = self.0.as_ref().and_then(|memory| memory.word(1)) {
            word.store(u64::from(mid_line), Release);
        }
    }

    /// Returns whether standard output may have been left in the middle of a line.
    pub fn is_mid_line(&self) -> bool {
        self.0.as_ref().and_then(|memory| memory.word(1)).is_some_and(|word| word.load(Acquire) != 0)
    }
}

/// The journal of one daemon, with its stage.
#[derive(Debug)]
pub(crate) struct Journal {
    pub stage: StagedBytes,
    memory: Arc<Memory>,
    /// The places of streams, by their keys.
    taken: HashMap<u64, EntryIndex>,
    free: Vec<EntryIndex>,
    /// The first place that was never used.
    fresh: usize,
    /// The number of places.
    streams: usize,
}

impl Journal {
    /// Returns the journal and the stage that the supervisor keeps, with the state that a killed
    /// daemon left in them.
    ///
    /// # Errors
    /// Those of the two memory files.
    pub fn kept(stage: OwnedFd, memory: impl AsFd) -> Result<Self, Errno> {
        let stage = StagedBytes::new(stage)?;
        // If the size of files is limited, there is room for fewer streams.
        let (words, streams) = fitting(STREAMS, |count| Words::map(&memory, count))?;
        Self::open(stage, words, streams)
    }

    fn open(stage: StagedBytes, words: Words, streams: usize) -> Result<Self, Errno> {
        let memory = Memory(words);
        let form = memory.word(0).ok_or(Errno::INVAL)?;
        match form.load(Acquire) {
            0 => form.store(FORM, Release),
            FORM => {}
            // It was written by another version of ours, and its streams cannot be understood.
            _ => return Err(Errno::PROTO),
        }
        let memory = Arc::new(memory);
        let mut journal = Self { stage, memory, taken: HashMap::new(), free: Vec::new(), fresh: 0, streams };
        journal.find();
        Ok(journal)
    }

    /// Returns a journal for this many streams that ends with this process.
    ///
    /// It needs no file.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn private(streams: usize) -> Result<Self, Errno> {
        let (words, streams) = fitting(streams, Words::private)?;
        Self::open(StagedBytes::private(), words, streams)
    }

    /// Finds the streams of a killed daemon.
    fn find(&mut self) {
        let memory = Arc::clone(&self.memory);
        // Places are used in order, so the first one that was never used ends the search.
        for index in (0..self.streams).map(EntryIndex) {
            if memory.get(index, COMMITS) == 0 {
                break;
            }
            self.fresh = index.0.saturating_add(1);
            match memory.get(index, OWNER).checked_sub(1) {
                Some(key) => {
                    let mut entry = memory.entry(index);
                    if entry.phase == BatchPhase::Taking {
                        entry.bytes.end = self.stage.end().max(entry.bytes.start);
                        entry.phase =
                            if entry.bytes.is_empty() { BatchPhase::Idle } else { BatchPhase::Writing };
                        entry.moment = BatchTime::now();
                        memory.put(index, &entry);
                    }
                    self.taken.insert(key, index);
                }
                None => self.free.push(index),
            }
        }
    }

    /// Returns the record of the stream with this key, as the last daemon left it; `None` if there
    /// are too many streams.
    pub fn adopt(&mut self, key: u64) -> Option<StreamRecord> {
        let memory = Arc::clone(&self.memory);
        if let Some(index) = self.taken.get(&key) {
            let entry = memory.entry(*index);
            let is_uncertain = entry.has_batch() && entry.is_writing;
            return Some(StreamRecord { place: Some((memory, *index)), entry, is_uncertain });
        }
        let index = self.free.pop().or_else(|| {
            let fresh = (self.fresh < self.streams).then_some(EntryIndex(self.fresh))?;
            self.fresh = self.fresh.saturating_add(1);
            Some(fresh)
        })?;
        // The count goes on from the stream that had this place before, because some of its lines
        // may not be shown yet.
        let entry = JournalEntry { due: memory.entry(index).due, ..JournalEntry::default() };
        memory.put(index, &entry);
        memory.set(index, OWNER, key.saturating_add(1));
        self.taken.insert(key, index);
        Some(StreamRecord { place: Some((memory, index)), entry, is_uncertain: false })
    }

    /// Forgets a stream that has no waiting bytes according to its record.
    pub fn release(&mut self, key: u64) {
        if let Some(index) = self.taken.remove(&key) {
            self.memory.set(index, OWNER, 0);
            self.free.push(index);
        }
    }

    /// Returns the counter of shown lines.
    pub fn tally(&self) -> Tally {
        Tally(Some(Arc::clone(&self.memory)))
    }

    /// Occasionally gives back the memory of the stage that no stream needs.
    pub fn tidy(&mut self) {
        if self.stage.is_untidy() {
            self.make_room();
        }
    }

    /// Gives back the memory of the stage that no stream needs; returns whether there is room again
    /// at the front.
    pub fn make_room(&mut self) -> bool {
        let before = self.stage.end();
        let had_left = self.stage.has_left_file();
        self.stage.tidy(self.needed());
        if had_left && !self.stage.has_left_file() {
            self.set_form(FORM);
        }
        self.stage.end() < before
    }

    /// Makes the stage continue in this process's memory, because its file may not become longer or
    /// no memory is available for it.
    ///
    /// # Errors
    /// Those of reading the stage.
    pub fn leave_file(&mut self) -> Result<(), Errno> {
        self.stage.leave_file(&self.needed())?;
        // The entries are not about the bytes that a restarted daemon would find in the file.
        self.set_form(LEFT);
        Ok(())
    }

    fn set_form(&self, form: u64) {
        if let Some(word) = self.memory.word(0) {
            word.store(form, Release);
        }
    }

    /// Returns the parts of the stage that some stream needs.
    fn needed(&self) -> Vec<Range<u64>> {
        let ranges = self.taken.values().map(|index| self.memory.entry(*index).bytes);
        ranges.filter(|bytes| !bytes.is_empty()).collect()
    }
}

/// Returns memory for as many of the streams as possible, and their number.
fn fitting(mut streams: usize, map: impl Fn(usize) -> Result<Words, Errno>) -> Result<(Words, usize), Errno> {
    loop {
        match map(streams.saturating_mul(STREAM).saturating_add(HEAD)) {
            Ok(words) => return Ok((words, streams)),
            Err(Errno::FBIG | Errno::NOMEM) if streams > FEWEST_STREAMS => streams /= 2,
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatevisor_sys::memory;

    fn files() -> (OwnedFd, OwnedFd) {
        (memory::file("stage").unwrap(), memory::file("journal").unwrap())
    }

    fn opened(files: &(OwnedFd, OwnedFd)) -> Journal {
        Journal::kept(files.0.try_clone().unwrap(), files.1.try_clone().unwrap()).unwrap()
    }

    fn write_to_stage(journal: &mut Journal, text: &str) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&writer, text.as_bytes()).unwrap();
        journal.stage.take(&reader, text.len()).unwrap();
    }

    #[test]
    fn a_restarted_daemon_finds_each_stream_as_it_was_last_committed() {
        let files = files();
        let mut journal = opened(&files);
        let mut records: Vec<StreamRecord> = (1..=3).map(|id| journal.adopt(id).unwrap()).collect();
        records[1].entry.state = [1, 2, 3, 4];
        records[1].entry.due = 9;
        records[1].commit();
        records[2].entry.phase = BatchPhase::Last;
        records[2].announce(FilePosition { device: 1, inode: 2, length: 3 }, 0);
        records[2].advance(77);
        let tally = journal.tally();
        tally.add(records[1].index().unwrap(), 5);
        tally.set_mid_line(true);
        drop(journal);
        let mut next = opened(&files);
        assert!(next.tally().is_mid_line());
        let second = next.adopt(2).unwrap();
        assert_eq!((second.entry.state, second.unshown(), second.is_uncertain), ([1, 2, 3, 4], 4, false));
        let third = next.adopt(3).unwrap();
        assert_eq!((third.entry.phase, third.entry.written, third.is_uncertain), (BatchPhase::Last, 0, true));
    }

    #[test]
    fn nobody_goes_on_with_bytes_that_only_the_last_daemon_had() {
        let files = files();
        let mut journal = opened(&files);
        write_to_stage(&mut journal, "a line of");
        let mut record = journal.adopt(1).unwrap();
        record.entry.bytes = 2..9;
        record.commit();
        journal.leave_file().unwrap();
        let mut bytes = [0; 7];
        journal.stage.read(2, &mut bytes).unwrap();
        assert_eq!(&bytes, b"line of");
        let next = || Journal::kept(files.0.try_clone().unwrap(), files.1.try_clone().unwrap());
        assert_eq!(next().unwrap_err(), Errno::PROTO);
        record.entry.bytes = 0..0;
        record.commit();
        journal.make_room();
        assert!(next().is_ok(), "it is in the file again");
    }

    #[test]
    fn a_journal_is_for_as_many_streams_as_there_is_memory_for() {
        let most = (STREAMS / 8) * STREAM;
        let (words, streams) =
            fitting(STREAMS, |count| if count > most { Err(Errno::FBIG) } else { Words::private(count) })
                .unwrap();
        assert_eq!((streams, words.as_slice().len()), (STREAMS / 16, STREAMS / 16 * STREAM + HEAD));
        assert_eq!(fitting(STREAMS, |_| Err(Errno::FBIG)).unwrap_err(), Errno::FBIG);
        assert_eq!(fitting(STREAMS, |_| Err(Errno::PERM)).unwrap_err(), Errno::PERM);
    }

    #[test]
    fn bytes_taken_by_a_killed_daemon_belong_to_the_stream_that_was_taking() {
        let files = files();
        let mut journal = opened(&files);
        write_to_stage(&mut journal, "of others");
        let mut record = journal.adopt(5).unwrap();
        record.entry.phase = BatchPhase::Taking;
        record.entry.bytes = 9..9;
        record.commit();
        write_to_stage(&mut journal, "taken");
        drop(journal);
        let entry = opened(&files).adopt(5).unwrap().entry;
        assert_eq!((entry.phase, entry.bytes), (BatchPhase::Writing, 9..14));
        assert_ne!(entry.moment, BatchTime::default());
    }

    #[test]
    fn a_taking_that_brought_nothing_is_over() {
        let files = files();
        let mut record = opened(&files).adopt(5).unwrap();
        record.entry.phase = BatchPhase::Taking;
        record.commit();
        assert_eq!(opened(&files).adopt(5).unwrap().entry.phase, BatchPhase::Idle);
    }

    #[test]
    fn places_are_used_again() {
        let files = files();
        let mut journal = opened(&files);
        let [a, b] = [1, 2].map(|id| journal.adopt(id).unwrap());
        journal.release(1);
        let c = journal.adopt(3).unwrap();
        assert_eq!((c.index(), c.entry), (a.index(), JournalEntry::default()));
        journal.release(3);
        drop(journal);
        let mut next = opened(&files);
        assert_eq!(next.adopt(4).unwrap().index(), a.index());
        assert_eq!(next.adopt(2).unwrap().index(), b.index());
    }

    #[test]
    fn only_what_streams_need_stays_in_the_stage() {
        let files = files();
        let mut journal = opened(&files);
        write_to_stage(&mut journal, "needed");
        let mut record = journal.adopt(1).unwrap();
        record.entry.bytes = 0..6;
        record.commit();
        let block = "x".repeat(60_000);
        while !journal.stage.is_untidy() {
            write_to_stage(&mut journal, &block);
        }
        journal.tidy();
        let mut bytes = [0; 6];
        journal.stage.read(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"needed");
        record.entry.bytes = 0..0;
        record.commit();
        while !journal.stage.is_untidy() {
            write_to_stage(&mut journal, &block);
        }
        journal.tidy();
        assert_eq!(journal.stage.end(), 0);
    }

    #[test]
    fn a_journal_of_another_form_is_refused() {
        let files = files();
        let words = Words::map(&files.1, 10).unwrap();
        words.as_slice()[0].store(FORM + 1, Release);
        let opened = Journal::kept(files.0, files.1);
        assert_eq!(opened.map(|_| ()), Err(Errno::PROTO));
    }
}
