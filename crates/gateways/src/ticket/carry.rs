//! *Lives here:* carrying out a ticket: draining and restarting the gateway, and recording the
//! outcome.
//!
//! *Does not live here:* deciding when (`keeper`).

use std::os::fd::AsFd;
use std::time::Duration;

use gatevisor_liveness::DrainEnd;
use gatevisor_slot::restart_reason;
use gatevisor_sys::signal::{SIGTERM, SignalFd};
use gatevisor_wire::exit::error_chain;

use super::decide::GatewaySeen;
use super::look::seen;
use super::record::{RestartTicket, TicketStage, TicketStore};
use crate::drain::{self, DrainError, DrainOrder, DrainThen, HeldDrain};
use crate::manager::{GatewayRequest, RestartOutcome, ScandirManager};
use crate::profile::ProfileName;

/// Why a ticket was not carried out.
enum NotRestarted {
    /// It will be tried again.
    Later,
    /// The ticket ends at this stage, with this reason.
    Over(TicketStage, String),
}

/// Carries out a ticket. Returns whether the ticket has ended.
pub(super) fn carry_out(
    manager: &ScandirManager,
    store: &TicketStore,
    name: &ProfileName,
    ticket: &RestartTicket,
) -> bool {
    match restarted(manager, store, name, ticket) {
        Ok(outcome) => store.step(name, ticket, |now, at| now.ended(TicketStage::Done, &outcome, at)),
        Err(NotRestarted::Over(stage, why)) => store.step(name, ticket, |now, at| now.ended(stage, &why, at)),
        Err(NotRestarted::Later) => false,
    }
}

fn restarted(
    manager: &ScandirManager,
    store: &TicketStore,
    name: &ProfileName,
    ticket: &RestartTicket,
) -> Result<String, NotRestarted> {
    store.step(name, ticket, |now, _| RestartTicket { stage: TicketStage::Draining, ..now });
    let held = drained(manager, name, ticket)?;
    let is_of_ticket = matches!(seen(manager, name), GatewaySeen::Up { pid, start_ticks, want_up: true, .. }
        if ticket.is_of(pid, start_ticks));
    if !is_of_ticket {
        return Err(NotRestarted::Later);
    }
    // This is recorded first, so that a restart loop is slowed down even if nothing after this is
    // recorded.
    store.step(name, ticket, |now, at| {
        let counted = now.scheduled.is_none().then(|| at.to_string());
        let recent = now.recent.iter().cloned().chain(counted).collect();
        RestartTicket { stage: TicketStage::Restarting, recent, ..now }
    });
    if let Some(held) = &held {
        held.take_back_at_its_end();
    }
    let cut = held.as_ref().and_then(cut_off);
    let result = manager.restart_as_desired(name, &request(ticket, cut.as_deref()));
    let warnings = held.map(HeldDrain::finish).unwrap_or_default();
    match result {
        Ok(done) => {
            Ok([words(done.outcome)].into_iter().chain(cut).chain(warnings).collect::<Vec<_>>().join("; "))
        }
        Err(error) => {
            if matches!(seen(manager, name), GatewaySeen::Up { pid, start_ticks, .. } if ticket.is_of(pid, start_ticks))
            {
                restart_reason::withdraw(manager.slot(name).path());
            }
            Err(NotRestarted::Over(TicketStage::Refused, error_chain(&error)))
        }
    }
}

/// Drains a gateway, if its definition says how.
fn drained(
    manager: &ScandirManager,
    name: &ProfileName,
    ticket: &RestartTicket,
) -> Result<Option<HeldDrain>, NotRestarted> {
    // A command that cancels the drain sends SIGTERM to its owner.
    let told_to_end = SignalFd::new(&[SIGTERM]).ok();
    // All turns are waited for. A gateway reports how many there are, and not which of them asked,
    // so a turn that is left out may be another one. The turn that asked ends by itself, because it
    // had its answer at once.
    let order = DrainOrder {
        by: ticket.by.clone(),
        limit: Duration::from_millis(ticket.limit_ms),
        then: DrainThen::Restart,
    };
    let held = match HeldDrain::begin(manager, name, &order) {
        Ok(held) => held,
        Err(DrainError::NoDialect { .. }) => return Ok(None),
        // The other drain or the pause will end.
        Err(DrainError::Held { .. } | DrainError::NotUp { .. } | DrainError::Paused { .. }) => {
            return Err(NotRestarted::Later);
        }
        Err(error) => return Err(NotRestarted::Over(TicketStage::Refused, error_chain(&error))),
    };
    let mut all = [held];
    drain::run(&mut all, told_to_end.as_ref().map(AsFd::as_fd), &mut |_| {});
    let [held] = all;
    match held.end() {
        Some(DrainEnd::Idle | DrainEnd::Limit(..)) => Ok(Some(held)),
        Some(DrainEnd::Failed(why)) => {
            Err(NotRestarted::Over(TicketStage::Refused, format!("it cannot be asked to drain: {why}")))
        }
        Some(DrainEnd::Cancelled) => {
            Err(NotRestarted::Over(TicketStage::Refused, "somebody cancelled its drain".to_owned()))
        }
        // The next look finds the process that has taken its place.
        Some(DrainEnd::Ended) | None => Err(NotRestarted::Later),
    }
}

fn cut_off(held: &HeldDrain) -> Option<String> {
    let Some(DrainEnd::Limit(turns, _)) = held.end() else { return None };
    let turns =
        turns.map_or_else(|| "what was under way".to_owned(), |turns| format!("{turns} turns under way"));
    let what = if held.ends_work_when_stopped() { "left to its own stop" } else { "cut off" };
    Some(format!("{turns} at the limit of {} s, {what}", held.took().as_secs()))
}

fn request(ticket: &RestartTicket, cut: Option<&str>) -> GatewayRequest {
    let reason: Vec<&str> = ticket.reason.as_deref().into_iter().chain(cut).collect();
    GatewayRequest {
        by: ticket.by.clone(),
        reason: (!reason.is_empty()).then(|| reason.join("; ")),
        ..GatewayRequest::here("")
    }
}

fn words(outcome: RestartOutcome) -> String {
    let of = |how: &str, pid: Option<gatevisor_wire::Pid>| {
        pid.map_or_else(|| how.to_owned(), |pid| format!("{how} (pid {pid})"))
    };
    match outcome {
        RestartOutcome::Up(pid) | RestartOutcome::Served(pid) => of("restarted, up", pid),
        RestartOutcome::Live(pid) => of("restarted, live", pid),
        RestartOutcome::Ready(pid) => of("restarted, ready", pid),
        RestartOutcome::Told | RestartOutcome::WasDown(_) => "restarted".to_owned(),
    }
}
