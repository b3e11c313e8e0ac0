//! *Lives here:* waiting until all of several services are as requested at one moment, or any of them.
//!
//! *Does not live here:* waiting until each of several has been so, at whatever moment (`waiting`).

use super::{Condition, WaitError, Waited, Waiter};
use crate::engine::{self, Interests, Waiting, Woken};
use rustix::io::Errno;
use std::time::Instant;

/// Which of several services have to be as requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quantifier {
    /// All of them at once.
    All,
    /// Any of them.
    Any,
}

/// How waiting for several services together ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitedTogether {
    /// They are as requested, but for those that failed for good, by their indexes.
    Settled(Vec<usize>),
    /// The supervisor of the service with this index has gone, so it cannot become so any more.
    SupervisorGone(usize),
    /// The deadline passed.
    TimedOut,
}

/// Waits until the services are as requested at one moment: by their status when they were subscribed to, and by each event
/// since. A service that failed for good counts as settled, for it will not come up by itself.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svwait.html>
pub fn wait_together(
    waiters: &mut [Waiter],
    cond: Condition,
    quantifier: Quantifier,
    deadline: Option<Instant>,
) -> Result<WaitedTogether, WaitError> {
    let group = ServiceGroup { waiters, cond, quantifier };
    engine::wait_one(group, deadline).unwrap_or(Ok(WaitedTogether::TimedOut))
}

struct ServiceGroup<'a> {
    waiters: &'a mut [Waiter],
    cond: Condition,
    quantifier: Quantifier,
}

impl ServiceGroup<'_> {
    fn settled(&self) -> Option<WaitedTogether> {
        let outcomes: Vec<_> = self.waiters.iter().map(|waiter| waiter.tracked.settled(self.cond)).collect();
        let is_settled = match self.quantifier {
            Quantifier::All => outcomes.iter().all(Option::is_some),
            Quantifier::Any => outcomes.iter().any(Option::is_some),
        };
        let failed =
            |(index, outcome): (usize, Option<Waited>)| (outcome == Some(Waited::Failed)).then_some(index);
        is_settled
            .then(|| WaitedTogether::Settled(outcomes.into_iter().enumerate().filter_map(failed).collect()))
    }

    fn take_events(&mut self) -> Result<Option<WaitedTogether>, WaitError> {
        for index in 0..self.waiters.len() {
            while let Some(waiter) = self.waiters.get_mut(index)
                && waiter.tracked.next_event()?.is_some()
            {
                // What was so for an instant counts, even if more events have come.
                if let Some(settled) = self.settled() {
                    return Ok(Some(settled));
                }
            }
        }
        Ok(None)
    }

    /// Returns the end if those without a supervisor keep the others from ever being as requested.
    fn hopeless(&self) -> Option<WaitedTogether> {
        let is_lost =
            |waiter: &Waiter| waiter.tracked.is_abandoned && waiter.tracked.settled(self.cond).is_none();
        let lost = self.waiters.iter().position(is_lost)?;
        let is_over = self.quantifier == Quantifier::All || self.waiters.iter().all(is_lost);
        is_over.then_some(WaitedTogether::SupervisorGone(lost))
    }

    fn decide(&mut self, woken: Woken) -> Result<Option<WaitedTogether>, WaitError> {
        if woken.closed {
            for waiter in &mut *self.waiters {
                waiter.tracked.note_closed();
            }
        }
        if let Some(settled) = self.settled() {
            return Ok(Some(settled));
        }
        // The last events came before the end of a supervisor, so they are taken before it counts.
        Ok(self.take_events()?.or_else(|| self.hopeless()))
    }
}

impl Waiting for ServiceGroup<'_> {
    type End = Result<WaitedTogether, WaitError>;

    fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        for waiter in &*self.waiters {
            waiter.tracked.interests(!waiter.tracked.is_abandoned, interests);
        }
    }

    fn step(&mut self, woken: Woken) -> Option<Self::End> {
        self.decide(woken).transpose()
    }

    fn late(&mut self) -> Self::End {
        Ok(WaitedTogether::TimedOut)
    }

    fn broken(&mut self, errno: Errno) -> Self::End {
        Err(WaitError::Poll { source: errno.into() })
    }
}
