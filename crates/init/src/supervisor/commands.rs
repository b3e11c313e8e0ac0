//! Commands through the FIFOs of services.
//!
//! *Lives here:* reading commands and having them obeyed.
//! *Does not live here:* their rate (`gatevisor_core::command_limiter`), and their meaning (the
//! machine of the service).

use gatevisor_core::ServiceInput;
use gatevisor_core::command_limiter::{Admission, CONTROL_BYTES};
use gatevisor_wire::control::Control;
use rustix::event::epoll::EventFlags;

use super::parts::Supervisor;
use crate::id::Id;
use crate::reactor::EventSource;

impl Supervisor {
    /// Obeys the commands to a service, unless they come too fast.
    pub(super) fn take_admitted_control(&mut self, id: Id) {
        let Some(service) = self.services.get(id) else { return };
        let owner = service.uid();
        match self.commands.admit(&mut self.reactor, id, owner) {
            Admission::Pause => {
                self.reactor.attend(service.control(), EventSource::Control(id), EventFlags::empty());
            }
            Admission::Read(most) => {
                let used = self.take_control(id, most);
                self.commands.charge(id, owner, used);
            }
        }
    }

    /// Obeys the commands that came before a death.
    pub(super) fn take_control_before_death(&mut self, id: Id) {
        let used = self.take_control(id, CONTROL_BYTES);
        // Its user's other services do not wait longer for it.
        self.commands.charge_service(id, used);
    }

    /// Obeys at most `most` commands, and returns their number of bytes.
    fn take_control(&mut self, id: Id, most: usize) -> usize {
        let Some(service) = self.services.get(id) else { return 0 };
        let mut bytes = [0; CONTROL_BYTES];
        let bytes_mut = bytes.get_mut(..most).unwrap_or_default();
        let Ok(count) = rustix::io::read(service.control(), bytes_mut) else { return 0 };
        self.publications.hold_for(id);
        for control in bytes.iter().take(count).filter_map(|&byte| Control::from_byte(byte)) {
            self.step(id, ServiceInput::Control(control));
        }
        self.publish_held();
        count
    }

    /// Watches FIFOs again whose commands came too fast.
    pub(super) fn resume(&mut self) {
        let services = &self.services;
        let resumed = self.commands.resume(&mut self.reactor, |id| services.get(id).is_some());
        if resumed.scan {
            self.reactor.attend(self.scandir.control(), EventSource::ScanControl, EventFlags::IN);
        }
        for id in resumed.services {
            if let Some(service) = self.services.get(id) {
                self.reactor.attend(service.control(), EventSource::Control(id), EventFlags::IN);
            }
        }
    }
}
