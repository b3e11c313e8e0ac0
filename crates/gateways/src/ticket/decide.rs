//! *Lives here:* what to do about a ticket, given the state of its gateway.
//!
//! *Does not live here:* finding out that state, and acting.

use jiff::Timestamp;

use super::record::{RestartTicket, TicketStage};

/// The gateway that a ticket is about, at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GatewaySeen {
    /// No supervisor has it.
    Nothing,
    /// It is down. Its supervisor will start it again if `want_up`.
    Down {
        /// Whether it shall be up.
        want_up: bool,
    },
    /// It is up, as this process.
    Up {
        /// The number in its status.
        pid: i32,
        /// The start of the process, in ticks since boot.
        start_ticks: u64,
        /// Whether it shall be up.
        want_up: bool,
        /// Whether it is paused.
        paused: bool,
    },
}

/// What to do about a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TicketStep {
    /// Nothing yet.
    Wait,
    /// Drain and restart the gateway.
    CarryOut,
    /// End it at this stage, for this reason.
    End(TicketStage, &'static str),
}

/// Returns what to do about a ticket.
pub(super) fn decide(ticket: &RestartTicket, seen: GatewaySeen, now: Timestamp) -> TicketStep {
    const STOPPED: &str = "it was stopped meanwhile, and is not started again";
    if !ticket.stage.is_pending() {
        return TicketStep::Wait;
    }
    let waits = ticket.not_before().is_some_and(|at| at > now);
    match seen {
        GatewaySeen::Down { want_up: false } => TicketStep::End(TicketStage::Refused, STOPPED),
        GatewaySeen::Up { pid, start_ticks, .. } if !ticket.is_of(pid, start_ticks) => {
            let how = match ticket.stage {
                TicketStage::Restarting => "it was restarted",
                _ => "its process had ended before, and it was started again",
            };
            TicketStep::End(TicketStage::Done, how)
        }
        GatewaySeen::Up { want_up: true, paused: false, .. } if !waits => TicketStep::CarryOut,
        GatewaySeen::Nothing | GatewaySeen::Down { .. } | GatewaySeen::Up { .. } => TicketStep::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;

    #[test]
    fn a_ticket_is_carried_out_once_for_the_process_that_it_names() {
        let now = Timestamp::from_second(1_780_000_000).unwrap();
        let up = |pid, want_up, paused| GatewaySeen::Up { pid, start_ticks: 5, want_up, paused };
        let ticket = RestartTicket::example();
        for (seen, expected) in [
            (GatewaySeen::Nothing, "Wait"),
            (GatewaySeen::Down { want_up: true }, "Wait"),
            (GatewaySeen::Down { want_up: false }, "Refused"),
            (up(7, true, false), "CarryOut"),
            (up(7, true, true), "Wait"),
            (up(7, false, false), "Wait"),
            (up(8, true, false), "Done"),
        ] {
            for stage in [TicketStage::Asked, TicketStage::Held, TicketStage::Restarting] {
                let ticket = RestartTicket { stage, ..ticket.clone() };
                let step = format!("{:?}", decide(&ticket, seen, now));
                assert!(step.contains(expected), "{stage:?} {seen:?}: {step}");
            }
            for stage in [TicketStage::Done, TicketStage::Refused] {
                let ticket = RestartTicket { stage, ..ticket.clone() };
                assert_eq!(decide(&ticket, seen, now), TicketStep::Wait);
            }
        }
        let later = now.checked_add(1.second()).unwrap();
        let held = RestartTicket { not_before: Some(later.to_string()), ..ticket };
        assert_eq!(decide(&held, up(7, true, false), now), TicketStep::Wait);
        assert_eq!(decide(&held, up(7, true, false), later), TicketStep::CarryOut);
    }
}
