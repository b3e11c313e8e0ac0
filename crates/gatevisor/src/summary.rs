//! All gateways in one line: their number, and how many are in each state.
//!
//! *Lives here:* the line, and the order of states from bad to good.
//! *Does not live here:* the table above it (`status`).

use gatevisor_gateways::inspect::{ServiceReport, ServiceState};

/// Returns the words for these gateways, such as `20 gateways: 18 ready, 2 failed`; `None` if there
/// are none. Other services do not count.
pub fn of(reports: &[ServiceReport]) -> Option<String> {
    let states: Vec<ServiceState> =
        reports.iter().filter(|report| report.profile.is_some()).map(|report| report.state).collect();
    words(&states)
}

/// Returns the same for gateways in these states.
pub fn words(states: &[ServiceState]) -> Option<String> {
    let mut counts: Vec<(ServiceState, usize)> = Vec::new();
    for state in states {
        match counts.iter_mut().find(|(known, _)| known == state) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => counts.push((*state, 1)),
        }
    }
    let place = |state| ServiceState::ALL.iter().position(|known| *known == state);
    counts.sort_by_key(|(state, count)| (std::cmp::Reverse(*count), rank(*state), place(*state)));
    let parts: Vec<String> =
        counts.iter().map(|(state, count)| format!("{count} {}", state.words())).collect();
    let noun = if states.len() == 1 { "gateway" } else { "gateways" };
    (!parts.is_empty()).then(|| format!("{} {noun}: {}", states.len(), parts.join(", ")))
}

/// Returns the rank of a state in a table that begins with what needs attention.
pub const fn rank(state: ServiceState) -> u8 {
    match state {
        ServiceState::Failed => 0,
        ServiceState::FailedToStart => 1,
        ServiceState::BackingOff => 2,
        ServiceState::Unresponsive => 3,
        ServiceState::Unknown => 4,
        ServiceState::Degraded => 5,
        ServiceState::Traced | ServiceState::Paused => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_counted_by_their_states_the_most_common_first() {
        use ServiceState::{BackingOff, Down, Failed, Ready, Unresponsive};
        let states = [Ready, Unresponsive, Ready, BackingOff, Failed, Ready];
        let said = "6 gateways: 3 ready, 1 failed, 1 backing off, 1 unresponsive";
        assert_eq!(words(&states).as_deref(), Some(said));
        assert_eq!(words(&[Down]).as_deref(), Some("1 gateway: 1 down"));
        assert_eq!(words(&[]), None);
    }
}
