//! Of several operators, only the holder of a lease acts.
//!
//! *Lives here:* the decision. Time is an argument. *Does not live here:* reading and writing the
//! lease (`election`).
//!
//! No two clocks are compared. An operator without the lease measures by its own clock how long the
//! lease was not renewed. The holder stops acting well before another operator may take the lease.

use std::time::Duration;

/// How long a lease lasts after its last renewal.
pub const LASTS: Duration = Duration::from_secs(10);
/// The time between two renewals by the holder, and between two looks of the others.
pub const EVERY: Duration = Duration::from_secs(2);
/// The time without a successful renewal after which the holder stops acting.
pub const STOPS_AFTER: Duration = Duration::from_secs(6);

/// A lease as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The name of the holder; empty if the lease was released.
    pub holder: String,
    /// The version of the object, which changes with every renewal.
    pub version: String,
}

/// What one operator remembers about the lease of another.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    last: Option<(Record, Duration)>,
}

/// What an operator does about the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Create the lease, because there is none.
    Create,
    /// Write the lease with this operator as the holder.
    Take,
    /// Write the lease again, because this operator holds it.
    Renew,
    /// Look again later.
    Wait,
}

impl Watch {
    /// Returns what to do about a lease at this time of our own clock.
    pub fn step(&mut self, us: &str, record: Option<Record>, now: Duration) -> Step {
        let Some(record) = record else {
            self.last = None;
            return Step::Create;
        };
        if record.holder == us {
            return Step::Renew;
        }
        if record.holder.is_empty() {
            return Step::Take;
        }
        match &self.last {
            Some((last, since)) if *last == record => {
                if now.saturating_sub(*since) >= LASTS {
                    Step::Take
                } else {
                    Step::Wait
                }
            }
            _ => {
                self.last = Some((record, now));
                Step::Wait
            }
        }
    }
}

/// Returns whether a holder whose last renewal began at `renewed` must stop acting.
pub fn must_stop(renewed: Duration, now: Duration) -> bool {
    now.saturating_sub(renewed) >= STOPS_AFTER
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(holder: &str, version: u32) -> Record {
        Record { holder: holder.to_owned(), version: version.to_string() }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_that_is_missing_ours_or_released_is_taken_at_once() {
        let mut watch = Watch::default();
        assert_eq!(watch.step("a", None, at(0)), Step::Create);
        assert_eq!(watch.step("a", Some(record("a", 1)), at(0)), Step::Renew);
        assert_eq!(watch.step("a", Some(record("", 2)), at(0)), Step::Take);
    }

    #[test]
    fn a_lease_of_another_is_taken_when_nobody_has_renewed_it_for_its_time() {
        let mut watch = Watch::default();
        assert_eq!(watch.step("a", Some(record("b", 1)), at(100)), Step::Wait);
        assert_eq!(watch.step("a", Some(record("b", 1)), at(109)), Step::Wait);
        assert_eq!(watch.step("a", Some(record("b", 2)), at(109)), Step::Wait);
        assert_eq!(watch.step("a", Some(record("b", 2)), at(118)), Step::Wait);
        assert_eq!(watch.step("a", Some(record("b", 2)), at(119)), Step::Take);
    }

    /// A holder renews at times that the API server sees up to one request later, and reads of
    /// others are late, too. Whoever takes the lease finds that its holder has stopped.
    #[derive(Debug, Clone, Copy)]
    enum Act {
        Renews,
        Fails,
        OtherLooks,
    }

    proptest! {
        #[test]
        fn invariant_nobody_takes_a_lease_whose_holder_still_acts(
            acts in prop::collection::vec(
                (prop_oneof![Just(Act::Renews), Just(Act::Fails), Just(Act::OtherLooks)], 0_u64..4000),
                1..200,
            ),
        ) {
            let (mut now, mut version, mut began) = (Duration::ZERO, 1, Duration::ZERO);
            let mut other = Watch::default();
            for (act, passed) in acts {
                now += Duration::from_millis(passed);
                let acts = !must_stop(began, now);
                match act {
                    Act::Renews if acts => {
                        version += 1;
                        began = now;
                    }
                    Act::Renews | Act::Fails => {}
                    Act::OtherLooks => {
                        let step = other.step("b", Some(record("a", version)), now);
                        prop_assert!(!(step == Step::Take && acts), "taken at {now:?}, renewed at {began:?}");
                        if step == Step::Take {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }
}
