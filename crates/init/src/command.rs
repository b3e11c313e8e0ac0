//! The container's command: started when every service that is there is supervised, and never
//! started again. With its end the container ends.
//!
//! *Lives here:* its process, its terminal, its signals, and the exit code that follows from its
//! end.
//! *Does not live here:* which program a container's arguments mean, and as whom it runs: that is
//! decided in the process itself, by what is executed.

use std::ffi::CString;
use std::os::fd::AsFd;

use gatevisor_sys::{process, signal};
use gatevisor_wire::Pid;
use gatevisor_wire::wait::WaitStatus;
use rustix::process::{Signal, getpid, setsid};

use crate::kill::kill;
use crate::spawner::Spawner;
use crate::stderr_log::say;

/// The command's file exists and cannot be executed.
const NOT_EXECUTABLE: i32 = 126;
/// The command's file does not exist.
const NOT_FOUND: i32 = 127;

/// What a supervisor is besides when it is the first process of a container.
#[derive(Debug)]
pub struct Container {
    /// The command with its arguments, the first one a path; empty for a container that only
    /// serves.
    pub command: Vec<CString>,
    /// What the names of the services begin with that are stopped before the command.
    pub stop_first: Vec<u8>,
}

/// The command's process.
#[derive(Debug, Default)]
pub(crate) struct ContainerCommand {
    /// The command with its arguments; empty for a container that only serves, and none elsewhere.
    argv: Option<Vec<CString>>,
    /// It has been started, or there is none.
    started: bool,
    pid: Option<Pid>,
    ended: Option<WaitStatus>,
    /// Which signal asked us to stop, if one did.
    asked: Option<i32>,
    /// Which signal we told it to stop with.
    told: Option<i32>,
}

/// What the command has to do to have a terminal with job control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommandTerminal {
    /// Nothing: standard input is no terminal.
    None,
    /// To lead a session of its own that takes the terminal, which no session has.
    Take,
    /// To be the foreground group in our session, whose leader keeps the terminal.
    Foreground,
}

impl CommandTerminal {
    fn of_stdin() -> Self {
        let stdin = std::io::stdin();
        if !rustix::termios::isatty(&stdin) {
            Self::None
        } else if rustix::termios::tcgetpgrp(&stdin).is_ok() {
            Self::Foreground
        } else {
            Self::Take
        }
    }

    /// Takes the terminal, in the process that shall have it; one that cannot be had is none.
    fn take(self) {
        let stdin = std::io::stdin();
        if self == Self::Foreground {
            // All signals are blocked, so the terminal does not stop us for being in the
            // background.
            if rustix::process::setpgid(None, None).is_ok() {
                let _ = rustix::termios::tcsetpgrp(&stdin, getpid());
            }
            return;
        }
        let _ = setsid();
        if self == Self::Take {
            let _ = rustix::process::ioctl_tiocsctty(stdin.as_fd());
        }
    }
}

/// Gives the terminal up where this process leads the session that has it, so that the command can
/// have it.
///
/// Call it before signals are listened to: the kernel sends SIGHUP to a process that gives up its
/// terminal.
pub(crate) fn give_up_terminal() {
    if process::leads_session(getpid()) {
        signal::ignore(signal::SIGHUP);
        signal::ignore(signal::SIGCONT);
        process::give_up_terminal();
        signal::restore(signal::SIGCONT);
        signal::restore(signal::SIGHUP);
    }
}

impl ContainerCommand {
    pub(crate) fn new(container: Option<&Container>) -> Self {
        Self { argv: container.map(|container| container.command.clone()), ..Self::default() }
    }

    /// Returns whether it is still to be started.
    pub(crate) fn is_due(&self) -> bool {
        self.argv.is_some() && !self.started
    }

    /// Starts the command, if there is one; returns false where that failed, which is its end.
    pub(crate) fn start(&mut self, spawner: &Spawner) -> bool {
        self.started = true;
        let Some(argv) = self.argv.as_ref().filter(|argv| !argv.is_empty()) else { return true };
        let terminal = CommandTerminal::of_stdin();
        let forked = process::fork_child(|| {
            terminal.take();
            let errno = spawner.become_command(argv);
            let program = argv.first().map(|program| program.to_string_lossy()).unwrap_or_default();
            say!("fatal: cannot execute `{program}`: {errno}");
            if errno == gatevisor_sys::Errno::NOENT { NOT_FOUND } else { NOT_EXECUTABLE }
        });
        match forked {
            Ok(pid) => self.pid = Pid::new(pid.as_raw_nonzero().get()),
            Err(errno) => {
                say!("fatal: cannot start the command: {errno}");
                self.ended = Some(WaitStatus::from_raw(111 << 8));
            }
        }
        forked.is_ok()
    }

    /// Returns whether the command runs.
    pub(crate) fn is_running(&self) -> bool {
        self.pid.is_some()
    }

    /// Returns whether this is the command's process.
    pub(crate) fn is(&self, pid: Pid) -> bool {
        self.pid == Some(pid)
    }

    /// Takes in that a process has ended; returns false where it was not the command's.
    pub(crate) fn ended(&mut self, pid: Pid, how: WaitStatus) -> bool {
        let was_it = self.is(pid);
        if was_it {
            self.pid = None;
            self.ended = Some(how);
        }
        was_it
    }

    /// Hands a signal on to the command; returns false where it means something to us instead.
    pub(crate) fn forward(&self, number: i32) -> bool {
        let meant_for_it = matches!(
            number,
            signal::SIGHUP | signal::SIGQUIT | signal::SIGUSR1 | signal::SIGUSR2 | signal::SIGWINCH
        );
        let has_one = self.argv.as_ref().is_some_and(|argv| !argv.is_empty());
        if !(meant_for_it && has_one) {
            return false;
        }
        self.signal(number);
        true
    }

    /// Takes in which signal asks for the end.
    pub(crate) fn asked_to_stop(&mut self, number: i32) {
        self.asked.get_or_insert(number);
    }

    /// Tells the command to end, once, with the signal that asked us to, and SIGTERM where none
    /// did.
    pub(crate) fn stop(&mut self) {
        if self.told.is_none() {
            let number = self.asked.unwrap_or(signal::SIGTERM);
            self.told = Some(number);
            self.signal(number);
            self.signal(signal::SIGCONT);
        }
    }

    /// Ends the command without asking.
    pub(crate) fn kill(&self) {
        self.signal(signal::SIGKILL);
    }

    fn signal(&self, number: i32) {
        // It is not reaped yet, so the number is still its own.
        let pid = self.pid.and_then(|pid| rustix::process::Pid::from_raw(pid.get()));
        if let (Some(pid), Some(number)) = (pid, Signal::from_named_raw(number)) {
            kill(pid, number, false);
        }
    }

    /// Returns the exit code of the container.
    pub(crate) fn exit_code(&self) -> u8 {
        exit_code(self.ended, self.asked.and(self.told))
    }
}

/// Returns the exit code for a command that ended like this, where `told` is the signal that
/// somebody outside asked that it end with.
///
/// **Source:** PID-3; STOP-2: what was asked for, and happened, is no failure.
fn exit_code(ended: Option<WaitStatus>, told: Option<i32>) -> u8 {
    let Some(how) = ended else { return 0 };
    match how.signal() {
        Some(number) if told == Some(i32::from(number)) => 0,
        Some(number) => number.saturating_add(128),
        None => how.exit_code().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::exit_code;
    use gatevisor_sys::signal::{SIGINT, SIGKILL, SIGTERM};
    use gatevisor_wire::wait::WaitStatus;

    #[test]
    fn the_container_ends_as_its_command_did() {
        let exited = |code: i32| Some(WaitStatus::from_raw(code << 8));
        let killed = |number: i32| Some(WaitStatus::from_raw(number));
        for (ended, told, expected) in [
            (None, None, 0),
            (exited(0), None, 0),
            (exited(42), None, 42),
            (exited(42), Some(SIGTERM), 42),
            (killed(SIGTERM), None, 143),
            (killed(SIGKILL), None, 137),
            (killed(SIGTERM), Some(SIGTERM), 0),
            (killed(SIGINT), Some(SIGINT), 0),
            (killed(SIGKILL), Some(SIGTERM), 137),
        ] {
            assert_eq!(exit_code(ended, told), expected, "{ended:?} {told:?}");
        }
    }
}
