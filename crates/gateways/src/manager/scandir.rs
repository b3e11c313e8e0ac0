//! *Lives here:* the manager of gateways that are slots of a scandir of this machine.
//!
//! *Does not live here:* what it is asked for (`requests`), the single steps (`desired`, `up`,
//! `down` and `withdraw`), and supervising slots.
//!
//! The manager records the desired state, then tells the supervisor, then waits for the answer. For
//! many gateways, it does the first two for all of them before it waits for any, so that all of
//! them stop or start together.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gatevisor_client::{ScanDir, ServiceDir, look};
use gatevisor_paths::by_path;
use gatevisor_slot::home_lock::Standing;
use gatevisor_sys::proc::{Process, is_stopped_by_signal};
use gatevisor_wire::Pid;
use gatevisor_wire::name::ServiceName;
use rustix::io::Errno;

use super::errors::{GatewayWaitError, ListServicesError};
use super::observe::observed;
use super::{GRACE, LookError, Observed, refused_looks};
use crate::agent::{AgentDefinition, remember};
use crate::profile::{Home, ProfileName};
use crate::slots::OpenSlot;
use crate::topology::of_installed;

/// Manages the gateways of one home as slots of one scandir.
#[derive(Debug, Clone)]
pub struct ScandirManager {
    pub(super) agent: AgentDefinition,
    pub(super) home: Home,
    pub(super) scandir: PathBuf,
    pub(super) interpreter: PathBuf,
}

impl ScandirManager {
    /// Returns the manager of a home's gateways; `interpreter` is the absolute path of this
    /// program.
    pub const fn new(agent: AgentDefinition, home: Home, scandir: PathBuf, interpreter: PathBuf) -> Self {
        Self { agent, home, scandir, interpreter }
    }

    /// Returns the same manager with another agent definition.
    #[must_use]
    pub fn with_agent(&self, agent: AgentDefinition) -> Self {
        Self { agent, ..self.clone() }
    }

    /// Returns the same manager with the definition that the home names now, which may have been
    /// edited since this process began. One that cannot be used, or is for another agent than this
    /// process was given, changes nothing.
    #[must_use]
    pub(crate) fn as_remembered(&self) -> Self {
        let file = remember::recall(self.home.root()).ok().flatten();
        let agent = file.and_then(|file| AgentDefinition::load(Some(&file)).ok());
        let agent = agent.filter(|agent| agent.name == self.agent.name);
        agent.map_or_else(|| self.clone(), |agent| self.with_agent(of_installed(&agent, &self.home)))
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

    /// Returns the looks at the home and its gateways that this process was refused, if it keeps a
    /// list of them.
    pub fn refused_looks(&self) -> Vec<LookError> {
        refused_looks(self.home.root(), Some(&self.scandir))
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

    /// Returns the name of the program that supervises the scandir, such as `s6-svscan`, if it is
    /// known.
    pub fn supervisor_program(&self) -> Option<String> {
        self.scan().program()
    }

    /// Returns the supervisor of the scandir if it is ours and a signal has stopped it, so that it
    /// does nothing until it goes on. (Under s6-svscan, every service has a supervisor of its own.)
    pub fn stopped_supervisor(&self) -> Option<Pid> {
        let scan = self.scan();
        let stopped = scan.holder().filter(|pid| is_stopped_by_signal(pid.get()));
        stopped.filter(|_| scan.is_ours())
    }

    /// Returns when the process that supervises the scandir began, if that is known.
    pub fn supervisor_began(&self) -> Option<SystemTime> {
        let began = Process::of(self.scan().holder()?.get())?.began_unix_ms();
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(began).ok()?))
    }

    /// Returns the directory of the slot of a profile's gateway, whether it exists or not.
    pub fn slot(&self, name: &ProfileName) -> ServiceDir {
        ServiceDir::new(self.scandir.join(name.service_entry()))
    }

    /// Returns what can be seen of every service in the scandir, other services than gateways
    /// included.
    pub fn observe_all(&self) -> Result<Vec<Observed>, ListServicesError> {
        Ok(self.observe_all_with(|_, _| ())?.into_iter().map(|(observed, ())| observed).collect())
    }

    /// Does the same, and returns with each service what `look` sees in its opened directory.
    pub(crate) fn observe_all_with<T>(
        &self,
        look: impl Fn(&Result<OpenSlot, Errno>, &Observed) -> T,
    ) -> Result<Vec<(Observed, T)>, ListServicesError> {
        let services = match self.scan().services() {
            Ok(services) => services,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(ListServicesError { scandir: self.scandir.clone(), source }),
        };
        let observed = services.into_iter().map(|(name, path)| {
            let profile = ProfileName::of_service(name.as_bytes());
            // Nearly every service directory can be opened to be listed, and is no link.
            let slot = OpenSlot::at(&path);
            let dir = slot.as_ref().map_or_else(|_| ServiceDir::new(&path), |slot| slot.service_dir(&path));
            let observed = observed(&dir, name.to_string(), profile, || self.scan().refusal(&name));
            let seen = look(&slot, &observed);
            (observed, seen)
        });
        Ok(observed.collect())
    }

    /// Returns what can be seen of a profile's gateway, if it has a slot.
    pub(super) fn seen(&self, name: &ProfileName) -> Result<Option<Observed>, LookError> {
        let dir = self.slot(name);
        let refusal = || self.scan().refusal(&ServiceName::new(name.service_entry().as_bytes()).ok()?);
        let observe = || observed(&dir, name.service_entry(), Some(name.clone()), refusal);
        Ok(self.has_slot(name)?.then(observe))
    }

    pub(super) fn scan(&self) -> ScanDir {
        ScanDir::new(&self.scandir)
    }

    /// Returns why a gateway cannot be waited for whose supervision has ended: its supervisor has
    /// gone, or only its slot.
    pub(super) fn not_supervised(&self, name: &ProfileName) -> GatewayWaitError {
        let (name, scandir) = (name.clone(), self.scandir.clone());
        let slot = by_path::look_itself(self.slot(&name).path());
        let has_no_slot = slot.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if has_no_slot && self.supervisor_running().unwrap_or(false) {
            return GatewayWaitError::NotRegistered { name, scandir };
        }
        GatewayWaitError::NotSupervised { name, scandir }
    }

    /// Returns how long a gateway may take to stop.
    pub(super) const fn stop_timeout(&self) -> Duration {
        Duration::from_millis(self.agent.gateway.stop_timeout_ms).saturating_add(GRACE).saturating_add(GRACE)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::slots;

    #[test]
    fn a_slot_of_the_agents_own_is_made_as_the_definition_is_now_and_its_process_is_older() {
        let place = tempfile::tempdir().unwrap();
        let (root, file) = (place.path().join("home"), place.path().join("agent.toml"));
        let slot = place.path().join("service/gateway-coder");
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(slot.join("supervise")).unwrap();
        let named = "command-named = [\"my-agent\", \"serve\", \"{profile}\"]";
        let text = crate::agent::SMALL.replace("command-named = [\"serve\", \"{profile}\"]", named);
        fs::write(&file, &text).unwrap();
        let agent = AgentDefinition::load(Some(&file)).unwrap();
        let home = Home::resolve(Some(&root), &agent, &|_| None).unwrap();
        remember::remember(home.root(), &file).unwrap();
        fs::write(&file, text.replace("[gateway]", "[gateway]\nstop-timeout-ms = 4321")).unwrap();
        fs::write(slot.join("run"), "#!/bin/sh\nexec my-agent serve coder\n").unwrap();
        let running = gatevisor_wire::Pid::new(std::process::id().cast_signed());
        let status = gatevisor_wire::status::Status { pid: running, ..down() };
        fs::write(slot.join("supervise/status"), status.encode()).unwrap();
        let scandir = place.path().join("service");
        let manager = ScandirManager::new(agent, home, scandir, "/usr/bin/gatevisor".into());
        let name: ProfileName = "coder".parse().unwrap();
        assert!(manager.adopt(&name).unwrap());
        assert_eq!(fs::read_to_string(slot.join("timeout-kill")).unwrap(), "4321\n");
        assert!(slots::runs_older(&slot, running), "it was started from what the agent had made");
        assert!(!manager.adopt(&name).unwrap(), "it is ours now");
    }

    fn down() -> gatevisor_wire::status::Status {
        let zero = gatevisor_wire::tai::Tai64n::ZERO;
        gatevisor_wire::status::Status {
            changed: zero,
            ready_at: zero,
            pid: None,
            last: gatevisor_wire::wait::WaitStatus::default(),
            paused: false,
            finishing: false,
            want_up: true,
            ready: false,
        }
    }
}
