//! A command of this program that runs for the view, with its output.
//!
//! *Lives here:* starting it, and reading its output without waiting.
//! *Does not live here:* which command it is, and what its output is for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Stdio};

use gatevisor_sys::call;
use rustix::io::{Errno, ioctl_fionbio, read};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::context::CommandContext;

/// The most bytes that are read at once, so that a log that grows quickly does not delay the keys.
const AT_ONCE: usize = 256 << 10;
/// The most bytes of a line. A longer line is divided.
const LONGEST: usize = 64 << 10;
/// The beginning of our messages for people.
const OURS: &str = "gatevisor: ";

/// A command that runs, or has ended.
pub struct Job {
    child: Child,
    output: OwnedFd,
    rest: Vec<u8>,
    lines: Vec<String>,
    /// Whether it is ended when this is dropped.
    is_of_pane: bool,
}

impl Job {
    /// Starts a command about a gateway.
    pub fn begin(context: &CommandContext, command: &[&str], name: &str) -> io::Result<Self> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC)?;
        ioctl_fionbio(&output, true)?;
        let mut called = call::command(&context.program)?;
        called.args(context.word_options()).args(command).arg("--").arg(name);
        // It gets a process group of its own, so that it goes on if the terminal is closed.
        call::lead_group(&mut called);
        called.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
        let child = called.spawn()?;
        let is_of_pane = !matches!(command, ["gateway", ..]);
        Ok(Self { child, output, rest: Vec::new(), lines: Vec::new(), is_of_pane })
    }

    /// Reads the output that is there. Returns whether the output has ended.
    pub fn read(&mut self) -> bool {
        let mut buffer = vec![0; 16 << 10];
        let mut left = AT_ONCE;
        let is_over = loop {
            match read(&self.output, &mut buffer) {
                Ok(0) => break true,
                Ok(length) => {
                    self.rest.extend(buffer.iter().take(length));
                    left = left.saturating_sub(length);
                    if left == 0 {
                        break false;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break false,
                Err(_) => break true,
            }
        };
        self.divide(is_over);
        is_over
    }

    /// Divides the bytes that were read into lines.
    fn divide(&mut self, is_over: bool) {
        let rest = std::mem::take(&mut self.rest);
        for line in rest.split_inclusive(|byte| *byte == b'\n') {
            if !is_over && !line.ends_with(b"\n") && line.len() < LONGEST {
                self.rest = line.to_vec();
                return;
            }
            let text = String::from_utf8_lossy(line);
            // The command escapes what it prints. This escapes what others write to the same
            // output.
            self.lines.push(gatevisor_term::escape::line(text.trim_end_matches('\n')).into_owned());
        }
    }

    /// Returns the lines that were read since the last call.
    pub fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// Returns whether the command has succeeded. Its output must have ended.
    pub fn succeeded(&mut self) -> bool {
        self.child.wait().is_ok_and(|status| status.success())
    }

    /// Returns the most important line: an error message, or else the last line.
    pub fn in_one_line(&self) -> Option<String> {
        let error = self.lines.iter().find(|line| line.contains("error: "));
        let line = error.or_else(|| self.lines.iter().rev().find(|line| !line.is_empty()))?;
        Some(line.strip_prefix(OURS).unwrap_or(line).to_owned())
    }
}

impl AsFd for Job {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // An action is not ended.
        if self.is_of_pane {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
