//! *Lives here:* a gateway as the table shows it.
//!
//! *Does not live here:* how it becomes so; its words are those of `gatevisor status`.

/// Whether a state is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It works.
    Good,
    /// It is about to change, or works in part.
    Changing,
    /// It does not work.
    Bad,
    /// It is down as requested, or nobody can tell.
    Quiet,
}

/// A gateway as the table shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The profile's name.
    pub name: String,
    /// The words for its state.
    pub state: String,
    /// Whether that is good.
    pub tone: Tone,
    /// Its rank in a table that begins with what needs attention.
    pub rank: u8,
    /// The words for its desired state.
    pub desired: String,
    /// For how many seconds it was up when it was looked at.
    pub up_for_s: Option<u64>,
    /// When it was looked at, in seconds of the clock of [`Input::Tick`](crate::Input::Tick).
    pub seen_at_s: u64,
    /// How often it was restarted by itself.
    pub restarts: Option<u64>,
    /// Why it is in its state, where that is worth showing.
    pub note: Option<String>,
}

impl Row {
    /// Returns for how many seconds it has been up now.
    pub(crate) fn up_for(&self, now_s: u64) -> Option<u64> {
        self.up_for_s.map(|seconds| seconds.saturating_add(now_s.saturating_sub(self.seen_at_s)))
    }

    /// Returns whether its name or its state contains a text, in capitals or not.
    pub(crate) fn contains(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        [&self.name, &self.state].iter().any(|words| words.to_lowercase().contains(&text))
    }
}
