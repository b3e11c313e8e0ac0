//! *Lives here:* the alphabet of `.s6-svscan/control`, one byte a command.
//!
//! *Does not live here:* what a command does.

/// A command to the supervisor of a scandir.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svscanctl.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScanCommand {
    /// `a`: look at the scandir again.
    Rescan,
    /// `z`: reap zombies.
    Reap,
    /// `n`: stop supervising services whose directories are gone; their loggers end by end of file.
    NukeGone,
    /// `N`: the same, and their loggers at once.
    NukeGoneAndLoggers,
    /// `h`: `a` and `n`.
    Hangup,
    /// `b`: exit and leave every service as it is.
    Abort,
    /// `t`: bring services down, let loggers end by themselves, and exit.
    Terminate,
    /// `i`: the same, as SIGINT asks for.
    Interrupt,
    /// `q`: bring services and loggers down at once, and exit.
    Quit,
}

impl ScanCommand {
    /// Every command.
    pub const ALL: [Self; 9] = [
        Self::Rescan,
        Self::Reap,
        Self::NukeGone,
        Self::NukeGoneAndLoggers,
        Self::Hangup,
        Self::Abort,
        Self::Terminate,
        Self::Interrupt,
        Self::Quit,
    ];

    /// Returns the byte that is written to the control FIFO.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Rescan => b'a',
            Self::Reap => b'z',
            Self::NukeGone => b'n',
            Self::NukeGoneAndLoggers => b'N',
            Self::Hangup => b'h',
            Self::Abort => b'b',
            Self::Terminate => b't',
            Self::Interrupt => b'i',
            Self::Quit => b'q',
        }
    }

    /// Returns the command of a byte, or `None` for a byte that a supervisor ignores.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.byte() == byte)
    }

    /// Returns one line of help, imperative and without a full stop.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Rescan => "look at the scandir again",
            Self::Reap => "reap zombies",
            Self::NukeGone => "stop supervising services whose directories are gone",
            Self::NukeGoneAndLoggers => {
                "stop supervising services whose directories are gone, and their loggers"
            }
            Self::Hangup => "look at the scandir again and stop supervising what is gone",
            Self::Abort => "exit and leave every service as it is",
            Self::Terminate => "bring every service down and exit",
            Self::Interrupt => "bring every service down and exit, as SIGINT does",
            Self::Quit => "bring every service and logger down at once and exit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ScanCommand;
    use std::collections::HashSet;

    #[test]
    fn every_byte_is_one_scandir_command_or_ignored() {
        for byte in 0..=u8::MAX {
            let command = ScanCommand::from_byte(byte);
            assert_eq!(command.is_some(), b"aznNhbtiq".contains(&byte), "{byte}");
            assert!(command.is_none_or(|command| command.byte() == byte), "{byte}");
        }
        for command in ScanCommand::ALL {
            assert_eq!(ScanCommand::from_byte(command.byte()), Some(command));
        }
    }

    #[test]
    fn every_scandir_command_has_help_of_its_own_without_a_full_stop() {
        let lines: HashSet<&str> = ScanCommand::ALL.into_iter().map(ScanCommand::help).collect();
        assert_eq!(lines.len(), ScanCommand::ALL.len());
        assert!(lines.iter().all(|line| !line.ends_with('.')));
    }
}
