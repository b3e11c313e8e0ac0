//! *Lives here:* whether the kernel may kill the supervisor when a container's memory runs out.
//!
//! *Does not live here:* what to do about that.

use std::fs;

use crate::facts::{ServiceFact, Victims};

/// Files with the limit of the topmost visible group, which is the container's own: versions 2 and
/// 1.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// A value from which on there is no limit; version 1 shows the highest possible number of pages.
const BOUNDLESS: u64 = 1 << 60;

/// The highest score that there is.
const HIGHEST: i32 = 1000;

/// Returns whom the kernel may kill here. It may also kill the supervisor if there is a limit and a
/// gateway runs that has no higher score.
pub(super) fn victims(supervisor: Option<i32>, services: &[ServiceFact]) -> Victims {
    let services = services.iter().map(|service| &service.observed);
    let gateways =
        services.filter(|service| service.profile.is_some()).filter_map(|service| service.status?.pid);
    let limit = LIMITS.iter().find_map(|path| fs::read_to_string(path).ok());
    let scores: Vec<i32> = gateways.filter_map(|pid| score(pid.get())).collect();
    let is_at_risk = |own| is_at_risk(limit.as_deref(), own, &scores);
    if supervisor.and_then(score).is_some_and(is_at_risk) { Victims::Anybody } else { Victims::Gateways }
}

fn is_at_risk(limit: Option<&str>, own: i32, gateways: &[i32]) -> bool {
    let is_limited =
        limit.and_then(|text| text.trim().parse().ok()).is_some_and(|bytes: u64| bytes < BOUNDLESS);
    // If the score is the highest one, nothing can be done about it here.
    is_limited && own < HIGHEST && gateways.iter().any(|&score| score <= own)
}

fn score(pid: i32) -> Option<i32> {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::is_at_risk;

    #[test]
    fn the_supervisor_is_at_risk_where_memory_is_limited_and_a_gateway_is_chosen_no_sooner() {
        for (limit, own, gateways, expected) in [
            (Some("67108864\n"), 0, &[0][..], true),
            (Some("67108864\n"), 0, &[500, 0], true),
            (Some("67108864\n"), 0, &[500], false),
            (Some("67108864\n"), -1000, &[0], false),
            (Some("67108864\n"), 0, &[], false),
            (Some("67108864\n"), 0, &[200, 200], false),
            (Some("67108864\n"), 1000, &[1000], false),
            (Some("max\n"), 0, &[0], false),
            (Some("9223372036854771712\n"), 0, &[0], false),
            (None, 0, &[0], false),
        ] {
            assert_eq!(is_at_risk(limit, own, gateways), expected, "{limit:?} {own} {gateways:?}");
        }
    }
}
