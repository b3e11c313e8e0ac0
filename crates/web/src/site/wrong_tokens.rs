//! How often a wrong token is answered with more than "later".
//!
//! *Lives here:* counting, with the time as an argument. A right token is always accepted, so that
//! nobody can keep its owner out.

use std::time::{Duration, Instant};

/// So many wrong tokens are answered at once.
const AT_ONCE: u32 = 10;
/// After this long, one more is.
const PAUSE: Duration = Duration::from_secs(6);

/// Counts the wrong tokens of everybody together.
#[derive(Debug, Default)]
pub struct WrongTokens {
    /// How many were given in the last time.
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
