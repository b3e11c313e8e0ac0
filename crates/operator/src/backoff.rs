//! How long to wait after a failure.

use std::time::Duration;

/// The wait after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait, before up to a quarter is added.
const LONGEST: Duration = Duration::from_mins(5);

/// Returns how long to wait after this many failures in a row: 1 s, 2 s, 4 s, … 5 min, each longer
/// by up to a quarter. `spread` may be any number. Homes with different numbers try at different
/// times.
pub fn after(failures: u32, spread: u64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(LONGEST);
    // The multiplication makes the bits of neighbouring numbers differ.
    let part = u32::try_from(spread.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54).unwrap_or(0);
    doubled + doubled * part / 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes_and_are_spread_by_a_quarter() {
        for (failures, least) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (u32::MAX, 300)] {
            for spread in 0..1000 {
                let wait = after(failures, spread);
                assert!(wait >= Duration::from_secs(least), "{failures}: {wait:?}");
                assert!(wait <= Duration::from_secs(least).mul_f64(1.25), "{failures}: {wait:?}");
            }
        }
        assert!(
            (0..100).map(|spread| after(1, spread)).collect::<std::collections::BTreeSet<_>>().len() > 50
        );
    }
}
