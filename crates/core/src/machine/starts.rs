//! Counts which starts followed a death that somebody had asked for, and which did not.
//!
//! *Lives here:* counting. *Does not live here:* when to start (see [`crate::restart`]).

use gatevisor_wire::policy::AskedFor;

/// Who has killed a process, if that is known before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Killer {
    /// Nobody, or somebody else.
    #[default]
    Unknown,
    /// We did, because its time was over.
    Ourselves,
    /// The kernel, because memory ran out.
    Kernel,
}

/// The starts of one service after its first.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// Whether any process was ever started, so that the next one is a restart.
    pub started: bool,
    /// Whether somebody asked for the last death, or for the one to come.
    pub is_asked_for: bool,
    /// The last signal that somebody had sent to it by its number.
    pub sent: Option<u8>,
    /// Whether somebody had sent any signal to it: by its number, or one that the directory names,
    /// or to its group.
    pub is_signalled: bool,
    /// Who has killed the process.
    pub killer: Killer,
    /// Starts after a death that nobody had asked for.
    pub restarts: u64,
    /// Starts after a death that somebody had asked for.
    pub commanded: u64,
    /// For each of the last deaths, whether somebody had asked for it.
    pub asked: AskedFor,
    /// How long the last process had been up when it died.
    pub ran_ms: Option<u64>,
}

impl Starts {
    /// Counts a start.
    pub fn count(&mut self) {
        if self.started {
            let count = if self.is_asked_for { &mut self.commanded } else { &mut self.restarts };
            *count = count.saturating_add(1);
            self.asked.push(self.is_asked_for);
        }
        self.started = true;
        self.is_asked_for = false;
        self.sent = None;
        self.is_signalled = false;
    }
}
