//! One supervised service, as the shell knows it.
//!
//! *Lives here:* its state and its descriptors.
//! *Does not live here:* decisions about it (its machine), and the list of all services
//! (`services`).

use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::entry::ServiceRole;
use gatevisor_core::restart::RestartPolicy;
use gatevisor_core::{Machine, Now, ServiceEffects, ServiceInput};
use gatevisor_sys::Errno;
use gatevisor_sys::spawn::{StartReport, Starting};
use gatevisor_sys::user::User;
use rustix::fs::{AtFlags, statat};

use crate::directory::{self, OpenedService};
use crate::id::Id;
use crate::reactor::{Alarm, Reactor, Timer};

/// A process that has not reached its program yet, by the file for which it was started.
#[derive(Debug)]
pub(crate) enum InFlight {
    Run(Starting),
    Finish(Starting),
    /// The process that asks whether a service that has ended wants to be started again.
    Ask(Starting),
    /// The process that ends leftover processes.
    Clear(Starting),
}

impl InFlight {
    pub(crate) fn starting(&self) -> &Starting {
        match self {
            Self::Run(starting) | Self::Finish(starting) | Self::Ask(starting) | Self::Clear(starting) => {
                starting
            }
        }
    }

    pub(crate) fn into_starting(self) -> Starting {
        match self {
            Self::Run(starting) | Self::Finish(starting) | Self::Ask(starting) | Self::Clear(starting) => {
                starting
            }
        }
    }

    pub(crate) fn starting_mut(&mut self) -> &mut Starting {
        match self {
            Self::Run(starting) | Self::Finish(starting) | Self::Ask(starting) | Self::Clear(starting) => {
                starting
            }
        }
    }
}

/// One service of the scandir, or one logger of a service.
#[derive(Debug)]
pub(crate) struct SupervisedService {
    /// The name of its entry of the scandir.
    entry: Rc<[u8]>,
    role: ServiceRole,
    directory: OpenedService,
    machine: Machine,
    /// The end of the log pipe that it writes to (service) or reads from (logger).
    pipe: Option<OwnedFd>,
    in_flight: Option<Box<InFlight>>,
    /// The name of its control group, if it was started in one.
    group: Option<CString>,
    readiness: Option<ReadinessPipe>,
    /// Whether it was reported that not all of its subscribers receive events.
    is_crowded: bool,
    /// The deadline of its machine.
    alarm: Alarm,
}

/// The pipe on which a service announces its readiness. Open ones are counted.
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

impl ReadinessPipe {
    /// Reads the service's announcement; returns whether it is ready, or `None` if it has announced
    /// nothing yet.
    fn read(&self) -> Option<bool> {
        let mut bytes = [0; 4096];
        match rustix::io::read(&self.reader, &mut bytes) {
            Err(Errno::AGAIN | Errno::INTR) => None,
            Ok(count) if count > 0 => bytes.iter().take(count).any(|&byte| byte == b'\n').then_some(true),
            Ok(_) | Err(_) => Some(false),
        }
    }
}

impl Drop for ReadinessPipe {
    fn drop(&mut self) {
        self.open.set(self.open.get().saturating_sub(1));
    }
}

impl SupervisedService {
    pub(crate) fn new(
        (entry, role): (&Rc<[u8]>, ServiceRole),
        directory: OpenedService,
        machine: Machine,
        pipe: Option<OwnedFd>,
    ) -> Self {
        Self {
            entry: Rc::clone(entry),
            role,
            directory,
            machine,
            pipe,
            in_flight: None,
            group: None,
            readiness: None,
            is_crowded: false,
            alarm: Alarm::default(),
        }
    }

    /// Returns the name of its entry of the scandir.
    pub(crate) fn entry(&self) -> &Rc<[u8]> {
        &self.entry
    }

    pub(crate) fn role(&self) -> ServiceRole {
        self.role
    }

    /// Returns its opened directory.
    pub(crate) fn directory(&self) -> &OpenedService {
        &self.directory
    }

    /// Returns its service directory.
    pub(crate) fn dir(&self) -> &OwnedFd {
        self.directory.dir()
    }

    /// Returns its `supervise/`.
    pub(crate) fn supervise(&self) -> &OwnedFd {
        self.directory.supervise()
    }

    /// Returns its control FIFO.
    pub(crate) fn control(&self) -> &OwnedFd {
        self.directory.control()
    }

    /// Returns its owner, unless its programs run as our user.
    pub(crate) fn owner(&self) -> Option<&User> {
        self.directory.owner().map(AsRef::as_ref)
    }

    /// Returns the user of its programs. The users take turns, and this is the one to whom the
    /// service belongs.
    pub(crate) fn uid(&self) -> u32 {
        self.owner().map_or_else(directory::our_user, |owner| owner.uid)
    }

    /// Returns whether its directory has an entry of this name.
    pub(crate) fn has_file(&self, name: &str) -> bool {
        statat(self.dir(), name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Returns the end of the log pipe that it writes to (service) or reads from (logger).
    pub(crate) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Returns the name of its control group, if it was started in one.
    pub(crate) fn group(&self) -> Option<&CString> {
        self.group.as_ref()
    }

    /// Returns the name of its control group. If it has none, `name` makes one.
    pub(crate) fn group_or(&mut self, name: impl FnOnce(&[u8]) -> CString) -> CString {
        self.group.get_or_insert_with(|| name(&self.entry)).clone()
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Passes an input to its machine.
    pub(crate) fn step(
        &mut self,
        now: Now,
        input: ServiceInput,
        policy: &RestartPolicy,
        effects: &mut ServiceEffects,
    ) {
        self.machine.step(now, input, policy, effects);
    }

    /// Sets the alarm to the deadline of its machine.
    pub(crate) fn set_alarm(&mut self, reactor: &mut Reactor, id: Id) {
        reactor.set(&mut self.alarm, Timer::Service(id), self.machine.deadline());
    }

    /// Stops waiting for the deadline of its machine.
    pub(crate) fn cancel_alarm(&mut self, reactor: &mut Reactor, id: Id) {
        reactor.set(&mut self.alarm, Timer::Service(id), None);
    }

    /// Notes that its alarm has fired.
    pub(crate) fn alarm_rang(&mut self) {
        self.alarm.rang();
    }

    /// Notes that a process of it was forked.
    pub(crate) fn sets_off(&mut self, process: InFlight) {
        self.in_flight = Some(Box::new(process));
    }

    /// Notes that its process has ended before it was known whether it reached its program.
    pub(crate) fn process_ended(&mut self) {
        if let Some(process) = &mut self.in_flight {
            process.starting_mut().ended();
        }
    }

    /// Returns the report of its process about reaching its program, if it has not reached it yet.
    pub(crate) fn start_report(&mut self) -> Option<StartReport> {
        self.in_flight.as_mut().map(|process| process.starting_mut().report())
    }

    /// Returns the process that has not reached its program, and forgets it.
    pub(crate) fn take_in_flight(&mut self) -> Option<InFlight> {
        self.in_flight.take().map(|process| *process)
    }

    /// Returns, if a process has not reached its program, whether it waits for its lock.
    pub(crate) fn waits_for_lock(&self) -> Option<bool> {
        self.in_flight.as_ref().map(|process| process.starting().has_waited())
    }

    /// Sets the readiness pipe of its process, or removes it.
    pub(crate) fn listen_to(&mut self, readiness: Option<ReadinessPipe>) {
        self.readiness = readiness;
    }

    /// Reads whether its process is ready.
    pub(crate) fn read_readiness(&mut self) -> bool {
        let Some(is_ready) = self.readiness.as_ref().and_then(ReadinessPipe::read) else { return false };
        self.readiness = None;
        is_ready
    }

    /// Notes that not all of its subscribers receive events; returns whether that is new.
    pub(crate) fn becomes_crowded(&mut self) -> bool {
        !std::mem::replace(&mut self.is_crowded, true)
    }

    /// Closes everything except the pipe, which it returns. So its lock is free.
    pub(crate) fn close(self) -> Option<OwnedFd> {
        self.pipe
    }

    /// Returns the name that the service's programs are given: `foo`, or `foo/log` for its logger.
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
