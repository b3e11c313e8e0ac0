//! The rate of commands, and their order.
//!
//! *Lives here:* the timer after which those go on that came too fast, and who comes first.
//! *Does not live here:* how fast is too fast (`gatevisor_core::command_limiter`), what is asked of
//! us (`gatevisor_core::request`), and reading a FIFO (`supervisor/commands`).

use gatevisor_core::command_limiter::{Admission, CommandLimiter, Resumed};
use gatevisor_core::request::{RequestPolicy, SupervisorRequest};
use gatevisor_wire::scan::ScanCommand;

use crate::id::Id;
use crate::reactor::{Alarm, Reactor, Timer};

/// The commands to services and to us, as they are let in.
#[derive(Debug)]
pub(crate) struct Commands {
    limiter: CommandLimiter<Id>,
    alarm: Alarm,
    requests: RequestPolicy,
    iterations: usize,
}

impl Commands {
    pub(crate) fn new(requests: RequestPolicy) -> Self {
        Self { limiter: CommandLimiter::default(), alarm: Alarm::default(), requests, iterations: 0 }
    }

    /// Brings the services with commands into another order each time: the later ones may find
    /// their user's budget used up.
    pub(crate) fn rotate(&mut self, commanded: &mut [Id]) {
        self.iterations = self.iterations.wrapping_add(1);
        let first = self.iterations.checked_rem(commanded.len()).unwrap_or(0);
        commanded.rotate_left(first);
    }

    /// Returns whether our own FIFO may be read now.
    pub(crate) fn admit_scan(&mut self, reactor: &mut Reactor) -> bool {
        let is_admitted = self.limiter.admit_scan(reactor.now().tick);
        if !is_admitted {
            self.set_alarm(reactor);
        }
        is_admitted
    }

    /// Returns how much of a service's FIFO may be read now.
    pub(crate) fn admit(&mut self, reactor: &mut Reactor, id: Id, owner: u32) -> Admission {
        let admission = self.limiter.admit(reactor.now().tick, id, owner);
        if matches!(admission, Admission::Pause) {
            self.set_alarm(reactor);
        }
        admission
    }

    /// Counts what was read of a service's FIFO.
    pub(crate) fn charge(&mut self, id: Id, owner: u32, used: usize) {
        self.limiter.charge(id, owner, used);
    }

    /// Counts what was read of a service's FIFO, for this service only.
    pub(crate) fn charge_service(&mut self, id: Id, used: usize) {
        self.limiter.charge_service(id, used);
    }

    /// Returns, when the timer has fired, who may go on.
    pub(crate) fn resume(&mut self, reactor: &mut Reactor, exists: impl Fn(Id) -> bool) -> Resumed<Id> {
        self.alarm.rang();
        let resumed = self.limiter.resume(reactor.now().tick, exists);
        self.set_alarm(reactor);
        resumed
    }

    /// Returns what a signal asks of us.
    pub(crate) fn request_of_signal(&self, number: u8) -> SupervisorRequest {
        self.requests.signal(number)
    }

    /// Returns what a command in our own FIFO asks of us. `is_open` tells whether others than root
    /// may write to it.
    pub(crate) fn request_of(
        &mut self,
        command: ScanCommand,
        is_open: impl FnOnce() -> bool,
    ) -> SupervisorRequest {
        self.requests.command(command, is_open)
    }

    fn set_alarm(&mut self, reactor: &mut Reactor) {
        reactor.set(&mut self.alarm, Timer::Commands, self.limiter.deadline());
    }
}
