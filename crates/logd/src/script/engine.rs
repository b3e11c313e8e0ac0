//! Runs as s6-log: takes standard input through a script.
//!
//! *Lives here:* the loop, signals, stamps, and messages.
//! *Does not live here:* the command line.
//!
//! Bytes that were read are in the files before more are read, unless a file cannot be written or
//! standard output is not read. Then up to [`MOST_HELD`] bytes are held, and after that the pipe
//! holds the rest.

use std::os::fd::AsFd;
use std::time::Duration;

use gatevisor_slot::Timestamp;
use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::signal::{SIGALRM, SIGCHLD, SIGHUP, SIGTERM, SignalFd, restore};
use gatevisor_term::stream;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read};

use super::action_output::{Stdout, write_status};
use super::cutter::Cutter;
use super::directory::{DirectoryError, ScriptDirectory, path_of};
use super::parser::{Destination, Script};
use super::selection::LineSelection;
use crate::directory::stamp::Stamper;
use crate::time::{BatchTime, until};
use gatevisor_term::stream::say;
use gatevisor_wire::exit::error_chain;

/// The most bytes that are read from standard input at once.
const TAKE: usize = 64 << 10;
/// The most bytes that wait to be written before reading stops.
const MOST_HELD: usize = 16 << 20;
/// How long an unfinished line may take to end after a signal to stop.
const LAST_LINE: Duration = Duration::from_secs(2);

/// The options of the command line besides the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct S6LogOptions {
    /// `-b`: nothing more is read while bytes wait to be written.
    pub block: bool,
    /// `-p`: `SIGTERM` is ignored.
    pub protect: bool,
    /// `-q`, `-v`: 0 reports fatal errors only, 1 (the default) warnings as well.
    pub verbosity: u32,
    /// `-l`: a line is cut after this many bytes; `usize::MAX` means never.
    pub line_limit: usize,
}

/// Why logging is impossible, in s6-log's words.
#[derive(Debug, thiserror::Error)]
#[error("unable to {doing}: {why}")]
pub struct S6LogError {
    doing: String,
    why: String,
}

impl From<DirectoryError> for S6LogError {
    fn from(error: DirectoryError) -> Self {
        // As text, because readers have no use for the system's numbers.
        Self { doing: error.doing, why: error_chain(&std::io::Error::from(error.errno)) }
    }
}

fn failed(doing: &str) -> impl Fn(Errno) -> S6LogError {
    move |errno| DirectoryError { doing: doing.to_owned(), errno }.into()
}

/// Takes standard input through a script until it ends, or a signal stops it.
///
/// `ready` is called once, when the script's directories are open and signals are received.
/// `SIGTERM` and `SIGHUP` end it after the unfinished line; `SIGALRM` rotates every directory. The
/// process must have one thread.
///
/// # Errors
/// A log directory cannot be opened or is locked. Then nothing has been read.
#[expect(clippy::disallowed_methods, reason = "the directive `1` makes it data for the next program")]
pub fn run(script: &Script, options: &S6LogOptions, ready: impl FnOnce()) -> Result<(), S6LogError> {
    let stdin = std::io::stdin();
    if script.has_extra && options.verbosity > 0 {
        say("s6-log: warning: ignoring extraneous non-action directives");
    }
    let work = Work::new(script, options, Stdout::new(stream::stdout_fd()))?;
    // The parent may have left it ignored. Then the end of a processor would not be noticed.
    restore(SIGCHLD);
    let signals = SignalFd::new(&[SIGTERM, SIGHUP, SIGALRM, SIGCHLD]).map_err(failed("receive signals"))?;
    ready();
    Logger { work, cutter: Cutter::new(options.line_limit), options, input: InputState::Open }
        .serve(stdin.as_fd(), &signals)
}

/// What is still to come from standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputState {
    Open,
    /// The rest of a line, until this time in milliseconds of the monotonic clock.
    LastLine(u64),
    Ended,
}

struct Logger<'a> {
    work: Work<'a>,
    cutter: Cutter,
    options: &'a S6LogOptions,
    input: InputState,
}

impl Logger<'_> {
    fn serve(&mut self, stdin: impl AsFd, signals: &SignalFd) -> Result<(), S6LogError> {
        let mut buffer = vec![0; TAKE];
        loop {
            self.work.advance();
            if self.input == InputState::Ended && self.work.close() {
                return Ok(());
            }
            let held = self.work.held();
            let reads = self.input != InputState::Ended
                && if self.options.block { held == 0 } else { held < MOST_HELD };
            let (readable, signal) = self.wait(&stdin, signals, reads).map_err(failed("wait"))?;
            if signal {
                self.receive(signals)?;
            }
            if let InputState::LastLine(until_ms) = self.input
                && until_ms <= monotonic_ms()
            {
                self.end();
            }
            if readable {
                self.take(&stdin, &mut buffer);
            }
        }
    }

    /// Waits for input, a signal, room in standard output, or a time; returns whether there is
    /// input, and whether there is a signal.
    fn wait(&self, stdin: impl AsFd, signals: &SignalFd, reads: bool) -> Result<(bool, bool), Errno> {
        let stdout = self.work.stdout.fd();
        let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        if reads {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        if !self.work.stdout.held.is_empty() {
            fds.push(PollFd::from_borrowed_fd(stdout, PollFlags::OUT));
        }
        let last_line = if let InputState::LastLine(at) = self.input { Some(at) } else { None };
        let due = self.work.retry_at_ms().into_iter().chain(last_line).min();
        match poll(&mut fds, due.map(until).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let spoke = |at: usize| fds.get(at).is_some_and(|fd: &PollFd<'_>| !fd.revents().is_empty());
        Ok((reads && spoke(1), spoke(0)))
    }

    fn receive(&mut self, signals: &SignalFd) -> Result<(), S6LogError> {
        while let Some(signal) = signals.next().map_err(failed("read signals"))? {
            match signal {
                SIGALRM => self.work.rotate(),
                SIGCHLD => self.work.reap(),
                SIGTERM if self.options.protect => {}
                _ if self.input != InputState::Open => {}
                _ if self.cutter.is_mid_line() => {
                    let limit = u64::try_from(LAST_LINE.as_millis()).unwrap_or(0);
                    self.input = InputState::LastLine(monotonic_ms().saturating_add(limit));
                }
                _ => self.input = InputState::Ended,
            }
        }
        Ok(())
    }

    /// Reads once, and processes each complete line according to the script.
    fn take(&mut self, stdin: impl AsFd, buffer: &mut [u8]) {
        // After the last line, not a single byte more is read, because the next bytes belong to
        // another process.
        let most = if self.input == InputState::Open { buffer.len() } else { 1 };
        let taken = match read(stdin, buffer.get_mut(..most).unwrap_or_default()) {
            Ok(0) => return self.end(),
            Ok(n) => buffer.get(..n).unwrap_or_default(),
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(errno) => {
                self.work.warn("read from stdin", errno);
                return self.end();
            }
        };
        self.work.stamp();
        let work = &mut self.work;
        self.cutter.feed(taken, &mut |line| work.line(line));
        if self.input != InputState::Open && !self.cutter.is_mid_line() {
            self.input = InputState::Ended;
        }
    }

    /// Ends the input. A rest without a newline counts as a line.
    fn end(&mut self) {
        self.input = InputState::Ended;
        if self.cutter.is_mid_line() {
            self.work.stamp();
            let work = &mut self.work;
            self.cutter.finish(&mut |line| work.line(line));
        }
    }
}

/// The destination of an action's lines.
enum ActionOutput {
    Stdout,
    Alert(usize),
    Status(usize),
    /// The index of a directory.
    ScriptDirectory(usize),
}

/// An action with the present stamp and prefix of its lines.
struct Doing<'a> {
    action: &'a super::parser::ScriptAction,
    output: ActionOutput,
    head: Vec<u8>,
}

struct Work<'a> {
    script: &'a Script,
    /// The actions of each step.
    doing: Vec<Vec<Doing<'a>>>,
    directories: Vec<ScriptDirectory<'a>>,
    stdout: Stdout<'a>,
    stamper: Stamper,
    verbosity: u32,
    /// Memory for alerts.
    scratch: Vec<u8>,
}

impl<'a> Work<'a> {
    fn new(script: &'a Script, options: &S6LogOptions, stdout: Stdout<'a>) -> Result<Self, S6LogError> {
        let mut directories = Vec::new();
        let mut doing = Vec::new();
        for step in &script.steps {
            let mut actions = Vec::new();
            for action in &step.actions {
                let output = match &action.destination {
                    Destination::Stdout => ActionOutput::Stdout,
                    Destination::Alert(limit) => ActionOutput::Alert(*limit),
                    Destination::Status { size, .. } => ActionOutput::Status(*size),
                    Destination::Logdir(spec) => {
                        directories.push(ScriptDirectory::open(spec)?);
                        ActionOutput::ScriptDirectory(directories.len().saturating_sub(1))
                    }
                };
                actions.push(Doing { action, output, head: Vec::new() });
            }
            doing.push(actions);
        }
        let verbosity = options.verbosity;
        Ok(Self {
            script,
            doing,
            directories,
            stdout,
            stamper: Stamper::new(),
            verbosity,
            scratch: Vec::new(),
        })
    }

    fn warn(&self, doing: &str, errno: Errno) {
        if self.verbosity > 0 {
            say(format!("s6-log: warning: unable to {doing}: {}", error_chain(&std::io::Error::from(errno))));
        }
    }

    /// Records the time for the stamps of the next lines.
    fn stamp(&mut self) {
        let now = BatchTime::now();
        for doing in self.doing.iter_mut().flatten() {
            doing.head.clear();
            for (wanted, format) in
                [(doing.action.tai64n, Timestamp::Tai64n), (doing.action.iso, Timestamp::IsoLocal)]
            {
                if wanted {
                    doing
                        .head
                        .extend_from_slice(self.stamper.stamp(format, now.seconds, now.nanos).as_bytes());
                }
            }
            doing.head.extend_from_slice(&doing.action.prefix);
        }
    }

    /// Processes a line according to the script.
    fn line(&mut self, line: &[u8]) {
        let mut standing = LineSelection::START;
        for (step, actions) in self.script.steps.iter().zip(&self.doing) {
            if !standing.enters(step, line) {
                continue;
            }
            for doing in actions {
                match doing.output {
                    ActionOutput::Stdout => {
                        if !self.stdout.is_gone() {
                            put(&mut self.stdout.held, &doing.head, line);
                        }
                    }
                    ActionOutput::ScriptDirectory(index) => {
                        if let Some(directory) = self.directories.get_mut(index) {
                            put(&mut directory.held, &doing.head, line);
                        }
                    }
                    ActionOutput::Alert(limit) => alert(&mut self.scratch, &doing.head, line, limit),
                    ActionOutput::Status(size) => {
                        let Destination::Status { file, .. } = &doing.action.destination else { continue };
                        let mut text = Vec::new();
                        put(&mut text, &doing.head, line);
                        if let Err(errno) = write_status(path_of(file), text, size) {
                            self.warn(&format!("write status file {}", path_of(file).display()), errno);
                        }
                    }
                }
            }
        }
    }

    /// Writes and rotates as far as possible now.
    fn advance(&mut self) {
        let mut errors = Vec::new();
        for directory in &mut self.directories {
            if let Err(error) = directory.advance() {
                errors.push(error);
            }
        }
        for error in errors {
            self.warn(&error.doing, error.errno);
        }
        if let Err(errno) = self.stdout.flush() {
            // It is reported whatever the verbosity, as in s6-log: it is reported once, and lasts
            // for ever.
            let why = std::io::Error::from(errno);
            say(format!(
                "s6-log: warning: unable to write to stdout, closing the stream - error was: {}",
                error_chain(&why)
            ));
        }
    }

    fn rotate(&mut self) {
        self.directories.iter_mut().for_each(ScriptDirectory::rotate);
    }

    fn reap(&mut self) {
        for directory in &mut self.directories {
            if let Some(message) = directory.reap()
                && self.verbosity > 0
            {
                say(format!("s6-log: warning: {message}"));
            }
        }
    }

    /// Returns how many bytes wait to be written; a rotation in progress counts as one.
    fn held(&self) -> usize {
        let waiting = |directory: &ScriptDirectory<'_>| {
            directory.held.len().saturating_add(usize::from(!directory.is_settled()))
        };
        self.directories.iter().map(waiting).sum::<usize>().saturating_add(self.stdout.held.len())
    }

    fn retry_at_ms(&self) -> Option<u64> {
        self.directories.iter().filter_map(ScriptDirectory::retry_at_ms).min()
    }

    /// Closes each directory that is finished, and returns whether no work is left.
    fn close(&mut self) -> bool {
        if self.held() > 0 {
            return false;
        }
        let mut errors = Vec::new();
        for directory in self.directories.iter_mut().filter(|directory| !directory.is_closed()) {
            if let Err(error) = directory.close() {
                errors.push(error);
            }
        }
        for error in errors {
            self.warn(&error.doing, error.errno);
        }
        self.directories.iter().all(ScriptDirectory::is_closed)
    }
}

fn put(out: &mut Vec<u8>, head: &[u8], line: &[u8]) {
    out.reserve(head.len().saturating_add(line.len()).saturating_add(1));
    out.extend_from_slice(head);
    out.extend_from_slice(line);
    out.push(b'\n');
}

/// Writes a line to standard error, cut after `limit` bytes unless that is 0.
#[expect(clippy::disallowed_methods, reason = "s6-log's contract: the bytes of the line")]
fn alert(scratch: &mut Vec<u8>, head: &[u8], line: &[u8], limit: usize) {
    scratch.clear();
    scratch.extend_from_slice(b"s6-log: alert: ");
    scratch.extend_from_slice(head);
    // Cutting three bytes is not worthwhile, because the dots would take as much room.
    if limit > 0 && limit.saturating_add(3) < line.len() {
        scratch.extend_from_slice(line.get(..limit).unwrap_or(line));
        scratch.extend_from_slice(b"...");
    } else {
        scratch.extend_from_slice(line);
    }
    scratch.push(b'\n');
    stream::unescaped_stderr(scratch);
}
