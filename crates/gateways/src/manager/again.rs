//! *Lives here:* restarting a gateway, and passing the reason to its next process.
//!
//! *Does not live here:* the decision which gateway is restarted, and when.

use gatevisor_slot::restart_reason;
use jiff::Timestamp;

use super::errors::{ControlError, GatewayVerb};
use super::{ANSWER_TIMEOUT, Done, GatewayRequest, RestartOutcome, ScandirManager};
use crate::desired::{Desired, DesiredOrigin};
use crate::profile::ProfileName;

impl ScandirManager {
    /// Restarts a gateway, and leaves its desired state as it is recorded.
    pub(crate) fn restart_as_desired(
        &self,
        name: &ProfileName,
        request: &GatewayRequest,
    ) -> Result<Done<RestartOutcome>, ControlError> {
        let verb = GatewayVerb::Restart;
        let standing = self.standing();
        if !standing.allows() {
            return Err(ControlError::Elsewhere { verb, name: name.clone(), standing });
        }
        let since = self.before_restart(name);
        let pending = self.tell_up(verb, name, request, (None, Vec::new()))?;
        self.settle(name, Desired::Running, since);
        let pending = pending.unless(self.recorded_meanwhile(name, since));
        let Done { outcome: (was, started), warnings } = self.finish_own(verb, name, request, pending)?;
        Ok(Done { outcome: was.restarted(started), warnings })
    }

    /// Returns the moment after which a recorded stop ends a restart that records nothing itself.
    ///
    /// A stop that was just recorded may not have reached the supervisor yet. An old one has, and
    /// the gateway was started by hand since.
    fn before_restart(&self, name: &ProfileName) -> Option<Timestamp> {
        let (desired, at) = self.commanded(name)?;
        let age = Timestamp::now().duration_since(at).unsigned_abs();
        (desired == Desired::Running || age > ANSWER_TIMEOUT).then_some(at)
    }

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
