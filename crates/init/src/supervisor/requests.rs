//! What is asked of the supervisor itself, by signals and through its own FIFO.
//!
//! *Lives here:* reading the FIFO, and which part carries out a request.
//! *Does not live here:* what a signal or a command asks for (`gatevisor_core::request`).

use gatevisor_core::request::SupervisorRequest;
use gatevisor_core::scan_queue::ScanScope;
use gatevisor_wire::files;
use gatevisor_wire::scan::ScanCommand;
use rustix::event::epoll::EventFlags;

use super::parts::Supervisor;
use crate::reactor::EventSource;
use crate::stderr_log::say;

/// The most bytes that are read at once from the supervisor's own FIFO.
const MAX_SCAN_BYTES: usize = 64;

impl Supervisor {
    /// Obeys the commands in the supervisor's own FIFO.
    pub(super) fn take_scan_commands(&mut self) {
        if !self.commands.admit_scan(&mut self.reactor) {
            self.reactor.attend(self.scandir.control(), EventSource::ScanControl, EventFlags::empty());
            return;
        }
        let mut bytes = [0; MAX_SCAN_BYTES];
        let Ok(count) = rustix::io::read(self.scandir.control(), &mut bytes) else { return };
        for command in bytes.iter().take(count).filter_map(|&byte| ScanCommand::from_byte(byte)) {
            let request = self.commands.request_of(command, || self.scandir.is_open_to_others());
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
}
