//! *Lives here:* the words for what a start waits for.
//!
//! *Does not live here:* finding that out (`manager::observe`).

use gatevisor_slot::start_permits::StartDelay;

use crate::profile::ProfileName;

/// Returns what a start waits for.
pub fn delay_words(delay: &StartDelay) -> String {
    match delay {
        StartDelay::Queued(before) => format!("queued, {before} before it"),
        StartDelay::After(service) => {
            let profile = ProfileName::of_service(service.as_bytes());
            let name = profile.as_ref().map_or(service.as_str(), ProfileName::as_str);
            format!("queued, starts after {name}")
        }
    }
}
