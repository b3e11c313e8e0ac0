//! One service's output: its pipe, and the way of its bytes into the file and onto the console.
//!
//! *Lives here:* the order of the stages of a batch. *Does not live here:* when to read; the loops decide.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gatevisor_slot::Timestamp;
use rustix::io::Errno;

use crate::batch::{Batch, Taken};
use crate::compose::Composer;
use crate::console::{Console, Shown};
use crate::moment::Moment;
use crate::settings::Settings;
use crate::sink::{Context, Sink};
use crate::stamp::Stamper;
use crate::words::chain;

/// What all streams share.
#[derive(Debug)]
pub(crate) struct Desk {
    pub batch: Batch,
    pub stamper: Stamper,
    pub console: Console,
}

impl Desk {
    /// Returns a desk whose lines go to `console`.
    pub fn new(console: Console) -> Self {
        Self { batch: Batch::new(), stamper: Stamper::new(), console }
    }
}

/// One service's output.
#[derive(Debug)]
pub(crate) struct Stream {
    pipe: OwnedFd,
    label: String,
    timestamp: Timestamp,
    composer: Composer,
    /// Of a line that is not decided on yet.
    left: Vec<u8>,
    sink: Option<Sink>,
    shown: Shown,
}

impl Stream {
    /// Returns the stream that comes out of `pipe`.
    pub fn new(pipe: OwnedFd, settings: Settings) -> Self {
        let Settings { label, forward, timestamp, sink, spec } = settings;
        let shown = Shown::new(&label, forward, spec.stderr);
        Self { pipe, label, timestamp, composer: Composer::new(spec), left: Vec::new(), sink, shown }
    }

    /// Returns the pipe, to wait on.
    pub fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Returns how many bytes may be taken now; 0 while the file is behind.
    pub fn room(&self) -> usize {
        self.sink.as_ref().map_or(usize::MAX, Sink::room)
    }

    /// Returns when what is held back is tried again, in monotonic milliseconds; `None` while nothing is.
    pub fn retry_at_ms(&self) -> Option<u64> {
        self.sink.as_ref().and_then(Sink::retry_at_ms)
    }

    /// Takes what the pipe has, at most `limit` bytes, and brings it through all stages.
    pub fn pump(&mut self, limit: usize, desk: &mut Desk) -> Taken {
        let limit = limit.min(self.room());
        let taken = match desk.batch.take(&self.pipe, limit, &self.left) {
            Ok(taken) => taken,
            Err(errno) => {
                let text = chain(&errno);
                desk.console.warn(&format!("gatevisor: {}: cannot read the log pipe: {text}", self.label));
                Taken::End
            }
        };
        if let Taken::Some(_) = taken {
            self.bring_through(false, desk);
        }
        taken
    }

    /// Composes, files and shows what the batch holds.
    fn bring_through(&mut self, last: bool, desk: &mut Desk) {
        let now = Moment::now();
        let stamp = desk.stamper.stamp(self.timestamp, now.seconds, now.nanos);
        desk.batch.compose(&mut self.composer, last, now, &stamp);
        if let Some(sink) = &mut self.sink {
            let console = &desk.console;
            let mut warn = |line: String| console.warn(&line);
            sink.file(desk.batch.composed(), &mut Context { now, stamp: &stamp, warn: &mut warn });
        }
        desk.console.show(&mut self.shown, desk.batch.shown());
        self.left.clear();
        self.left.extend_from_slice(desk.batch.left());
    }

    /// Tries again to file what is held back, if that is due.
    pub fn retry(&mut self, desk: &mut Desk) {
        self.with_sink(desk, Sink::retry);
    }

    /// Files and shows what is left, closes the directory, and forgets it.
    pub fn close(&mut self, desk: &mut Desk) {
        // The last line may lack its newline, or lines that were left out may still be to be announced.
        desk.batch.resume(&self.left);
        self.bring_through(true, desk);
        desk.console.finish(&mut self.shown);
        if let Some(sink) = self.sink.take() {
            let mut sink = Some(sink);
            self.context(desk, |context| {
                if let Some(sink) = sink.take() {
                    sink.close(context);
                }
            });
        }
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

    fn with_sink(&mut self, desk: &mut Desk, act: impl FnOnce(&mut Sink, &mut Context<'_>)) {
        let Some(mut sink) = self.sink.take() else { return };
        self.context(desk, |context| act(&mut sink, context));
        self.sink = Some(sink);
    }

    fn context(&self, desk: &mut Desk, act: impl FnOnce(&mut Context<'_>)) {
        let now = Moment::now();
        let stamp = desk.stamper.stamp(self.timestamp, now.seconds, now.nanos);
        let console = &desk.console;
        let mut warn = |line: String| console.warn(&line);
        act(&mut Context { now, stamp: &stamp, warn: &mut warn });
    }
}

/// Makes reads from a pipe return at once.
///
/// The other side's writes are not affected: a pipe's two ends have descriptions of their own.
pub(crate) fn make_non_blocking(pipe: impl AsFd) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(&pipe)?;
    rustix::fs::fcntl_setfl(&pipe, flags | rustix::fs::OFlags::NONBLOCK)
}
