//! The starts of `run`, and the reports of every process that is between fork and exec.
//!
//! *Lives here:* which part learns of a report.
//! *Does not live here:* whose turn it is (`gatevisor_core::start_queue`), and starting a process
//! (`spawner`).

use gatevisor_core::ServiceInput;
use gatevisor_sys::Errno;
use gatevisor_sys::spawn::{StartFailure, StartReport, StartStep};
use gatevisor_wire::Pid;

use super::parts::Supervisor;
use crate::id::Id;
use crate::reactor::EventSource;
use crate::service::{InFlight, SupervisedService};
use crate::service_scripts::{explain, explain_in};
use crate::stderr_log::say;

impl Supervisor {
    /// Forks the waiting starts, as long as not too many processes are between fork and exec.
    pub(super) fn pump_starts(&mut self) {
        while self.spawner.has_free_range() {
            let Some(id) = self.starts.pop() else { return };
            if self.services.get(id).is_some_and(|service| service.machine().awaits_fork()) {
                let input = match self.fork_run(id) {
                    Ok(pid) => ServiceInput::Forked(pid),
                    Err(why) => ServiceInput::SpawnFailed(why),
                };
                self.answer(id, input);
            }
        }
    }

    /// Forks `run`, or returns why not.
    fn fork_run(&mut self, id: Id) -> Result<Pid, String> {
        let gone = || explain("run", StartFailure { step: StartStep::Fork, errno: Errno::SRCH });
        let service = self.services.get_mut(id).ok_or_else(gone)?;
        let run = self.spawner.prepare_run(service)?;
        let outputs =
            self.logs.outputs_of(service, self.settings.labels_output_of(service.owner().is_some()));
        let (starting, reader) = self.spawner.start_run(service, run, outputs)?;
        service.listen_to(None);
        let pid = self.accompany(id, InFlight::Run(starting)).map_err(|failure| explain("run", failure))?;
        if let Some(reader) = reader
            && let Some(service) = self.services.get_mut(id)
        {
            if let Err(errno) = self.reactor.listen(&reader, EventSource::Readiness(id)) {
                say!("warning: {}: its readiness cannot be received: {errno}", service.name());
            }
            service.listen_to(Some(self.starts.readiness_pipe(reader)));
        }
        Ok(pid)
    }

    /// Receives the report whether a process has reached its program.
    pub(super) fn take_start_report(&mut self, id: Id) {
        let Some(service) = self.services.get_mut(id) else { return };
        let (owner, Some(report)) = (service.uid(), service.start_report()) else { return };
        match report {
            StartReport::Pending => {}
            StartReport::Blocked => {
                say!(
                    "warning: {}: another instance of the service is already running and holds ./supervise/service-lock; it is \
                     started when that has ended",
                    service.name()
                );
                // It may wait for long, so it no longer counts among those that others wait for.
                self.arrived(owner);
                self.step(id, ServiceInput::Blocked);
            }
            StartReport::Executed | StartReport::Failed(_) => {
                let Some(process) = service.take_in_flight() else { return };
                if !process.starting().has_waited() {
                    self.arrived(owner);
                }
                self.take_last_report(id, process, report);
            }
        }
    }

    fn take_last_report(&mut self, id: Id, process: InFlight, report: StartReport) {
        let StartReport::Failed(failure) = report else {
            if let InFlight::Run(_) = process {
                self.step(id, ServiceInput::Spawned);
            }
            return;
        };
        let explained = |script| {
            self.services.get(id).map(|service| (service.name(), explain_in(service, script, failure)))
        };
        match process {
            InFlight::Clear(starting) => {
                self.disown(starting);
                self.answer(id, ServiceInput::ClearFailed(explain("gatevisor", failure)));
            }
            InFlight::Ask(starting) => {
                self.disown(starting);
                self.answer(id, ServiceInput::AskFailed(explain("gatevisor", failure)));
            }
            InFlight::Run(starting) => {
                let why = explained("run").map(|(_, why)| why).unwrap_or_default();
                self.disown(starting);
                self.answer(id, ServiceInput::SpawnFailed(why));
            }
            InFlight::Finish(starting) => {
                if let Some((name, why)) = explained("finish") {
                    say!("warning: {name}: {why}");
                }
                self.disown(starting);
                self.step(id, ServiceInput::FinishAbsent);
            }
        }
    }

    /// Notes that a process has reached its program, or never will.
    fn arrived(&mut self, owner: u32) {
        if self.starts.arrived(owner) {
            self.scanner.descriptors_are_back();
            if self.starts.is_empty() {
                self.spawner.rest();
            }
        }
    }

    /// Receives whether a service is ready.
    pub(super) fn take_readiness(&mut self, id: Id) {
        if self.services.get_mut(id).is_some_and(SupervisedService::read_readiness) {
            self.step(id, ServiceInput::Ready);
        }
    }
}
