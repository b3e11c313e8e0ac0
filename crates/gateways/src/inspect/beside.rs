//! *Lives here:* what a report tells of a gateway beside its state: what was asked of it and
//! declared for it, and whether its service directory is current.
//!
//! *Does not live here:* its state (`state`).

use super::report::ServiceReport;
use crate::declared::KeptDeclaration;
use crate::ticket::TicketReport;

impl ServiceReport {
    /// Returns the report of a gateway whose profile a file declares, or does not.
    #[must_use]
    pub(super) fn declared(mut self, kept: Option<&KeptDeclaration>) -> Self {
        let (name, recorded) = (self.profile.as_ref(), self.desired_state.as_deref());
        self.declared = kept.zip(name).and_then(|(kept, name)| kept.report(name, recorded));
        self
    }

    /// Returns the report of a gateway that has asked for its own restart, or has not.
    #[must_use]
    pub(super) fn asking(mut self, ticket: Option<TicketReport>) -> Self {
        self.asked_restart = ticket;
        self
    }

    /// Returns the report of a service whose directory is older than the definition, or is not.
    #[must_use]
    pub(super) const fn older(mut self, is_older: Option<bool>) -> Self {
        self.older_than_definition = is_older;
        self
    }
}
