//! *Lives here:* the alphabet of `supervise/control`, one byte a command.
//!
//! *Does not live here:* the effect of a command, which `core` decides.

use crate::signal;

/// A signal that a control byte can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControlSignal {
    /// `a`: SIGALRM.
    Alarm,
    /// `b`: SIGABRT.
    Abort,
    /// `q`: SIGQUIT.
    Quit,
    /// `h`: SIGHUP.
    Hangup,
    /// `k`: SIGKILL.
    Kill,
    /// `t`: SIGTERM.
    Terminate,
    /// `i`: SIGINT.
    Interrupt,
    /// `1`: SIGUSR1.
    User1,
    /// `2`: SIGUSR2.
    User2,
    /// `p`: SIGSTOP, and the service counts as paused.
    Stop,
    /// `c`: SIGCONT, and the service no longer counts as paused.
    Continue,
    /// `y`: SIGWINCH.
    WindowChange,
}

impl ControlSignal {
    /// Every signal of the alphabet, in the order in which `s6-svc` lists them.
    pub const ALL: [Self; 12] = [
        Self::Alarm,
        Self::Abort,
        Self::Quit,
        Self::Hangup,
        Self::Kill,
        Self::Terminate,
        Self::Interrupt,
        Self::User1,
        Self::User2,
        Self::Stop,
        Self::Continue,
        Self::WindowChange,
    ];

    /// Returns the control byte.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Alarm => b'a',
            Self::Abort => b'b',
            Self::Quit => b'q',
            Self::Hangup => b'h',
            Self::Kill => b'k',
            Self::Terminate => b't',
            Self::Interrupt => b'i',
            Self::User1 => b'1',
            Self::User2 => b'2',
            Self::Stop => b'p',
            Self::Continue => b'c',
            Self::WindowChange => b'y',
        }
    }

    /// Returns the signal's number on Linux.
    pub const fn number(self) -> u8 {
        match self {
            Self::Alarm => signal::ALRM,
            Self::Abort => signal::ABRT,
            Self::Quit => signal::QUIT,
            Self::Hangup => signal::HUP,
            Self::Kill => signal::KILL,
            Self::Terminate => signal::TERM,
            Self::Interrupt => signal::INT,
            Self::User1 => signal::USR1,
            Self::User2 => signal::USR2,
            Self::Stop => signal::STOP,
            Self::Continue => signal::CONT,
            Self::WindowChange => signal::WINCH,
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::Alarm => "send SIGALRM to the service",
            Self::Abort => "send SIGABRT to the service",
            Self::Quit => "send SIGQUIT to the service",
            Self::Hangup => "send SIGHUP to the service",
            Self::Kill => "send SIGKILL to the service",
            Self::Terminate => "send SIGTERM to the service",
            Self::Interrupt => "send SIGINT to the service",
            Self::User1 => "send SIGUSR1 to the service",
            Self::User2 => "send SIGUSR2 to the service",
            Self::Stop => "pause the service with SIGSTOP",
            Self::Continue => "continue the paused service with SIGCONT",
            Self::WindowChange => "send SIGWINCH to the service",
        }
    }
}

/// A command to the supervisor of one service.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svc.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Control {
    /// `u`: wanted up; started if it is down, restarted when it dies.
    Up,
    /// `d`: wanted down; down-signal then SIGCONT if it is up, not restarted.
    Down,
    /// `o`: started if it is down, and not restarted when it dies.
    Once,
    /// `U`: as `u`, and the `down` file is removed.
    UpAndEnable,
    /// `D`: as `d`, and the `down` file is made.
    DownAndDisable,
    /// `x`: supervision ends once the service is down.
    Exit,
    /// `O`: not restarted after the next death.
    NoRestart,
    /// `Q`: as `O`, and the `down` file is made.
    NoRestartAndDisable,
    /// `a b q h k t i 1 2 p c y`: a signal to the service's process.
    Signal(ControlSignal),
    /// `r`: the down-signal, without wanting the service down.
    DownSignal,
    /// `l`: the reload-signal.
    Reload,
    /// `P`: SIGSTOP to the service's process group.
    StopGroup,
    /// `C`: SIGCONT to the service's process group.
    ContinueGroup,
    /// `K`: SIGKILL to the service's process group.
    KillGroup,
}

impl Control {
    /// Every command, requests first.
    pub const ALL: [Self; 25] = [
        Self::Up,
        Self::Down,
        Self::Once,
        Self::UpAndEnable,
        Self::DownAndDisable,
        Self::Exit,
        Self::NoRestart,
        Self::NoRestartAndDisable,
        Self::Signal(ControlSignal::Alarm),
        Self::Signal(ControlSignal::Abort),
        Self::Signal(ControlSignal::Quit),
        Self::Signal(ControlSignal::Hangup),
        Self::Signal(ControlSignal::Kill),
        Self::Signal(ControlSignal::Terminate),
        Self::Signal(ControlSignal::Interrupt),
        Self::Signal(ControlSignal::User1),
        Self::Signal(ControlSignal::User2),
        Self::Signal(ControlSignal::Stop),
        Self::Signal(ControlSignal::Continue),
        Self::Signal(ControlSignal::WindowChange),
        Self::DownSignal,
        Self::Reload,
        Self::StopGroup,
        Self::ContinueGroup,
        Self::KillGroup,
    ];

    /// Returns the byte that is written to the control FIFO.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Up => b'u',
            Self::Down => b'd',
            Self::Once => b'o',
            Self::UpAndEnable => b'U',
            Self::DownAndDisable => b'D',
            Self::Exit => b'x',
            Self::NoRestart => b'O',
            Self::NoRestartAndDisable => b'Q',
            Self::Signal(signal) => signal.byte(),
            Self::DownSignal => b'r',
            Self::Reload => b'l',
            Self::StopGroup => b'P',
            Self::ContinueGroup => b'C',
            Self::KillGroup => b'K',
        }
    }

    /// Returns the command of a byte, or `None` for a byte that a supervisor ignores.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.byte() == byte)
    }

    /// Returns one line of help, imperative and without a full stop.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Up => "bring the service up and restart it when it dies",
            Self::Down => "bring the service down and leave it down",
            Self::Once => "bring the service up and do not restart it when it dies",
            Self::UpAndEnable => "bring the service up, and remove the down file",
            Self::DownAndDisable => "bring the service down, and make the down file",
            Self::Exit => "end supervision once the service is down",
            Self::NoRestart => "do not restart the service after its next death",
            Self::NoRestartAndDisable => {
                "do not restart the service after its next death, and make the down file"
            }
            Self::Signal(signal) => signal.help(),
            Self::DownSignal => "send the down-signal without wanting the service down",
            Self::Reload => "send the reload-signal to the service",
            Self::StopGroup => "pause the service's process group with SIGSTOP",
            Self::ContinueGroup => "continue the service's process group with SIGCONT",
            Self::KillGroup => "send SIGKILL to the service's process group",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Control, ControlSignal};
    use crate::signal;
    use std::collections::HashSet;

    #[test]
    fn the_control_alphabet_is_that_of_s6_svc() {
        let bytes: Vec<u8> = Control::ALL.into_iter().map(Control::byte).collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), "udoUDxOQabqhkti12pcyrlPCK");
    }

    #[test]
    fn every_byte_is_one_command_or_ignored() {
        for byte in 0..=u8::MAX {
            let command = Control::from_byte(byte);
            assert_eq!(command.is_some(), b"udoUDxOQabqhkti12pcyrlPCK".contains(&byte), "{byte}");
            assert!(command.is_none_or(|command| command.byte() == byte), "{byte}");
        }
        for command in Control::ALL {
            assert_eq!(Control::from_byte(command.byte()), Some(command));
        }
    }

    #[test]
    fn every_control_signal_is_a_command_and_has_its_number() {
        let names = "ALRM ABRT QUIT HUP KILL TERM INT USR1 USR2 STOP CONT WINCH";
        for (signal, name) in ControlSignal::ALL.into_iter().zip(names.split(' ')) {
            assert!(Control::ALL.contains(&Control::Signal(signal)));
            assert_eq!(signal::name(signal.number()), Some(format!("SIG{name}").as_str()));
            assert!(signal.help().contains(&format!("SIG{name}")), "{name}");
        }
        assert_eq!(names.split(' ').count(), ControlSignal::ALL.len());
    }

    #[test]
    fn every_command_has_help_of_its_own_without_a_full_stop() {
        let lines: HashSet<&str> = Control::ALL.into_iter().map(Control::help).collect();
        assert_eq!(lines.len(), Control::ALL.len());
        assert!(
            lines.iter().all(|line| !line.ends_with('.') && line.starts_with(|c: char| c.is_lowercase()))
        );
    }
}
