//! *Lives here:* the kinds of causes that `explain` distinguishes, each with its word.
//!
//! *Does not live here:* deciding which one applies (`causes`); what to do (`remedy`).

use serde::{Serialize, Serializer};

use crate::Check;

/// Makes the enum, the list of all its values and their words from one table.
macro_rules! kinds {
    ($($(#[doc = $text:literal])+ $name:ident = $word:literal,)+) => {
        /// Why a gateway is in its present state.
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
    /// The caller has no right to look.
    NotAllowedToLook = "not-allowed-to-look",
    /// Another container has the lock of the home, and runs its gateways.
    RunsElsewhere = "runs-elsewhere",
    /// The lock of the home is not the one that this container held, so it may start nothing.
    LockLost = "lock-lost",
    /// The container's command runs without gateways.
    NoGatewaysHere = "no-gateways-here",
    /// Another profile's gateway serves this profile.
    ServedByAnother = "served-by-another",
    /// It runs although its supervisor has gone.
    Orphan = "orphan",
    /// No supervisor runs on the scandir.
    NoSupervisor = "no-supervisor",
    /// Somebody stopped it with one of our commands.
    StoppedOnPurpose = "stopped-on-purpose",
    /// Another program has set its desired state to something other than running.
    StoppedByAnother = "stopped-by-another-program",
    /// Its desired state is something other than running, and nothing tells who set it.
    StoppedByUnknown = "stopped-by-unknown",
    /// The file with its desired state holds none.
    DesiredUnreadable = "desired-state-unreadable",
    /// Nobody has ever asked for it to run.
    NeverAsked = "never-asked-for",
    /// Something else is desired of it here than the profiles file declares.
    Drift = "drift",
    /// It runs although its desired state is not running.
    RunsThoughStopped = "runs-though-stopped",
    /// Its profile does not exist any more, but its service directory does.
    ProfileGone = "profile-gone",
    /// It has no service directory.
    NotRegistered = "not-registered",
    /// The supervisor refuses its service directory.
    Refused = "refused",
    /// Its service directory exists, but the supervisor does not have it yet.
    NotTaken = "not-taken",
    /// An operator has paused it through its supervisor.
    Paused = "paused",
    /// A signal has stopped its process, and its supervisor does not know that.
    Frozen = "frozen",
    /// Its process has ended, and a signal has stopped its supervisor, which does not know that.
    SupervisorStopped = "supervisor-stopped",
    /// A debugger has stopped its process.
    Traced = "traced",
    /// It is up but does not work: its evidence has been missing for a while.
    Unresponsive = "unresponsive",
    /// It works, and reports itself that something is wrong.
    Degraded = "degraded",
    /// It is up, and nobody watches whether it works.
    NotWatched = "not-watched",
    /// It takes no new work, because somebody drains it.
    Draining = "draining",
    /// Its start waits for other starts.
    Queued = "queued",
    /// It is up, and another process has a port that it needs.
    PortNotOwn = "port-not-its-own",
    /// It is up, and has not announced its readiness or shown that it works yet.
    NotReadyYet = "not-ready-yet",
    /// The leftovers of an earlier run are being ended first.
    EndingLeftovers = "ending-leftovers",
    /// It ended, and is being asked whether it wants to be started again.
    AskedForHandoff = "asked-for-handoff",
    /// Its finish script runs, and the next start follows.
    FinishRuns = "finish-runs",
    /// It was told to stop, and has not ended.
    Stopping = "stopping",
    /// A write failed because no space is left.
    DiskFull = "disk-full",
    /// Its command does not exist.
    CommandMissing = "command-missing",
    /// Its command, or `run` itself, cannot be executed because permission is denied.
    PermissionDenied = "permission-denied",
    /// A file of its service directory has line ends of Windows, or a byte-order mark.
    WindowsText = "windows-text",
    /// Its environment holds something that no program can be given, or lacks something that its
    /// command needs.
    EnvironmentBad = "environment-bad",
    /// Its command cannot be executed for another reason.
    CannotStart = "cannot-start",
    /// It was up but did not work, so the watcher of gateways ended it.
    EndedAsUnresponsive = "ended-as-unresponsive",
    /// The kernel killed it because memory ran out.
    OutOfMemory = "out-of-memory",
    /// Another process has a port that it needs.
    PortTaken = "port-taken",
    /// It reported that a key or token was not accepted.
    KeyRefused = "key-refused",
    /// A signal ended it, and no command of its supervisor had sent the signal.
    Killed = "killed",
    /// It was ended by a signal, or asked to end, through its supervisor.
    Commanded = "commanded",
    /// The kernel ended it for a fault of its own.
    Crashed = "crashed",
    /// It ended with an exit code after which a restart cannot help.
    FailedForGood = "failed-for-good",
    /// It dies again and again.
    KeepsDying = "keeps-dying",
    /// It ended before there was evidence that it works.
    EndedAtOnce = "ended-at-once",
    /// It ended, and nothing more is known.
    Died = "died",
    /// Its supervisor waits before the next start.
    BackOff = "back-off",
    /// A `down` file keeps it down, and nobody has told its supervisor otherwise.
    DownFile = "down-file",
    /// Its supervisor was told to keep it down, and nothing records by whom.
    ToldDown = "told-down",
    /// Its output is not kept.
    NotLogged = "not-logged",
    /// Its service directory differs from what the agent definition would generate now.
    OlderThanDefinition = "older-than-definition",
    /// Everything is as it should be.
    Well = "well",
}

impl CauseKind {
    /// Returns the check of `doctor` that finds the same.
    pub(super) const fn check(self) -> Option<Check> {
        match self {
            Self::NoSupervisor
            | Self::SupervisorStopped
            | Self::Orphan
            | Self::NotAllowedToLook
            | Self::RunsElsewhere
            | Self::LockLost
            | Self::NoGatewaysHere => Some(Check::Supervisor),
            Self::DesiredUnreadable => Some(Check::DesiredState),
            Self::Drift => Some(Check::Declared),
            Self::ProfileGone
            | Self::NotRegistered
            | Self::Refused
            | Self::NotTaken
            | Self::OlderThanDefinition => Some(Check::Slot),
            Self::DiskFull => Some(Check::Disk),
            Self::NotLogged => Some(Check::Log),
            Self::Draining => Some(Check::Drain),
            Self::Well => None,
            _ => Some(Check::Crash),
        }
    }

    /// Returns whether it is about the end of the last process. Another process may run by now.
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
        let page = include_str!("../../../../docs/reference/explain.md");
        for (index, kind) in CauseKind::ALL.iter().enumerate() {
            assert!(
                !CauseKind::ALL[..index].iter().any(|other| other.word() == kind.word()),
                "{kind:?} twice"
            );
            let row = format!("| `{}` |", kind.word());
            assert!(
                page.lines().any(|line| line.starts_with(&row)),
                "docs/reference/explain.md has no {row}"
            );
        }
    }
}
