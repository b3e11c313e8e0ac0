//! When a service that died may start again.
//!
//! *Lives here:* the classes of exits, the growing delays, the definition of health.
//! *Does not live here:* the service machine, which asks.

use gatevisor_wire::exit::COMMAND_NOT_REACHED;
use gatevisor_wire::fail_code::FailCode;
use gatevisor_wire::wait::WaitStatus;

use crate::time::Tick;

/// The most codes of one class that a service directory can name.
pub const MAX_CODES: usize = 16;

/// Starts that a service may request without a stable run between them before a request has to
/// wait.
const FREE_REQUESTS: u32 = 5;
/// Milliseconds that a request waits at least that was made too often.
const LEAST_WAIT_MS: u64 = 1000;

/// The restart policy of a service; each number can be set in `data/` of its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Milliseconds before the second consecutive restart; doubled for each further one.
    pub backoff_first_ms: u64,
    /// Milliseconds that no delay exceeds.
    pub backoff_max_ms: u64,
    /// Percent by which a delay is changed at random, either way.
    pub jitter_percent: u32,
    /// Milliseconds of running that make earlier failures forgotten.
    pub stable_after_ms: u64,
    /// Consecutive failures after which the service is given up; 0 means never.
    pub give_up_after: u32,
    /// Exit codes that ask for a restart and are not failures.
    pub restart_codes: Vec<u8>,
    /// Exit codes after which the service is asked whether it wants a restart.
    pub handoff_codes: Vec<u8>,
    /// Exit codes that no restart can fix, some of them only once the service has failed several
    /// times in a row, in whatever way.
    pub fail_codes: Vec<FailCode>,
    /// Whether the survivors of the service's process are ended before the next start.
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
            handoff_codes: Vec::new(),
            fail_codes: vec![FailCode::at_once(78)],
            kill_survivors: false,
        }
    }
}

impl RestartPolicy {
    /// Returns whether a death with this exit code is the last, whatever was before.
    pub fn is_final(&self, code: u8) -> bool {
        self.fail_code(code).is_some_and(FailCode::is_at_once)
    }

    fn fail_code(&self, code: u8) -> Option<FailCode> {
        self.fail_codes.iter().copied().find(|one| one.code == code)
    }
}

/// Which rules decide about restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rules {
    /// A restart at once after a healthy run, then exponential back-off; classes of exits.
    #[default]
    Native,
    /// The rules of s6-supervise 2.11: one second after each death, or after readiness.
    S6,
}

/// What to do after a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartDecision {
    /// Start again when this many milliseconds have passed since the death.
    After(u64),
    /// Do not start again: the exit code says that it is pointless.
    Never(u8),
    /// Do not start again: it failed this many times in a row.
    GivenUp(u32),
}

/// The history of one service.
#[derive(Debug, Clone)]
pub struct History {
    failures: u32,
    /// Starts in a row that it requested itself.
    requests: u32,
    random: u64,
}

impl History {
    /// Returns an empty history. `seed` makes the jitter differ between services.
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, requests: 0, random: seed | 1 }
    }

    /// Returns the number of consecutive failures.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the past, because an operator has just asked for a start.
    pub fn forget(&mut self) {
        self.failures = 0;
        self.requests = 0;
    }

    /// Forgets what the service requested, because somebody has just asked it to do that.
    pub fn forget_requests(&mut self) {
        self.requests = 0;
    }

    /// Returns the decision for a process that ran from `since` to `now`.
    pub fn after_death(
        &mut self,
        policy: &RestartPolicy,
        since: Tick,
        now: Tick,
        how: WaitStatus,
    ) -> RestartDecision {
        let ran_ms = now.since(since);
        self.ran(policy, ran_ms);
        match how.exit_code() {
            Some(code) if policy.is_final(code) => return RestartDecision::Never(code),
            Some(code) if policy.restart_codes.contains(&code) => {
                return RestartDecision::After(self.after_request(policy, ran_ms));
            }
            _ => {}
        }
        let decision = if how.exit_code().is_some_and(|code| COMMAND_NOT_REACHED.contains(&code)) {
            self.after_failed_start(policy)
        } else {
            let delay_ms = self.jittered(policy, ladder_ms(policy, self.failures));
            self.failed(policy, delay_ms)
        };
        let fail_code = how.exit_code().and_then(|code| policy.fail_code(code));
        match fail_code.filter(|one| self.failures >= one.after) {
            Some(one) => RestartDecision::Never(one.code),
            None => decision,
        }
    }

    /// Returns the delay of a restart that a process requested after it had run for `ran_ms`.
    pub fn after_request(&mut self, policy: &RestartPolicy, ran_ms: u64) -> u64 {
        self.ran(policy, ran_ms);
        self.requests = self.requests.saturating_add(1);
        // A program that asks for restarts and does no work between them must not keep a processor
        // busy, nor look like one that works.
        match self.requests.saturating_sub(FREE_REQUESTS) {
            0 => 0,
            beyond => ladder_ms(policy, beyond).max(LEAST_WAIT_MS),
        }
    }

    /// Notes how long a process ran, whatever it died of.
    pub fn ran(&mut self, policy: &RestartPolicy, ran_ms: u64) {
        if ran_ms >= policy.stable_after_ms {
            self.failures = 0;
            self.requests = 0;
        }
    }

    /// Returns the decision for a start that did not reach the program.
    pub fn after_failed_start(&mut self, policy: &RestartPolicy) -> RestartDecision {
        // The restart never comes at once: a program that could not be executed a moment ago cannot
        // be executed now.
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

    /// Returns `ms` changed at random by up to the percentage in either direction.
    fn jittered(&mut self, policy: &RestartPolicy, ms: u64) -> u64 {
        // xorshift64 spreads the restarts of many services; nothing depends on its quality.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let most = ms.saturating_mul(u64::from(policy.jitter_percent.min(100))) / 100;
        let span = most.saturating_mul(2).saturating_add(1);
        ms.saturating_sub(most).saturating_add(self.random.checked_rem(span).unwrap_or(0))
    }
}

/// Returns the delay, before jitter, after `failures` earlier consecutive failures.
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
    fn a_requested_restart_is_no_failure_but_asking_without_a_stable_run_waits_longer_each_time() {
        let policy = RestartPolicy::default();
        let mut history = History::new(7);
        let mut asks = |ran_ms| history.after_death(&policy, Tick(0), Tick(ran_ms), WaitStatus::exited(75));
        let waits = [0, 0, 0, 0, 0, 1000, 1000, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
        for wait in waits {
            assert_eq!(asks(29_999), RestartDecision::After(wait));
        }
        assert_eq!(asks(30_000), RestartDecision::After(0));
        assert_eq!(history.failures(), 0);
    }

    #[test]
    fn a_restart_that_somebody_asked_the_service_for_does_not_wait() {
        let policy = RestartPolicy::default();
        let mut history = History::new(7);
        for _ in 0..20 {
            history.forget_requests();
            let decision = history.after_death(&policy, Tick(0), Tick(10), WaitStatus::exited(75));
            assert_eq!(decision, RestartDecision::After(0));
        }
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
    fn exit_78_is_a_permanent_failure_at_once() {
        let decision =
            History::new(1).after_death(&RestartPolicy::default(), Tick(0), Tick(9), WaitStatus::exited(78));
        assert_eq!(decision, RestartDecision::Never(78));
    }

    #[test]
    fn an_exit_code_that_may_pass_is_believed_once_the_service_has_failed_often_enough_in_a_row() {
        let policy =
            RestartPolicy { fail_codes: vec![FailCode { code: 78, after: 3 }], ..RestartPolicy::default() };
        let mut history = History::new(1);
        let mut die = |ran_ms| history.after_death(&policy, Tick(0), Tick(ran_ms), WaitStatus::exited(78));
        assert_eq!(die(9), RestartDecision::After(0));
        assert!(matches!(die(9), RestartDecision::After(225..=275)));
        // It worked in between.
        assert_eq!(die(30_000), RestartDecision::After(0));
        assert!(matches!(die(9), RestartDecision::After(225..=275)));
        assert_eq!(die(9), RestartDecision::Never(78));
        assert!(!policy.is_final(78) && RestartPolicy::default().is_final(78));
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
            let mut history = History { failures, requests: 0, random: seed | 1 };
            let plain = ladder_ms(&policy, failures);
            let RestartDecision::After(ms) = history.after_death(&policy, Tick(0), Tick(1), WaitStatus::exited(1)) else {
                panic!("never given up");
            };
            prop_assert!(ms >= plain - plain / 10 && ms <= plain + plain / 10);
        }
    }
}
