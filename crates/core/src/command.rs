//! The command of a container. The container ends when its command ends.
//!
//! *Lives here:* when the command is started, which signal it receives at the end, and the exit
//! code of the container.
//! *Does not live here:* its process and its terminal.

use gatevisor_wire::exit::Exit;
use gatevisor_wire::wait::WaitStatus;
use gatevisor_wire::{Pid, signal};

/// The exit code of a container whose command could not be started.
const CANNOT_START: u8 = Exit::System.code();

/// The state of the command. It is started once, and never again.
#[derive(Debug)]
pub struct CommandMachine {
    is_due: bool,
    pid: Option<Pid>,
    ended: Option<WaitStatus>,
    /// The signal that asked the supervisor to stop, if one did.
    asked: Option<u8>,
    /// The signal that was sent to the command to stop it.
    told: Option<u8>,
}

impl CommandMachine {
    /// Returns the state of a command that will be started when all services are supervised.
    /// Outside a container there is no command.
    pub fn new(is_container: bool) -> Self {
        Self { is_due: is_container, pid: None, ended: None, asked: None, told: None }
    }

    /// Returns whether to start the command now. This happens once, when every existing service is
    /// supervised.
    pub fn starts(&mut self, is_settled: bool) -> bool {
        is_settled && std::mem::take(&mut self.is_due)
    }

    /// Notes the command's process; `None` if it could not be started.
    pub fn started(&mut self, pid: Option<Pid>) {
        self.pid = pid;
        if pid.is_none() {
            self.ended = Some(WaitStatus::exited(CANNOT_START));
        }
    }

    /// Returns whether the command has ended or could not be started, so that the container ends.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Returns the command's process while it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// Notes that a process has ended; returns whether it was the command's.
    pub fn ended(&mut self, pid: Pid, how: WaitStatus) -> bool {
        let is_its_own = self.pid.take_if(|own| *own == pid).is_some();
        if is_its_own {
            self.ended = Some(how);
        }
        is_its_own
    }

    /// Notes the signal that asks for the end of the container. Only the first one counts.
    pub fn asked_to_stop(&mut self, number: u8) {
        self.asked.get_or_insert(number);
    }

    /// Returns the signal with which to stop the command, once. It is the one that asked for the
    /// end of the container, if there was one.
    pub fn stop(&mut self) -> Option<u8> {
        let is_first = self.told.is_none();
        let number = *self.told.get_or_insert(self.asked.unwrap_or(signal::TERM));
        is_first.then_some(number)
    }

    /// Returns the exit code of the container.
    ///
    /// **Source:** PID-3; STOP-2: an end that was requested from outside and happened is not a
    /// failure.
    pub fn exit_code(&self) -> u8 {
        let Some(how) = self.ended else { return 0 };
        match how.signal() {
            Some(number) if self.asked.is_some() && self.told == Some(number) => 0,
            Some(number) => number.saturating_add(128),
            None => how.exit_code().unwrap_or(0),
        }
    }
}
