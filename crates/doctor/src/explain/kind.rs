//! *Lives here:* the causes that `explain` tells from each other, each with its word.
//!
//! *Does not live here:* deciding which of them it is (`causes`); what to do about it (`remedy`).

use serde::{Serialize, Serializer};

use crate::Check;

/// Makes the enum, the list of all its values and their words from one table.
macro_rules! kinds {
    ($($(#[doc = $text:literal])+ $name:ident = $word:literal,)+) => {
        /// Why a gateway is as it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CauseKind {
            $($(#[doc = $text])+ $name,)+
        }

        impl CauseKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the word for it, as in JSON.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }
    };
}

kinds! {
    /// Whoever asks may not look.
    NotAllowedToLook = "not-allowed-to-look",
    /// Another container has the lock of the home, and runs its gateways.
    RunsElsewhere = "runs-elsewhere",
    /// The lock of the home is not the one that this container held, so it may start nothing.
    LockLost = "lock-lost",
    /// The container's command wants no gateways.
    NoGatewaysHere = "no-gateways-here",
    /// Another profile's gateway serves this profile.
    ServedByAnother = "served-by-another",
    /// It runs although its supervisor has gone.
    Orphan = "orphan",
    /// No supervisor runs on the scandir.
    NoSupervisor = "no-supervisor",
    /// Somebody stopped it with one of our commands.
    StoppedOnPurpose = "stopped-on-purpose",
    /// Another program has set its desired state, and not to running.
    StoppedByAnother = "stopped-by-another-program",
    /// The file with its desired state says nothing.
    DesiredUnreadable = "desired-state-unreadable",
    /// Nobody has ever asked for it.
    NeverAsked = "never-asked-for",
    /// It runs although its desired state is another.
    RunsThoughStopped = "runs-though-stopped",
    /// Its profile has gone, and its service directory is left.
    ProfileGone = "profile-gone",
    /// It has no service directory.
    NotRegistered = "not-registered",
    /// The supervisor refuses its service directory.
    Refused = "refused",
    /// Its service directory is there, and the supervisor has not taken it.
    NotTaken = "not-taken",
    /// It is paused through its supervisor.
    Paused = "paused",
    /// Its process is stopped by a signal, which its supervisor knows nothing of.
    Frozen = "frozen",
    /// A debugger holds its process.
    Traced = "traced",
    /// It is up and does not work: what shows that it lives has not come for a while.
    Unresponsive = "unresponsive",
    /// It is up, and has not said yet that it is ready.
    NotReadyYet = "not-ready-yet",
    /// What an earlier life of it has left running is being ended first.
    EndingLeftovers = "ending-leftovers",
    /// Its finish script runs, and the next start comes after that.
    FinishRuns = "finish-runs",
    /// It was told to stop, and has not ended.
    Stopping = "stopping",
    /// The disk is full.
    DiskFull = "disk-full",
    /// Its command does not exist.
    CommandMissing = "command-missing",
    /// Its command, or `run` itself, cannot be executed for want of permission.
    PermissionDenied = "permission-denied",
    /// A file of its service directory has line ends of Windows, or a byte-order mark.
    WindowsText = "windows-text",
    /// Its environment holds what no program can be given, or lacks what its command needs.
    EnvironmentBad = "environment-bad",
    /// Its command cannot be executed for another reason.
    CannotStart = "cannot-start",
    /// It was up and did not work, so the watcher of gateways ended it.
    EndedAsUnresponsive = "ended-as-unresponsive",
    /// The kernel killed it for want of memory.
    OutOfMemory = "out-of-memory",
    /// A port that it needs is another process's.
    PortTaken = "port-taken",
    /// It said that a key or token was not accepted.
    KeyRefused = "key-refused",
    /// It was ended by a signal that no command of its supervisor had sent.
    Killed = "killed",
    /// It was ended by a signal, or asked to end, through its supervisor.
    Commanded = "commanded",
    /// It was ended by the kernel for a fault of its own.
    Crashed = "crashed",
    /// It ended with an exit code after which a restart cannot help.
    FailedForGood = "failed-for-good",
    /// It dies again and again.
    KeepsDying = "keeps-dying",
    /// It ended before there was evidence that it works.
    EndedAtOnce = "ended-at-once",
    /// It ended.
    Died = "died",
    /// Its supervisor waits before the next start.
    BackOff = "back-off",
    /// A `down` file keeps it down, and nobody has told its supervisor otherwise.
    DownFile = "down-file",
    /// Its supervisor was told to keep it down, and not by one of our commands.
    ToldDown = "told-down",
    /// What it writes is not kept.
    NotLogged = "not-logged",
    /// Its service directory is not what the agent definition makes of it now.
    OlderThanDefinition = "older-than-definition",
    /// It is as it should be.
    Well = "well",
}

impl CauseKind {
    /// Returns the check of `doctor` that finds the same.
    pub(super) const fn check(self) -> Option<Check> {
        match self {
            Self::NoSupervisor
            | Self::Orphan
            | Self::NotAllowedToLook
            | Self::RunsElsewhere
            | Self::LockLost
            | Self::NoGatewaysHere => Some(Check::Supervisor),
            Self::DesiredUnreadable => Some(Check::DesiredState),
            Self::ProfileGone
            | Self::NotRegistered
            | Self::Refused
            | Self::NotTaken
            | Self::OlderThanDefinition => Some(Check::Slot),
            Self::DiskFull => Some(Check::Disk),
            Self::NotLogged => Some(Check::Log),
            Self::Well => None,
            _ => Some(Check::Crash),
        }
    }

    /// Returns whether it is about how the last process ended, which another one may have come after.
    pub const fn is_of_the_past(self) -> bool {
        matches!(
            self,
            Self::EndedAsUnresponsive
                | Self::OutOfMemory
                | Self::PortTaken
                | Self::KeyRefused
                | Self::Killed
                | Self::Commanded
                | Self::Crashed
                | Self::Died
        )
    }
}

impl Serialize for CauseKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::CauseKind;

    #[test]
    fn each_kind_has_a_word_of_its_own_and_a_row_in_the_document() {
        let page = include_str!("../../../../docs/explain.md");
        for (index, kind) in CauseKind::ALL.iter().enumerate() {
            assert!(
                !CauseKind::ALL[..index].iter().any(|other| other.word() == kind.word()),
                "{kind:?} twice"
            );
            let row = format!("| `{}` |", kind.word());
            assert!(page.lines().any(|line| line.starts_with(&row)), "docs/explain.md has no {row}");
        }
    }
}
