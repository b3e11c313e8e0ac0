//! *Lives here:* how long a gateway that drains by itself may take for that when it is told to end.
//!
//! *Does not live here:* how an agent is told (`[gateway.environment]` of its definition).

use std::time::Duration;

use crate::agent::AgentDefinition;

/// The variable that tells gateways for how many seconds their turns may go on when they are told
/// to end.
pub const OWN_DRAIN_VARIABLE: &str = "GATEVISOR_DRAIN_S";
/// What is left of the time to stop for the end itself. Hermes gives a turn that it interrupts five
/// seconds, and then disconnects from its platforms.
const RESERVE: Duration = Duration::from_secs(7);

/// Returns the value of [`OWN_DRAIN_VARIABLE`] under a supervisor with this grace: seconds.
///
/// A gateway is killed when either its own time to stop or the grace is over.
pub fn own_drain_s(agent: &AgentDefinition, grace: Duration) -> String {
    let own = Duration::from_millis(agent.gateway.stop_timeout_ms);
    own.min(grace).saturating_sub(RESERVE).as_secs().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_may_go_on_until_seven_seconds_before_the_kill() {
        let hermes = AgentDefinition::built_in().unwrap();
        let rows = [(0, "0"), (7, "0"), (8, "1"), (30, "23"), (45, "23"), (u64::MAX, "23")];
        for (grace, expected) in rows {
            assert_eq!(own_drain_s(&hermes, Duration::from_secs(grace)), expected, "grace {grace} s");
        }
    }
}
