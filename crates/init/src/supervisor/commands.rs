//! Commands through FIFOs: to a service, and to the supervisor itself.
//!
//! *Lives here:* reading commands and having them obeyed.
//! *Does not live here:* their rate (`gatevisor_core::command_limiter`), their meaning for the
//! supervisor (`gatevisor_core::request`) and for a service (its machine).

use gatevisor_core::ServiceInput;
use gatevisor_core::command_limiter::{Admission, CONTROL_BYTES};
use gatevisor_core::request::SupervisorRequest;
use gatevisor_core::scan_queue::ScanScope;
use gatevisor_wire::control::Control;
use gatevisor_wire::files;
use gatevisor_wire::scan::ScanCommand;
use rustix::event::epoll::EventFlags;

use super::Supervisor;
use crate::id::Id;
use crate::reactor::{EventSource, Timer};
use crate::stderr_log::say;

/// The most bytes that are read at once from the supervisor's own FIFO.
const MAX_SCAN_BYTES: usize = 64;

impl Supervisor {
    /// Obeys the commands in the supervisor's own FIFO.
    pub(super) fn take_scan_commands(&mut self) {
        if !self.limiter.admit_scan(self.reactor.now().tick) {
            self.reactor.attend(self.scandir.control(), EventSource::ScanControl, EventFlags::empty());
            return self.set_limiter_alarm();
        }
        let mut bytes = [0; MAX_SCAN_BYTES];
        let Ok(count) = rustix::io::read(self.scandir.control(), &mut bytes) else { return };
        for command in bytes.iter().take(count).filter_map(|&byte| ScanCommand::from_byte(byte)) {
            let request = self.requests.command(command, || self.scandir.is_open_to_others());
            self.obey(request);
        }
    }

    /// Carries out a request to the supervisor itself.
    pub(super) fn obey(&mut self, request: SupervisorRequest) {
        match request {
            SupervisorRequest::Ignore => {}
            SupervisorRequest::Scan(scope) => {
                if scope == ScanScope::Whole {
                    self.host.reload(&mut self.reactor);
                }
                self.scanner.request(scope);
            }
            SupervisorRequest::Reap => self.reap(),
            SupervisorRequest::ShutDown(by) => {
                if let Some(signal) = by {
                    self.command.machine().asked_to_stop(signal);
                }
                self.begin_shutdown();
            }
            SupervisorRequest::Quit => self.quit(),
            SupervisorRequest::Abandon => self.shutdown.abandon(),
            SupervisorRequest::Forward(signal) => self.command.signal(signal),
            SupervisorRequest::SayNotObeyed => say!(
                "warning: a command to end was read from `{}`, to which others than root may write; it is not obeyed: \
                 send a signal instead",
                files::SVSCAN_CONTROL
            ),
        }
    }

    /// Obeys the commands to a service, unless they come too fast.
    pub(super) fn take_admitted_control(&mut self, id: Id) {
        let Some(service) = self.services.get(id) else { return };
        let owner = service.uid();
        match self.limiter.admit(self.reactor.now().tick, id, owner) {
            Admission::Pause => {
                self.reactor.attend(service.control(), EventSource::Control(id), EventFlags::empty());
                self.set_limiter_alarm();
            }
            Admission::Read(most) => {
                let used = self.take_control(id, most);
                self.limiter.charge(id, owner, used);
            }
        }
    }

    /// Obeys the commands that came before a death.
    pub(super) fn take_control_before_death(&mut self, id: Id) {
        let used = self.take_control(id, CONTROL_BYTES);
        // Its user's other services do not wait longer for it.
        self.limiter.charge_service(id, used);
    }

    /// Obeys at most `most` commands, and returns their number of bytes.
    fn take_control(&mut self, id: Id, most: usize) -> usize {
        let Some(service) = self.services.get(id) else { return 0 };
        let mut bytes = [0; CONTROL_BYTES];
        let bytes_mut = bytes.get_mut(..most).unwrap_or_default();
        let Ok(count) = rustix::io::read(service.control(), bytes_mut) else { return 0 };
        self.coalesce_for(id);
        for control in bytes.iter().take(count).filter_map(|&byte| Control::from_byte(byte)) {
            self.step(id, ServiceInput::Control(control));
        }
        self.publish_coalesced();
        count
    }

    /// Watches FIFOs again whose commands came too fast.
    pub(super) fn resume(&mut self) {
        let now = self.reactor.now().tick;
        let resumed = self.limiter.resume(now, |id| self.services.get(id).is_some());
        if resumed.scan {
            self.reactor.attend(self.scandir.control(), EventSource::ScanControl, EventFlags::IN);
        }
        for id in resumed.services {
            if let Some(service) = self.services.get(id) {
                self.reactor.attend(service.control(), EventSource::Control(id), EventFlags::IN);
            }
        }
        self.set_limiter_alarm();
    }

    fn set_limiter_alarm(&mut self) {
        self.reactor.set(&mut self.limiter_alarm, Timer::Commands, self.limiter.deadline());
    }
}
