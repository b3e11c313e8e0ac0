//! The container's command. It is started when every existing service is supervised, and never
//! again. The container ends when it ends.
//!
//! *Lives here:* its process, its terminal, and sending it signals.
//! *Does not live here:* which signals, and the exit code (`gatevisor_core::command`); which
//! program the container's arguments mean, and which user it runs as: the executed program decides
//! that.

use std::ffi::CString;
use std::os::fd::AsFd;

use gatevisor_core::command::CommandMachine;
use gatevisor_sys::{process, signal};
use gatevisor_wire::exit::Exit;
use gatevisor_wire::{Pid, signal as number};
use rustix::process::{Signal, getpid, setsid};

use crate::config::Container;
use crate::kill::kill;
use crate::spawner::Spawner;
use crate::stderr_log::say;

/// The command's process.
#[derive(Debug)]
pub(crate) struct ContainerCommand {
    /// The command with its arguments; empty if there is none.
    argv: Vec<CString>,
    machine: CommandMachine,
}

/// How the command gets a terminal with job control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommandTerminal {
    /// Not at all: standard input is not a terminal.
    None,
    /// It leads a new session that takes the terminal, which no session has.
    Take,
    /// It is the foreground group in our session, whose leader keeps the terminal.
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

    /// Takes the terminal, in the command's process. A failure is ignored.
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

/// Gives up the terminal if this process leads the terminal's session, so that the command can have
/// it.
///
/// Call it before signals are read: the kernel sends SIGHUP to a process that gives up its
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
        let argv = container.map(|container| container.command.clone()).unwrap_or_default();
        Self { argv, machine: CommandMachine::new(container.is_some()) }
    }

    /// Starts the command when everything `is_settled`; returns whether it did so now.
    pub(crate) fn start(&mut self, spawner: &Spawner, is_settled: bool) -> bool {
        let starts = self.machine.starts(is_settled);
        if starts && let Some(program) = self.argv.first() {
            let terminal = CommandTerminal::of_stdin();
            let forked = process::fork_child(|| {
                terminal.take();
                let errno = spawner.become_command(&self.argv);
                say!("fatal: cannot execute `{}`: {errno}", program.to_string_lossy());
                let is_missing = errno == gatevisor_sys::Errno::NOENT;
                if is_missing { Exit::NotFound.status() } else { Exit::NotExecutable.status() }
            });
            if let Err(errno) = &forked {
                say!("fatal: cannot start the command: {errno}");
            }
            self.machine.started(forked.ok().and_then(|pid| Pid::new(pid.as_raw_nonzero().get())));
        }
        starts
    }

    /// Returns the machine that decides about it.
    pub(crate) fn machine(&mut self) -> &mut CommandMachine {
        &mut self.machine
    }

    /// Returns its process while it runs.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.machine.pid()
    }

    /// Returns the exit code of the container.
    pub(crate) fn exit_code(&self) -> u8 {
        self.machine.exit_code()
    }

    /// Stops the command.
    pub(crate) fn stop(&mut self) {
        if let Some(number) = self.machine.stop() {
            self.signal(number);
            self.signal(number::CONT);
        }
    }

    /// Sends the command a signal.
    pub(crate) fn signal(&self, number: u8) {
        // It is not reaped yet, so the number is still its own.
        let pid = self.pid().and_then(|pid| rustix::process::Pid::from_raw(pid.get()));
        if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(i32::from(number))) {
            kill(pid, signal, false);
        }
    }
}
