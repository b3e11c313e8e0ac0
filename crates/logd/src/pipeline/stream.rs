//! One pipe of a service, and the way of its bytes to the file and to the console.
//!
//! *Lives here:* the order of the steps of a batch, which makes it harmless to be killed between
//! any two of them (see `journal`).
//! *Does not live here:* when to take bytes (the loops decide), and the shared state of one
//! service's pipes (`service`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use gatevisor_slot::Timestamp;
use gatevisor_sys::clock::monotonic_ms;
use rustix::io::Errno;

use super::batch::{Batch, TAKE};
use super::compose::Composer;
use super::sink::{Sink, WriteContext, Written};
use crate::console::{Console, ShownStream};
use crate::directory::FilePosition;
use crate::directory::stamp::Stamper;
use crate::handover::entry::{BatchPhase, JournalEntry};
use crate::handover::journal::{Journal, StreamRecord};
use crate::handover::stage::Intake;
use crate::time::BatchTime;
use gatevisor_wire::exit::error_chain;
use gatevisor_wire::log_counts::LogCounts;

/// Milliseconds until bytes are taken again after the system lacked memory for them.
const PAUSE_MS: u64 = 1_000;

/// The state that all streams share.
#[derive(Debug)]
pub(crate) struct DaemonContext {
    pub journal: Journal,
    pub batch: Batch,
    pub stamper: Stamper,
    pub console: Console,
}

impl DaemonContext {
    /// Returns a daemon whose lines go to `console`.
    pub fn new(console: Console, journal: Journal) -> Self {
        Self { journal, batch: Batch::new(), stamper: Stamper::new(), console }
    }
}

/// The destination of one service's streams.
#[derive(Debug)]
pub(crate) struct ServiceOutput {
    pub label: Arc<str>,
    pub timestamp: Timestamp,
    pub sink: Option<Sink>,
    /// The stream whose batch is written in part. No other stream is written until the batch is
    /// complete.
    pub waiting: Option<Which>,
}

/// One of a service's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Standard output, usually together with standard error.
    Out,
    /// Standard error, if it has a pipe of its own.
    Err,
}

/// One pipe of a service.
#[derive(Debug)]
pub(crate) struct LogStream {
    which: Which,
    pipe: OwnedFd,
    composer: Composer,
    record: StreamRecord,
    shown: ShownStream,
    /// When to continue, in monotonic milliseconds, if something is in the way.
    retry_at_ms: Option<u64>,
}

impl LogStream {
    /// Returns the stream that comes from `pipe`. Call [`LogStream::resume`] next.
    pub fn new(
        which: Which,
        pipe: OwnedFd,
        composer: Composer,
        record: StreamRecord,
        shown: ShownStream,
    ) -> Self {
        Self { which, pipe, composer, record, shown, retry_at_ms: None }
    }

    /// Continues where a killed daemon stopped.
    pub fn resume(&mut self, output: &mut ServiceOutput, daemon: &mut DaemonContext) {
        self.composer.restore(self.record.entry.state);
        let mid_line = self.composer.is_mid_line();
        self.shown.resume(self.record.index(), mid_line);
        daemon.console.announce_unshown(&self.shown, self.record.unshown(), mid_line);
        if self.record.entry.has_batch() {
            self.go_on(BatchTime::now(), output, daemon);
        }
    }

    /// Returns which stream of its service it is.
    pub fn which(&self) -> Which {
        self.which
    }

    /// Returns whether some of its batch is, or may be, in the file.
    pub fn is_partly_written(&self) -> bool {
        self.record.is_uncertain || self.record.entry.written > 0
    }

    /// Returns the file that was written last.
    pub fn position(&self) -> FilePosition {
        self.record.entry.position
    }

    /// Returns the pipe, for polling.
    pub fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Returns whether bytes may be taken now; false if something is in the way.
    pub fn has_room(&self) -> bool {
        self.retry_at_ms.is_none()
    }

    /// Returns when waiting bytes are tried again, in monotonic milliseconds; `None` if none wait.
    pub fn retry_at_ms(&self) -> Option<u64> {
        self.retry_at_ms
    }

    /// Takes the bytes of the pipe, at most `limit`, through all steps.
    pub fn pump(&mut self, limit: usize, output: &mut ServiceOutput, daemon: &mut DaemonContext) -> Intake {
        let limit = limit.min(TAKE);
        let mut taken = self.take(limit, &mut daemon.journal);
        if taken == Err(Errno::FBIG) && daemon.journal.make_room() {
            // The size of files is limited, and the stage is a file.
            taken = self.take(limit, &mut daemon.journal);
        }
        if taken == Err(Errno::FBIG) && daemon.journal.leave_file().is_ok() {
            taken = self.take(limit, &mut daemon.journal);
        }
        match taken {
            Ok(Intake::Some(n)) => {
                self.record.entry.phase = BatchPhase::Writing;
                self.go_on(self.record.entry.moment, output, daemon);
                Intake::Some(n)
            }
            Ok(taken) => taken,
            // Memory may be available again after a while.
            Err(errno @ (Errno::NOMEM | Errno::NOSPC | Errno::NOBUFS | Errno::FBIG)) => {
                self.retry_at_ms = Some(monotonic_ms().saturating_add(PAUSE_MS));
                cannot_take(errno, output, daemon);
                Intake::Empty
            }
            Err(errno) => {
                cannot_take(errno, output, daemon);
                Intake::End
            }
        }
    }

    /// Takes bytes from the pipe, after those of an unfinished line.
    fn take(&mut self, limit: usize, journal: &mut Journal) -> Result<Intake, Errno> {
        let entry = &mut self.record.entry;
        entry.bytes.start = if entry.bytes.is_empty() {
            journal.stage.end()
        } else {
            journal.stage.move_to_end(entry.bytes.clone())?
        };
        entry.bytes.end = journal.stage.end();
        entry.phase = BatchPhase::Taking;
        self.record.commit();
        let taken = journal.stage.take(&self.pipe, limit);
        let entry = &mut self.record.entry;
        entry.moment = BatchTime::now();
        entry.bytes.end = journal.stage.end();
        if !matches!(taken, Ok(Intake::Some(_))) {
            entry.phase = BatchPhase::Idle;
            self.record.commit();
        }
        taken
    }

    /// Composes, writes and shows the bytes of the batch, as far as that is not done yet.
    fn go_on(&mut self, now: BatchTime, output: &mut ServiceOutput, daemon: &mut DaemonContext) {
        let entry = &self.record.entry;
        let (moment, last) = (entry.moment, entry.phase == BatchPhase::Last);
        if let Err(errno) = daemon.batch.load(&daemon.journal.stage, entry.bytes.clone()) {
            let text = error_chain(&errno);
            daemon.console.warn(&format!("gatevisor: {}: lines are lost: {text}", output.label));
        }
        let stamp = daemon.stamper.stamp(output.timestamp, moment.seconds, moment.nanos);
        daemon.batch.compose(&mut self.composer, last, moment, &stamp);
        if self.record.is_uncertain && self.record.entry.is_shown {
            // The daemon that showed the batch has kept the part of a line at its end.
            self.shown.resume(self.record.index(), self.composer.is_mid_line());
        }
        let is_free = output.waiting.is_none_or(|waiting| waiting == self.which);
        let written = match &mut output.sink {
            Some(sink) => {
                let console = &daemon.console;
                let mut warn = |line: String| console.warn(&line);
                let mut context = WriteContext { now, stamp: &stamp, warn: &mut warn };
                let written = if is_free {
                    sink.write(daemon.batch.composed(), last, &mut self.record, &mut context)
                } else {
                    Written::Waiting
                };
                self.retry_at_ms = (written == Written::Waiting).then(|| sink.retry_at_ms());
                if is_free {
                    output.waiting = (written == Written::Waiting).then_some(self.which);
                }
                written
            }
            None => Written::Done,
        };
        let is_news = !std::mem::replace(&mut self.record.entry.is_shown, written == Written::Waiting);
        if is_news {
            let lines = self.shown.count(daemon.batch.shown());
            self.record.entry.due = self.record.entry.due.saturating_add(lines);
        }
        if written == Written::Done {
            self.settle(daemon.batch.left());
        } else {
            // The next attempt composes the same bytes again.
            self.composer.restore(self.record.entry.state);
        }
        self.record.commit();
        if is_news {
            daemon.console.show(&mut self.shown, daemon.batch.shown());
        }
        daemon.journal.tidy();
    }

    /// Records that only an unfinished line is left of the batch.
    fn settle(&mut self, left: usize) {
        let entry = &mut self.record.entry;
        entry.phase = BatchPhase::Idle;
        entry.state = self.composer.state();
        entry.written = 0;
        entry.bytes.start = entry.bytes.end.saturating_sub(u64::try_from(left).unwrap_or(0));
        if left == 0 {
            entry.bytes = 0..0;
        }
    }

    /// Tries waiting bytes again, if that is due.
    pub fn retry(&mut self, output: &mut ServiceOutput, daemon: &mut DaemonContext) {
        self.retry_at_ms = None;
        if self.record.entry.has_batch() {
            self.go_on(BatchTime::now(), output, daemon);
        }
    }

    /// Writes and shows the rest. Bytes that cannot be written now are lost, and that is reported.
    pub fn close(&mut self, output: &mut ServiceOutput, daemon: &mut DaemonContext) {
        let now = BatchTime::now();
        if self.record.entry.has_batch() {
            self.go_on(now, output, daemon);
        }
        if !self.record.entry.has_batch() {
            // The last line may lack its newline, or left-out lines may not be announced yet.
            self.record.entry.phase = BatchPhase::Last;
            self.record.entry.moment = now;
            self.go_on(now, output, daemon);
        }
        if self.record.entry.has_batch()
            && let Some(sink) = &output.sink
        {
            let console = &daemon.console;
            let mut warn = |line: String| console.warn(&line);
            let stamp = daemon.stamper.stamp(output.timestamp, now.seconds, now.nanos);
            let mut context = WriteContext { now, stamp: &stamp, warn: &mut warn };
            let last = self.record.entry.phase == BatchPhase::Last;
            let (bytes, is_cut) = (daemon.batch.composed(), daemon.batch.left() > 0);
            sink.give_up(bytes, last, is_cut, &mut self.record, &mut context);
            if output.waiting == Some(self.which) {
                output.waiting = None;
            }
        }
        self.retry_at_ms = None;
        let unfinished = u64::from(self.shown.is_mid_line());
        let JournalEntry { due, counts, .. } = self.record.entry;
        self.record.entry =
            JournalEntry { due: due.saturating_add(unfinished), counts, ..JournalEntry::default() };
        self.record.commit();
        daemon.console.finish(&mut self.shown);
    }

    /// Returns what became of the bytes so far.
    pub fn counts(&self) -> LogCounts {
        self.record.entry.counts
    }

    /// Counts more, which did not come through this pipe or was left in it.
    pub fn count(&mut self, more: LogCounts) {
        self.record.count(more);
        self.record.commit();
    }

    /// Returns how many bytes the pipe holds.
    pub fn waiting(&self) -> u64 {
        // If that is unknown, the pipe is read until it is empty.
        rustix::io::ioctl_fionread(&self.pipe).unwrap_or(u64::MAX)
    }
}

fn cannot_take(errno: Errno, output: &ServiceOutput, daemon: &DaemonContext) {
    let text = error_chain(&errno);
    daemon.console.warn(&format!("gatevisor: {}: cannot read the log pipe: {text}", output.label));
}

/// Makes reads from a pipe non-blocking.
///
/// Writes at the other end are not affected, because a pipe's two ends have separate descriptions.
pub(crate) fn make_non_blocking(pipe: impl AsFd) -> Result<(), Errno> {
    rustix::io::ioctl_fionbio(pipe, true)
}
