//! Requests to the supervisor itself, by a signal or by a command in its own FIFO.
//!
//! *Lives here:* the meaning of each signal and each command, which signals run a script of the
//! scandir instead, and whose commands to end the supervisor are not obeyed.
//! *Does not live here:* receiving signals and commands, running scripts, and carrying out a
//! request.
//!
//! **Source:** s6-svscan(8), <https://skarnet.org/software/s6/s6-svscan.html>

use std::ffi::CStr;

use gatevisor_wire::scan::ScanCommand;
use gatevisor_wire::signal;

use crate::scan_queue::ScanScope;

/// Every signal that means something to the supervisor.
pub const SIGNALS: [u8; 11] = [
    signal::CHLD,
    signal::TERM,
    signal::INT,
    signal::QUIT,
    signal::HUP,
    signal::ALRM,
    signal::ABRT,
    signal::USR1,
    signal::USR2,
    signal::PWR,
    signal::WINCH,
];

/// A request to the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SupervisorRequest {
    /// Nothing.
    Ignore,
    /// Scan the scandir.
    Scan(ScanScope),
    /// Reap the processes that have ended.
    Reap,
    /// Shut down. If a signal asked, the container's command is stopped with the same signal.
    ShutDown(Option<u8>),
    /// Shut down, and make loggers end at once.
    Quit,
    /// End, and leave everything as it is.
    Abandon,
    /// Pass the signal on to the container's command.
    Forward(u8),
    /// Report that a command to end is not obeyed.
    SayNotObeyed,
}

/// The facts that determine the meaning of a request.
#[derive(Debug)]
pub struct RequestPolicy {
    is_container: bool,
    has_command: bool,
    has_refused: bool,
}

impl RequestPolicy {
    /// Returns the policy of a supervisor. `command` is `None` outside a container; in a container
    /// it tells whether there is a command.
    pub fn new(command: Option<bool>) -> Self {
        Self { is_container: command.is_some(), has_command: command == Some(true), has_refused: false }
    }

    /// Returns the request of a signal.
    pub fn signal(&self, number: u8) -> SupervisorRequest {
        match number {
            signal::HUP | signal::QUIT | signal::USR1 | signal::USR2 | signal::WINCH if self.has_command => {
                SupervisorRequest::Forward(number)
            }
            signal::HUP => SupervisorRequest::Scan(ScanScope::Whole),
            signal::ALRM => SupervisorRequest::Scan(ScanScope::Changes),
            signal::TERM | signal::INT => SupervisorRequest::ShutDown(Some(number)),
            // LXC and power buttons send it.
            signal::PWR if self.is_container => SupervisorRequest::ShutDown(Some(signal::TERM)),
            signal::QUIT => SupervisorRequest::Quit,
            signal::ABRT => SupervisorRequest::Abandon,
            // The dead are reaped after every signal anyway.
            _ => SupervisorRequest::Ignore,
        }
    }

    /// Returns the request of a command from the supervisor's own FIFO.
    ///
    /// `is_open` tells whether users besides root may write to the FIFO of root's supervisor. Every
    /// such user may ask for scans, and root ends the supervisor with a signal.
    pub fn command(&mut self, command: ScanCommand, is_open: impl FnOnce() -> bool) -> SupervisorRequest {
        let request = match command {
            ScanCommand::Rescan | ScanCommand::NukeGone | ScanCommand::NukeGoneAndLoggers => {
                return SupervisorRequest::Scan(ScanScope::Changes);
            }
            ScanCommand::Hangup => return SupervisorRequest::Scan(ScanScope::Whole),
            ScanCommand::Reap => return SupervisorRequest::Reap,
            ScanCommand::Terminate | ScanCommand::Interrupt => SupervisorRequest::ShutDown(None),
            ScanCommand::Quit => SupervisorRequest::Quit,
            ScanCommand::Abort => SupervisorRequest::Abandon,
        };
        if !is_open() {
            request
        } else if std::mem::replace(&mut self.has_refused, true) {
            SupervisorRequest::Ignore
        } else {
            SupervisorRequest::SayNotObeyed
        }
    }
}

/// Returns the script of the scandir that runs instead of a signal's own request, if it exists and
/// may run.
pub fn script_of(number: u8) -> Option<&'static CStr> {
    Some(match number {
        signal::TERM => c".s6-svscan/SIGTERM",
        signal::INT => c".s6-svscan/SIGINT",
        signal::QUIT => c".s6-svscan/SIGQUIT",
        signal::HUP => c".s6-svscan/SIGHUP",
        signal::USR1 => c".s6-svscan/SIGUSR1",
        signal::USR2 => c".s6-svscan/SIGUSR2",
        signal::PWR => c".s6-svscan/SIGPWR",
        signal::WINCH => c".s6-svscan/SIGWINCH",
        _ => return None,
    })
}
