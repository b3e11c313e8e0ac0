//! Deaths that the kernel causes because memory has run out.
//!
//! *Lives here:* which deaths are of this kind, and the text for them.
//! *Does not live here:* the kernel's counter; the code that reaps processes reads it.
//!
//! A process that is killed because memory ran out ends like one that received `SIGKILL` from
//! somebody. Only the kernel's counter of such kills, which each control group has, tells them
//! apart.
//!
//! **Source:** the kernel's *Control Group v2*, `memory.events`; *Memory Resource Controller*,
//! `memory.oom_control`.

use gatevisor_wire::signal;
use gatevisor_wire::wait::WaitStatus;

use super::starts::Killer;
use super::state::Machine;
use crate::time::Tick;

/// The reason in `supervise/policy` for such a death, until the next death.
pub const OUT_OF_MEMORY: &str =
    "out of memory: the kernel killed it with SIGKILL and counts a kill for memory in this control group";
/// Milliseconds within which deaths that the kernel counted at the same time are reaped.
const TOGETHER_MS: u64 = 1000;

/// The kernel's count of kills because memory ran out, and how many of them no death has explained
/// yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kills {
    counted: u64,
    unclaimed: u64,
    seen: Tick,
}

impl Kills {
    /// Begins with the kernel's present count: earlier kills were others' deaths.
    pub const fn new(counted: u64, now: Tick) -> Self {
        Self { counted, unclaimed: 0, seen: now }
    }

    /// Returns whether a death without another explanation is one of those that the kernel has
    /// counted by now.
    ///
    /// Each kill explains one death. Kills that were counted together do not explain a death long
    /// after them. The kernel does not tell whom it killed: if it killed a process that is not
    /// ours, that kill explains the next death by a `SIGKILL` that nobody here sent.
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

/// Returns whether neither we nor our clients caused this end.
pub const fn is_unexplained(how: WaitStatus, is_asked_for: bool, is_killed_by_us: bool) -> bool {
    matches!(how.signal(), Some(signal::KILL)) && !is_asked_for && !is_killed_by_us
}

impl Machine {
    /// Returns whether the service's process, which ended in this way, may have been killed because
    /// memory ran out.
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
            // The exit code of a shell whose child was killed.
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
            // The kernel had counted these before we began.
            (3, 0, false),
            (4, 10, true),
            (4, 11, false),
            // Two were counted at once, and are reaped one after another.
            (6, 5000, true),
            (6, 5001, true),
            (6, 5002, false),
            // Of two, one was not ours.
            (8, 9000, true),
            (8, 10_001, false),
            // The counter starts anew.
            (0, 11_000, false),
            (1, 12_000, true),
        ] {
            assert_eq!(kills.explain(counted, Tick(at)), expected, "{counted} at {at}");
        }
    }
}
