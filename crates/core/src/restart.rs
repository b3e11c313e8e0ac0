//! When a service that died may start again.
//!
//! *Lives here:* the classes of exits, the ladder of delays, what counts as health.
//! *Does not live here:* the service machine, which asks.

use gatevisor_wire::wait::WaitStatus;

use crate::time::Tick;

/// Codes of one class that a service directory can name.
pub const MAX_CODES: usize = 16;

/// Exit codes by which an interpreter of `run` says that it did not reach the command.
///
/// **Source:** POSIX `sh` for 126 and 127; s6 and our own interpreter for 100 and 111.
const NEVER_RAN: [u8; 4] = [100, 111, 126, 127];
/// Starts that a service may ask for in quick succession before a request has to wait.
const QUICK_REQUESTS: u32 = 5;
/// Milliseconds: a run shorter than this is quick, and the wait of a request made too often.
const QUICK_MS: u64 = 1000;

/// The restart policy of a service; each number can be set in `data/` of its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Milliseconds before the second consecutive restart; doubled for each further one.
    pub backoff_first_ms: u64,
    /// Milliseconds that no delay exceeds.
    pub backoff_max_ms: u64,
    /// Percent by which a delay is changed at random, either way.
    pub jitter_percent: u32,
    /// Milliseconds of running after which earlier failures are forgotten.
    pub stable_after_ms: u64,
    /// Consecutive failures after which the service is given up; 0: never.
    pub give_up_after: u32,
    /// Exit codes that ask for a restart and are no failure.
    pub restart_codes: Vec<u8>,
    /// Exit codes that no restart can fix.
    pub fail_codes: Vec<u8>,
    /// Whether what the service's process leaves behind is ended before the next start.
    pub kill_survivors: bool,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            backoff_first_ms: 250,
            backoff_max_ms: 60_000,
            jitter_percent: 10,
            stable_after_ms: 30_000,
            give_up_after: 0,
            restart_codes: vec![75],
            fail_codes: vec![78],
            kill_survivors: false,
        }
    }
}

/// Which rules decide about restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rules {
    /// At once after health, then exponential back-off; exit classes.
    #[default]
    Native,
    /// What s6-supervise 2.11 does: one second after each death, or after readiness.
    S6,
}

/// What to do about a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartDecision {
    /// Start again when so many milliseconds have passed since the death.
    After(u64),
    /// Do not start again: the exit code says that it is pointless.
    Hopeless(u8),
    /// Do not start again: it failed this many times in a row.
    GivenUp(u32),
}

/// The memory of one service's past.
#[derive(Debug, Clone)]
pub struct History {
    failures: u32,
    quick_requests: u32,
    random: u64,
}

impl History {
    /// Returns a clean history; `seed` makes the jitter differ between services.
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, quick_requests: 0, random: seed | 1 }
    }

    /// Returns the number of consecutive failures.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the past: an operator has just asked for a start.
    pub fn forget(&mut self) {
        self.failures = 0;
        self.quick_requests = 0;
    }

    /// Returns the decision on a process that ran from `since` to `now`.
    pub fn after_death(
        &mut self,
        policy: &RestartPolicy,
        since: Tick,
        now: Tick,
        how: WaitStatus,
    ) -> RestartDecision {
        let ran_ms = now.since(since);
        if ran_ms >= policy.stable_after_ms {
            self.failures = 0;
        }
        if ran_ms >= QUICK_MS {
            self.quick_requests = 0;
        }
        match how.exit_code() {
            Some(code) if policy.fail_codes.contains(&code) => return RestartDecision::Hopeless(code),
            Some(code) if policy.restart_codes.contains(&code) => {
                self.quick_requests = self.quick_requests.saturating_add(1);
                // A program that does nothing but ask for restarts must not keep a processor busy.
                let delay_ms = if self.quick_requests > QUICK_REQUESTS { QUICK_MS } else { 0 };
                return RestartDecision::After(delay_ms);
            }
            _ => {}
        }
        if how.exit_code().is_some_and(|code| NEVER_RAN.contains(&code)) {
            return self.after_failed_start(policy);
        }
        let delay_ms = self.jittered(policy, ladder_ms(policy, self.failures));
        self.failed(policy, delay_ms)
    }

    /// Returns the decision on a start that did not reach the program.
    pub fn after_failed_start(&mut self, policy: &RestartPolicy) -> RestartDecision {
        // Never at once: what could not be executed a moment ago cannot be executed now.
        let delay_ms = self.jittered(policy, ladder_ms(policy, self.failures.saturating_add(1)));
        self.failed(policy, delay_ms)
    }

    fn failed(&mut self, policy: &RestartPolicy, delay_ms: u64) -> RestartDecision {
        self.failures = self.failures.saturating_add(1);
        if policy.give_up_after > 0 && self.failures >= policy.give_up_after {
            return RestartDecision::GivenUp(self.failures);
        }
        RestartDecision::After(delay_ms)
    }

    /// Returns `ms` changed by up to the percentage either way.
    fn jittered(&mut self, policy: &RestartPolicy, ms: u64) -> u64 {
        // xorshift64: spreads herds; nothing depends on its quality.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let most = ms.saturating_mul(u64::from(policy.jitter_percent.min(100))) / 100;
        let span = most.saturating_mul(2).saturating_add(1);
        ms.saturating_sub(most).saturating_add(self.random.checked_rem(span).unwrap_or(0))
    }
}

/// Returns the delay, before jitter, after `failures` consecutive failures that came before this
/// one.
pub fn ladder_ms(policy: &RestartPolicy, failures: u32) -> u64 {
    let Some(doublings) = failures.checked_sub(1) else { return 0 };
    let factor = 1_u64.checked_shl(doublings.min(63)).unwrap_or(u64::MAX);
    policy.backoff_first_ms.saturating_mul(factor).min(policy.backoff_max_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn delays(history: &mut History, runs_ms: &[u64]) -> Vec<RestartDecision> {
        let policy = RestartPolicy::default();
        runs_ms
            .iter()
            .map(|&ms| history.after_death(&policy, Tick(0), Tick(ms), WaitStatus::exited(1)))
            .collect()
    }

    #[test]
    fn the_ladder_doubles_from_a_quarter_second_to_a_minute() {
        let policy = RestartPolicy::default();
        let ladder: Vec<u64> = (0..11).map(|n| ladder_ms(&policy, n)).collect();
        assert_eq!(ladder, [0, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(ladder_ms(&policy, u32::MAX), 60_000);
    }

    #[test]
    fn thirty_seconds_of_health_forget_all_failures() {
        let mut history = History::new(7);
        let decisions = delays(&mut history, &[10, 10, 10, 30_000, 10]);
        assert_eq!(decisions[0], RestartDecision::After(0));
        assert_ne!(decisions[1], RestartDecision::After(0));
        assert_eq!(decisions[3], RestartDecision::After(0));
        assert_ne!(decisions[4], RestartDecision::After(0));
    }

    #[test]
    fn a_requested_restart_is_no_failure_but_asking_without_end_is_slowed() {
        let policy = RestartPolicy::default();
        let mut history = History::new(7);
        for _ in 0..5 {
            let decision = history.after_death(&policy, Tick(0), Tick(10), WaitStatus::exited(75));
            assert_eq!(decision, RestartDecision::After(0));
        }
        let sixth = history.after_death(&policy, Tick(0), Tick(10), WaitStatus::exited(75));
        assert_eq!(sixth, RestartDecision::After(1000));
        assert_eq!(history.failures(), 0);
        let calm = history.after_death(&policy, Tick(0), Tick(1000), WaitStatus::exited(75));
        assert_eq!(calm, RestartDecision::After(0));
    }

    #[test]
    fn a_command_that_was_never_reached_is_never_tried_again_at_once() {
        for code in [111, 126, 127] {
            let mut history = History::new(7);
            let decision =
                history.after_death(&RestartPolicy::default(), Tick(0), Tick(9), WaitStatus::exited(code));
            assert!(matches!(decision, RestartDecision::After(225..=275)), "{decision:?}");
        }
    }

    #[test]
    fn exit_78_is_hopeless_at_once() {
        let decision =
            History::new(1).after_death(&RestartPolicy::default(), Tick(0), Tick(9), WaitStatus::exited(78));
        assert_eq!(decision, RestartDecision::Hopeless(78));
    }

    #[test]
    fn giving_up_comes_after_as_many_failures_as_were_named() {
        let policy = RestartPolicy { give_up_after: 2, ..RestartPolicy::default() };
        let mut history = History::new(1);
        let mut die = || history.after_death(&policy, Tick(0), Tick(9), WaitStatus::exited(1));
        assert_eq!(die(), RestartDecision::After(0));
        assert_eq!(die(), RestartDecision::GivenUp(2));
    }

    proptest! {
        #[test]
        fn jitter_stays_within_a_tenth(seed: u64, failures in 1_u32..40) {
            let policy = RestartPolicy::default();
            let mut history = History { failures, quick_requests: 0, random: seed | 1 };
            let plain = ladder_ms(&policy, failures);
            let RestartDecision::After(ms) = history.after_death(&policy, Tick(0), Tick(1), WaitStatus::exited(1)) else {
                panic!("never given up");
            };
            prop_assert!(ms >= plain - plain / 10 && ms <= plain + plain / 10);
        }
    }
}
