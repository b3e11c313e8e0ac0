//! *Lives here:* the words for what a start waits for, and how long it still does.
//!
//! *Does not live here:* finding that out (`manager::observe`).

use gatevisor_slot::start_permits::StartDelay;
use gatevisor_wire::tai::Tai64n;

use crate::manager::Observed;
use crate::profile::ProfileName;

/// Returns what a start waits for.
pub fn delay_words(delay: &StartDelay) -> String {
    match delay {
        StartDelay::Queued(before) => format!("queued, {before} before it"),
        StartDelay::After(service) => format!("queued, {}", after_words(service)),
    }
}

/// Returns that a start comes after that of another service.
pub fn after_words(service: &str) -> String {
    format!("starts after {}", ProfileName::shown_of(service))
}

/// Returns the milliseconds until the start that it waits for, if it waits for one.
pub(super) fn left_ms(observed: &Observed, now: Tai64n) -> Option<u64> {
    let left = observed.state.until_unix_ms()?.saturating_sub(now.to_unix_ms());
    Some(u64::try_from(left).unwrap_or(0))
}
