//! *Lives here:* the messages for one destination, and when each is tried again.
//!
//! *Does not live here:* sending.

use std::collections::VecDeque;

use crate::message::AlertMessage;

/// The most messages that wait for one destination. If there are more, the oldest are dropped.
const WAITING: usize = 50;
/// Milliseconds before another attempt: after the first failure, and the most.
const FIRST_MS: u64 = 5_000;
const LONGEST_MS: u64 = 900_000;
/// How often the delivery of a message is attempted, which takes about two hours.
const ATTEMPTS: u32 = 15;

/// The result of an attempt to deliver a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// It arrived.
    Sent,
    /// It is tried again after this many milliseconds.
    Again(u64),
    /// It has been tried often enough, and is dropped.
    GivenUp,
}

/// The messages for one destination.
#[derive(Debug, Default)]
pub struct Delivery {
    waiting: VecDeque<AlertMessage>,
    attempts: u32,
    not_before_ms: u64,
    is_under_way: bool,
}

impl Delivery {
    /// Adds a message. Returns how many older ones were dropped for it.
    pub fn add(&mut self, message: AlertMessage) -> usize {
        let mut dropped = 0;
        // The first one may be under way, so it is not dropped.
        while self.waiting.len() >= WAITING && self.waiting.remove(1).is_some() {
            dropped += 1;
        }
        self.waiting.push_back(message);
        dropped
    }

    /// Returns the message to send now, if there is one. It is under way from then on.
    pub fn begin(&mut self, now_ms: u64) -> Option<&AlertMessage> {
        if self.is_under_way || now_ms < self.not_before_ms {
            return None;
        }
        let message = self.waiting.front()?;
        self.is_under_way = true;
        Some(message)
    }

    /// Notes the result of the attempt that was under way.
    pub fn end(&mut self, arrived: bool, now_ms: u64) -> DeliveryOutcome {
        self.is_under_way = false;
        self.attempts = self.attempts.saturating_add(1);
        if !arrived && self.attempts < ATTEMPTS {
            let doubled = 1u64.checked_shl(self.attempts.saturating_sub(1)).unwrap_or(u64::MAX);
            let wait_ms = FIRST_MS.saturating_mul(doubled).min(LONGEST_MS);
            self.not_before_ms = now_ms.saturating_add(wait_ms);
            return DeliveryOutcome::Again(wait_ms);
        }
        self.waiting.pop_front();
        (self.attempts, self.not_before_ms) = (0, 0);
        if arrived { DeliveryOutcome::Sent } else { DeliveryOutcome::GivenUp }
    }

    /// Returns whether the message that is under way was not tried before.
    pub const fn is_first_attempt(&self) -> bool {
        self.attempts == 0
    }

    /// Returns whether each message has arrived, or was given up.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns when a message is to be sent, if one waits and none is under way.
    pub fn due_ms(&self) -> Option<u64> {
        (!self.is_under_way && !self.waiting.is_empty()).then_some(self.not_before_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_does_not_arrive_is_tried_again_more_and_more_seldom_and_then_given_up() {
        let mut delivery = Delivery::default();
        delivery.add(AlertMessage::test());
        let (mut now_ms, mut waits) = (0, Vec::new());
        loop {
            assert!(delivery.begin(now_ms).is_some());
            assert!(delivery.begin(now_ms).is_none(), "it is under way");
            assert!(!delivery.is_idle());
            match delivery.end(false, now_ms) {
                DeliveryOutcome::Again(wait_ms) => {
                    assert!(delivery.begin(now_ms + wait_ms - 1).is_none(), "it is too early");
                    assert_eq!(delivery.due_ms(), Some(now_ms + wait_ms));
                    assert!(!delivery.is_idle(), "it waits for the next attempt");
                    waits.push(wait_ms / 1000);
                    now_ms += wait_ms;
                }
                outcome => break assert_eq!(outcome, DeliveryOutcome::GivenUp),
            }
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900, 900, 900, 900]);
        assert_eq!(delivery.due_ms(), None);
        assert!(delivery.is_idle());
    }

    #[test]
    fn after_a_message_has_arrived_the_next_one_is_tried_at_once() {
        let mut delivery = Delivery::default();
        delivery.add(AlertMessage::test());
        delivery.add(AlertMessage { left_out: 1, ..AlertMessage::test() });
        assert!(delivery.begin(0).is_some());
        assert_eq!(delivery.end(false, 0), DeliveryOutcome::Again(5_000));
        assert_eq!(delivery.begin(5_000).map(|message| message.left_out), Some(0));
        assert_eq!(delivery.end(true, 5_001), DeliveryOutcome::Sent);
        assert_eq!(delivery.begin(5_001).map(|message| message.left_out), Some(1));
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_under_way_stays() {
        let mut delivery = Delivery::default();
        for number in 0..WAITING {
            assert_eq!(delivery.add(AlertMessage { left_out: number, ..AlertMessage::test() }), 0);
        }
        assert!(delivery.begin(0).is_some());
        assert_eq!(delivery.add(AlertMessage { left_out: 1_000, ..AlertMessage::test() }), 1);
        delivery.end(true, 0);
        assert_eq!(delivery.begin(0).map(|message| message.left_out), Some(2));
    }
}
