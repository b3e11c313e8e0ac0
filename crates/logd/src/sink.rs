//! Where a stream's lines are kept, and what happens while they cannot be.
//!
//! *Lives here:* opening the directory at the first byte, holding what the disk refuses, trying again, saying so
//! once. *Does not live here:* the directory's format (`logdir`), and when to read on (the stream asks
//! [`Sink::room`]).
//!
//! Two kinds of trouble are told apart. A **disk** that refuses may relent, so bytes are held, first here, then in
//! the pipe, and then the service waits. A **directory** that cannot be had at all (locked by somebody else, not
//! ours to write) may never be; a stream that is also shown goes on without its file, the lines are counted, and
//! the file says how many are missing once it is ours. A stream that is not shown waits for it, because its lines
//! would be nowhere.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use gatevisor_wire::tai::Tai64n;
use memchr::{memchr, memchr_iter};

use crate::batch::TAKE;
use crate::logdir::{DirError, Limits, LogDir, Unfiled};
use crate::moment::Moment;
use crate::notice;
use crate::stamp::Stamp;
use crate::words::chain;

/// Bytes that are held before the pipe is left alone. One batch may exceed it by its stamps.
const HOLD: usize = 64 << 10;
/// Milliseconds between two attempts.
const RETRY_MS: u64 = 1_000;
/// Milliseconds during which the same trouble is not spoken of again.
const QUIET_MS: u64 = 60_000;

/// Where a log directory is.
#[derive(Debug)]
pub(crate) struct Place {
    /// The `log` directory of the service: what a relative path is relative to, and where trouble is noted. Without
    /// it, the working directory, and no note.
    pub base: Option<OwnedFd>,
    /// The directory.
    pub path: PathBuf,
}

impl Place {
    fn open(&self, limits: Limits, now: Moment) -> Result<LogDir, DirError> {
        let base = self.base.as_ref().map_or(rustix::fs::CWD, AsFd::as_fd);
        LogDir::open(base, &self.path, limits, now.tai())
    }
}

/// What a sink needs of the moment in which it is used.
pub(crate) struct Context<'a> {
    pub now: Moment,
    /// What a line of the sink's own would begin with.
    pub stamp: &'a Stamp,
    /// Takes a warning, one line.
    pub warn: &'a mut dyn FnMut(String),
}

/// Where a stream's lines are kept.
#[derive(Debug)]
pub(crate) struct Sink {
    label: String,
    place: Place,
    limits: Limits,
    /// The lines are shown as well, so they may be left out of the file rather than hold up the service.
    may_skip: bool,
    open: Option<LogDir>,
    held: Vec<u8>,
    retry_at_ms: u64,
    trouble: Option<DirError>,
    /// What the notice in the service directory says, and since when.
    noted: Option<(DirError, Tai64n)>,
    spoken: Option<(DirError, u64)>,
    skipped: Skipped,
    /// The second in which `current` was last seen to be there.
    seen_at: i64,
}

/// What was left out of the file since it was last written.
#[derive(Debug, Default)]
struct Skipped {
    lines: u64,
    mid_line: bool,
    reason: Option<DirError>,
}

impl Skipped {
    fn add(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        let ends = memchr_iter(b'\n', bytes).count();
        self.lines = self.lines.saturating_add(u64::try_from(ends).unwrap_or(u64::MAX));
        self.mid_line = *last != b'\n';
    }

    /// Drops the rest of a line whose beginning was left out, and returns what follows.
    fn end_of_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if !self.mid_line {
            return bytes;
        }
        let end = memchr(b'\n', bytes).map_or(bytes.len(), |at| at.saturating_add(1));
        let (rest_of_line, after) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        self.add(rest_of_line);
        after
    }
}

impl Sink {
    /// Returns a sink that opens its directory when the first byte comes.
    pub fn new(label: String, place: Place, limits: Limits, may_skip: bool) -> Self {
        Self {
            label,
            place,
            limits,
            may_skip,
            open: None,
            held: Vec::new(),
            retry_at_ms: 0,
            trouble: None,
            noted: None,
            spoken: None,
            skipped: Skipped::default(),
            seen_at: i64::MIN,
        }
    }

    /// Takes bytes for the file. They are in it, held, or counted as left out when this returns.
    pub fn file(&mut self, bytes: &[u8], context: &mut Context<'_>) {
        if !self.held.is_empty() {
            self.held.extend_from_slice(bytes);
            self.retry(context);
        } else if self.trouble.is_some() && context.now.tick_ms < self.retry_at_ms {
            // Nothing is held, so this is a directory that cannot be had.
            self.skipped.add(bytes);
        } else {
            self.attempt(bytes, context);
        }
    }

    /// Tries again to file what is held, if that is due.
    pub fn retry(&mut self, context: &mut Context<'_>) {
        if !self.held.is_empty() && context.now.tick_ms >= self.retry_at_ms {
            let held = std::mem::take(&mut self.held);
            self.attempt(&held, context);
        }
    }

    /// Returns when [`Sink::retry`] is due, in monotonic milliseconds; `None` while nothing is held.
    pub fn retry_at_ms(&self) -> Option<u64> {
        (!self.held.is_empty()).then_some(self.retry_at_ms)
    }

    /// Returns how many bytes more may be taken from the pipe.
    pub fn room(&self) -> usize {
        if self.held.is_empty() { TAKE } else { HOLD.saturating_sub(self.held.len()) }
    }

    /// Closes the directory cleanly.
    ///
    /// If lines were left out, the file says so if it can. What is still held is tried once more and then lost, which
    /// is said.
    pub fn close(mut self, context: &mut Context<'_>) {
        self.retry_at_ms = 0;
        self.retry(context);
        if self.skipped.mid_line {
            // Its end will not come.
            self.skipped.add(b"\n");
        }
        if self.skipped.lines > 0 {
            // The file may be ours by now, and shall not look as if it were complete.
            self.attempt(&[], context);
        }
        if !self.held.is_empty() {
            let mut lost = Skipped::default();
            lost.add(&self.held);
            let lines = lost.lines.saturating_add(u64::from(lost.mid_line));
            self.say(context, &format!("{} lost: {}", lines_are(lines), self.reason()));
        }
        // Nothing waits any more, whatever became of it.
        self.forget_note();
        if let Some(directory) = self.open.take()
            && let Err(error) = directory.close(context.now.tai())
        {
            self.say(context, &format!("closing: {}", chain(&error)));
        }
    }

    fn attempt(&mut self, bytes: &[u8], context: &mut Context<'_>) {
        match self.write(bytes, context) {
            Ok(()) => self.recovered(context),
            Err((rest, error)) => self.troubled(&rest, error, context),
        }
    }

    /// Files `bytes`, and returns those that could not be.
    fn write(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Result<(), (Vec<u8>, DirError)> {
        self.look_for_current(context.now);
        if self.skipped.lines == 0 && !self.skipped.mid_line {
            return self.write_or_reopen(bytes, context.now);
        }
        // Lines were left out; before any other, the file says how many.
        if let Err(error) = self.directory(context.now) {
            return Err((bytes.to_vec(), error));
        }
        let rest = self.skipped.end_of_line(bytes);
        if self.skipped.mid_line {
            return Ok(());
        }
        let reason = self.skipped.reason.map_or_else(String::new, |error| format!(": {}", chain(&error)));
        let note = format!("[gatevisor: {} missing here{reason}]\n", lines_are(self.skipped.lines));
        self.skipped = Skipped::default();
        self.write_or_reopen(&[context.stamp.as_bytes(), note.as_bytes(), rest].concat(), context.now)
    }

    fn write_or_reopen(&mut self, bytes: &[u8], now: Moment) -> Result<(), (Vec<u8>, DirError)> {
        let mut waiting = bytes;
        // A directory that was removed is made again, once; twice would be a fight with somebody.
        for may_reopen in [true, false] {
            let written = match self.directory(now) {
                Ok(directory) => directory.write(waiting, now.tai()),
                Err(error) => Err(Unfiled { filed: 0, error }),
            };
            let Err(Unfiled { filed, error }) = written else { break };
            waiting = waiting.get(filed..).unwrap_or_default();
            if error == DirError::Gone {
                self.open = None;
            }
            if error != DirError::Gone || !may_reopen {
                return Err((waiting.to_vec(), error));
            }
        }
        Ok(())
    }

    fn directory(&mut self, now: Moment) -> Result<&mut LogDir, DirError> {
        match &mut self.open {
            Some(directory) => Ok(directory),
            closed => Ok(closed.insert(self.place.open(self.limits, now)?)),
        }
    }

    /// Once a second, notices that somebody removed the files, so that they are made again.
    fn look_for_current(&mut self, now: Moment) {
        if now.seconds != self.seen_at {
            self.seen_at = now.seconds;
            if self.open.as_ref().is_some_and(LogDir::is_gone) {
                self.open = None;
            }
        }
    }

    fn troubled(&mut self, rest: &[u8], error: DirError, context: &mut Context<'_>) {
        self.retry_at_ms = context.now.tick_ms.saturating_add(RETRY_MS);
        let cannot_be_had = self.open.is_none() && !error.is_refusal_of_the_disk();
        let skip = self.may_skip && cannot_be_had;
        if skip {
            self.skipped.add(rest);
            self.skipped.reason = Some(error);
        } else {
            // Bytes came in only if nothing was held, or were held themselves; either way these are all.
            self.held = rest.to_vec();
        }
        self.trouble = Some(error);
        self.note(context.now);
        let quiet = |(spoken, at): (DirError, u64)| {
            spoken == error && context.now.tick_ms < at.saturating_add(QUIET_MS)
        };
        if !self.spoken.is_some_and(quiet) {
            self.spoken = Some((error, context.now.tick_ms));
            let consequence = if skip {
                "lines are only shown until it is free, and tried again as they come"
            } else {
                "lines are held and then the service waits; trying again every second"
            };
            self.say(context, &format!("{}; {consequence}", chain(&error)));
        } else if let Some((_, at)) = &mut self.spoken {
            *at = context.now.tick_ms;
        }
    }

    fn recovered(&mut self, context: &mut Context<'_>) {
        if self.trouble.take().is_some() {
            self.say(context, "is written again");
            self.forget_note();
        }
        if let Some(complaint) = self.open.as_ref().and_then(LogDir::complaint) {
            self.say(context, &complaint);
        }
    }

    /// Makes the service directory say what is wrong.
    fn note(&mut self, now: Moment) {
        let (Some(error), Some(log)) = (self.trouble, &self.place.base) else { return };
        if self.noted.is_none_or(|(noted, _)| noted != error) {
            let since = self.noted.map_or_else(|| now.tai(), |(_, since)| since);
            self.noted = Some((error, since));
            notice::put(log, since, format!("`{}`: {}", self.place.path.display(), chain(&error)));
        }
    }

    fn forget_note(&mut self) {
        if let (Some(_), Some(log)) = (self.noted.take(), &self.place.base) {
            notice::remove(log);
        }
    }

    fn reason(&self) -> String {
        self.trouble.map_or_else(|| "the disk refused them".to_owned(), |error| chain(&error))
    }

    fn say(&self, context: &mut Context<'_>, what: &str) {
        let path = self.place.path.display();
        (context.warn)(format!("gatevisor: {}: log directory `{path}`: {what}", self.label));
    }
}

fn lines_are(count: u64) -> String {
    if count == 1 { "1 line is".to_owned() } else { format!("{count} lines are") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    struct Bench {
        sink: Sink,
        said: Vec<String>,
        tick_ms: u64,
    }

    impl Bench {
        fn new(path: &Path, may_skip: bool) -> Self {
            let place = Place { base: None, path: path.to_owned() };
            let sink = Sink::new(
                "coder".into(),
                place,
                Limits { size: 1000, keep: 2, ..Limits::default() },
                may_skip,
            );
            Self { sink, said: Vec::new(), tick_ms: 5000 }
        }

        fn with<R>(&mut self, act: impl FnOnce(&mut Sink, &mut Context<'_>) -> R) -> R {
            let seconds = i64::try_from(self.tick_ms / 1000).unwrap();
            let now = Moment { seconds, nanos: 0, tick_ms: self.tick_ms };
            let said = &mut self.said;
            let mut warn = |line| said.push(line);
            act(&mut self.sink, &mut Context { now, stamp: &Stamp::EMPTY, warn: &mut warn })
        }

        fn file(&mut self, text: &str) {
            self.with(|sink, context| sink.file(text.as_bytes(), context));
        }

        fn after(&mut self, ms: u64) {
            self.tick_ms += ms;
            self.with(Sink::retry);
        }
    }

    #[test]
    fn nothing_is_made_before_the_first_byte() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        let mut bench = Bench::new(&path, true);
        assert!(!path.exists());
        bench.file("a\n");
        assert_eq!(fs::read(path.join("current")).unwrap(), b"a\n");
        assert_eq!(bench.said, [""; 0]);
    }

    #[test]
    fn a_directory_that_is_locked_elsewhere_is_done_without_and_announced_in_the_file() {
        let temp = tempfile::tempdir().unwrap();
        let mut other = Bench::new(temp.path(), true);
        other.file("theirs\n");
        let mut bench = Bench::new(temp.path(), true);
        bench.file("one\ntwo\nthr");
        bench.after(500);
        bench.file("ee\n");
        assert_eq!(bench.sink.room(), TAKE, "the pipe is read on");
        assert_eq!(
            bench.said,
            [format!(
                "gatevisor: coder: log directory `{}`: it is locked by another writer; \
                 lines are only shown until it is free, and tried again as they come",
                temp.path().display()
            )]
        );
        bench.after(600);
        bench.file("four, of which only a part");
        assert_eq!(bench.said.len(), 1, "the same trouble is told once");
        let Bench { sink, .. } = other;
        drop(sink);
        bench.after(2000);
        bench.file(" is left out\nfive\n");
        assert_eq!(
            fs::read_to_string(temp.path().join("current")).unwrap(),
            "[gatevisor: 4 lines are missing here: it is locked by another writer]\nfive\n"
        );
        assert!(bench.said[1].ends_with("is written again"), "{:?}", bench.said);
    }

    #[test]
    fn a_stream_that_is_not_shown_waits_for_its_directory() {
        let temp = tempfile::tempdir().unwrap();
        let other = Bench::new(temp.path(), true);
        let mut other = other;
        other.file("theirs\n");
        let mut bench = Bench::new(temp.path(), false);
        bench.file("one\n");
        let big = "x".repeat(HOLD);
        bench.file(&big);
        assert_eq!(bench.sink.room(), 0, "the pipe is left alone");
        assert_eq!(bench.sink.retry_at_ms(), Some(6000));
        drop(other.sink);
        bench.after(999);
        assert_eq!(bench.sink.room(), 0, "not due yet");
        bench.after(1);
        assert_eq!(bench.sink.room(), TAKE);
        assert_eq!(bench.sink.retry_at_ms(), None);
        bench.file("\nend\n");
        // The first line and the long one: no file of 1000 bytes holds both.
        let archives: u64 = fs::read_dir(temp.path())
            .unwrap()
            .map(|e| e.unwrap())
            .filter(|e| e.file_name().to_string_lossy().ends_with(".s"))
            .map(|e| e.metadata().unwrap().len())
            .sum();
        assert_eq!(archives, 4 + HOLD as u64 + 1);
    }

    #[test]
    fn a_full_disk_holds_every_byte() {
        // Writes beyond a file's largest size fail as a full disk does, and without a file system of our own
        // `/dev/full` cannot be a log directory; so the size limit of the directory's errors stands in.
        let temp = tempfile::tempdir().unwrap();
        let mut bench = Bench::new(temp.path(), true);
        bench.file("one\n");
        // The directory is there and cannot be written on: an open directory is never skipped.
        let error = DirError::System { doing: "cannot write `current`", source: rustix::io::Errno::NOSPC };
        bench.with(|sink, context| sink.troubled(b"two\n", error, context));
        bench.file("three\n");
        assert_eq!(bench.sink.held, b"two\nthree\n");
        assert!(
            bench.said[0]
                .contains("cannot write `current` (errno 28): No space left on device; lines are held")
        );
        bench.after(1000);
        assert_eq!(fs::read(temp.path().join("current")).unwrap(), b"one\ntwo\nthree\n");
        assert!(bench.said[1].ends_with("is written again"));
        // The same trouble within a minute is not spoken of again.
        bench.with(|sink, context| sink.troubled(b"x\n", error, context));
        assert_eq!(bench.said.len(), 2);
    }

    #[test]
    fn what_the_disk_never_took_is_said_to_be_lost() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("file"), b"").unwrap();
        let mut bench = Bench::new(&temp.path().join("file/log"), false);
        bench.file("one\ntwo\npart");
        let Bench { sink, mut said, .. } = bench;
        let now = Moment { seconds: 9, nanos: 0, tick_ms: 9000 };
        sink.close(&mut Context { now, stamp: &Stamp::EMPTY, warn: &mut |line| said.push(line) });
        assert!(said[1].contains("3 lines are lost: cannot make the directory (errno 20)"), "{said:?}");
    }

    #[test]
    fn files_that_somebody_removes_are_made_again() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        let mut bench = Bench::new(&path, true);
        bench.file("one\n");
        fs::remove_dir_all(&path).unwrap();
        bench.after(1000);
        bench.file("two\n");
        assert_eq!(fs::read(path.join("current")).unwrap(), b"two\n");
        // Within the second it is noticed at the next rotation at the latest.
        fs::remove_dir_all(&path).unwrap();
        bench.file(&format!("{}\n", "x".repeat(999)));
        assert_eq!(fs::read(path.join("current")).unwrap().len(), 1000);
        assert_eq!(bench.said, [""; 0]);
    }
}
