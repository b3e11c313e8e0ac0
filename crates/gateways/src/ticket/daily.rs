//! *Lives here:* leaving a ticket for each gateway whose daily restart is due.
//!
//! *Does not live here:* when it is due (`schedule`), and carrying the ticket out (`carry`).
//!
//! Nothing is kept in memory. A gateway that was started after the scheduled moment needs no
//! restart, and a ticket for that moment is still on disk if there was one. So a watcher that takes
//! over restarts no gateway twice.

use std::time::Duration;

use gatevisor_client::status_view;
use gatevisor_sys::proc::Process;
use gatevisor_wire::status::Status;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::brake;
use super::record::{RestartTicket, TicketStage, TicketStore};
use super::schedule::{due, is_due, time_of_day};
use crate::desired::Provenance;
use crate::manager::{ScandirManager, ServiceManager};
use crate::profile::ProfileName;

/// How long the turns that are under way may take.
const LIMIT: Duration = Duration::from_mins(5);

/// Leaves a ticket for each gateway that is due now, if the definition wants daily restarts.
pub(super) fn leave_due(manager: &ScandirManager, zone: &TimeZone, now: Timestamp) {
    let Some(at) = manager.agent().gateway.restart_at.as_deref() else { return };
    let Some(moment) = time_of_day(at).and_then(|at| due(at, zone, now)) else { return };
    for name in manager.list().unwrap_or_default() {
        let Some(process) = due_process(manager, &name, moment) else { continue };
        let Ok(store) = TicketStore::make(manager.home().root()) else { return };
        // If the ticket cannot be written, the next look tries again.
        let _ = store.edit(&name, |before| {
            let has_one = |ticket: &RestartTicket| {
                ticket.stage.is_pending() || ticket.scheduled == Some(moment.to_string())
            };
            let is_new = !before.as_ref().is_some_and(has_one);
            is_new.then(|| ticket(at, moment, &process, before.as_ref(), now))
        });
    }
}

/// Returns the process of a gateway that is up and should be, if it began before that moment.
fn due_process(manager: &ScandirManager, name: &ProfileName, moment: Timestamp) -> Option<Process> {
    let status = manager.slot(name).status().ok().filter(Status::is_up)?;
    let began = Timestamp::from_millisecond(status.changed.to_unix_ms()).ok()?;
    let counts = status.want_up && !status_view::is_paused(&status) && is_due(moment, began);
    Process::of(status.pid?.get()).filter(|_| counts)
}

fn ticket(
    at: &str,
    moment: Timestamp,
    process: &Process,
    before: Option<&RestartTicket>,
    now: Timestamp,
) -> RestartTicket {
    let recent = before.map_or_else(Vec::new, |before| brake::counted(&before.restarts(), now));
    RestartTicket {
        stage: TicketStage::Asked,
        by: Provenance::here("restart-at"),
        reason: Some(format!("scheduled for {at}")),
        // No turn of the gateway has asked, so all turns are waited for.
        after_turn: true,
        limit_ms: u64::try_from(LIMIT.as_millis()).unwrap_or(u64::MAX),
        pid: process.pid,
        start_ticks: process.began,
        asked_at: now.to_string(),
        not_before: None,
        ended_at: None,
        outcome: None,
        scheduled: Some(moment.to_string()),
        recent: recent.iter().map(Timestamp::to_string).collect(),
    }
}
