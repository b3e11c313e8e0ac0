//! One service's output: its pipe, and the way of its bytes into the file and onto the console.
//!
//! *Lives here:* the order of the steps of a batch, which makes it harmless to be killed between any two of them (see
//! `journal`). *Does not live here:* when to take bytes; the loops decide.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gatevisor_slot::Timestamp;
use gatevisor_sys::clock::monotonic_ms;
use rustix::io::Errno;

use crate::batch::{Batch, TAKE};
use crate::compose::Composer;
use crate::console::{Console, Shown};
use crate::journal::{Entry, Journal, Phase, Record};
use crate::moment::Moment;
use crate::settings::Settings;
use crate::sink::{Context, Filed, Sink};
use crate::stage::Taken;
use crate::stamp::Stamper;
use crate::words::chain;

/// Milliseconds after which bytes are taken again when the system lacked the memory for them.
const PAUSE_MS: u64 = 1_000;

/// What all streams share.
#[derive(Debug)]
pub(crate) struct Desk {
    pub journal: Journal,
    pub batch: Batch,
    pub stamper: Stamper,
    pub console: Console,
}

impl Desk {
    /// Returns a desk whose lines go to `console`.
    pub fn new(console: Console, journal: Journal) -> Self {
        Self { journal, batch: Batch::new(), stamper: Stamper::new(), console }
    }
}

/// One service's output.
#[derive(Debug)]
pub(crate) struct Stream {
    pipe: OwnedFd,
    label: String,
    timestamp: Timestamp,
    composer: Composer,
    record: Record,
    sink: Option<Sink>,
    shown: Shown,
    /// When to go on, in monotonic milliseconds, while something is in the way.
    retry_at_ms: Option<u64>,
}

impl Stream {
    /// Returns the stream that comes out of `pipe`, and goes on with it where a daemon that was killed had got to.
    pub fn new(pipe: OwnedFd, settings: Settings, record: Record, desk: &mut Desk) -> Self {
        let Settings { label, forward, timestamp, sink, spec } = settings;
        let mut shown = Shown::new(&label, forward, spec.stderr);
        let mut composer = Composer::new(spec);
        composer.restore(record.entry.state);
        let mid_line = composer.is_mid_line();
        shown.resume(record.slot(), mid_line);
        desk.console.announce_unshown(&shown, record.unshown(), mid_line);
        let mut stream = Self { pipe, label, timestamp, composer, record, sink, shown, retry_at_ms: None };
        if stream.record.entry.is_filing() {
            stream.go_on(Moment::now(), desk);
        }
        stream
    }

    /// Returns the pipe, to wait on.
    pub fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Returns whether bytes may be taken now; not while something is in the way.
    pub fn has_room(&self) -> bool {
        self.retry_at_ms.is_none()
    }

    /// Returns when what waits is tried again, in monotonic milliseconds; `None` while nothing does.
    pub fn retry_at_ms(&self) -> Option<u64> {
        self.retry_at_ms
    }

    /// Takes what the pipe has, at most `limit` bytes, and brings it through all steps.
    pub fn pump(&mut self, limit: usize, desk: &mut Desk) -> Taken {
        let limit = limit.min(TAKE);
        let mut taken = self.take(limit, &mut desk.journal);
        if taken == Err(Errno::FBIG) && desk.journal.make_room() {
            // Somebody limits the size of files, and the stage is one.
            taken = self.take(limit, &mut desk.journal);
        }
        match taken {
            Ok(Taken::Some(n)) => {
                self.record.entry.phase = Phase::Filing;
                self.go_on(self.record.entry.moment, desk);
                Taken::Some(n)
            }
            Ok(taken) => taken,
            // There may be memory again in a while.
            Err(errno @ (Errno::NOMEM | Errno::NOSPC | Errno::NOBUFS | Errno::FBIG)) => {
                self.retry_at_ms = Some(monotonic_ms().saturating_add(PAUSE_MS));
                self.cannot_take(errno, desk);
                Taken::Empty
            }
            Err(errno) => {
                self.cannot_take(errno, desk);
                Taken::End
            }
        }
    }

    fn cannot_take(&self, errno: Errno, desk: &Desk) {
        let text = chain(&errno);
        desk.console.warn(&format!("gatevisor: {}: cannot read the log pipe: {text}", self.label));
    }

    /// Takes bytes out of the pipe, behind those of an unfinished line.
    fn take(&mut self, limit: usize, journal: &mut Journal) -> Result<Taken, Errno> {
        let entry = &mut self.record.entry;
        entry.bytes.start = if entry.bytes.is_empty() {
            journal.stage.end()
        } else {
            journal.stage.move_to_end(entry.bytes.clone())?
        };
        entry.bytes.end = journal.stage.end();
        entry.phase = Phase::Taking;
        self.record.commit();
        let taken = journal.stage.take(&self.pipe, limit);
        let entry = &mut self.record.entry;
        entry.moment = Moment::now();
        entry.bytes.end = journal.stage.end();
        if !matches!(taken, Ok(Taken::Some(_))) {
            entry.phase = Phase::Idle;
            self.record.commit();
        }
        taken
    }

    /// Composes, files and shows the bytes of the batch, or as much of it as is still to be done.
    fn go_on(&mut self, now: Moment, desk: &mut Desk) {
        let entry = &self.record.entry;
        let (moment, last) = (entry.moment, entry.phase == Phase::Last);
        if let Err(errno) = desk.batch.load(&desk.journal.stage, entry.bytes.clone()) {
            let text = chain(&errno);
            desk.console.warn(&format!("gatevisor: {}: lines are lost: {text}", self.label));
        }
        let stamp = desk.stamper.stamp(self.timestamp, moment.seconds, moment.nanos);
        desk.batch.compose(&mut self.composer, last, moment, &stamp);
        if self.record.is_uncertain && self.record.entry.is_shown {
            // Whoever has shown the batch has kept the part of a line at its end.
            self.shown.resume(self.record.slot(), self.composer.is_mid_line());
        }
        let filed = match &mut self.sink {
            Some(sink) => {
                let console = &desk.console;
                let mut warn = |line: String| console.warn(&line);
                let mut context = Context { now, stamp: &stamp, warn: &mut warn };
                let filed = sink.file(desk.batch.composed(), last, &mut self.record, &mut context);
                self.retry_at_ms = (filed == Filed::Waiting).then(|| sink.retry_at_ms());
                filed
            }
            None => Filed::Done,
        };
        let is_news = !std::mem::replace(&mut self.record.entry.is_shown, filed == Filed::Waiting);
        if is_news {
            let lines = self.shown.count(desk.batch.shown());
            self.record.entry.due = self.record.entry.due.saturating_add(lines);
        }
        if filed == Filed::Done {
            self.settle(desk.batch.left());
        } else {
            // The same again, when it is tried again.
            self.composer.restore(self.record.entry.state);
        }
        self.record.commit();
        if is_news {
            desk.console.show(&mut self.shown, desk.batch.shown());
        }
        desk.journal.tidy();
    }

    /// Makes the entry say that nothing of the batch is left but the end of a line.
    fn settle(&mut self, left: usize) {
        let entry = &mut self.record.entry;
        entry.phase = Phase::Idle;
        entry.state = self.composer.state();
        entry.filed = 0;
        entry.bytes.start = entry.bytes.end.saturating_sub(u64::try_from(left).unwrap_or(0));
        if left == 0 {
            entry.bytes = 0..0;
        }
    }

    /// Tries again what waits, if that is due.
    pub fn retry(&mut self, desk: &mut Desk) {
        self.retry_at_ms = None;
        if self.record.entry.is_filing() {
            self.go_on(Moment::now(), desk);
        }
    }

    /// Files and shows what is left, closes the directory, and forgets it; what cannot be filed now is lost, and said
    /// to be.
    pub fn close(&mut self, desk: &mut Desk) {
        let now = Moment::now();
        if self.record.entry.is_filing() {
            self.go_on(now, desk);
        }
        if !self.record.entry.is_filing() {
            // The last line may lack its newline, or lines that were left out may still be to be announced.
            self.record.entry.phase = Phase::Last;
            self.record.entry.moment = now;
            self.go_on(now, desk);
        }
        let console = &desk.console;
        let mut warn = |line: String| console.warn(&line);
        let stamp = desk.stamper.stamp(self.timestamp, now.seconds, now.nanos);
        let mut context = Context { now, stamp: &stamp, warn: &mut warn };
        if let Some(sink) = self.sink.take() {
            if self.record.entry.is_filing() {
                sink.give_up(desk.batch.composed(), &self.record, &mut context);
            }
            sink.close(&mut context);
        }
        self.retry_at_ms = None;
        let unfinished = u64::from(self.shown.is_mid_line());
        self.record.entry =
            Entry { due: self.record.entry.due.saturating_add(unfinished), ..Entry::default() };
        self.record.commit();
        desk.console.finish(&mut self.shown);
    }

    /// Returns how many bytes the pipe holds.
    pub fn waiting(&self) -> u64 {
        // Where that cannot be asked, the pipe is read until it is empty.
        rustix::io::ioctl_fionread(&self.pipe).unwrap_or(u64::MAX)
    }

    /// Says that bytes were left in the pipe, which nobody will read.
    pub fn abandon(&self, bytes: u64, desk: &Desk) {
        if bytes > 0 {
            desk.console.warn(&format!(
                "gatevisor: {}: {bytes} bytes in the log pipe are lost: the file could not be written in time",
                self.label
            ));
        }
    }
}

/// Makes reads from a pipe return at once.
///
/// The other side's writes are not affected: a pipe's two ends have descriptions of their own.
pub(crate) fn make_non_blocking(pipe: impl AsFd) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(&pipe)?;
    rustix::fs::fcntl_setfl(&pipe, flags | rustix::fs::OFlags::NONBLOCK)
}
