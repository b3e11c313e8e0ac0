//! *Lives here:* the settings for following a gateway, and their defaults.
//!
//! *Does not live here:* reading them.

/// What to do if a gateway does not respond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LivePolicy {
    /// Do not look at all.
    Off,
    /// Report it.
    #[default]
    Warn,
    /// End it, so that its supervisor starts it again.
    Restart,
}

impl LivePolicy {
    /// All policies.
    pub const ALL: [Self; 3] = [Self::Off, Self::Warn, Self::Restart];

    /// Returns the word for the policy.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Restart => "restart",
        }
    }

    /// Returns the policy for a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.word() == word)
    }
}

/// The settings for one gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveSettings {
    /// What to do if it does not respond.
    pub policy: LivePolicy,
    /// Milliseconds during which a starting gateway may show no evidence.
    pub start_deadline_ms: u64,
    /// Milliseconds between two looks.
    pub interval_ms: u64,
    /// The number of looks in a row that must find no evidence.
    pub misses: u32,
    /// Milliseconds between asking it to end and killing it.
    pub grace_ms: u64,
}

impl Default for LiveSettings {
    fn default() -> Self {
        Self {
            policy: LivePolicy::default(),
            start_deadline_ms: 100_000,
            interval_ms: 10_000,
            misses: 4,
            grace_ms: 10_000,
        }
    }
}

impl LiveSettings {
    /// Returns the milliseconds within which its misses add up.
    pub const fn misses_ms(&self) -> u64 {
        // `From` is not const.
        self.interval_ms.saturating_mul(self.misses as u64)
    }

    /// Returns the milliseconds after its start at which a gateway that shows nothing is called
    /// unresponsive at the latest. Its misses may have to begin anew when its start deadline is
    /// over, because its watcher was away.
    pub const fn silent_start_ms(&self) -> u64 {
        self.start_deadline_ms.saturating_add(self.misses_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_shows_nothing_is_unresponsive_at_the_latest_when_its_start_and_the_misses_are_over() {
        let settings = LiveSettings::default();
        assert_eq!((settings.misses_ms(), settings.silent_start_ms()), (40_000, 140_000));
        let endless = LiveSettings { interval_ms: u64::MAX, ..settings };
        assert_eq!(endless.silent_start_ms(), u64::MAX);
    }
}
