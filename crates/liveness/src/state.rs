//! *Lives here:* the words for one life of a gateway and for its state.
//!
//! *Does not live here:* what changes the state ([`crate::service`]).

/// One life of a gateway: its process, and when the process began, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Its process number.
    pub pid: i32,
    /// Field 22 of its `/proc/PID/stat`.
    pub start_ticks: u64,
}

/// What a supervisor tells of the present life of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SupervisorSays {
    /// Whether it shall be up.
    pub wanted: bool,
    /// Whether it was ready, at some moment of this life.
    pub ready: bool,
}

/// The state of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// It has shown no evidence yet, and it is too early to blame it.
    Starting,
    /// It runs, and there is no evidence of whether it works.
    Up,
    /// It has shown that it works.
    Live,
    /// It has shown that it works, and reports a problem itself.
    Degraded,
    /// It has shown that it works, and reports that it accepts no new work.
    Draining,
    /// It runs, but has not shown for too long that it works.
    Unresponsive,
    /// A command has paused it.
    Paused,
    /// A debugger has stopped it.
    Traced,
}

impl Liveness {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Starting,
        Self::Up,
        Self::Live,
        Self::Degraded,
        Self::Draining,
        Self::Unresponsive,
        Self::Paused,
        Self::Traced,
    ];

    /// Returns the word for the state.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Live => "live",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Unresponsive => "unresponsive",
            Self::Paused => "paused",
            Self::Traced => "traced",
        }
    }

    /// Returns the state for a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}
