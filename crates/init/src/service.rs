//! One supervised service as the shell holds it, and the table of all of them.

use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::scan::DirectoryIdentity;
use gatevisor_core::{Machine, Tick};
use gatevisor_sys::spawn::Starting;
use gatevisor_sys::user::User;

use crate::survivors::Orphan;

/// Names a service in the table; stays valid until the service is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    index: u32,
    /// Tells a service from a later one at the same index.
    generation: u32,
}

impl Id {
    /// Returns the 56 bits that stand for it in an event token.
    pub(crate) fn bits(self) -> u64 {
        u64::from(self.index) | u64::from(self.generation & 0xff_ffff) << 32
    }

    /// Returns the id behind the bits of a token.
    pub(crate) fn from_bits(bits: u64) -> Self {
        let index = u32::try_from(bits & 0xffff_ffff).unwrap_or(u32::MAX);
        let generation = u32::try_from(bits >> 32 & 0xff_ffff).unwrap_or(0);
        Self { index, generation }
    }
}

/// What a service is to its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServiceRole {
    /// The service itself.
    Main,
    /// The logger of the service, a process of its own.
    Logger,
}

/// A process that has not reached its program yet, and for which file it was started.
#[derive(Debug)]
pub(crate) enum InFlight {
    Run(Starting),
    Finish(Starting),
    /// What ends processes that were left behind.
    Clear(Starting),
}

impl InFlight {
    pub(crate) fn starting(&self) -> &Starting {
        match self {
            Self::Run(starting) | Self::Finish(starting) | Self::Clear(starting) => starting,
        }
    }

    pub(crate) fn starting_mut(&mut self) -> &mut Starting {
        match self {
            Self::Run(starting) | Self::Finish(starting) | Self::Clear(starting) => starting,
        }
    }
}

/// A supervised service.
#[derive(Debug)]
pub(crate) struct SupervisedService {
    /// The name of its slot.
    pub(crate) slot: Rc<[u8]>,
    pub(crate) role: ServiceRole,
    /// Its directory.
    pub(crate) identity: DirectoryIdentity,
    pub(crate) machine: Machine,
    /// The user as whom its programs run, and whose turn it is when it is this service's.
    pub(crate) uid: u32,
    pub(crate) dir: Rc<OwnedFd>,
    pub(crate) supervise: OwnedFd,
    pub(crate) control: OwnedFd,
    /// Held for its lock only.
    pub(crate) _lock: OwnedFd,
    pub(crate) owner: Option<Rc<User>>,
    /// The end of the log pipe that it writes to (main) or reads from (logger).
    pub(crate) pipe: Option<OwnedFd>,
    pub(crate) in_flight: Option<Box<InFlight>>,
    /// The name of its control group, if it has been started in one.
    pub(crate) group: Option<CString>,
    pub(crate) readiness: Option<ReadinessPipe>,
    /// What an earlier supervisor that was killed said of it last.
    pub(crate) orphan: Option<Orphan>,
    /// It was said that not all of its listeners are told.
    pub(crate) is_crowded: bool,
    /// The timer that is set for it.
    pub(crate) timer: Option<Tick>,
}

/// What a service says its readiness into, counted while it is open.
#[derive(Debug)]
pub(crate) struct ReadinessPipe {
    reader: OwnedFd,
    open: Rc<Cell<usize>>,
}

impl ReadinessPipe {
    pub(crate) fn new(reader: OwnedFd, open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get().saturating_add(1));
        Self { reader, open: Rc::clone(open) }
    }
}

impl AsFd for ReadinessPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for ReadinessPipe {
    fn drop(&mut self) {
        self.open.set(self.open.get().saturating_sub(1));
    }
}

impl SupervisedService {
    /// Returns the name that the service is told: `foo`, or `foo/log` for its logger.
    pub(crate) fn name(&self) -> String {
        let mut name = String::from_utf8_lossy(&self.slot).into_owned();
        if self.role == ServiceRole::Logger {
            name.push_str("/log");
        }
        name
    }

    /// Returns that name as an argument of a program.
    pub(crate) fn argument(&self) -> CString {
        let mut bytes = self.slot.to_vec();
        if self.role == ServiceRole::Logger {
            bytes.extend_from_slice(b"/log");
        }
        // A directory entry holds no NUL.
        CString::new(bytes).unwrap_or_default()
    }
}

/// All services, found in constant time by id.
#[derive(Debug, Default)]
pub(crate) struct ServiceTable {
    entries: Vec<(u32, Option<Box<SupervisedService>>)>,
    free: Vec<u32>,
}

impl ServiceTable {
    /// Adds a service made by `make`, which is told its id.
    pub(crate) fn insert(&mut self, make: impl FnOnce(Id) -> SupervisedService) -> Option<Id> {
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
        *entry = Some(Box::new(make(id)));
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

    /// Returns whether any service of this role is supervised.
    pub(crate) fn has(&self, role: ServiceRole) -> bool {
        self.entries.iter().any(|(_, entry)| entry.as_ref().is_some_and(|service| service.role == role))
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
