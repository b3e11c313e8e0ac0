//! Runs work that may never end in a process of its own, and keeps what the work writes in time.
//!
//! *Lives here:* the child, its limits, and its end. *Does not live here:* what the work is.
//!
//! Reading about a process can take as long as the kernel holds that process, and a command takes
//! as long as it likes. So the collector of evidence leaves all reading to children. A child that
//! does not end even when it is killed is left behind.

use std::fs::File;
use std::io::{LineWriter, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use gatevisor_sys::process::fork_beside;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process, kill_process_group, pidfd_open, setsid, waitpid,
};

/// How long the end of a killed child is waited for.
const DEATH: Duration = Duration::from_millis(500);
/// The bytes of one read.
const CHUNK: usize = 16 << 10;

/// How long the work may take, and how much it may write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartLimits {
    pub(crate) until: Instant,
    pub(crate) bytes: usize,
}

/// How the work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PartEnd {
    /// It ended by itself with this exit code.
    Code(i32),
    /// It ended by this signal, which we did not send.
    Signal(i32),
    /// It wrote too much.
    TooLong,
    /// It took too long.
    Late,
    /// It could not be started.
    Failed(Errno),
}

/// The output of the work, and how it ended.
#[derive(Debug)]
pub(crate) struct PartOutput {
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: PartEnd,
}

/// Work that runs in a child. The child is killed when this value is dropped.
#[derive(Debug)]
pub(crate) struct RunningPart {
    child: Pid,
    pidfd: OwnedFd,
    output: OwnedFd,
    /// Whether the child has closed its output.
    is_closed: bool,
    limits: PartLimits,
    bytes: Vec<u8>,
    is_over: bool,
}

/// Runs `job` in a child that leads a session, and returns what it wrote within the limits.
///
/// The job gets a descriptor to write to, and returns its exit code. This process must have one
/// thread.
pub(crate) fn run(limits: PartLimits, job: impl FnOnce(OwnedFd) -> i32) -> PartOutput {
    match start(limits, job) {
        Ok(mut part) => part.wait(),
        Err(errno) => PartOutput { bytes: Vec::new(), end: PartEnd::Failed(errno) },
    }
}

/// Begins what [`run`] does.
pub(crate) fn start(limits: PartLimits, job: impl FnOnce(OwnedFd) -> i32) -> Result<RunningPart, Errno> {
    let (output, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let child = fork_beside(move || {
        let _ = setsid();
        job(writer)
    })?;
    let pidfd = pidfd_open(child, PidfdFlags::empty()).inspect_err(|_| {
        kill(child);
        let _ = waitpid(Some(child), WaitOptions::NOHANG);
    })?;
    Ok(RunningPart { child, pidfd, output, is_closed: false, limits, bytes: Vec::new(), is_over: false })
}

impl RunningPart {
    /// Returns the descriptor that becomes readable when there is something to
    /// [advance](Self::advance).
    pub(crate) fn news(&self) -> &OwnedFd {
        if self.is_closed { &self.pidfd } else { &self.output }
    }

    /// Returns when its time is over.
    pub(crate) fn until(&self) -> Instant {
        self.limits.until
    }

    /// Waits until the work has ended, or until a limit is reached.
    pub(crate) fn wait(&mut self) -> PartOutput {
        loop {
            is_readable(self.news(), self.limits.until);
            if let Some(output) = self.advance() {
                return output;
            }
        }
    }

    /// Reads what there is, without waiting. Returns the output once the work has ended, and when a
    /// limit is reached, which ends it.
    pub(crate) fn advance(&mut self) -> Option<PartOutput> {
        let stopped = loop {
            let now = Instant::now();
            if !is_readable(self.news(), now) {
                if now < self.limits.until {
                    return None;
                }
                break Some(PartEnd::Late);
            }
            if self.is_closed {
                break None;
            }
            if let Some(end) = self.read_some() {
                break Some(end);
            }
        };
        self.is_over = true;
        let end = end(self.child, &self.pidfd, stopped);
        Some(PartOutput { bytes: std::mem::take(&mut self.bytes), end })
    }

    /// Reads once. Returns why nothing more is read, if that is so.
    fn read_some(&mut self) -> Option<PartEnd> {
        let mut buffer = vec![0; CHUNK];
        match read(&self.output, &mut buffer) {
            Ok(0) => self.is_closed = true,
            Ok(length) => self.bytes.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Some(PartEnd::Failed(errno)),
        }
        if self.bytes.len() > self.limits.bytes {
            self.bytes.truncate(self.limits.bytes);
            return Some(PartEnd::TooLong);
        }
        None
    }
}

impl Drop for RunningPart {
    fn drop(&mut self) {
        if !self.is_over {
            end(self.child, &self.pidfd, Some(PartEnd::Late));
        }
    }
}

/// Like [`run`], for a job that writes lines.
pub(super) fn lines(limits: PartLimits, job: impl FnOnce(&mut dyn Write)) -> PartOutput {
    run(limits, |output| {
        let mut output = LineWriter::new(File::from(output));
        job(&mut output);
        i32::from(output.flush().is_err())
    })
}

/// Waits until something can be read, or until `until`.
pub(super) fn is_readable(what: &OwnedFd, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else { return false };
        match poll(&mut [PollFd::new(what, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            other => return other.is_ok_and(|count| count > 0),
        }
    }
}

/// Returns how the child has ended. If it was stopped, it is killed with its process group.
fn end(child: Pid, pidfd: &OwnedFd, stopped: Option<PartEnd>) -> PartEnd {
    if stopped.is_some() {
        kill(child);
        let now = Instant::now();
        is_readable(pidfd, now.checked_add(DEATH).unwrap_or(now));
    }
    // A child that has not ended by now is stuck in the kernel, and is not waited for.
    let status = waitpid(Some(child), WaitOptions::NOHANG);
    if let Some(stopped) = stopped {
        return stopped;
    }
    let status = status.ok().flatten().map(|(_, status)| (status.exit_status(), status.terminating_signal()));
    match status {
        Some((Some(code), _)) => PartEnd::Code(code),
        Some((None, Some(signal))) => PartEnd::Signal(signal),
        Some((None, None)) | None => PartEnd::Late,
    }
}

fn kill(child: Pid) {
    // Until the child has made its process group, the group has no other member.
    let _ = kill_process(child, Signal::KILL);
    let _ = kill_process_group(child, Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A time that no machine needs.
    fn limits(bytes: usize) -> PartLimits {
        PartLimits { until: Instant::now() + Duration::from_mins(5), bytes }
    }

    fn wait_for_ever() {
        loop {
            let _ = poll(&mut [], None);
        }
    }

    #[test]
    fn the_output_of_a_command_that_ends_in_time_is_kept_whole_with_its_exit_code() {
        let output = lines(limits(100), |out| drop(out.write_all(b"one\ntwo")));
        assert_eq!((output.bytes.as_slice(), output.end), (&b"one\ntwo"[..], PartEnd::Code(0)));
        assert_eq!(run(limits(100), |_| 7).end, PartEnd::Code(7));
    }

    #[test]
    fn the_output_of_a_command_that_never_ends_is_kept_and_the_command_is_ended() {
        let until = Instant::now() + Duration::from_millis(300);
        let output = lines(PartLimits { until, bytes: 100 }, |out| {
            let _ = out.write_all(b"first\n");
            wait_for_ever();
        });
        assert_eq!(output.end, PartEnd::Late);
        assert!(b"first\n".starts_with(&output.bytes), "{:?}", output.bytes);
        assert!(Instant::now() >= until);
    }

    #[test]
    fn endless_output_is_cut() {
        let output = run(limits(10_000), |out| {
            while rustix::io::write(&out, &[b'x'; 1000]).is_ok() {}
            0
        });
        assert_eq!((output.bytes.len(), output.end), (10_000, PartEnd::TooLong));
    }

    #[test]
    fn a_command_that_closes_its_output_and_goes_on_is_ended() {
        let output =
            run(PartLimits { until: Instant::now() + Duration::from_millis(300), bytes: 10 }, |out| {
                drop(out);
                wait_for_ever();
                0
            });
        assert_eq!(output.end, PartEnd::Late);
    }
}
