//! *Lives here:* the requests of the trait `ServiceManager`, for a scandir.
//!
//! *Does not live here:* their steps (`desired`, `up`, `down` and `withdraw`).

use std::io;
use std::time::Duration;

use gatevisor_paths::by_path;

use super::errors::{
    ControlError, GatewayVerb, GatewayWaitError, ListServicesError, RegisterError, UnregisterError,
};
use super::follow::Aim;
use super::pending::{SlotStart, Was};
use super::scandir::ScandirManager;
use super::{
    Done, GatewayRequest, LetGo, LookError, Observed, Registered, RestartOutcome, ServiceManager,
    StartOutcome, StopOutcome, Unregistered, WaitOutcome, WaitUntil, withdraw,
};
use crate::agent::ServedFrom;
use crate::desired::Desired;
use crate::profile::ProfileName;

impl ServiceManager for ScandirManager {
    fn register(
        &self,
        name: &ProfileName,
        start: bool,
        request: &GatewayRequest,
    ) -> Result<Done<Registered>, RegisterError> {
        match self.check_profile(name) {
            Ok(()) => {}
            Err(ControlError::NoGateway { name }) => return Err(RegisterError::NoGateway { name }),
            Err(ControlError::Look(error)) => return Err(error.into()),
            Err(_) => {
                return Err(RegisterError::NoProfile { name: name.clone(), path: self.home.profiles_dir() });
            }
        }
        let (standing, from) = (self.standing(), self.learned_gateway(name));
        if start && !standing.allows() {
            return Err(RegisterError::Elsewhere { name: name.clone(), standing });
        }
        if self.has_slot(name)? || by_path::look_itself(self.slot(name).path()).is_ok() {
            return Err(RegisterError::AlreadyRegistered {
                name: name.clone(),
                scandir: self.scandir.clone(),
            });
        }
        self.may_register(name)?;
        let (mut warnings, mut since) = (Vec::new(), None);
        if start && self.supervisor_running()? {
            let (desired_state, said) = self
                .record(name, Desired::Running, request)
                .map_err(|source| RegisterError::Record { name: name.clone(), source })?;
            (warnings, since) = (said, Some(desired_state.at));
        }
        if start && from != ServedFrom::Own {
            self.publish(name, SlotStart::Down, request)?;
            let start = |source| RegisterError::Start { name: name.clone(), source: Box::new(source) };
            let done = self.start(name, request).map_err(start)?;
            warnings.extend(done.warnings);
            return Ok(Done { outcome: done.outcome.into(), warnings });
        }
        let start = if start { SlotStart::Up { since } } else { SlotStart::Down };
        Ok(Done { outcome: self.publish(name, start, request)?, warnings })
    }

    fn unregister(&self, name: &ProfileName) -> Result<Done<Unregistered>, UnregisterError> {
        withdraw::unregister(self, name)
    }

    fn let_go(&self, name: &ProfileName) -> LetGo {
        self.let_go_of_served(name)
    }

    fn clear_remains(&self, name: &ProfileName) -> Option<String> {
        self.clear_remains_of_served(name)
    }

    fn start(
        &self,
        name: &ProfileName,
        request: &GatewayRequest,
    ) -> Result<Done<StartOutcome>, ControlError> {
        let pending = self.begin(GatewayVerb::Start, name, request)?;
        let Done { outcome: (_, started), warnings } =
            self.finish(GatewayVerb::Start, name, request, pending)?;
        Ok(Done { outcome: started, warnings })
    }

    fn stop(&self, name: &ProfileName, request: &GatewayRequest) -> Result<Done<StopOutcome>, ControlError> {
        let mut all = self.stop_many(std::slice::from_ref(name), request);
        all.pop().unwrap_or_else(|| Err(self.not_registered(name)))
    }

    fn restart(
        &self,
        name: &ProfileName,
        request: &GatewayRequest,
    ) -> Result<Done<RestartOutcome>, ControlError> {
        let pending = self.begin(GatewayVerb::Restart, name, request)?;
        let Done { outcome: (was, started), warnings } =
            self.finish(GatewayVerb::Restart, name, request, pending)?;
        Ok(Done { outcome: was.restarted(started), warnings })
    }

    fn observe(&self, name: &ProfileName) -> Result<Option<Observed>, LookError> {
        self.seen(name)
    }

    fn list(&self) -> Result<Vec<ProfileName>, ListServicesError> {
        let services = match self.scan().services() {
            Ok(services) => services,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(ListServicesError { scandir: self.scandir.clone(), source }),
        };
        let mut names: Vec<_> =
            services.iter().filter_map(|(name, _)| ProfileName::of_service(name.as_bytes())).collect();
        names.sort();
        Ok(names)
    }

    fn wait(
        &self,
        name: &ProfileName,
        until: WaitUntil,
        timeout: Option<Duration>,
    ) -> Result<WaitOutcome, GatewayWaitError> {
        let dir = self.slot(name);
        if self.agent.topology.served_profiles.is_some() && self.meant_gateway(name) != ServedFrom::Own {
            return self.wait_served(name, until != WaitUntil::Down, timeout);
        }
        if !self.has_slot(name)? {
            return Err(GatewayWaitError::NotRegistered {
                name: name.clone(),
                scandir: self.scandir.clone(),
            });
        }
        match until {
            WaitUntil::Up => self.wait_up(name, dir, Aim::UpAtLast, timeout),
            WaitUntil::Ready => self.wait_up(name, dir, Aim::ReadyAtLast, timeout),
            WaitUntil::Down => self.wait_down(name, &dir, timeout),
        }
    }

    fn start_all(
        &self,
        names: &[ProfileName],
        request: &GatewayRequest,
    ) -> Vec<Result<Done<StartOutcome>, ControlError>> {
        self.up_many(GatewayVerb::Start, names, request, |_, started| started)
    }

    fn stop_all(
        &self,
        names: &[ProfileName],
        request: &GatewayRequest,
    ) -> Vec<Result<Done<StopOutcome>, ControlError>> {
        self.stop_many(names, request)
    }

    fn restart_all(
        &self,
        names: &[ProfileName],
        request: &GatewayRequest,
    ) -> Vec<Result<Done<RestartOutcome>, ControlError>> {
        self.up_many(GatewayVerb::Restart, names, request, Was::restarted)
    }
}
