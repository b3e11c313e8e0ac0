//! A limit for wrong tokens.
//!
//! *Lives here:* counting, with the time as an argument. A right token is always accepted, so that
//! nobody can keep its owner out by sending wrong ones.

use std::time::{Duration, Instant};

/// This many wrong tokens are answered without a pause.
const AT_ONCE: u32 = 10;
/// One more wrong token is answered after this time.
const PAUSE: Duration = Duration::from_secs(6);

/// Counts the wrong tokens of all callers together.
#[derive(Debug, Default)]
pub struct WrongTokens {
    /// The wrong tokens so far, less one for each pause since.
    count: u32,
    /// When the count was last lowered.
    since: Option<Instant>,
}

impl WrongTokens {
    /// Counts a wrong token, and returns whether there were too many.
    pub fn count(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let pauses = now.saturating_duration_since(since).as_secs() / PAUSE.as_secs();
        let pauses = u32::try_from(pauses).unwrap_or(u32::MAX);
        if pauses > 0 {
            self.count = self.count.saturating_sub(pauses);
            self.since = Some(now);
        }
        if self.count >= AT_ONCE {
            return true;
        }
        self.count = self.count.saturating_add(1);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_ten_wrong_tokens_one_more_is_judged_every_six_seconds() {
        let begin = Instant::now();
        let mut wrong = WrongTokens::default();
        let mut judged = |at: u64, times: usize| {
            let now = begin + Duration::from_secs(at);
            (0..times).filter(|_| !wrong.count(now)).count()
        };
        assert_eq!(judged(0, 50), 10);
        assert_eq!(judged(5, 50), 0);
        assert_eq!(judged(6, 50), 1);
        assert_eq!(judged(11, 50), 0);
        assert_eq!(judged(24, 50), 3);
        assert_eq!(judged(100_000, 50), 10);
    }
}
