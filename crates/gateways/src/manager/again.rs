//! *Lives here:* the reason for a restart, which the next process of a gateway is told.
//!
//! *Does not live here:* the decision which gateway is restarted, and when.

use gatevisor_slot::restart_reason;
use jiff::Timestamp;

use super::{GatewayRequest, ScandirManager};
use crate::desired::DesiredOrigin;
use crate::profile::ProfileName;

impl ScandirManager {
    /// Leaves the reason for the restart that follows, for the process that is started.
    pub(super) fn leave_reason(&self, name: &ProfileName, request: &GatewayRequest) {
        // The restart goes on if the reason cannot be left.
        let _ = restart_reason::leave(self.slot(name).path(), &words(request, Timestamp::now()));
    }
}

fn words(request: &GatewayRequest, now: Timestamp) -> String {
    let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let said = DesiredOrigin::said(request.by.clone(), request.reason.clone(), Some(at));
    format!("restarted{said}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Provenance;
    use insta::assert_snapshot;

    #[test]
    fn the_reason_says_who_restarts_it_when_and_why() {
        let by = Provenance {
            uid: 7,
            user: "ann".to_owned(),
            command: "gateway restart".to_owned(),
            pid: 1,
            login_uid: None,
        };
        let reason = Some("new keys".to_owned());
        let request = GatewayRequest { by, reason, ..GatewayRequest::here("") };
        let now = Timestamp::from_second(1_780_000_000).unwrap();
        assert_snapshot!(words(&request, now), @"restarted, said by ann (uid 7) with `gateway restart` at 2026-05-28T20:26:40Z: new keys");
    }
}
