//! The words for the results of requests for a gateway.
//!
//! *Lives here:* the words that both `profile` and `gateway` print.
//! *Does not live here:* the requests.

use gatevisor_gateways::manager::{Registered, StartOutcome};
use gatevisor_wire::Pid;

/// Returns the words for the result of a start.
pub fn started_words(outcome: StartOutcome) -> String {
    match outcome {
        StartOutcome::WasUp(pid) => format!("was up already{}", pid_words(pid)),
        StartOutcome::Told => "starting".to_owned(),
        StartOutcome::Up(pid) => format!("up{}", pid_words(pid)),
        StartOutcome::Live(pid) => format!("live{}", pid_words(pid)),
        StartOutcome::Ready(pid) => format!("ready{}", pid_words(pid)),
        StartOutcome::Served(pid) => served_words(pid),
    }
}

/// Returns the words for the result of a registration.
pub fn registered_words(outcome: Registered) -> String {
    match outcome {
        Registered::Down => "registered, down".to_owned(),
        Registered::Starting => "registered, starting".to_owned(),
        Registered::Up(pid) => format!("registered, up{}", pid_words(pid)),
        Registered::Live(pid) => format!("registered, live{}", pid_words(pid)),
        Registered::Ready(pid) => format!("registered, ready{}", pid_words(pid)),
        Registered::Served(pid) => format!("registered, and {}", served_words(pid)),
    }
}

fn served_words(pid: Option<Pid>) -> String {
    format!("served by the gateway of default{}", pid_words(pid))
}

/// Returns ` (pid N)`, or nothing.
pub fn pid_words(pid: Option<Pid>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_profile_that_another_gateway_serves_is_said_to_be_served_and_not_to_be_ready() {
        let served = StartOutcome::Served(Pid::new(7));
        assert_eq!(
            registered_words(served.into()),
            "registered, and served by the gateway of default (pid 7)"
        );
        assert_eq!(StartOutcome::from(&Registered::from(served)), served);
    }
}
