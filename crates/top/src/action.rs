//! *Lives here:* what the view can do to a gateway, and the question before it.
//!
//! *Does not live here:* doing it; the binary runs the command.

/// What the view can do to a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Have it run, now and after the next `up`.
    Start,
    /// Have it end, and stay down after the next `up`.
    Stop,
    /// Have a new process take the place of its own.
    Restart,
    /// Keep it from new work, and stop it once it is idle.
    Drain,
}

impl Action {
    /// Returns the words of the command line that do it, before the gateway's name.
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

    /// Returns the question whether to do it, which says what would happen.
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
