//! All services and their processes.
//!
//! *Lives here:* finding a service by its id or its process, and signals to these processes.
//! *Does not live here:* one service (`service`), and decisions about it (its machine).

use std::collections::HashMap;

use gatevisor_core::entry::ServiceRole;
use gatevisor_core::host_manager::ServiceCounts;
use gatevisor_wire::Pid;
use rustix::process::Signal;

use crate::id::Id;
use crate::kill::kill;
use crate::service::SupervisedService;

/// All services, found in constant time by id.
#[derive(Debug)]
pub(crate) struct Services {
    entries: Vec<(u32, Option<Box<SupervisedService>>)>,
    free: Vec<u32>,
    /// The running processes with their services. A process is forgotten in the step that reaps it.
    pids: HashMap<Pid, Id>,
    seed: u64,
}

impl Services {
    pub(crate) fn new(seed: u64) -> Self {
        Self { entries: Vec::new(), free: Vec::new(), pids: HashMap::new(), seed }
    }

    /// Returns a number that differs between services, for their jitter.
    pub(crate) fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed
    }

    /// Notes that a process of the service runs.
    pub(crate) fn has_process(&mut self, id: Id, pid: Pid) {
        self.pids.insert(pid, id);
    }

    /// Returns the service of a process.
    pub(crate) fn of_process(&self, pid: Pid) -> Option<Id> {
        self.pids.get(&pid).copied()
    }

    /// Forgets a process; returns its service.
    pub(crate) fn forget_process(&mut self, pid: Pid) -> Option<Id> {
        self.pids.remove(&pid)
    }

    /// Returns how many processes of services run.
    pub(crate) fn processes(&self) -> usize {
        self.pids.len()
    }

    /// Sends a signal to a process of a service, unless it was reaped: its number may have been
    /// reused.
    pub(crate) fn signal(&self, pid: Pid, number: u8, group: bool) {
        if !self.pids.contains_key(&pid) {
            return;
        }
        let (Some(pid), Some(signal)) =
            (rustix::process::Pid::from_raw(pid.get()), Signal::from_named_raw(i32::from(number)))
        else {
            return;
        };
        kill(pid, signal, group);
    }

    /// Adds a service, and returns its id.
    pub(crate) fn insert(&mut self, service: SupervisedService) -> Option<Id> {
        let index = if let Some(index) = self.free.pop() {
            index
        } else {
            let index = u32::try_from(self.entries.len()).ok()?;
            self.entries.push((0, None));
            index
        };
        let (generation, entry) = self.entries.get_mut(usize::try_from(index).ok()?)?;
        *generation = generation.wrapping_add(1) & 0xff_ffff;
        let id = Id { index, generation: *generation };
        *entry = Some(Box::new(service));
        Some(id)
    }

    fn position(id: Id) -> usize {
        usize::try_from(id.index).unwrap_or(usize::MAX)
    }

    pub(crate) fn get(&self, id: Id) -> Option<&SupervisedService> {
        match self.entries.get(Self::position(id)) {
            Some((generation, Some(service))) if *generation == id.generation => Some(service),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut SupervisedService> {
        match self.entries.get_mut(Self::position(id)) {
            Some((generation, Some(service))) if *generation == id.generation => Some(service),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, id: Id) -> Option<Box<SupervisedService>> {
        self.get(id)?;
        let (_, entry) = self.entries.get_mut(Self::position(id))?;
        self.free.push(id.index);
        entry.take()
    }

    /// Returns the number of services.
    pub(crate) fn count(&self) -> usize {
        self.entries.len().saturating_sub(self.free.len())
    }

    /// Returns how many services shall be up, are, and are ready; loggers do not count.
    pub(crate) fn counts(&self) -> ServiceCounts {
        let mut counts = ServiceCounts::default();
        for service in self.entries.iter().filter_map(|(_, entry)| entry.as_deref()) {
            let status = service.machine().status();
            let is_up = status.pid.is_some() && !status.finishing;
            if service.role() == ServiceRole::Main {
                counts.add(status.want_up, is_up, status.ready);
            }
        }
        counts
    }

    /// Returns the ids of all services.
    pub(crate) fn ids(&self) -> Vec<Id> {
        let mut index = 0_u32;
        let mut ids = Vec::new();
        for (generation, entry) in &self.entries {
            if entry.is_some() {
                ids.push(Id { index, generation: *generation });
            }
            index = index.saturating_add(1);
        }
        ids
    }
}
