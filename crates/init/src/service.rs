//! One supervised service as the shell holds it.
//!
//! *Lives here:* what is known of it, and what it has open. *Does not live here:* what happens to
//! it (its machine), and the list of all services (`services`).

use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::Machine;
use gatevisor_core::scan::DirectoryIdentity;
use gatevisor_sys::spawn::Starting;
use gatevisor_sys::user::User;

use crate::orphan::Orphan;
use crate::reactor::Alarm;

/// What a service is to its entry of the scandir.
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

    pub(crate) fn into_starting(self) -> Starting {
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
    /// The name of its entry of the scandir.
    pub(crate) entry: Rc<[u8]>,
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
    /// When its machine's deadline is.
    pub(crate) alarm: Alarm,
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
        let mut name = String::from_utf8_lossy(&self.entry).into_owned();
        if self.role == ServiceRole::Logger {
            name.push_str("/log");
        }
        name
    }

    /// Returns that name as an argument of a program.
    pub(crate) fn argument(&self) -> CString {
        let mut bytes = self.entry.to_vec();
        if self.role == ServiceRole::Logger {
            bytes.extend_from_slice(b"/log");
        }
        // A directory entry holds no NUL.
        CString::new(bytes).unwrap_or_default()
    }
}
