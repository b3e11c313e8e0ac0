//! *Lives here:* waiting until all of several services, or any of them, are in the requested state
//! at one moment.
//!
//! *Does not live here:* waiting until each of several has been in it at some moment (`waiting`).

use super::{Condition, WaitError, Waited, Waiter};
use crate::engine::{self, Interests, Waiting, Woken};
use rustix::io::Errno;
use std::time::Instant;

/// How many of several services have to be in the requested state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quantifier {
    /// All of them at once.
    All,
    /// Any of them.
    Any,
}

/// The end of a wait for several services together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitedTogether {
    /// They are in the requested state, except those that failed for good, whose indexes these are.
    Settled(Vec<usize>),
    /// The supervisor of the service with this index has gone, so the state cannot be reached any
    /// more.
    SupervisorGone(usize),
    /// The deadline passed.
    TimedOut,
}

/// Waits until the services are in the requested state at one moment, according to their status
/// when they were subscribed to, and to each event since. A service that failed for good counts as
/// settled, because it will not come up by itself.
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
                // A state that lasted only an instant counts, even if more events have come.
                if let Some(settled) = self.settled() {
                    return Ok(Some(settled));
                }
            }
        }
        Ok(None)
    }

    /// Returns the end if services without a supervisor make the requested state impossible.
    fn abandoned(&self) -> Option<WaitedTogether> {
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
        // A supervisor's last events come before its end, so they are handled first.
        Ok(self.take_events()?.or_else(|| self.abandoned()))
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
