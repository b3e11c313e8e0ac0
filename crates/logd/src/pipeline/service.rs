//! One service: its pipes, and their shared state.
//!
//! *Lives here:* the order among the streams of one service, which go into one directory.
//! *Does not live here:* the way of one stream's bytes (`stream`), and when to read (the loops
//! decide).

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::compose::{Composer, Spec};
use super::settings::LogSettings;
use super::sink::Sink;
use super::sink::WriteContext;
use super::stream::{DaemonContext, LogStream, ServiceOutput, Which};
use crate::console::ShownStream;
use crate::handover::journal::StreamRecord;
use crate::handover::stage::Intake;
use crate::time::BatchTime;
use gatevisor_wire::log_counts::LogCounts;

/// A pipe of a service, with its record.
#[derive(Debug)]
pub(crate) struct ServicePipe {
    /// The read end.
    pub pipe: OwnedFd,
    /// The progress of a killed daemon with it.
    pub record: StreamRecord,
}

/// A service whose output this daemon writes.
#[derive(Debug)]
pub(crate) struct LoggedService {
    output: ServiceOutput,
    /// Standard output, and standard error if it has a pipe of its own.
    streams: Vec<LogStream>,
    /// What the service directory tells about the log.
    told: LogCounts,
}

impl LoggedService {
    /// Returns the service that writes to these pipes, and continues where a killed daemon stopped.
    pub fn new(
        out: ServicePipe,
        err: Option<ServicePipe>,
        settings: LogSettings,
        daemon: &mut DaemonContext,
    ) -> Self {
        let LogSettings { label, forward, timestamp, sink, spec } = settings;
        let is_shared = err.is_some();
        let stream = |which, ServicePipe { pipe, record }| {
            let stderr = which == Which::Err;
            let composer = Composer::new(Spec { stderr, whole_lines: is_shared, ..spec.clone() });
            LogStream::new(
                which,
                pipe,
                composer,
                record,
                ShownStream::new(Arc::clone(&label), forward, stderr),
            )
        };
        let mut streams = vec![stream(Which::Out, out)];
        streams.extend(err.map(|err| stream(Which::Err, err)));
        let mut output = ServiceOutput { label, timestamp, sink, waiting: None };
        if let (Some(sink), Some(first), Some(last)) = (&mut output.sink, streams.first(), streams.last()) {
            sink.go_on_with([first.position(), last.position()]);
        }
        let told = output.sink.as_ref().map(Sink::told).unwrap_or_default();
        let is_new = streams.iter().all(|stream| stream.counts() == LogCounts::default());
        if let (true, Some(first)) = (is_new, streams.first_mut()) {
            // The journal begins with its supervisor, and the counts with the service directory.
            first.count(told);
        }
        // A stream that is written in part is completed before any other.
        streams.sort_by_key(|stream| !stream.is_partly_written());
        for stream in &mut streams {
            stream.resume(&mut output, daemon);
        }
        streams.sort_by_key(|stream| stream.which() == Which::Err);
        Self { output, streams, told }
    }

    /// Returns the pipes; standard output is the first.
    pub fn pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.streams.iter().map(LogStream::pipe)
    }

    /// Returns whether bytes may be taken from a pipe now.
    pub fn has_room(&self, index: usize) -> bool {
        self.streams.get(index).is_some_and(LogStream::has_room)
    }

    /// Returns when waiting bytes are tried again, in monotonic milliseconds; `None` if none wait.
    pub fn retry_at_ms(&self) -> Option<u64> {
        self.streams.iter().filter_map(LogStream::retry_at_ms).min()
    }

    /// Takes the bytes of a pipe, at most `limit`, through all steps.
    pub fn pump(&mut self, index: usize, limit: usize, daemon: &mut DaemonContext) -> Intake {
        let Some(stream) = self.streams.get_mut(index) else { return Intake::End };
        stream.pump(limit, &mut self.output, daemon)
    }

    /// Tries waiting bytes again.
    pub fn retry(&mut self, daemon: &mut DaemonContext) {
        let first = self.output.waiting;
        let mut streams: Vec<&mut LogStream> =
            self.streams.iter_mut().filter(|stream| stream.retry_at_ms().is_some()).collect();
        streams.sort_by_key(|stream| Some(stream.which()) != first);
        for stream in streams {
            stream.retry(&mut self.output, daemon);
        }
    }

    /// Returns whether the log has received lines that the service directory does not tell of.
    pub fn has_untold(&self) -> bool {
        self.output.sink.is_some() && self.counts() != self.told
    }

    /// Tells in the service directory how many lines the log has received. What cannot be told now
    /// is told with the next lines.
    pub fn tell_counts(&mut self) {
        let counts = self.counts();
        let sink = self.output.sink.as_ref().filter(|_| counts != self.told);
        if sink.is_some_and(|sink| sink.tell(counts)) {
            self.told = counts;
        }
    }

    fn counts(&self) -> LogCounts {
        self.streams.iter().map(LogStream::counts).fold(LogCounts::default(), LogCounts::plus)
    }

    /// Writes and shows the rest, and closes the directory. Bytes that cannot be written now are
    /// lost, and that is reported.
    pub fn close(&mut self, daemon: &mut DaemonContext) {
        for stream in &mut self.streams {
            stream.close(&mut self.output, daemon);
        }
        self.tell_counts();
        if let Some(sink) = self.output.sink.take() {
            let now = BatchTime::now();
            let console = &daemon.console;
            let mut warn = |line: String| console.warn(&line);
            let stamp = daemon.stamper.stamp(self.output.timestamp, now.seconds, now.nanos);
            sink.close(&mut WriteContext { now, stamp: &stamp, warn: &mut warn });
        }
    }

    /// Returns how many bytes a pipe holds.
    pub fn waiting(&self, index: usize) -> u64 {
        self.streams.get(index).map_or(0, LogStream::waiting)
    }

    /// Reports that unread bytes were left in the pipes.
    pub fn abandon(&mut self, bytes: u64, daemon: &DaemonContext) {
        if bytes > 0 {
            if let Some(stream) = self.streams.first_mut() {
                stream.count(LogCounts { gaps: 1, ..LogCounts::default() });
            }
            daemon.console.warn(&format!(
                "gatevisor: {}: {bytes} bytes in the log pipe are lost: the file could not be written in time",
                self.output.label
            ));
        }
    }
}
