//! What several tests of this crate need.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![expect(clippy::indexing_slicing, reason = "in a test a panic is the report")]
#![allow(dead_code, reason = "no test needs all of it")]

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use gatevisor_logreader::{Clock, Directory, Pick, ReadOptions, ReaderEvent, run};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long anything may take before a test gives up.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Returns the program of this crate's programs.
pub fn program() -> PathBuf {
    let test = gatevisor_sys::process::own_program().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/gatevisor-logd");
    assert!(path.exists(), "{} is built with the tests", path.display());
    path
}

/// Returns whether Debian's s6 is here, and says so if not.
pub fn has_s6() -> bool {
    let found = Command::new("s6-log").output().is_ok();
    if !found {
        skip("s6-log is not installed");
    }
    found
}

/// Says why a test proves nothing here.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// Returns a pipe: the end to read, the end to write.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

/// Returns all lines of a log directory, archives included.
pub fn lines_of(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let directory = Directory { label: String::new(), path: directory.to_owned(), clock: Clock::Utc };
    let options = ReadOptions { dirs: vec![directory], pick: Pick::default(), lines: None, follow: false };
    run(&options, &mut |event| {
        match event {
            ReaderEvent::Line(line) => lines.push(String::from_utf8_lossy(line.bytes).into_owned()),
            ReaderEvent::Damaged { archive, why, .. } => panic!("{archive}: {why}"),
            ReaderEvent::Idle => {}
        }
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    lines
}

/// Returns what follows the stamp `YYYY-MM-DD HH:MM:SS.nnnnnnnnn` and two blanks.
pub fn unstamped(line: &str) -> &str {
    let (stamp, text) = line.split_at(31);
    let shape: String = stamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00 00:00:00.000000000  ", "{line}");
    text
}

/// Waits until `fd` has something to read, and returns whether it had within the deadline.
pub fn wait_readable(fd: impl AsFd) -> bool {
    let timeout = Timespec { tv_sec: i64::try_from(DEADLINE.as_secs()).unwrap(), tv_nsec: 0 };
    let fd = fd.as_fd();
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&timeout)).unwrap() > 0
}

/// Reads lines from a descriptor, each with a deadline.
pub struct Lines {
    file: fs::File,
    buffer: Vec<u8>,
}

impl Lines {
    pub fn new(fd: OwnedFd) -> Self {
        Self { file: fd.into(), buffer: Vec::new() }
    }

    /// Returns the next line without its newline, or `None` at the end.
    pub fn next(&mut self) -> Option<String> {
        let start = Instant::now();
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            assert!(start.elapsed() < DEADLINE && wait_readable(&self.file), "no line came in time");
            let mut block = [0; 4096];
            let n = self.file.read(&mut block).unwrap();
            if n == 0 {
                assert!(self.buffer.is_empty(), "the last line has a newline");
                return None;
            }
            self.buffer.extend_from_slice(&block[..n]);
        }
    }

    pub fn expect(&mut self, expected: &str) {
        assert_eq!(self.next().as_deref(), Some(expected));
    }

    /// Returns all lines to the end.
    pub fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

/// Returns the daemon's next answer about a pipe. Its first message, that it works, is no answer.
pub fn answer(replies: impl AsFd) -> Vec<u8> {
    loop {
        let mut answer = [0; 5];
        for byte in &mut answer {
            assert!(wait_readable(&replies), "no answer in time");
            assert_eq!(
                rustix::io::read(&replies, std::slice::from_mut(byte)).unwrap(),
                1,
                "the daemon has gone"
            );
        }
        if answer[0] != b'W' {
            return answer.to_vec();
        }
    }
}
