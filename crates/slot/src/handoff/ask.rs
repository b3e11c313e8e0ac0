//! The short program that asks a service that has ended whether it wants to be started again.
//!
//! *Lives here:* executing the command in `run` with a time limit, and reading its output.
//! *Does not live here:* the meaning of an answer.
//!
//! Its exit code stands for the answer. It writes the same to standard error, which is the
//! supervisor's.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use gatevisor_sys::Errno;
use gatevisor_sys::clock::{monotonic_ms, timespec};
use gatevisor_sys::process::fork_beside;
use gatevisor_sys::signal::{SIGTERM, SignalFd, unblock_all};
use gatevisor_wire::exit::Exit;
use gatevisor_wire::handoff::HandoffAnswer;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process_group, pidfd_open, pidfd_send_signal, setsid, waitpid,
};

use super::{Handoff, MAX_ANSWER};
use crate::failure::one_line;
use crate::interpreter::AskedService;
use crate::os;

/// The script with the settings for asking.
const RUN: &str = "run";
/// Exit codes of a child that could not become the command.
const NOT_EXECUTED: [i32; 4] =
    [Exit::NotExecutable as i32, Exit::NotFound as i32, Exit::System as i32, Exit::Usage as i32];

/// Asks the service in whose directory this runs whether it wants to be started again. The exit
/// code stands for the answer.
///
/// `args` are the service's name, the number of the process that ended, and its exit code.
pub fn run_ask_handoff(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = args.into_iter().collect();
    let [name, pid, code] = words.as_slice() else {
        os::say("gatevisor: ask-handoff: only the supervisor calls this");
        return Exit::Usage.into();
    };
    let known = vec![
        ("GATEVISOR_HANDOFF_PID".to_owned(), pid.clone()),
        ("GATEVISOR_HANDOFF_CODE".to_owned(), code.clone()),
    ];
    let (answer, said) = ask(known);
    let about = format!("exit code {} of process {}", code.to_string_lossy(), pid.to_string_lossy());
    let result = match answer {
        HandoffAnswer::Restart => "it wants to be started again".to_owned(),
        HandoffAnswer::Stop => "it ended on purpose".to_owned(),
        _ => answer.problem().unwrap_or_default().to_owned(),
    };
    let line = format!("gatevisor: {}: asked after {about}: {result} ({said})", name.to_string_lossy());
    os::say(&one_line(&line));
    ExitCode::from(answer.code())
}

/// Returns the answer, and the text that decided or the reason why there is no answer.
fn ask(known: Vec<(String, OsString)>) -> (HandoffAnswer, String) {
    let service = match AskedService::read(Path::new(RUN)) {
        Ok(service) => service,
        Err(why) => return (HandoffAnswer::NoCommand, why),
    };
    let Some(handoff) = service.handoff() else {
        return (HandoffAnswer::NoCommand, "there is no [handoff]".to_owned());
    };
    match HandoffCommand::begin(&service, handoff, known) {
        Ok(mut inquiry) => inquiry.answer(handoff),
        Err(errno) => (HandoffAnswer::Failed, os::words(errno)),
    }
}

/// The running command.
struct HandoffCommand {
    pid: Pid,
    ended: OwnedFd,
    /// `None` when the command has closed it.
    output: Option<OwnedFd>,
    told_to_end: SignalFd,
    until_ms: u64,
    said: Vec<u8>,
}

/// The reason for the end of the wait for the command.
enum WaitEnd {
    Ended,
    TimedOut,
    TooMuch,
    ToldToEnd,
}

impl HandoffCommand {
    /// The command leads a session of its own, so that all its processes can be ended.
    fn begin(
        service: &AskedService,
        handoff: &Handoff,
        known: Vec<(String, OsString)>,
    ) -> Result<Self, Errno> {
        let told_to_end = SignalFd::new(&[SIGTERM])?;
        let (output, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let pid = fork_beside(|| become_command(service, handoff, known, &writer))?;
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        let until_ms = monotonic_ms().saturating_add(handoff.timeout_ms);
        let output = Some(output);
        Ok(Self { pid, ended, output, told_to_end, until_ms, said: Vec::new() })
    }

    fn answer(&mut self, handoff: &Handoff) -> (HandoffAnswer, String) {
        let end = self.wait();
        self.end_all();
        match end {
            Ok(WaitEnd::Ended) => self.understand(handoff),
            Ok(WaitEnd::TimedOut) => self.late(handoff),
            Ok(WaitEnd::TooMuch) => {
                (HandoffAnswer::NotUnderstood, format!("it printed more than {MAX_ANSWER} bytes"))
            }
            Ok(WaitEnd::ToldToEnd) => (HandoffAnswer::Failed, "somebody has decided meanwhile".to_owned()),
            Err(errno) => (HandoffAnswer::Failed, os::words(errno)),
        }
    }

    /// Returns the answer of a command that was killed. That the handoff was taken counts, because
    /// no other question finds it. Anything else may be the beginning of an output, so it is asked
    /// again.
    fn late(&mut self, handoff: &Handoff) -> (HandoffAnswer, String) {
        let _ = self.read();
        let killed = format!("it was killed after {} ms", handoff.timeout_ms);
        match handoff.understand(&self.said) {
            (HandoffAnswer::Restart, Some(text)) => (HandoffAnswer::Restart, format!("{text}; {killed}")),
            _ => (HandoffAnswer::TimedOut, killed),
        }
    }

    fn understand(&self, handoff: &Handoff) -> (HandoffAnswer, String) {
        let status = waitpid(Some(self.pid), WaitOptions::empty()).ok().flatten();
        let code = status.and_then(|(_, status)| status.exit_status());
        if self.said.is_empty() && code.is_some_and(|code| NOT_EXECUTED.contains(&code)) {
            return (HandoffAnswer::NotExecuted, "see the line before".to_owned());
        }
        let (answer, text) = handoff.understand(&self.said);
        let said = text.unwrap_or_else(|| {
            let code = code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
            format!("no JSON object with `{}`; it ended with {code}", handoff.answer)
        });
        (answer, said)
    }

    /// Reads the command's output until it has ended.
    fn wait(&mut self) -> Result<WaitEnd, Errno> {
        loop {
            let now_ms = monotonic_ms();
            let Some(left_ms) = self.until_ms.checked_sub(now_ms).filter(|left| *left > 0) else {
                return Ok(WaitEnd::TimedOut);
            };
            let (output, ended, told) = self.look(left_ms)?;
            if told {
                return Ok(WaitEnd::ToldToEnd);
            }
            // The output is in the pipe when the end of the command is seen.
            if (output || ended) && !self.read()? {
                return Ok(WaitEnd::TooMuch);
            }
            if ended {
                return Ok(WaitEnd::Ended);
            }
        }
    }

    /// Waits for an event: output, the end, a request to end.
    fn look(&self, left_ms: u64) -> Result<(bool, bool, bool), Errno> {
        let mut fds =
            vec![PollFd::new(&self.ended, PollFlags::IN), PollFd::new(&self.told_to_end, PollFlags::IN)];
        fds.extend(self.output.iter().map(|output| PollFd::new(output, PollFlags::IN)));
        match poll(&mut fds, Some(&timespec(left_ms))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let happened = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok((happened(2), happened(0), happened(1)))
    }

    /// Reads the available output; returns whether there may be more.
    fn read(&mut self) -> Result<bool, Errno> {
        let mut buffer = [0; 4096];
        while let Some(output) = &self.output {
            match rustix::io::read(output, &mut buffer) {
                Err(Errno::AGAIN) => break,
                Ok(0) => self.output = None,
                Ok(count) => self.said.extend(buffer.iter().take(count)),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            if self.said.len() > MAX_ANSWER {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Kills the command with all processes that it started. Its number stays reserved until it is
    /// reaped.
    fn end_all(&self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
        // It may not lead a group yet.
        let _ = pidfd_send_signal(&self.ended, Signal::KILL);
    }
}

/// Becomes the command in a child; returns an exit code if that fails.
fn become_command(
    service: &AskedService,
    handoff: &Handoff,
    known: Vec<(String, OsString)>,
    output: &OwnedFd,
) -> i32 {
    let _ = setsid();
    unblock_all();
    if let Err(errno) = rustix::stdio::dup2_stdout(output.as_fd()) {
        os::say(&format!("gatevisor: cannot ask: {}", os::words(errno)));
        return Exit::System as i32;
    }
    service.become_question(handoff, known)
}
