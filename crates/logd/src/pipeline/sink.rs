//! The destination of a stream's lines, and the reaction if they cannot be written.
//!
//! *Lives here:* opening the directory at the first byte, handling refusals of the disk, when to
//! try again, reporting once.
//! *Does not live here:* the directory's format (`directory`), and the waiting bytes (`stream`, in
//! the stage).
//!
//! Two kinds of errors are distinguished. If a **disk** refuses, it may accept later. So bytes
//! wait, first in the stage, then in the pipe, and then the service waits. If a **directory**
//! cannot be used at all (because it is locked by somebody else, or not ours to write), that may
//! never change. A stream that is also shown continues without its file, the lines are counted, and
//! the file tells how many are missing once it can be written. A stream that is not shown waits for
//! the directory, because its lines would be nowhere.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use gatevisor_wire::tai::Tai64n;

use super::framed::{Framed, kept, lines_are};
use super::{counts_file, error_note};
use crate::directory::stamp::Stamp;
use crate::directory::{DirError, FilePosition, LogDir, LogLimits, ProgressObserver, Unwritten};
use crate::handover::journal::StreamRecord;
use crate::handover::skipped::Skipped;
use crate::time::BatchTime;
use gatevisor_wire::exit::error_chain;
use gatevisor_wire::log_counts::LogCounts;

/// Milliseconds between two attempts.
const RETRY_MS: u64 = 1_000;
/// Milliseconds during which the same error causes no second warning.
const QUIET_MS: u64 = 60_000;

/// The place of a log directory.
#[derive(Debug)]
pub(crate) struct LogLocation {
    /// The `log` directory of the service: relative paths are relative to it, and errors are noted
    /// in it. Without it, they are relative to the working directory, and nothing is noted.
    pub base: Option<OwnedFd>,
    /// As the script names it.
    pub path: PathBuf,
}

impl LogLocation {
    fn open(&self, limits: LogLimits, now: BatchTime, ours: &[FilePosition]) -> Result<LogDir, DirError> {
        let base = self.base.as_ref().map_or(rustix::fs::CWD, AsFd::as_fd);
        LogDir::open_again(base, &self.path, limits, now.tai(), ours)
    }
}

/// The circumstances of one use of a sink.
pub(crate) struct WriteContext<'a> {
    pub now: BatchTime,
    /// The stamp for a line of the sink's own.
    pub stamp: &'a Stamp,
    /// Receives a warning of one line.
    pub warn: &'a mut dyn FnMut(String),
}

/// The destination of a stream's lines.
#[derive(Debug)]
pub(crate) struct Sink {
    label: Arc<str>,
    place: LogLocation,
    limits: LogLimits,
    /// Whether lines are shown as well, so that they may be left out of the file instead of
    /// blocking the service.
    may_skip: bool,
    open: Option<LogDir>,
    retry_at_ms: u64,
    /// The error that prevents writing now.
    error: Option<DirError>,
    /// Whether lines are left out of the file because of this error, instead of held back.
    is_skipping: bool,
    /// The error in the service directory's note, and since when.
    noted: Option<(DirError, Tai64n)>,
    spoken: Option<(DirError, u64)>,
    /// The second in which `current` was last seen to exist.
    seen_at: i64,
    /// The files that were written last; one of them is `current`.
    ours: [FilePosition; 2],
}

/// Whether the bytes of a batch still wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// They are in the file, or counted as left out.
    Done,
    /// Some of them wait. Pass them again, with the same record.
    Waiting,
}

/// Records each step of a write in a stream's record.
struct Noting<'a>(&'a mut StreamRecord);

impl ProgressObserver for Noting<'_> {
    fn at_end(&mut self, position: FilePosition, written: usize) {
        self.0.announce(position, written);
    }
}

impl Sink {
    /// Returns a sink that opens its directory at the first byte.
    pub fn new(label: Arc<str>, place: LogLocation, limits: LogLimits, may_skip: bool) -> Self {
        Self {
            label,
            place,
            limits,
            may_skip,
            open: None,
            retry_at_ms: 0,
            error: None,
            is_skipping: false,
            noted: None,
            spoken: None,
            seen_at: i64::MIN,
            ours: [FilePosition::default(); 2],
        }
    }

    /// Names the files that a killed daemon may have been writing.
    pub fn go_on_with(&mut self, ours: [FilePosition; 2]) {
        self.ours = ours;
    }

    /// Writes a batch. The record may say that a part of it is in the file already.
    ///
    /// A repeated call must pass the same bytes, with the same stamp. `last` tells whether they are
    /// the last of the stream.
    pub fn write(
        &mut self,
        bytes: &[u8],
        last: bool,
        record: &mut StreamRecord,
        context: &mut WriteContext<'_>,
    ) -> Written {
        if self.is_skipping && context.now.tick_ms < self.retry_at_ms && !last {
            let mut skipped = record.entry.skipped;
            skipped.add(bytes);
            record.skip(skipped);
            return Written::Done;
        }
        match Framed::of(bytes, last, record.entry.skipped, context.stamp) {
            Ok(framed) => self.attempt(&framed, record, context),
            Err(skipped) => {
                record.skip(skipped);
                Written::Done
            }
        }
    }

    /// Returns when a waiting batch is tried again, in monotonic milliseconds.
    pub fn retry_at_ms(&self) -> u64 {
        self.retry_at_ms
    }

    /// Reports that the rest of a batch is given up. `last` and the stamp's form are those of the
    /// attempts to write it. `is_cut` tells whether there is an unfinished line after it.
    pub fn give_up(
        &self,
        bytes: &[u8],
        last: bool,
        is_cut: bool,
        record: &mut StreamRecord,
        context: &mut WriteContext<'_>,
    ) {
        let written = record.written();
        let mut given_up = Skipped::default();
        match Framed::of(bytes, last, record.entry.skipped, context.stamp) {
            Ok(Framed { bytes, note, ended }) => {
                record.count(ended.plus(kept(bytes.get(note..written).unwrap_or_default())));
                if written >= note {
                    record.entry.skipped = Skipped::default();
                }
                given_up.add(bytes.get(written.max(note)..).unwrap_or_default());
            }
            // Another stream's batch was in the way of this one.
            Err(skipped) => record.skip(skipped),
        }
        given_up.mid_line |= is_cut;
        given_up.end();
        // If lines were left out just before, it is the same gap.
        let so_far = record.entry.skipped;
        record.count(Skipped { lines: so_far.lines.saturating_add(given_up.lines), ..so_far }.since(&so_far));
        let reason =
            self.error.map_or_else(|| "the disk refused them".to_owned(), |error| error_chain(&error));
        self.say(context, &format!("{} lost: {reason}", lines_are(given_up.lines)));
    }

    /// Tells in the service directory how many lines the log has received.
    ///
    /// Returns whether it did, which is not certain where that directory's disk is full.
    pub fn tell(&self, counts: LogCounts) -> bool {
        self.place.base.as_ref().is_some_and(|log| counts_file::write(log, counts).is_ok())
    }

    /// Returns how many lines the log has received, as an earlier daemon has told it.
    pub fn told(&self) -> LogCounts {
        self.place.base.as_ref().map(counts_file::read).unwrap_or_default()
    }

    /// Closes the directory cleanly.
    pub fn close(mut self, context: &mut WriteContext<'_>) {
        // Nothing waits any more, whatever the result was.
        self.forget_note();
        if let Some(directory) = self.open.take()
            && let Err(error) = directory.close(context.now.tai())
        {
            self.say(context, &format!("closing: {}", error_chain(&error)));
        }
    }

    fn attempt(
        &mut self,
        framed: &Framed<'_>,
        record: &mut StreamRecord,
        context: &mut WriteContext<'_>,
    ) -> Written {
        let Framed { bytes, note, ended } = framed;
        let (note, ended) = (*note, *ended);
        if bytes.is_empty() {
            return Written::Done;
        }
        self.look_for_current(context.now);
        match self.write_or_reopen(bytes, record, context.now) {
            Ok(()) => {
                record.entry.skipped = Skipped::default();
                record.count(ended.plus(kept(bytes.get(note..).unwrap_or_default())));
                self.recovered(context);
                Written::Done
            }
            Err(Unwritten { written, error }) => {
                self.failed(error, context);
                if self.is_skipping {
                    record.count(ended.plus(kept(bytes.get(note..written).unwrap_or_default())));
                    if written < note {
                        let so_far = &mut record.entry.skipped;
                        so_far.lines = so_far.lines.saturating_add(ended.missing);
                    } else {
                        // The note has ended the gap before.
                        record.entry.skipped = Skipped::default();
                    }
                    let mut skipped = Skipped { reason: Some(error.into()), ..Skipped::default() };
                    skipped.add(bytes.get(written.max(note)..).unwrap_or_default());
                    skipped.lines = skipped.lines.saturating_add(record.entry.skipped.lines);
                    record.skip(skipped);
                    Written::Done
                } else {
                    record.commit();
                    Written::Waiting
                }
            }
        }
    }

    fn write_or_reopen(
        &mut self,
        bytes: &[u8],
        record: &mut StreamRecord,
        now: BatchTime,
    ) -> Result<(), Unwritten> {
        let so_far = StreamRecord::written;
        // A directory that was removed is made again, but only once; a second time would be a fight
        // with somebody.
        for may_reopen in [true, false] {
            let written = match self.directory(now) {
                Ok(directory) => {
                    let known = if record.is_uncertain { find(directory, bytes, record) } else { Ok(()) };
                    match known {
                        Ok(()) => directory.write_from(so_far(record), bytes, now.tai(), &mut Noting(record)),
                        Err(error) => Err(Unwritten { written: so_far(record), error }),
                    }
                }
                Err(error) => Err(Unwritten { written: so_far(record), error }),
            };
            match written {
                Err(Unwritten { written, error: DirError::Gone }) if may_reopen => {
                    self.open = None;
                    record.advance(written);
                }
                Err(unwritten) => {
                    if unwritten.error == DirError::Gone {
                        self.open = None;
                    }
                    record.advance(unwritten.written);
                    self.ours = [record.entry.position; 2];
                    return Err(unwritten);
                }
                Ok(()) => {
                    record.advance(bytes.len());
                    self.ours = [record.entry.position; 2];
                    break;
                }
            }
        }
        Ok(())
    }

    fn directory(&mut self, now: BatchTime) -> Result<&mut LogDir, DirError> {
        match &mut self.open {
            Some(directory) => Ok(directory),
            closed => Ok(closed.insert(self.place.open(self.limits, now, &self.ours)?)),
        }
    }

    /// Checks once a second whether somebody removed the files, so that they are made again.
    fn look_for_current(&mut self, now: BatchTime) {
        if now.seconds != self.seen_at {
            self.seen_at = now.seconds;
            if self.open.as_ref().is_some_and(LogDir::is_gone) {
                self.open = None;
            }
        }
    }

    fn failed(&mut self, error: DirError, context: &mut WriteContext<'_>) {
        self.retry_at_ms = context.now.tick_ms.saturating_add(RETRY_MS);
        let cannot_be_had = self.open.is_none() && !error.is_refusal_of_the_disk();
        self.is_skipping = self.may_skip && cannot_be_had;
        self.error = Some(error);
        self.note(context.now);
        let quiet = |(spoken, at): (DirError, u64)| {
            spoken == error && context.now.tick_ms < at.saturating_add(QUIET_MS)
        };
        if !self.spoken.is_some_and(quiet) {
            self.spoken = Some((error, context.now.tick_ms));
            let consequence = if self.is_skipping {
                "lines are only shown until it is free, and tried again as they come"
            } else {
                "lines are held and then the service waits; trying again every second"
            };
            self.say(context, &format!("{}; {consequence}", error_chain(&error)));
        } else if let Some((_, at)) = &mut self.spoken {
            *at = context.now.tick_ms;
        }
    }

    fn recovered(&mut self, context: &mut WriteContext<'_>) {
        self.is_skipping = false;
        if self.error.take().is_some() {
            self.say(context, "is written again");
            self.forget_note();
        }
        if let Some(complaint) = self.open.as_ref().and_then(LogDir::complaint) {
            self.say(context, &complaint);
        }
    }

    /// Updates the note in the service directory.
    fn note(&mut self, now: BatchTime) {
        let (Some(error), Some(log)) = (self.error, &self.place.base) else { return };
        if self.noted.is_none_or(|(noted, _)| noted != error) {
            let since = self.noted.map_or_else(|| now.tai(), |(_, since)| since);
            self.noted = Some((error, since));
            error_note::write(
                log,
                since,
                format!("`{}`: {}", self.place.path.display(), error_chain(&error)),
            );
        }
    }

    fn forget_note(&mut self) {
        if let (Some(_), Some(log)) = (self.noted.take(), &self.place.base) {
            error_note::remove(log);
        }
    }

    fn say(&self, context: &mut WriteContext<'_>, what: &str) {
        let path = self.place.path.display();
        (context.warn)(format!("gatevisor: {}: log directory `{path}`: {what}", self.label));
    }
}

/// Finds out how much of a batch a killed daemon had written.
fn find(directory: &LogDir, bytes: &[u8], record: &mut StreamRecord) -> Result<(), DirError> {
    let unknown = bytes.get(record.written()..).unwrap_or_default();
    let found = directory.found_at(record.entry.position, unknown)?;
    record.advance(record.written().saturating_add(found));
    record.is_uncertain = false;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::DirStep;
    use std::fs;
    use std::path::Path;

    struct Bench {
        sink: Sink,
        record: StreamRecord,
        /// A batch that could not be written.
        waiting: Option<String>,
        said: Vec<String>,
        tick_ms: u64,
    }

    impl Bench {
        fn new(path: &Path, may_skip: bool) -> Self {
            let place = LogLocation { base: None, path: path.to_owned() };
            let limits = LogLimits { size: 1000, keep: 2, ..LogLimits::default() };
            let sink = Sink::new("coder".into(), place, limits, may_skip);
            Self { sink, record: StreamRecord::private(), waiting: None, said: Vec::new(), tick_ms: 5000 }
        }

        fn with<R>(
            &mut self,
            act: impl FnOnce(&mut Sink, &mut StreamRecord, &mut WriteContext<'_>) -> R,
        ) -> R {
            let seconds = i64::try_from(self.tick_ms / 1000).unwrap();
            let now = BatchTime { seconds, nanos: 0, tick_ms: self.tick_ms };
            let said = &mut self.said;
            let mut warn = |line| said.push(line);
            let mut context = WriteContext { now, stamp: &Stamp::EMPTY, warn: &mut warn };
            act(&mut self.sink, &mut self.record, &mut context)
        }

        /// Writes the next batch, after one that was written.
        fn write(&mut self, text: &str) -> Written {
            assert_eq!(self.waiting, None);
            let written =
                self.with(|sink, record, context| sink.write(text.as_bytes(), false, record, context));
            if written == Written::Done {
                self.record.entry.written = 0;
            } else {
                self.waiting = Some(text.to_owned());
            }
            written
        }

        fn after(&mut self, ms: u64) {
            self.tick_ms += ms;
            if self.tick_ms >= self.sink.retry_at_ms()
                && let Some(text) = self.waiting.take()
            {
                self.write(&text);
            }
        }

        fn close(self) -> Vec<String> {
            let Self { sink, mut said, .. } = self;
            let now = BatchTime { seconds: 9, nanos: 0, tick_ms: 9000 };
            sink.close(&mut WriteContext { now, stamp: &Stamp::EMPTY, warn: &mut |line| said.push(line) });
            said
        }
    }

    #[test]
    fn nothing_is_made_before_the_first_byte() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        let mut bench = Bench::new(&path, true);
        assert!(!path.exists());
        bench.write("a\n");
        assert_eq!(fs::read(path.join("current")).unwrap(), b"a\n");
        assert_eq!(bench.said, [""; 0]);
    }

    #[test]
    fn a_directory_that_is_locked_elsewhere_is_done_without_and_announced_in_the_file() {
        let temp = tempfile::tempdir().unwrap();
        let mut other = Bench::new(temp.path(), true);
        other.write("theirs\n");
        let mut bench = Bench::new(temp.path(), true);
        bench.write("one\ntwo\nthr");
        bench.after(500);
        assert_eq!(bench.write("ee\n"), Written::Done, "the pipe is read on");
        assert_eq!(
            bench.said,
            [format!(
                "gatevisor: coder: log directory `{}`: it is locked by another writer; \
                 lines are only shown until it is free, and tried again as they come",
                temp.path().display()
            )]
        );
        bench.after(600);
        bench.write("four, of which only a part");
        assert_eq!(bench.said.len(), 1, "the same error is told once");
        let Bench { sink, .. } = other;
        drop(sink);
        bench.after(2000);
        bench.write(" is left out\nfive\n");
        assert_eq!(
            fs::read_to_string(temp.path().join("current")).unwrap(),
            "[gatevisor: 4 lines are missing here: it is locked by another writer]\nfive\n"
        );
        assert!(bench.said[1].ends_with("is written again"), "{:?}", bench.said);
        let counts = LogCounts { lines: 1, bytes: 5, missing: 4, gaps: 1 };
        assert_eq!(bench.record.entry.counts, counts, "the note is none of the service's lines");
    }

    #[test]
    fn the_end_of_a_line_that_was_left_out_counts_although_its_directory_stays_locked() {
        let temp = tempfile::tempdir().unwrap();
        let mut other = Bench::new(temp.path(), true);
        other.write("theirs\n");
        let mut bench = Bench::new(temp.path(), true);
        bench.write("on");
        bench.after(2000);
        bench.write("e\ntwo\n");
        drop(other.sink);
        bench.after(2000);
        bench.write("three\n");
        assert_eq!(
            fs::read_to_string(temp.path().join("current")).unwrap(),
            "[gatevisor: 2 lines are missing here: it is locked by another writer]\nthree\n"
        );
        assert_eq!(bench.record.entry.counts, LogCounts { lines: 1, bytes: 6, missing: 2, gaps: 1 });
    }

    #[test]
    fn a_stream_that_is_not_shown_waits_for_its_directory() {
        let temp = tempfile::tempdir().unwrap();
        let other = Bench::new(temp.path(), true);
        let mut other = other;
        other.write("theirs\n");
        let mut bench = Bench::new(temp.path(), false);
        assert_eq!(bench.write("one\n"), Written::Waiting);
        assert_eq!(bench.sink.retry_at_ms(), 6000);
        drop(other.sink);
        bench.after(999);
        assert!(bench.waiting.is_some(), "not due yet");
        bench.after(1);
        assert_eq!(bench.waiting, None);
        assert_eq!(bench.write("end\n"), Written::Done);
        assert_eq!(fs::read(temp.path().join("current")).unwrap(), b"one\nend\n");
    }

    #[test]
    fn lines_that_a_full_disk_refuses_wait() {
        // Without a file system of our own, we cannot make a full disk. A refused rotation replaces
        // it.
        let temp = tempfile::tempdir().unwrap();
        let mut bench = Bench::new(temp.path(), true);
        let line = format!("{}\n", "x".repeat(600));
        bench.write(&line);
        let error = DirError::System { step: DirStep::Write, source: rustix::io::Errno::NOSPC };
        // The directory exists but cannot be written to. Lines for an open directory are never left
        // out.
        bench.with(|sink, _, context| sink.failed(error, context));
        assert!(!bench.sink.is_skipping);
        assert!(
            bench.said[0]
                .contains("cannot write `current` (errno 28): No space left on device; lines are held")
        );
        assert_eq!(bench.write(&line), Written::Done);
        assert!(bench.said[1].ends_with("is written again"));
        // The same error causes no second warning within a minute.
        bench.with(|sink, _, context| sink.failed(error, context));
        assert_eq!(bench.said.len(), 2);
    }

    #[test]
    fn lines_that_the_disk_never_accepted_are_reported_as_lost() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("file"), b"").unwrap();
        let mut bench = Bench::new(&temp.path().join("file/log"), false);
        let text = "one\ntwo\npart";
        assert_eq!(bench.write(text), Written::Waiting);
        bench.with(|sink, record, context| sink.give_up(text.as_bytes(), false, false, record, context));
        let counts = bench.record.entry.counts;
        let said = bench.close();
        assert!(said[1].contains("3 lines are lost: cannot make the directory (errno 20)"), "{said:?}");
        assert_eq!(counts, LogCounts { missing: 3, gaps: 1, ..LogCounts::default() });
    }

    #[test]
    fn what_is_given_up_after_lines_that_were_left_out_is_the_same_gap_and_each_line_counts_once() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("file"), b"").unwrap();
        // Bytes of the batch, whether they are the last, whether an unfinished line follows, and
        // how many lines are missing with the two that were left out before.
        for (text, last, is_cut, missing) in [
            ("the end\nthree\nfour\n", false, false, 5),
            ("the end\nthree\n", false, true, 5),
            ("the end\npart", true, false, 4),
            ("", true, false, 3),
        ] {
            let mut bench = Bench::new(&temp.path().join("file/log"), false);
            let before = Skipped { lines: 2, mid_line: true, reason: None };
            bench.with(|_, record, _| record.skip(before));
            let written =
                bench.with(|sink, record, context| sink.write(text.as_bytes(), last, record, context));
            assert_eq!(written, Written::Waiting, "{text}");
            bench.with(|sink, record, context| sink.give_up(text.as_bytes(), last, is_cut, record, context));
            let counts = LogCounts { missing, gaps: 1, ..LogCounts::default() };
            assert_eq!(bench.record.entry.counts, counts, "{text}");
        }
    }

    #[test]
    fn a_restarted_daemon_writes_what_is_missing_of_a_batch_whatever_was_written_of_it() {
        let batch = "one\none\none\ntwo\n";
        for written in 0..=batch.len() {
            let temp = tempfile::tempdir().unwrap();
            let mut killed = Bench::new(temp.path(), false);
            killed.write("one\n");
            // It had announced the write, and had written a part when it was killed.
            let position = killed.record.entry.position;
            drop(killed);
            let current = temp.path().join("current");
            let mut file = fs::File::options().append(true).open(&current).unwrap();
            std::io::Write::write_all(&mut file, &batch.as_bytes()[..written]).unwrap();
            let mut next = Bench::new(temp.path(), false);
            next.record.entry.position = position;
            next.record.is_uncertain = true;
            next.sink.go_on_with([FilePosition::default(), position]);
            assert_eq!(next.write(batch), Written::Done);
            assert_eq!(fs::read_to_string(current).unwrap(), format!("one\n{batch}"), "{written}");
            assert_eq!((next.write("end\n"), next.said), (Written::Done, Vec::new()));
        }
    }

    #[test]
    fn a_restarted_daemon_finds_nothing_in_a_file_that_another_one_made() {
        let temp = tempfile::tempdir().unwrap();
        let mut killed = Bench::new(temp.path(), false);
        killed.write("one\n");
        let position = killed.record.entry.position;
        drop(killed);
        let current = temp.path().join("current");
        fs::rename(&current, temp.path().join("elsewhere")).unwrap();
        fs::write(&current, "one\ntwo\n").unwrap();
        let mut next = Bench::new(temp.path(), false);
        next.record.entry.position = position;
        next.record.is_uncertain = true;
        next.sink.go_on_with([position; 2]);
        assert_eq!(next.write("two\n"), Written::Done);
        assert_eq!(fs::read_to_string(current).unwrap(), "two\n", "theirs is an archive");
    }

    #[test]
    fn files_that_somebody_removes_are_made_again() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        let mut bench = Bench::new(&path, true);
        bench.write("one\n");
        fs::remove_dir_all(&path).unwrap();
        bench.after(1000);
        bench.write("two\n");
        assert_eq!(fs::read(path.join("current")).unwrap(), b"two\n");
        // Within the same second, it is noticed at the next rotation at the latest.
        fs::remove_dir_all(&path).unwrap();
        bench.write(&format!("{}\n", "x".repeat(999)));
        assert_eq!(fs::read(path.join("current")).unwrap().len(), 1000);
        assert_eq!(bench.said, [""; 0]);
    }
}
