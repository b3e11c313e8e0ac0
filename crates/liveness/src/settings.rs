//! *Lives here:* what is to be decided about a gateway, as settings, and what counts where nothing is said.
//!
//! *Does not live here:* reading them.

/// What follows when a gateway does not respond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LivePolicy {
    /// Nobody looks.
    Off,
    /// It is said.
    #[default]
    Warn,
    /// It is ended, so that its supervisor starts it again.
    Restart,
}

impl LivePolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Warn, Self::Restart];

    /// Returns the word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Restart => "restart",
        }
    }

    /// Returns the policy that a word names.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.word() == word)
    }
}

/// How one gateway is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveSettings {
    /// What follows when it does not respond.
    pub policy: LivePolicy,
    /// Milliseconds in which a gateway that starts shows nothing and is not blamed for it.
    pub start_deadline_ms: u64,
    /// Milliseconds between two looks.
    pub interval_ms: u64,
    /// Looks in a row that must find nothing.
    pub misses: u32,
    /// Milliseconds between the request to end and the end.
    pub grace_ms: u64,
}

impl Default for LiveSettings {
    fn default() -> Self {
        Self {
            policy: LivePolicy::default(),
            start_deadline_ms: 120_000,
            interval_ms: 10_000,
            misses: 4,
            grace_ms: 10_000,
        }
    }
}
