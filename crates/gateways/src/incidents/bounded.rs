//! Work that may never end, in a process of its own: what it wrote as far as it came in time.
//!
//! *Lives here:* the child, its limits, and its end. *Does not live here:* what the work is.
//!
//! Reading about a process can take as long as the process is held in the kernel, and a command as long as it likes.
//! So whoever collects evidence reads nothing itself. A child that cannot even be killed is left behind.

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

/// How long a child that was killed is waited for.
const DEATH: Duration = Duration::from_millis(500);
/// Bytes that are read at once.
const CHUNK: usize = 16 << 10;

/// How much of it there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartLimits {
    pub(super) until: Instant,
    pub(super) bytes: usize,
}

/// How a piece of work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PartEnd {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal, which was not ours.
    Signal(i32),
    /// It wrote more than it may.
    TooLong,
    /// It took longer than it may.
    Late,
    /// It could not be begun.
    Failed(Errno),
}

/// What a piece of work left.
#[derive(Debug)]
pub(super) struct PartOutput {
    pub(super) bytes: Vec<u8>,
    pub(super) end: PartEnd,
}

/// Runs `job` in a child that leads a session, and returns what it wrote within the limits.
///
/// The job gets a descriptor to write to, and returns its exit code. This process must have one thread.
pub(super) fn run(limits: PartLimits, job: impl FnOnce(OwnedFd) -> i32) -> PartOutput {
    match begin(job) {
        Ok((child, output)) => {
            let mut bytes = Vec::new();
            let stopped = collect(&output, limits, &mut bytes);
            PartOutput { bytes, end: end(child, limits.until, stopped) }
        }
        Err(errno) => PartOutput { bytes: Vec::new(), end: PartEnd::Failed(errno) },
    }
}

/// Does what [`run`] does with a job that writes lines.
pub(super) fn lines(limits: PartLimits, job: impl FnOnce(&mut dyn Write)) -> PartOutput {
    run(limits, |output| {
        let mut output = LineWriter::new(File::from(output));
        job(&mut output);
        i32::from(output.flush().is_err())
    })
}

fn begin(job: impl FnOnce(OwnedFd) -> i32) -> Result<(Pid, OwnedFd), Errno> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let child = fork_beside(move || {
        let _ = setsid();
        job(writer)
    })?;
    Ok((child, reader))
}

/// Reads until the end; returns why it stopped before.
fn collect(output: &OwnedFd, limits: PartLimits, bytes: &mut Vec<u8>) -> Option<PartEnd> {
    let mut buffer = vec![0; CHUNK];
    loop {
        if !is_readable(output, limits.until) {
            return Some(PartEnd::Late);
        }
        match read(output, &mut buffer) {
            Ok(0) => return None,
            Ok(length) => bytes.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Some(PartEnd::Failed(errno)),
        }
        if bytes.len() > limits.bytes {
            bytes.truncate(limits.bytes);
            return Some(PartEnd::TooLong);
        }
    }
}

/// Waits until something can be read, or `until` has come.
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

/// Returns how the child ended; it is ended where it goes on beyond its time, with all that is in its group.
fn end(child: Pid, until: Instant, stopped: Option<PartEnd>) -> PartEnd {
    let pidfd = pidfd_open(child, PidfdFlags::empty());
    let is_over = |until: Instant| pidfd.as_ref().is_ok_and(|pidfd| is_readable(pidfd, until));
    // It may have closed its output and go on without.
    let is_late = stopped.is_some() || !is_over(until);
    if is_late {
        kill(child);
        let now = Instant::now();
        is_over(now.checked_add(DEATH).unwrap_or(now));
    }
    // Only what is stuck in the kernel has not ended by now; nobody waits for that.
    let status = waitpid(Some(child), WaitOptions::NOHANG);
    if is_late {
        return stopped.unwrap_or(PartEnd::Late);
    }
    let status = status.ok().flatten().map(|(_, status)| (status.exit_status(), status.terminating_signal()));
    match status {
        Some((Some(code), _)) => PartEnd::Code(code),
        Some((None, Some(signal))) => PartEnd::Signal(signal),
        Some((None, None)) | None => PartEnd::Late,
    }
}

fn kill(child: Pid) {
    // Before it has made the group there is only itself.
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
    fn what_ends_in_time_is_there_whole_with_its_code() {
        let output = lines(limits(100), |out| drop(out.write_all(b"one\ntwo")));
        assert_eq!((output.bytes.as_slice(), output.end), (&b"one\ntwo"[..], PartEnd::Code(0)));
        assert_eq!(run(limits(100), |_| 7).end, PartEnd::Code(7));
    }

    #[test]
    fn what_never_ends_is_there_as_far_as_it_came_and_has_ended() {
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
    fn what_writes_without_end_is_cut() {
        let output = run(limits(10_000), |out| {
            while rustix::io::write(&out, &[b'x'; 1000]).is_ok() {}
            0
        });
        assert_eq!((output.bytes.len(), output.end), (10_000, PartEnd::TooLong));
    }

    #[test]
    fn what_closes_its_output_and_goes_on_is_ended() {
        let output =
            run(PartLimits { until: Instant::now() + Duration::from_millis(300), bytes: 10 }, |out| {
                drop(out);
                wait_for_ever();
                0
            });
        assert_eq!(output.end, PartEnd::Late);
    }
}
