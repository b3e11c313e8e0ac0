//! The console: the copy of lines on standard output.
//!
//! *Lives here:* a bounded queue and the thread that empties it. A write to a terminal, or to a
//! pipe that nobody reads, may block for ever, and nothing else may wait for it. Standard output is
//! never made non-blocking, because its description may be shared with a terminal and with every
//! service.
//! *Does not live here:* the files; the form of a line (`format`); our own messages on standard
//! error, which have a thread of their own (`warnings`).
//!
//! When the queue is full, whole lines are left out and counted. The count takes their place once
//! there is room: everything in the queue came before the gap, so the thread appends the count to
//! the bytes that it takes.
//!
//! The queue ends with the process. A killed daemon must not leave an unannounced gap, either. So
//! the thread counts in the journal the lines that it has written, and a restarted daemon announces
//! those that were taken but not counted.

pub(crate) mod format;
pub mod pieces;
mod warnings;
mod write;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gatevisor_slot::Forward;
use memchr::memchr_iter;

use self::format::{Format, GapReason, size_bound};
use self::pieces::{Showing, Shred};
use self::warnings::Warnings;
use self::write::write_all;
use crate::handover::journal::{EntryIndex, Tally};
use crate::time::BatchTime;

/// The most bytes that wait for standard output, including those that the thread has taken.
const QUEUE: usize = 1 << 20;
/// Bytes that the thread passes to the kernel at once. Written bytes make room in the queue.
const SLICE: usize = 64 << 10;
/// Memory that an empty queue keeps for the next lines. A batch with its labels fits, so a steady
/// flow allocates nothing.
const KEPT_CAPACITY: usize = 256 << 10;

/// The access to standard output and standard error.
#[derive(Debug)]
pub(crate) struct Console {
    shared: Arc<ConsoleState>,
    warnings: Warnings,
}

#[derive(Debug)]
struct ConsoleState {
    queue: Mutex<LineQueue>,
    /// Signals that there is work for the thread.
    work: Condvar,
    /// Signals that the thread has nothing left to do.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct LineQueue {
    out: Vec<u8>,
    /// Bytes that the thread has taken but not written yet.
    in_flight: usize,
    /// The places in `out` at which lines of streams end, with their number.
    ends: Vec<StreamEnd>,
    gaps: Vec<Gap>,
    /// How many times the thread has taken everything. A stream's gap belongs to a generation.
    generation: u64,
    thread_waits: bool,
    /// Whether standard output has no reader any more.
    closed: bool,
    /// Whether nothing will be added any more.
    ending: bool,
}

#[derive(Debug)]
struct Gap {
    format: Format,
    lines: u64,
    end: Option<StreamEnd>,
}

/// So many lines of a stream are shown once standard output has come this far.
#[derive(Debug, Clone, Copy)]
struct StreamEnd {
    at: usize,
    index: EntryIndex,
    lines: u64,
}

impl ConsoleState {
    fn lock(&self) -> MutexGuard<'_, LineQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Console {
    /// Starts the thread that writes to `stdout` and counts the written lines, and the thread for
    /// `stderr`.
    ///
    /// Block signals before, so that they are blocked in the threads, too.
    pub fn start(stdout: OwnedFd, stderr: OwnedFd, tally: Tally) -> std::io::Result<Self> {
        let shared = Arc::new(ConsoleState {
            queue: Mutex::new(LineQueue { thread_waits: true, ..LineQueue::default() }),
            work: Condvar::new(),
            idle: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let warnings = Warnings::start(stderr)?;
        std::thread::Builder::new()
            .name("console".to_owned())
            .stack_size(128 << 10)
            .spawn(move || work(&for_thread, &stdout, &tally))?;
        Ok(Self { shared, warnings })
    }

    /// Shows the next bytes of a stream.
    pub fn show(&self, shown: &mut ShownStream, bytes: &[u8]) {
        if shown.format.forward != Forward::Off {
            let now = Self::moment(shown);
            self.with(|queue| shown.feed(bytes, now, queue));
        }
    }

    /// Shows the rest of a stream's last line.
    pub fn finish(&self, shown: &mut ShownStream) {
        if shown.format.forward != Forward::Off {
            let now = Self::moment(shown);
            self.with(|queue| shown.end(now, queue));
        }
    }

    /// Announces lines of a stream that a killed daemon had taken and perhaps not shown.
    pub fn announce_unshown(&self, shown: &ShownStream, unshown: u64, begun: bool) {
        let lines = unshown.saturating_add(u64::from(begun));
        if shown.format.forward != Forward::Off && lines > 0 {
            self.with(|queue| {
                shown.format.append_gap(lines, GapReason::Killed, BatchTime::now(), &mut queue.out);
                queue.end_lines(shown.index, unshown);
            });
        }
    }

    /// Writes a message to standard error, as a line of its own.
    pub fn warn(&self, line: &str) {
        self.warnings.say(line);
    }

    /// Waits until everything is shown, for at most `limit`; returns whether it is.
    pub fn flush(&self, limit: Duration) -> bool {
        let now = Instant::now();
        let deadline = now.checked_add(limit).unwrap_or(now);
        let mut queue = self.shared.lock();
        while !queue.is_idle() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.idle.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(queue);
        self.warnings.flush(deadline)
    }

    /// Returns the time for lines to be shown, if their form includes it.
    fn moment(shown: &ShownStream) -> BatchTime {
        let json = shown.format.forward == Forward::Json;
        if json { BatchTime::now() } else { BatchTime { seconds: 0, nanos: 0, tick_ms: 0 } }
    }

    fn with(&self, act: impl FnOnce(&mut LineQueue)) {
        let mut queue = self.shared.lock();
        act(&mut queue);
        // A thread that is in the middle of a write looks again by itself.
        if queue.thread_waits && queue.has_work() {
            queue.thread_waits = false;
            drop(queue);
            self.shared.work.notify_one();
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The thread ends once it has shown everything, which may be never. Nobody waits for it.
        self.shared.lock().ending = true;
        self.shared.work.notify_one();
    }
}

impl LineQueue {
    fn has_work(&self) -> bool {
        !self.out.is_empty() || !self.gaps.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.thread_waits && !self.has_work()
    }

    /// Notes that lines of a stream end at the present end of the queue.
    fn end_lines(&mut self, index: Option<EntryIndex>, lines: u64) {
        let Some(index) = index.filter(|_| lines > 0) else { return };
        let at = self.out.len();
        match self.ends.last_mut() {
            Some(last) if last.at == at && last.index == index => {
                last.lines = last.lines.saturating_add(lines);
            }
            _ => self.ends.push(StreamEnd { at, index, lines }),
        }
    }

    /// Takes everything: lines, with the counts of lines that did not fit.
    fn take(&mut self, out: &mut Vec<u8>, ends: &mut Vec<StreamEnd>) {
        std::mem::swap(&mut self.out, out);
        std::mem::swap(&mut self.ends, ends);
        if !self.gaps.is_empty() {
            let now = BatchTime::now();
            for Gap { format, lines, end } in self.gaps.drain(..) {
                format.append_gap(lines, GapReason::Stalled, now, out);
                ends.extend(end.map(|end| StreamEnd { at: out.len(), ..end }));
            }
        }
        self.in_flight = out.len();
        self.generation = self.generation.wrapping_add(1);
    }
}

/// How the lines of one stream are shown.
#[derive(Debug)]
pub(crate) struct ShownStream {
    format: Format,
    showing: Showing,
    /// The place in the journal where its lines are counted.
    index: Option<EntryIndex>,
    /// The generation and the place of this stream's gap, if it has one.
    gap: Option<(u64, usize)>,
}

impl ShownStream {
    /// Returns how to show a stream whose lines have the label `label`.
    pub fn new(label: Arc<str>, forward: Forward, stderr: bool) -> Self {
        let format = Format { label, forward, stderr };
        Self { format, showing: Showing::new(), index: None, gap: None }
    }

    /// Continues a stream whose lines are counted, perhaps in the middle of a line whose beginning
    /// is lost.
    pub fn resume(&mut self, index: Option<EntryIndex>, mid_line: bool) {
        self.index = index;
        self.showing = if mid_line { Showing::after_a_loss() } else { Showing::new() };
    }

    /// Returns how many lines end in these bytes, if they are counted.
    pub fn count(&self, bytes: &[u8]) -> u64 {
        if self.format.forward == Forward::Off {
            return 0;
        }
        u64::try_from(memchr_iter(b'\n', bytes).count()).unwrap_or(u64::MAX)
    }

    /// Returns whether the last line has no end yet.
    pub fn is_mid_line(&self) -> bool {
        self.format.forward != Forward::Off && self.showing.is_mid_line()
    }

    fn feed(&mut self, bytes: &[u8], now: BatchTime, queue: &mut LineQueue) {
        let mut putting = Putting { format: &self.format, now, gap: &mut self.gap, index: self.index, queue };
        self.showing.feed(bytes, &mut |piece| putting.put(piece));
    }

    fn end(&mut self, now: BatchTime, queue: &mut LineQueue) {
        let mut putting = Putting { format: &self.format, now, gap: &mut self.gap, index: self.index, queue };
        self.showing.finish(&mut |piece| putting.put(piece));
    }
}

/// Puts one stream's pieces into the queue.
struct Putting<'a> {
    format: &'a Format,
    now: BatchTime,
    gap: &'a mut Option<(u64, usize)>,
    index: Option<EntryIndex>,
    queue: &'a mut LineQueue,
}

impl Putting<'_> {
    fn put(&mut self, shred: Shred<'_>) {
        let queue = &mut *self.queue;
        let piece = match shred {
            Shred::Piece(piece) => piece,
            // The daemon that continued the stream has announced it.
            Shred::LostEnd => return queue.end_lines(self.index, 1),
        };
        if queue.closed {
            return;
        }
        let ended = u64::from(!piece.continues);
        // The parts of a long line count as one line.
        let begun = u64::from(!piece.continued);
        let in_gap = self.gap.filter(|(generation, _)| *generation == queue.generation);
        let len = piece.kept.len().saturating_add(piece.fresh.len());
        let size = size_bound(self.format, len);
        if let Some((_, place)) = in_gap {
            if let Some(gap) = queue.gaps.get_mut(place) {
                gap.lines = gap.lines.saturating_add(begun);
                if let Some(end) = &mut gap.end {
                    end.lines = end.lines.saturating_add(ended);
                }
            }
        } else if queue.out.len().saturating_add(queue.in_flight).saturating_add(size) > QUEUE {
            *self.gap = Some((queue.generation, queue.gaps.len()));
            let end = self.index.map(|index| StreamEnd { at: 0, index, lines: ended });
            queue.gaps.push(Gap { format: self.format.clone(), lines: 1, end });
        } else {
            self.format.append(piece, self.now, &mut queue.out);
            queue.end_lines(self.index, ended);
        }
    }
}

/// The thread's work: takes what there is and writes it, until there is nothing and nothing will
/// come.
fn work(shared: &ConsoleState, stdout: &OwnedFd, tally: &Tally) {
    let mut out = Vec::new();
    let mut ends = Vec::new();
    let mut queue = shared.lock();
    loop {
        if queue.has_work() {
            queue.thread_waits = false;
            queue.take(&mut out, &mut ends);
            drop(queue);
            let mut broken = tally.is_mid_line() && write_all(stdout, b"\n").is_err();
            let mut written: usize = 0;
            let mut counted = ends.iter().peekable();
            for slice in out.chunks(SLICE) {
                tally.set_mid_line(true);
                broken = broken || write_all(stdout, slice).is_err();
                tally.set_mid_line(!slice.ends_with(b"\n"));
                written = written.saturating_add(slice.len());
                while let Some(end) = counted.next_if(|end| end.at <= written) {
                    tally.add(end.index, end.lines);
                }
                let mut queue = shared.lock();
                queue.in_flight = queue.in_flight.saturating_sub(slice.len());
            }
            out.clear();
            out.shrink_to(KEPT_CAPACITY);
            ends.clear();
            queue = shared.lock();
            queue.in_flight = 0;
            if broken {
                // Nobody will ever read it. Writing to files continues.
                queue.closed = true;
                queue.out = Vec::new();
                queue.ends = Vec::new();
                queue.gaps = Vec::new();
            }
        } else {
            queue.thread_waits = true;
            shared.idle.notify_all();
            if queue.ending {
                return;
            }
            queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::OFlags;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::fs::File;
    use std::io::{BufRead, BufReader, Read};

    const DEADLINE: Duration = Duration::from_secs(20);

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC).unwrap()
    }

    fn null() -> OwnedFd {
        File::options().write(true).open("/dev/null").unwrap().into()
    }

    #[test]
    fn lines_of_several_streams_are_whole_and_labelled() {
        let (read_end, stdout) = pipe();
        let console = Console::start(stdout, null(), Tally::default()).unwrap();
        let mut coder = ShownStream::new("coder".into(), Forward::Label, false);
        let mut raw = ShownStream::new("raw".into(), Forward::Raw, false);
        let mut off = ShownStream::new("off".into(), Forward::Off, false);
        console.show(&mut coder, b"one\ntw");
        console.show(&mut raw, b"plain\n");
        console.show(&mut off, b"never\n");
        console.show(&mut coder, b"o\nthree");
        console.finish(&mut coder);
        console.finish(&mut raw);
        assert!(console.flush(DEADLINE));
        let mut lines = BufReader::new(File::from(read_end));
        for expected in ["coder | one\n", "plain\n", "coder | two\n", "coder | three\n"] {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn a_long_line_is_marked_where_it_is_cut() {
        let (read_end, stdout) = pipe();
        let console = Console::start(stdout, null(), Tally::default()).unwrap();
        let mut coder = ShownStream::new("c".into(), Forward::Label, false);
        console.show(&mut coder, &vec![b'x'; crate::console::pieces::SHOWN + 1]);
        console.finish(&mut coder);
        let mut lines = BufReader::new(File::from(read_end)).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(first.starts_with("c | xxx") && first.ends_with("xxx [gatevisor: line continues]"));
        assert_eq!(lines.next().unwrap().unwrap(), "c | [gatevisor: line continued] x");
    }

    #[test]
    fn a_stalled_output_delays_nobody_and_the_gap_is_counted_in_its_place() {
        let (read_end, stdout) = pipe();
        // The pipe is full from the beginning, so the thread makes no progress.
        write_all(&stdout, &b"full...\n".repeat(8 << 10)).unwrap();
        let console = Console::start(stdout, null(), Tally::default()).unwrap();
        let mut coder = ShownStream::new("coder".into(), Forward::Label, false);
        let mut writer = ShownStream::new("writer".into(), Forward::Label, false);
        let total = 40_000;
        console.show(&mut coder, format!("{:090}\n", 0).as_bytes());
        // From now on the thread is stuck with the first line, so there is one gap.
        while console.shared.lock().generation == 0 {
            std::thread::yield_now();
        }
        for number in 1..total {
            console.show(&mut coder, format!("{number:090}\n").as_bytes());
        }
        // It is longer than the line for which `coder` had no room.
        console.show(&mut writer, format!("{:0300}\n{:0300}\n", 1, 2).as_bytes());
        assert!(!console.flush(Duration::ZERO));
        // Lines are read until the stall is over, then more are written: lines after the gap come
        // after the announcement.
        let mut lines = BufReader::new(File::from(read_end)).lines().map(Result::unwrap).skip(8 << 10);
        let mut next = 0;
        let announced = loop {
            let line = lines.next().unwrap();
            match line.strip_prefix("coder | ") {
                Some(number) => {
                    assert_eq!(number.parse::<u64>().unwrap(), next, "in order, none missing");
                    next += 1;
                }
                None => break line,
            }
        };
        let missing = total - next;
        assert!(missing > 0);
        assert_eq!(announced, format!("[gatevisor: {missing} lines of coder not shown: output was stalled]"));
        assert_eq!(lines.next().unwrap(), "[gatevisor: 2 lines of writer not shown: output was stalled]");
        console.show(&mut coder, b"again\n");
        console.show(&mut writer, b"too\n");
        assert_eq!(lines.next().unwrap(), "coder | again");
        assert_eq!(lines.next().unwrap(), "writer | too");
        assert!(console.flush(DEADLINE));
    }

    #[test]
    fn a_warning_does_not_wait_for_a_stalled_output() {
        let (_read_end, stdout) = pipe();
        let (warned, stderr) = pipe();
        write_all(&stdout, &b"full...\n".repeat(8 << 10)).unwrap();
        let console = Console::start(stdout, stderr, Tally::default()).unwrap();
        let mut coder = ShownStream::new("coder".into(), Forward::Label, false);
        console.show(&mut coder, b"nobody reads this\n");
        console.warn("the disk is full");
        let mut line = String::new();
        BufReader::new(File::from(warned)).read_line(&mut line).unwrap();
        assert_eq!(line, "the disk is full\n");
        assert!(!console.flush(Duration::ZERO));
    }

    #[test]
    fn the_queue_has_a_bound() {
        let (_read_end, stdout) = pipe();
        let console = Console::start(stdout, null(), Tally::default()).unwrap();
        let mut coder = ShownStream::new("coder".into(), Forward::Label, false);
        for _ in 0..64 {
            console.show(&mut coder, &b"x\n".repeat(32 << 10));
        }
        let queue = console.shared.lock();
        assert!(queue.out.len() + queue.in_flight <= QUEUE && queue.gaps.len() <= 1);
    }

    #[test]
    fn a_closed_output_is_the_end_of_showing_and_of_nothing_else() {
        let (read_end, stdout) = pipe();
        let (warned, stderr) = pipe();
        drop(read_end);
        let console = Console::start(stdout, stderr, Tally::default()).unwrap();
        let mut coder = ShownStream::new("coder".into(), Forward::Label, false);
        console.show(&mut coder, b"into the void\n");
        assert!(console.flush(DEADLINE));
        console.show(&mut coder, b"more\n");
        console.warn("still here");
        assert!(console.flush(DEADLINE));
        let mut text = [0; 11];
        File::from(warned).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"still here\n");
    }

    #[test]
    fn an_output_that_somebody_made_non_blocking_is_waited_for() {
        let (read_end, stdout) = pipe();
        rustix::fs::fcntl_setfl(&stdout, OFlags::NONBLOCK).unwrap();
        let console = Console::start(stdout, null(), Tally::default()).unwrap();
        let mut coder = ShownStream::new("c".into(), Forward::Raw, false);
        let text = b"0123456789abcde\n".repeat(16 << 10);
        console.show(&mut coder, &text);
        let mut found = vec![0; text.len()];
        File::from(read_end).read_exact(&mut found).unwrap();
        assert!(found == text);
    }
}
