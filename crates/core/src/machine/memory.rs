//! Deaths that the kernel brings about because memory has run out.
//!
//! *Lives here:* which death is one of these, and what is said of it. *Does not live here:* the
//! kernel's counter, which is read by whoever collects the dead.
//!
//! A process that is killed for want of memory ends like one that somebody sent `SIGKILL` to. What
//! tells them apart is that the kernel counts such kills for each control group.
//!
//! **Source:** the kernel's *Control Group v2*, `memory.events`; *Memory Resource Controller*,
//! `memory.oom_control`.

use gatevisor_wire::signal;
use gatevisor_wire::wait::WaitStatus;

use super::Machine;
use super::starts::Killer;
use crate::time::Tick;

/// What `supervise/policy` says of such a death, until another one comes.
pub const OUT_OF_MEMORY: &str =
    "out of memory: the kernel killed it with SIGKILL and counts a kill for memory in this control group";
/// Milliseconds within which deaths that the kernel counted at once are collected, one after
/// another.
const TOGETHER_MS: u64 = 1000;

/// The kernel's count of kills for want of memory, and those of them that no death has been
/// explained by yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kills {
    counted: u64,
    unclaimed: u64,
    seen: Tick,
}

impl Kills {
    /// Begins with what the kernel has counted before: these were others' deaths.
    pub const fn new(counted: u64, now: Tick) -> Self {
        Self { counted, unclaimed: 0, seen: now }
    }

    /// Returns whether a death that nothing else explains is one of those that the kernel has
    /// counted by now.
    ///
    /// Each kill explains one death, and one that came together with others explains none that
    /// comes long after them. The kernel does not say whom it killed: where it was a process that
    /// is nobody's here, it explains the next death by a `SIGKILL` that nobody here sent.
    pub fn explain(&mut self, counted: u64, now: Tick) -> bool {
        if counted > self.counted {
            self.unclaimed = counted.saturating_sub(self.counted);
            self.seen = now;
        } else if now.since(self.seen) > TOGETHER_MS {
            self.unclaimed = 0;
        }
        self.counted = counted;
        let explains = self.unclaimed > 0;
        self.unclaimed = self.unclaimed.saturating_sub(1);
        explains
    }
}

/// Returns whether nothing that we or our clients did explains this end.
pub const fn is_unexplained(how: WaitStatus, is_asked_for: bool, is_killed_by_us: bool) -> bool {
    matches!(how.signal(), Some(signal::KILL)) && !is_asked_for && !is_killed_by_us
}

impl Machine {
    /// Returns whether the process of the service, which ended like this, may have been killed for
    /// want of memory.
    pub fn may_have_run_out_of_memory(&self, how: WaitStatus) -> bool {
        let is_asked_for =
            self.starts.is_asked_for || self.asked_to_die || self.starts.sent == Some(signal::KILL);
        self.runs_service() && is_unexplained(how, is_asked_for, self.starts.killer == Killer::Ourselves)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kills, is_unexplained};
    use crate::time::Tick;
    use gatevisor_wire::wait::WaitStatus;

    #[test]
    fn only_a_kill_that_is_not_ours_may_be_the_kernels() {
        let killed = |signal| WaitStatus::killed(signal).unwrap();
        for (how, is_asked_for, is_killed_by_us, expected) in [
            (killed(9), false, false, true),
            (killed(9), true, false, false),
            (killed(9), false, true, false),
            (killed(15), false, false, false),
            (killed(6), false, false, false),
            // What a shell ends with whose child was killed.
            (WaitStatus::exited(137), false, false, false),
            (WaitStatus::exited(9), false, false, false),
        ] {
            assert_eq!(is_unexplained(how, is_asked_for, is_killed_by_us), expected, "{how}");
        }
    }

    #[test]
    fn each_kill_that_the_kernel_counts_explains_one_death_and_no_later_one() {
        let mut kills = Kills::new(3, Tick(0));
        for (counted, at, expected) in [
            // What was counted before we began.
            (3, 0, false),
            (4, 10, true),
            (4, 11, false),
            // Two at once, collected one after another.
            (6, 5000, true),
            (6, 5001, true),
            (6, 5002, false),
            // Of two, one was nobody's here.
            (8, 9000, true),
            (8, 10_001, false),
            // A counter that begins anew.
            (0, 11_000, false),
            (1, 12_000, true),
        ] {
            assert_eq!(kills.explain(counted, Tick(at)), expected, "{counted} at {at}");
        }
    }
}
