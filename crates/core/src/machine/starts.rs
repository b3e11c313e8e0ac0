//! Which starts followed a death that somebody had asked for, and which did not.
//!
//! *Lives here:* counting. *Does not live here:* when to start (see [`crate::restart`]).

/// Who has killed a process, as far as that is known before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Killer {
    /// Nobody, or somebody else.
    #[default]
    Unknown,
    /// We, for its time was over.
    Ourselves,
    /// The kernel, for want of memory.
    Kernel,
}

/// The starts of one service after its first.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// Whether any process was ever started, so that the next one is a restart.
    pub started: bool,
    /// Somebody asked for the last death, or for the one to come.
    pub is_asked_for: bool,
    /// The signal that somebody had it sent last.
    pub sent: Option<u8>,
    /// Who has killed the process.
    pub killer: Killer,
    /// Starts after a death that nobody had asked for.
    pub restarts: u64,
    /// Starts after one that somebody had.
    pub commanded: u64,
    /// How long the last process that died had been up.
    pub ran_ms: Option<u64>,
}

impl Starts {
    /// Counts a start.
    pub fn count(&mut self) {
        if self.started {
            let count = if self.is_asked_for { &mut self.commanded } else { &mut self.restarts };
            *count = count.saturating_add(1);
        }
        self.started = true;
        self.is_asked_for = false;
        self.sent = None;
    }
}
