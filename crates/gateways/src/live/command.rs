//! *Lives here:* asking a command whether a gateway works, without waiting for it.
//!
//! *Does not live here:* asking the gateway itself (see `probe`), and when either is asked.

use std::os::fd::{AsFd, OwnedFd};

use gatevisor_liveness::EvidenceKind;
use gatevisor_sys::process::fork_beside;
use gatevisor_wire::exit::Exit;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process_group, pidfd_open, pidfd_send_signal,
    setsid, waitpid,
};

use super::probe::ProbeAnswer;
use crate::incidents::{Evidence, become_command};

/// The exit code of a child that could not become the command.
const CANNOT: i32 = Exit::NotExecutable.status();
/// How long to wait for the end of a command that was killed.
const REAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A command that was started as a question.
#[derive(Debug)]
pub(super) struct CommandProbe {
    pid: Pid,
    ended: OwnedFd,
    until_ms: u64,
    timeout_ms: u64,
    is_over: bool,
}

impl CommandProbe {
    /// Starts the command. It leads a session of its own, so that all of it can be ended.
    pub fn new(command: &Evidence, now_ms: u64) -> Result<Self, Errno> {
        let pid = fork_beside(|| {
            let _ = setsid();
            let Ok(null) = openat(CWD, c"/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) else {
                return CANNOT;
            };
            let _why = become_command(command, &[], &null);
            CANNOT
        })?;
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        let timeout_ms = command.timeout_ms;
        Ok(Self { pid, ended, until_ms: now_ms.saturating_add(timeout_ms), timeout_ms, is_over: false })
    }

    /// Returns when the command is given up.
    pub const fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Returns the descriptor to poll.
    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::from_borrowed_fd(self.ended.as_fd(), PollFlags::IN)
    }

    /// Returns the answer if there is one.
    pub fn step(&mut self, now_ms: u64) -> Option<ProbeAnswer> {
        let kind = EvidenceKind::Command;
        if poll(&mut [self.poll_fd()], Some(&Timespec::default())) == Ok(1) {
            // No other process can get its number before it is reaped.
            self.end_the_rest();
        }
        match waitpid(Some(self.pid), WaitOptions::NOHANG) {
            Ok(None) if now_ms < self.until_ms => None,
            Ok(None) => Some(ProbeAnswer::None(format!("{kind}: no end for {} ms", self.timeout_ms))),
            Ok(Some((_, status))) => {
                self.is_over = true;
                Some(answer(status))
            }
            Err(errno) => Some(ProbeAnswer::None(format!("{kind}: {errno}"))),
        }
    }
}

impl CommandProbe {
    /// Kills the processes that it started.
    fn end_the_rest(&self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
    }
}

impl Drop for CommandProbe {
    fn drop(&mut self) {
        if !self.is_over {
            self.end_the_rest();
            // It may not lead a group yet.
            let _ = pidfd_send_signal(&self.ended, Signal::KILL);
            let _ = poll(&mut [self.poll_fd()], Some(&REAP));
            let _ = waitpid(Some(self.pid), WaitOptions::NOHANG);
        }
    }
}

fn answer(status: WaitStatus) -> ProbeAnswer {
    let kind = EvidenceKind::Command;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => ProbeAnswer::Alive,
        (Some(code), _) => ProbeAnswer::None(format!("{kind}: exit {code}")),
        (None, signal) => {
            ProbeAnswer::None(format!("{kind}: ended by signal {}", signal.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(script: &str, timeout_ms: u64) -> (ProbeAnswer, u64) {
        let argv = ["sh", "-c", script].map(Into::into).to_vec();
        let command = Evidence { argv, directory: "/".into(), timeout_ms };
        let mut probe = CommandProbe::new(&command, 0).unwrap();
        let mut now_ms = 0;
        loop {
            if let Some(answer) = probe.step(now_ms) {
                return (answer, now_ms);
            }
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            if poll(&mut [probe.poll_fd()], Some(&second)) == Ok(0) {
                now_ms += 1000;
            }
        }
    }

    #[test]
    fn a_command_that_ends_with_0_says_that_it_works_and_another_end_says_not() {
        assert_eq!(ask("exit 0", 600_000).0, ProbeAnswer::Alive);
        assert_eq!(ask("exit 3", 600_000).0, ProbeAnswer::None("command: exit 3".to_owned()));
        assert_eq!(ask("kill -9 $$", 600_000).0, ProbeAnswer::None("command: ended by signal 9".to_owned()));
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_with_all_that_it_started() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("pid");
        let script = format!("sleep 1000 & echo $! >{}; wait", file.display());
        // By then it has begun, because asking takes a second.
        let (answer, _) = ask(&script, 1000);
        assert_eq!(answer, ProbeAnswer::None("command: no end for 1000 ms".to_owned()));
        let Ok(pid) = std::fs::read_to_string(&file).unwrap_or_default().trim().parse::<i32>() else {
            return;
        };
        let Ok(fd) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else { return };
        let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&minute)), Ok(1));
    }
}
