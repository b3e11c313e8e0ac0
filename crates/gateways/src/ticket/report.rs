//! *Lives here:* reports about restart tickets.
//!
//! *Does not live here:* carrying them out.

use jiff::Timestamp;
use serde::Serialize;

use super::brake;
use super::record::{RestartTicket, TicketStage, TicketStore};
use crate::desired::Provenance;
use crate::profile::{Home, ProfileName};

/// A report about the last ticket of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TicketReport {
    /// Its stage: `asked`, `held`, `draining`, `restarting`, `done` or `refused`.
    pub stage: TicketStage,
    /// Who asked.
    pub by: Provenance,
    /// Why, in the words of whoever asked.
    pub reason: Option<String>,
    /// When the request was made, in RFC 3339.
    pub asked_at: String,
    /// The time before which nothing is done, because the gateway asks too often.
    pub not_before: Option<String>,
    /// When it ended, in RFC 3339.
    pub ended_at: Option<String>,
    /// How it ended, as text.
    pub outcome: Option<String>,
    /// The moment of the daily restart, if the agent definition and not the gateway asked.
    pub scheduled: Option<String>,
    /// How often the gateway was restarted at its own request within the last hour.
    pub recent: usize,
}

impl TicketReport {
    /// Returns whether something is still to be done.
    pub const fn is_pending(&self) -> bool {
        self.stage.is_pending()
    }

    /// Returns what was asked for, as text.
    pub fn words(&self) -> String {
        let reason = self.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        match &self.not_before {
            Some(until) if self.stage == TicketStage::Held => format!(
                "it asks for its own restart, which waits until {until} because there were {} in the last hour{reason}",
                self.recent
            ),
            _ if self.scheduled.is_some() && self.is_pending() => {
                format!("its daily restart is under way{reason}")
            }
            _ if self.scheduled.is_some() => format!("its daily restart{reason}"),
            _ if self.is_pending() => format!("it asks for its own restart{reason}"),
            _ => format!("it asked for its own restart{reason}"),
        }
    }
}

/// The tickets of a home, for reports about many gateways.
#[derive(Debug)]
pub struct TicketReader(Option<TicketStore>);

impl TicketReader {
    /// Returns a reader for a home.
    pub fn new(home: &Home) -> Self {
        Self(TicketStore::open(home.root()))
    }

    /// Returns the report about the last ticket of a gateway.
    pub fn look(&self, name: &ProfileName) -> Option<TicketReport> {
        self.0.as_ref()?.read(name).map(report)
    }
}

fn report(ticket: RestartTicket) -> TicketReport {
    TicketReport {
        recent: brake::counted(&ticket.restarts(), Timestamp::now()).len(),
        stage: ticket.stage,
        by: ticket.by,
        reason: ticket.reason,
        asked_at: ticket.asked_at,
        not_before: ticket.not_before,
        ended_at: ticket.ended_at,
        outcome: ticket.outcome,
        scheduled: ticket.scheduled,
    }
}
