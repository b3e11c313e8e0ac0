//! Calls of this program as a process of its own, as a user calls it.
//!
//! *Lives here:* starting it, and reading what it prints within bounds.
//! *Does not live here:* the arguments (`answers`).

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use gatevisor_gateways::desired::THROUGH_VARIABLE;
use gatevisor_sys::call;
use gatevisor_web::Lines;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::context::CommandContext;

/// The most bytes of an answer.
const OUTPUT_BYTES: usize = 16 << 20;
/// The most bytes of messages that are kept.
const MESSAGE_BYTES: usize = 64 << 10;
/// The most bytes of a line of a log. A longer one is left out.
const LINE_BYTES: usize = 256 << 10;

/// This program, and the arguments that every call of it begins with.
#[derive(Debug, Clone)]
pub struct OwnProgram {
    program: PathBuf,
    words: Vec<OsString>,
}

/// How a call ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` if it was killed, for example because it took too long.
    pub code: Option<i32>,
    /// What it printed.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
    /// Whether it was killed because it printed too much.
    pub is_too_large: bool,
}

impl OwnProgram {
    /// Returns this program, called with the home or scandir of this command.
    pub fn new(context: &CommandContext) -> Self {
        let words = context.word_options().into_iter().chain(["--json".into()]).collect();
        Self { program: context.program.clone(), words }
    }

    fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> io::Result<Command> {
        let mut command = call::command(&self.program)?;
        command.args(&self.words).args(words).env(THROUGH_VARIABLE, "web");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// Calls it with these arguments and this input, and waits for its end. It is killed after
    /// `timeout`.
    pub fn call<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
        input: Option<&str>,
        timeout: Option<Duration>,
    ) -> io::Result<Ended> {
        let mut command = self.command(words)?;
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn()?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            // If it does not read its input, its error message says why.
            let _ = stdin.write_all(input.as_bytes());
        }
        let read = Reading::of(&mut child, timeout).and_then(Reading::run);
        if !matches!(read, Ok((_, _, true))) {
            let _ = child.kill();
        }
        let status = child.wait()?;
        let (out, err, _) = read?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let is_too_large = out.len() > OUTPUT_BYTES;
        let out = if is_too_large { String::new() } else { text(out) };
        Ok(Ended { code: status.code(), out, err: text(err), is_too_large })
    }

    /// Calls it with these arguments, and returns the lines that it prints.
    pub fn follow<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> io::Result<ChildLines> {
        let mut child = self.command(words)?.stderr(Stdio::null()).spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let process = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())).transpose();
        if let (Ok(Some(process)), Some(out)) = (process, child.stdout.take()) {
            return Ok(ChildLines { child, process, out: BufReader::new(out) });
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(io::Error::other("its process cannot be watched"))
    }
}

/// The outputs of a process, which are read until a deadline.
struct Reading<'a> {
    out: Option<&'a mut (dyn ReadFd + 'a)>,
    err: Option<&'a mut (dyn ReadFd + 'a)>,
    until: Option<Instant>,
}

trait ReadFd: Read + AsFd {}
impl<T: Read + AsFd> ReadFd for T {}

impl<'a> Reading<'a> {
    fn of(child: &'a mut Child, timeout: Option<Duration>) -> io::Result<Self> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let missing = || io::Error::other("it has no output");
        let out = child.stdout.as_mut().ok_or_else(missing)?;
        let err = child.stderr.as_mut().ok_or_else(missing)?;
        Ok(Self { out: Some(out), err: Some(err), until })
    }

    /// Returns both outputs, and whether they came to their ends in time and within bounds.
    fn run(mut self) -> io::Result<(Vec<u8>, Vec<u8>, bool)> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while self.out.is_some() || self.err.is_some() {
            let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) || out.len() > OUTPUT_BYTES {
                return Ok((out, err, false));
            }
            let [from_out, from_err] = self.wait(left)?;
            if from_out {
                read_some(&mut self.out, &mut out, usize::MAX)?;
            }
            if from_err {
                read_some(&mut self.err, &mut err, MESSAGE_BYTES)?;
            }
        }
        Ok((out, err, true))
    }

    /// Waits until an output can be read, and returns which of the two can.
    fn wait(&self, left: Option<Duration>) -> io::Result<[bool; 2]> {
        let sources = [self.out.as_deref(), self.err.as_deref()];
        let mut fds: Vec<PollFd<'_>> = sources
            .iter()
            .flatten()
            .map(|source| PollFd::from_borrowed_fd(source.as_fd(), PollFlags::IN))
            .collect();
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut polled = fds.iter().map(|fd| !fd.revents().is_empty());
        Ok(sources.map(|source| source.is_some() && polled.next().unwrap_or(false)))
    }
}

/// Reads what there is, and keeps at most `most` bytes in all. At the end of the output, `source`
/// becomes `None`.
fn read_some(
    source: &mut Option<&mut (dyn ReadFd + '_)>,
    bytes: &mut Vec<u8>,
    most: usize,
) -> io::Result<()> {
    let Some(from) = source else { return Ok(()) };
    let mut buffer = [0; 16 << 10];
    match from.read(&mut buffer) {
        Ok(0) => *source = None,
        Ok(read) => {
            let kept = read.min(most.saturating_sub(bytes.len()));
            bytes.extend_from_slice(buffer.get(..kept).unwrap_or_default());
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The lines that a process prints. The process is ended when this is dropped.
#[derive(Debug)]
pub struct ChildLines {
    child: Child,
    process: OwnedFd,
    out: BufReader<ChildStdout>,
}

impl Lines for ChildLines {
    fn next_line(&mut self) -> io::Result<Option<String>> {
        next_whole(&mut self.out, LINE_BYTES)
    }

    fn stopper(&self) -> Box<dyn FnOnce() + Send> {
        let process = self.process.try_clone();
        Box::new(move || {
            if let Ok(process) = process {
                let _ = pidfd_send_signal(&process, Signal::KILL);
            }
        })
    }
}

impl Drop for ChildLines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the next line that is not too long, without its end.
fn next_whole(from: &mut impl BufRead, most: usize) -> io::Result<Option<String>> {
    let (mut line, mut is_too_long) = (Vec::new(), false);
    loop {
        let buffer = match from.fill_buf() {
            Ok([]) => return Ok(None),
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let part = buffer.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let is_end = part.len() < buffer.len();
        is_too_long |= line.len() + part.len() > most;
        if !is_too_long {
            line.extend_from_slice(part);
        }
        let read = part.len() + usize::from(is_end);
        from.consume(read);
        if is_end && !is_too_long {
            return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
        }
        if is_end || is_too_long {
            line.clear();
            is_too_long &= !is_end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_left_out_and_the_next_one_is_read() {
        for capacity in [1, 3, 100] {
            let text: &[u8] = b"one\n123456\n\n12345\n1234567890123\nlast\ncut off";
            let mut from = BufReader::with_capacity(capacity, text);
            let mut read = Vec::new();
            while let Some(line) = next_whole(&mut from, 5).unwrap() {
                read.push(line);
            }
            assert_eq!(read, ["one", "", "12345", "last"]);
        }
    }

    #[test]
    fn an_answer_that_is_too_large_is_not_taken_for_one_that_took_too_long() {
        let program = OwnProgram { program: "/bin/sh".into(), words: Vec::new() };
        let call = |script| program.call(["-c", script], None, Some(Duration::from_mins(1))).unwrap();
        let large = call("head -c 17000000 /dev/zero");
        assert!(large.is_too_large && large.code.is_none());
        let small = call("echo said; exit 3");
        assert_eq!((small.is_too_large, small.code, &*small.out), (false, Some(3), "said\n"));
    }
}
