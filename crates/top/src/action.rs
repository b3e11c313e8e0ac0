//! *Lives here:* the actions on a gateway, and the question that is asked before each.
//!
//! *Does not live here:* carrying them out, which the binary does.

/// An action on a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start it, also after the next `up`.
    Start,
    /// Stop it, also after the next `up`.
    Stop,
    /// End its process, and start a new one.
    Restart,
    /// Keep it from new work, and stop it once it is idle.
    Drain,
}

impl Action {
    /// Returns the arguments of the command that carries it out, without the name of the gateway.
    pub const fn command(self) -> &'static [&'static str] {
        match self {
            Self::Start => &["gateway", "start"],
            Self::Stop => &["gateway", "stop"],
            Self::Restart => &["gateway", "restart"],
            Self::Drain => &["gateway", "drain", "--then", "stop"],
        }
    }

    /// Returns its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Drain => "drain",
        }
    }

    /// Returns the question before it, which says what would happen.
    pub fn question(self, name: &str) -> String {
        let what = match self {
            Self::Start => "it runs now, and after the next `up`",
            Self::Stop => "it ends now, and stays down after the next `up`",
            Self::Restart => "its process ends now, and a new one starts",
            Self::Drain => "it gets no new work; once idle, in 10 minutes at most, it is stopped",
        };
        format!("{} {name}: {what}. y/n?", self.word())
    }
}
