//! *Lives here:* bringing up the gateways of profiles, whichever gateway serves each.
//!
//! *Does not live here:* a profile's own gateway (`up`), and one that serves others (`served`).

use jiff::Timestamp;

use super::errors::{ControlError, GatewayVerb};
use super::pending::{Pending, Was};
use super::up::unregistered;
use super::{ANSWER_TIMEOUT, Done, GatewayRequest, RestartOutcome, ScandirManager, StartOutcome};
use crate::agent::ServedFrom;
use crate::desired::Desired;
use crate::profile::ProfileName;

impl ScandirManager {
    /// Records that a gateway shall run, and tells its supervisor, for a start or a restart.
    pub(super) fn begin(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        request: &GatewayRequest,
    ) -> Result<Pending, ControlError> {
        let standing = self.standing();
        if !standing.allows() {
            return Err(ControlError::Elsewhere { verb, name: name.clone(), standing });
        }
        if !self.has_slot(name)? {
            self.may_register(name).map_err(|error| unregistered(name, error))?;
        }
        if self.meant_gateway(name) != ServedFrom::Own {
            return self.begin_served(verb, name, request);
        }
        let (desired_state, warnings) = self.desired_state(verb, name, request)?;
        self.carry_up(verb, name, request, (desired_state, warnings))
    }

    /// Waits for a gateway whose supervisor was told, as requested.
    pub(super) fn finish(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        request: &GatewayRequest,
        pending: Pending,
    ) -> Result<Done<(Was, StartOutcome)>, ControlError> {
        if pending.server.is_some() {
            self.finish_served(verb, name, request, pending)
        } else {
            self.finish_own(verb, name, request, pending)
        }
    }

    /// Starts or restarts several gateways. If the gateway of the root profile is restarted, the
    /// profiles that it serves are restarted with it, without requests of their own.
    pub(super) fn up_many<T>(
        &self,
        verb: GatewayVerb,
        names: &[ProfileName],
        request: &GatewayRequest,
        outcome: impl Fn(Was, StartOutcome) -> T,
    ) -> Vec<Result<Done<T>, ControlError>> {
        let restarts_server = verb == GatewayVerb::Restart && names.iter().any(ProfileName::is_root);
        let with_server = |name: &ProfileName| {
            restarts_server && !name.is_root() && self.meant_gateway(name) != ServedFrom::Own
        };
        let own = |name| (!with_server(name)).then(|| self.begin(verb, name, request));
        let mut begun: Vec<_> = names.iter().map(|name| (name, None)).collect();
        // A start waits only for others that are starting already or about to.
        let mut in_order: Vec<_> = begun.iter_mut().collect();
        in_order.sort_by_key(|(name, _)| self.agent.gateway.rank(name));
        for (name, pending) in in_order {
            *pending = own(name);
        }
        let finish = |verb, name: &ProfileName, pending: Result<Pending, ControlError>| {
            let Done { outcome: (was, started), warnings } = self.finish(verb, name, request, pending?)?;
            Ok(Done { outcome: outcome(was, started), warnings })
        };
        let server = begun.iter_mut().find(|(name, _)| name.is_root());
        let mut server =
            server.and_then(|(name, pending)| pending.take().map(|pending| finish(verb, name, pending)));
        let rest = begun.into_iter().map(|(name, pending)| {
            let of_server = if name.is_root() { server.take() } else { None };
            let own = || pending.map(|pending| finish(verb, name, pending));
            of_server.or_else(own).unwrap_or_else(|| {
                let started = GatewayVerb::Start;
                finish(started, name, self.begin(started, name, request))
            })
        });
        rest.collect()
    }

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
}
