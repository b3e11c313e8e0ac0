//! *Lives here:* the manager of gateways that are slots of a scandir of this machine.
//!
//! *Does not live here:* the single steps (`desired`, `up`, `down` and `withdraw`); supervising slots.
//!
//! The manager records the desired state first, then tells the supervisor, then waits for the answer. For many gateways
//! it does the first two for all before it waits for any, so that all of them stop or start together.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatevisor_client::status_view::StateName;
use gatevisor_client::{ScanDir, ServiceDir, Waited, look};
use gatevisor_paths::by_path;
use gatevisor_slot::home_lock::Standing;
use gatevisor_wire::name::ServiceName;

use super::errors::{
    ControlError, GatewayVerb, GatewayWaitError, ListServicesError, RegisterError, UnregisterError,
};
use super::follow::{Aim, FollowEnd, Follower, after};
use super::observe::observed;
use super::up::Was;
use super::{
    Done, GRACE, GatewayRequest, LookError, Observed, Registered, RestartOutcome, ServiceManager,
    StartOutcome, StopOutcome, Unregistered, WaitOutcome, WaitUntil, withdraw,
};
use crate::agent::AgentDefinition;
use crate::desired::Desired;
use crate::profile::{Home, ProfileName};

/// Manages the gateways of one home as slots of one scandir.
#[derive(Debug, Clone)]
pub struct ScandirManager {
    pub(super) agent: AgentDefinition,
    pub(super) home: Home,
    pub(super) scandir: PathBuf,
    pub(super) interpreter: PathBuf,
}

impl ScandirManager {
    /// Returns the manager of a home's gateways; `interpreter` is the absolute path of this program.
    pub const fn new(agent: AgentDefinition, home: Home, scandir: PathBuf, interpreter: PathBuf) -> Self {
        Self { agent, home, scandir, interpreter }
    }

    /// Returns the same manager for another definition of the agent.
    #[must_use]
    pub fn with_agent(&self, agent: AgentDefinition) -> Self {
        Self { agent, ..self.clone() }
    }

    /// Returns the agent.
    pub const fn agent(&self) -> &AgentDefinition {
        &self.agent
    }

    /// Returns the home.
    pub const fn home(&self) -> &Home {
        &self.home
    }

    /// Returns the scandir.
    pub fn scandir(&self) -> &Path {
        &self.scandir
    }

    /// Returns whether a supervisor runs on the scandir.
    pub fn supervisor_running(&self) -> Result<bool, LookError> {
        let what = "whether a supervisor runs on";
        self.scan().running().map_err(|source| LookError { what, path: self.scandir.clone(), source })
    }

    /// Returns whether the gateways of the home may run under this scandir.
    pub fn standing(&self) -> Standing {
        Standing::at(&self.scandir)
    }

    /// Returns whether a profile's gateway has a slot.
    pub(super) fn has_slot(&self, name: &ProfileName) -> Result<bool, LookError> {
        let (what, path) = ("whether there is a slot", self.scandir.join(name.service_entry()));
        look::is_directory(&path).map_err(|source| LookError { what, path, source })
    }

    /// Returns the name of the program that supervises the scandir, such as `s6-svscan`, where it can be told.
    pub fn supervisor_program(&self) -> Option<String> {
        self.scan().program()
    }

    /// Returns the slot's directory of a profile's gateway, whether it exists or not.
    pub fn slot(&self, name: &ProfileName) -> ServiceDir {
        ServiceDir::new(self.scandir.join(name.service_entry()))
    }

    /// Returns what can be seen of every service in the scandir, other services than gateways included.
    pub fn observe_all(&self) -> Result<Vec<Observed>, ListServicesError> {
        let services = match self.scan().services() {
            Ok(services) => services,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(ListServicesError { scandir: self.scandir.clone(), source }),
        };
        let observed = services.into_iter().map(|(name, path)| {
            let profile = ProfileName::of_service(name.as_bytes());
            observed(&ServiceDir::new(path), name.to_string(), profile, || self.scan().refusal(&name))
        });
        Ok(observed.collect())
    }

    pub(super) fn scan(&self) -> ScanDir {
        ScanDir::new(&self.scandir)
    }

    fn wait_down(
        &self,
        name: &ProfileName,
        dir: &ServiceDir,
        timeout: Option<Duration>,
    ) -> Result<WaitOutcome, GatewayWaitError> {
        match gatevisor_client::wait(dir, gatevisor_client::Condition::Finished, timeout.map(after)) {
            Ok(Waited::Reached) => Ok(WaitOutcome::Reached),
            Ok(Waited::Failed) => Ok(WaitOutcome::Failed { reason: None }),
            Ok(Waited::TimedOut) => Ok(WaitOutcome::TimedOut),
            Ok(Waited::SupervisorGone) => Err(self.not_supervised(name)),
            Err(source) => Err(GatewayWaitError::System { name: name.clone(), source }),
        }
    }

    /// Waits on evidence: a command that cannot be executed is an answer, and so is that nobody will say ready.
    fn wait_up(
        &self,
        name: &ProfileName,
        dir: ServiceDir,
        aim: Aim,
        timeout: Option<Duration>,
    ) -> Result<WaitOutcome, GatewayWaitError> {
        let system = |source| GatewayWaitError::Follow { name: name.clone(), source };
        match dir.supervised() {
            Ok(true) => {}
            Ok(false) => return Err(self.not_supervised(name)),
            Err(source) => return Err(system(source)),
        }
        let mut follower = Follower::new(dir).map_err(system)?;
        // It failed before anybody waited.
        if let StateName::Failed { reason } | StateName::FailedToStart { reason, .. } = follower.state() {
            return Ok(WaitOutcome::Failed { reason });
        }
        match follower.follow(aim, timeout.map(after)).map_err(system)? {
            FollowEnd::Up(_) | FollowEnd::Ready(_) | FollowEnd::Supervised => Ok(WaitOutcome::Reached),
            FollowEnd::NeverReady(_) => Ok(WaitOutcome::NeverReady),
            FollowEnd::FailedToStart(reason) | FollowEnd::Failed(reason) => {
                Ok(WaitOutcome::Failed { reason })
            }
            FollowEnd::Refused(reason) => Ok(WaitOutcome::Failed { reason: Some(reason) }),
            FollowEnd::Ended(ended) => {
                Ok(WaitOutcome::Failed { reason: ended.how.map(|how| how.to_string()) })
            }
            FollowEnd::Gone => Err(self.not_supervised(name)),
            FollowEnd::TimedOut(_) => Ok(WaitOutcome::TimedOut),
        }
    }

    fn not_supervised(&self, name: &ProfileName) -> GatewayWaitError {
        GatewayWaitError::NotSupervised { name: name.clone(), scandir: self.scandir.clone() }
    }

    /// Returns how long a gateway may take to stop.
    pub(super) const fn stop_timeout(&self) -> Duration {
        Duration::from_millis(self.agent.gateway.stop_timeout_ms).saturating_add(GRACE).saturating_add(GRACE)
    }
}

impl ServiceManager for ScandirManager {
    fn register(
        &self,
        name: &ProfileName,
        start: bool,
        order: &GatewayRequest,
    ) -> Result<Done<Registered>, RegisterError> {
        match self.check_profile(name) {
            Ok(()) => {}
            Err(ControlError::NoGateway { name }) => return Err(RegisterError::NoGateway { name }),
            Err(ControlError::Look(error)) => return Err(error.into()),
            Err(_) => {
                return Err(RegisterError::NoProfile { name: name.clone(), path: self.home.profiles_dir() });
            }
        }
        let standing = self.standing();
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
        let mut warnings = Vec::new();
        if start && self.supervisor_running()? {
            let (_, said) = self
                .record(name, Desired::Running, order)
                .map_err(|source| RegisterError::Record { name: name.clone(), source })?;
            warnings = said;
        }
        Ok(Done { outcome: self.publish(name, start, order)?, warnings })
    }

    fn unregister(&self, name: &ProfileName) -> Result<Done<Unregistered>, UnregisterError> {
        withdraw::unregister(self, name)
    }

    fn start(&self, name: &ProfileName, order: &GatewayRequest) -> Result<Done<StartOutcome>, ControlError> {
        let pending = self.begin(GatewayVerb::Start, name, order)?;
        let Done { outcome: (_, started), warnings } =
            self.finish(GatewayVerb::Start, name, order, pending)?;
        Ok(Done { outcome: started, warnings })
    }

    fn stop(&self, name: &ProfileName, order: &GatewayRequest) -> Result<Done<StopOutcome>, ControlError> {
        let mut all = self.stop_many(std::slice::from_ref(name), order);
        all.pop().unwrap_or_else(|| Err(self.not_registered(name)))
    }

    fn restart(
        &self,
        name: &ProfileName,
        order: &GatewayRequest,
    ) -> Result<Done<RestartOutcome>, ControlError> {
        let pending = self.begin(GatewayVerb::Restart, name, order)?;
        let Done { outcome: (was, started), warnings } =
            self.finish(GatewayVerb::Restart, name, order, pending)?;
        Ok(Done { outcome: was.restarted(started), warnings })
    }

    fn observe(&self, name: &ProfileName) -> Result<Option<Observed>, LookError> {
        let dir = self.slot(name);
        let refusal = || self.scan().refusal(&ServiceName::new(name.service_entry().as_bytes()).ok()?);
        let observe = || observed(&dir, name.service_entry(), Some(name.clone()), refusal);
        Ok(self.has_slot(name)?.then(observe))
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
        order: &GatewayRequest,
    ) -> Vec<Result<Done<StartOutcome>, ControlError>> {
        self.up_many(GatewayVerb::Start, names, order, |_, started| started)
    }

    fn stop_all(
        &self,
        names: &[ProfileName],
        order: &GatewayRequest,
    ) -> Vec<Result<Done<StopOutcome>, ControlError>> {
        self.stop_many(names, order)
    }

    fn restart_all(
        &self,
        names: &[ProfileName],
        order: &GatewayRequest,
    ) -> Vec<Result<Done<RestartOutcome>, ControlError>> {
        self.up_many(GatewayVerb::Restart, names, order, Was::restarted)
    }
}
