//! *Lives here:* how long a restart waits if the gateway asks for restarts again and again.
//!
//! *Does not live here:* reading a clock: both times are arguments.

use jiff::{SignedDuration, Timestamp};

/// The number of restarts within `WITHIN` that do not wait.
pub const FREE: usize = 3;
/// How long a restart counts.
const WITHIN: SignedDuration = SignedDuration::from_hours(1);
/// The first wait. Each further wait is twice as long, up to the longest.
const FIRST: SignedDuration = SignedDuration::from_mins(1);
const LONGEST: SignedDuration = SignedDuration::from_mins(30);

/// Returns the restarts that still count. If the clock was set back to before a restart, that
/// restart does not count.
pub(super) fn counted(recent: &[Timestamp], now: Timestamp) -> Vec<Timestamp> {
    let counts = |at: &&Timestamp| (SignedDuration::ZERO..WITHIN).contains(&now.duration_since(**at));
    recent.iter().filter(counts).copied().collect()
}

/// Returns the time until which the next restart waits; `None` if it does not wait.
pub(super) fn waits_until(recent: &[Timestamp], now: Timestamp) -> Option<Timestamp> {
    let counted = counted(recent, now);
    let beyond = u32::try_from(counted.len().checked_sub(FREE)?).unwrap_or(u32::MAX);
    let doubled = 1_i32.checked_shl(beyond).filter(|_| beyond < 16).unwrap_or(i32::MAX);
    let wait = FIRST.checked_mul(doubled).unwrap_or(LONGEST).min(LONGEST);
    let until = counted.iter().max()?.checked_add(wait).ok()?;
    (until > now).then_some(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_an_hour_wait_for_nothing_and_each_that_follows_waits_twice_as_long() {
        let now = Timestamp::from_second(1_780_000_000).unwrap();
        let ago = |minutes: &[i64]| -> Vec<Timestamp> {
            minutes
                .iter()
                .map(|minutes| now.checked_sub(SignedDuration::from_mins(*minutes)).unwrap())
                .collect()
        };
        let waits = |minutes: &[i64]| {
            waits_until(&ago(minutes), now).map_or(0, |until| until.duration_since(now).as_mins())
        };
        for (recent, expected) in [
            (&[][..], 0),
            (&[0, 0], 0),
            (&[0, 1, 2], 1),
            (&[1, 2, 3], 0),
            (&[0, 1, 2, 3], 2),
            (&[1, 2, 3, 4], 1),
            (&[0, 59, 59, 60], 1),
            (&[0, 61, 62, 63], 0),
            (&[0, 1, 2, 3, 4, 5, 6, 7], 30),
            // The clock was set back.
            (&[-5, -6, -7, -8], 0),
        ] {
            assert_eq!(waits(recent), expected, "{recent:?}");
        }
        assert_eq!(waits(&[0; 40]), 30);
    }
}
