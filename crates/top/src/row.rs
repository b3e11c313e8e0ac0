//! *Lives here:* what the table shows of a gateway.
//!
//! *Does not live here:* making it from a report; its words are those of `gatevisor status`.

/// Whether a state is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It works.
    Good,
    /// It is about to change, or works in part.
    Changing,
    /// It does not work.
    Bad,
    /// It is down as requested, or its state is unknown.
    Quiet,
}

/// What the table shows of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The profile's name.
    pub name: String,
    /// The words for its state.
    pub state: String,
    /// How good the state is.
    pub tone: Tone,
    /// Its rank in a table that begins with the gateways that need attention.
    pub rank: u8,
    /// The words for its desired state.
    pub desired: String,
    /// How many seconds it had been up at `seen_at_s`.
    pub up_for_s: Option<u64>,
    /// When its report was made, in seconds of the clock of [`Input::Tick`](crate::Input::Tick).
    pub seen_at_s: u64,
    /// How often it was restarted after it had ended by itself.
    pub restarts: Option<u64>,
    /// Why it is in its state; `None` if the state says enough.
    pub note: Option<String>,
}

impl Row {
    /// Returns how many seconds it has been up at `now_s`.
    pub(crate) fn up_for(&self, now_s: u64) -> Option<u64> {
        self.up_for_s.map(|seconds| seconds.saturating_add(now_s.saturating_sub(self.seen_at_s)))
    }

    /// Returns whether its name or its state contains a text. Upper and lower case count as equal.
    pub(crate) fn contains(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        [&self.name, &self.state].iter().any(|words| words.to_lowercase().contains(&text))
    }
}
