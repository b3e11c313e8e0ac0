//! *Lives here:* how often messages are sent.
//!
//! *Does not live here:* what is told (`machine`), and retries (`delivery`).
//!
//! News that may not be sent yet wait, and are then sent together in one message. Only the latest
//! news of each subject wait.

use std::collections::BTreeSet;

use crate::message::{AlertEvent, AlertMessage, News};
use crate::subject::AlertSubject;

/// Milliseconds between two messages, so that news of the same moment are in one message.
const PAUSE_MS: u64 = 5_000;
/// How many messages may be sent with no more than `PAUSE_MS` between them.
const BURST: u64 = 10;
/// The most news that wait.
const WAITING: usize = 80;
const HOUR_MS: u64 = 3_600_000;

/// News that wait to be told.
#[derive(Debug)]
pub struct Outbox {
    per_hour: u64,
    waiting: Vec<News>,
    left_out: usize,
    not_before_ms: u64,
    /// The subjects with a problem that was told.
    told: BTreeSet<AlertSubject>,
    /// How many messages may be sent, in parts of `HOUR_MS` of one.
    credit: u64,
    counted_ms: u64,
}

impl Outbox {
    /// Returns an outbox that sends this many messages in an hour. `told` are the subjects with a
    /// problem that an earlier process told.
    pub fn new(per_hour: u32, told: impl IntoIterator<Item = AlertSubject>, now_ms: u64) -> Self {
        let per_hour = u64::from(per_hour).max(1);
        let credit = BURST.min(per_hour).saturating_mul(HOUR_MS);
        let (waiting, told) = (Vec::new(), told.into_iter().collect());
        Self { per_hour, waiting, left_out: 0, not_before_ms: 0, told, credit, counted_ms: now_ms }
    }

    /// Adds news, which replace waiting news of the same subject.
    pub fn add(&mut self, news: Vec<News>) {
        for one in news {
            self.waiting.retain(|waiting| waiting.subject != one.subject);
            // If the problem was never told, its end is not told either.
            if matches!(one.what, AlertEvent::Recovered(_)) && !self.told.contains(&one.subject) {
                continue;
            }
            if self.waiting.len() < WAITING {
                self.waiting.push(one);
            } else {
                self.left_out = self.left_out.saturating_add(1);
            }
        }
    }

    /// Returns the message that may be sent now, if there is one.
    pub fn take(&mut self, now_ms: u64) -> Option<AlertMessage> {
        self.count(now_ms);
        if self.waiting.is_empty() || now_ms < self.not_before_ms || self.credit < HOUR_MS {
            return None;
        }
        self.credit = self.credit.saturating_sub(HOUR_MS);
        self.not_before_ms = now_ms.saturating_add(PAUSE_MS);
        let news = std::mem::take(&mut self.waiting);
        for one in &news {
            match one.what {
                AlertEvent::Began(_) => drop(self.told.insert(one.subject.clone())),
                AlertEvent::Recovered(_) => drop(self.told.remove(&one.subject)),
                AlertEvent::Test | AlertEvent::Said(_) => {}
            }
        }
        Some(AlertMessage { news, left_out: std::mem::take(&mut self.left_out) })
    }

    /// Returns whether nothing waits.
    pub const fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns when the next message may be sent, if one waits.
    pub fn due_ms(&self) -> Option<u64> {
        if self.waiting.is_empty() {
            return None;
        }
        let missing = HOUR_MS.saturating_sub(self.credit).div_ceil(self.per_hour);
        Some(self.counted_ms.saturating_add(missing).max(self.not_before_ms))
    }

    fn count(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.counted_ms);
        let most = BURST.min(self.per_hour).saturating_mul(HOUR_MS);
        self.credit = self.credit.saturating_add(passed.saturating_mul(self.per_hour)).min(most);
        self.counted_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::AlertProblem;
    use crate::subject::AlertSubject;

    fn failed(name: &str) -> News {
        let subject = AlertSubject::Gateway(name.to_owned());
        News { subject, what: AlertEvent::Began(AlertProblem::Failed), reason: None }
    }

    fn well(name: &str) -> News {
        News { what: AlertEvent::Recovered(AlertProblem::Failed), ..failed(name) }
    }

    #[test]
    fn what_happens_soon_after_a_message_goes_together_in_the_next_one() {
        let mut outbox = Outbox::new(60, [], 0);
        outbox.add(vec![failed("a")]);
        assert_eq!(outbox.take(0).unwrap().news.len(), 1);
        outbox.add((0..50).map(|number| failed(&number.to_string())).collect());
        assert_eq!(outbox.take(4_999), None);
        assert_eq!(outbox.due_ms(), Some(5_000));
        assert_eq!(outbox.take(5_000).unwrap().news.len(), 50);
        assert_eq!(outbox.due_ms(), None);
    }

    #[test]
    fn no_more_messages_than_allowed_leave_in_an_hour_and_nothing_is_lost() {
        let mut outbox = Outbox::new(6, [], 0);
        let (mut sent, mut told) = (0, 0);
        for second in 0..3_600 {
            outbox.add(vec![failed(&(second % 100).to_string())]);
            if let Some(message) = outbox.take(second * 1_000) {
                (sent, told) = (sent + 1, told + message.news.len());
            }
        }
        assert_eq!(sent, 6 + 5, "six at the beginning, and then one in ten minutes");
        assert!(told > WAITING, "{told}");
        assert_eq!(outbox.due_ms(), Some(3_600_000));
    }

    #[test]
    fn of_a_problem_that_is_over_before_anybody_was_told_nobody_is_told() {
        let mut outbox = Outbox::new(60, [], 0);
        outbox.add(vec![failed("a"), failed("b"), well("a")]);
        assert_eq!(outbox.take(0).unwrap().news, [failed("b")]);
        outbox.add(vec![well("b"), failed("b")]);
        assert_eq!(outbox.take(9_000).unwrap().news, [failed("b")]);
        outbox.add(vec![failed("b"), well("b")]);
        assert_eq!(outbox.take(19_000).unwrap().news, [well("b")], "somebody was told of the problem");
        let mut next = Outbox::new(60, [failed("c").subject], 0);
        next.add(vec![well("c")]);
        assert_eq!(next.take(0).unwrap().news, [well("c")]);
    }

    #[test]
    fn what_waits_is_bounded_and_the_rest_is_counted() {
        let mut outbox = Outbox::new(60, [], 0);
        outbox.add((0..WAITING + 7).map(|number| failed(&number.to_string())).collect());
        let message = outbox.take(0).unwrap();
        assert_eq!((message.news.len(), message.left_out), (WAITING, 7));
    }
}
