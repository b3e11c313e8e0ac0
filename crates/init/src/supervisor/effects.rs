//! Performs the decisions of a service's machine. Each effect is one small action, and its failure
//! is the next input of the machine.
//!
//! *Lives here:* which part performs which effect, and the reports of starting processes.
//! *Does not live here:* decisions, and how anything is done.

use gatevisor_core::broadcasts::Reach;
use gatevisor_core::restart::{RestartPolicy, Rules};
use gatevisor_core::{Coalesced, Coalescing, Leftover, ServiceEffect, ServiceEffects, ServiceInput};
use gatevisor_sys::Errno;
use gatevisor_sys::spawn::{StartFailure, StartReport, StartStep, Starting};
use gatevisor_wire::wait::WaitStatus;
use gatevisor_wire::{Pid, files, signal};

use super::Supervisor;
use crate::broadcast;
use crate::id::Id;
use crate::publish;
use crate::reactor::EventSource;
use crate::service::{InFlight, ReadinessPipe, SupervisedService};
use crate::service_scripts::{self, UntrustedScript, explain, explain_in};
use crate::settings;
use crate::stderr_log::say;

impl Supervisor {
    /// Passes `input` to the machine of `id`, and performs its decisions.
    pub(super) fn step(&mut self, id: Id, input: ServiceInput) {
        self.step_with(id, input, &RestartPolicy::default());
    }

    /// Does the same as [`Self::step`], with the restart policy of the service.
    pub(super) fn step_with(&mut self, id: Id, input: ServiceInput, policy: &RestartPolicy) {
        let now = self.reactor.now();
        let Some(service) = self.services.get_mut(id) else { return };
        let mut effects = std::mem::take(&mut self.effects);
        service.step(now, input, policy, &mut effects);
        self.perform(id, &mut effects);
        self.effects = effects;
    }

    /// Performs `effects` in order. If an effect has an answer, the machine makes another step at
    /// once.
    pub(super) fn perform(&mut self, id: Id, effects: &mut ServiceEffects) {
        // At most one effect of a step has an answer. It is the last, or its answer does not depend
        // on the later effects. So answers may be passed on after the other effects are performed.
        let mut answers = Vec::new();
        for effect in effects.drain() {
            self.coalesce_or_perform(id, effect, &mut answers);
        }
        for answer in answers {
            self.spawn_answered(id, answer);
        }
        self.set_alarm(id);
    }

    fn set_alarm(&mut self, id: Id) {
        if let Some(service) = self.services.get_mut(id) {
            service.set_alarm(&mut self.reactor, id);
        }
    }

    /// Holds back publications of a service until [`Self::publish_coalesced`], and keeps only the
    /// last of each kind.
    pub(super) fn coalesce_for(&mut self, id: Id) {
        self.coalesced = Some((id, Coalesced::default()));
    }

    /// Publishes what was held back.
    pub(super) fn publish_coalesced(&mut self) {
        let Some((id, mut coalesced)) = self.coalesced.take() else { return };
        for effect in coalesced.drain() {
            // None of these effects has an answer.
            self.perform_one(id, effect, &mut Vec::new());
        }
    }

    fn coalesce_or_perform(&mut self, id: Id, effect: ServiceEffect, answers: &mut Vec<ServiceInput>) {
        let coalescing = match &mut self.coalesced {
            Some((of, coalesced)) if *of == id => coalesced.add(effect),
            Some(_) | None => Coalescing::Perform(effect),
        };
        match coalescing {
            Coalescing::Held => {}
            Coalescing::Perform(effect) => self.perform_one(id, effect, answers),
            Coalescing::PerformAfterHeld(effect) => {
                self.publish_coalesced();
                self.coalesce_for(id);
                self.perform_one(id, effect, answers);
            }
        }
    }

    fn perform_one(&mut self, id: Id, effect: ServiceEffect, answers: &mut Vec<ServiceInput>) {
        let Some(service) = self.services.get_mut(id) else { return };
        match effect {
            ServiceEffect::SpawnRun => self.starts.push(service.uid(), id),
            ServiceEffect::SpawnFinish(pid, how) => answers.push(self.spawn_finish(id, pid, how)),
            ServiceEffect::AskHandoff(pid, code) => answers.push(self.spawn_question(id, pid, code)),
            ServiceEffect::Clear(whose) => answers.push(self.spawn_cleanup(id, whose)),
            ServiceEffect::CloseReadiness => service.listen_to(None),
            ServiceEffect::RecordDeath(death) => publish::death(service, death),
            ServiceEffect::PublishStatus(status) => {
                publish::status(service, &status);
                self.host.changed(&mut self.reactor);
            }
            ServiceEffect::PublishPolicy(policy) => publish::policy(service, &policy),
            ServiceEffect::Broadcast(events) => {
                if self.broadcasts.begin(id, service.uid(), service.dir(), events) == Reach::CutShort {
                    self.found_crowded(id);
                }
            }
            ServiceEffect::CreateDownFile => publish::down_file(service, true),
            ServiceEffect::RemoveDownFile => publish::down_file(service, false),
            ServiceEffect::End => {
                self.let_go(id);
                self.host.changed(&mut self.reactor);
            }
            ServiceEffect::Signal(..)
            | ServiceEffect::SignalGroup(..)
            | ServiceEffect::Terminate(_)
            | ServiceEffect::DownSignal(_)
            | ServiceEffect::ReloadSignal(_)
            | ServiceEffect::KillOverdue(_) => answers.extend(self.signal(id, &effect)),
        }
    }

    /// Sends the signal of an effect; returns the answer to it, if there is one.
    fn signal(&mut self, id: Id, effect: &ServiceEffect) -> Option<ServiceInput> {
        let service = self.services.get(id)?;
        let (pid, number, group) = match *effect {
            ServiceEffect::Signal(pid, number) => (pid, number, false),
            ServiceEffect::SignalGroup(pid, number) => (pid, number, true),
            ServiceEffect::Terminate(pid) | ServiceEffect::DownSignal(pid) => {
                (pid, settings::down_signal(service), false)
            }
            ServiceEffect::ReloadSignal(pid) => (pid, settings::reload_signal(service), false),
            ServiceEffect::KillOverdue(pid) => {
                (pid, signal::KILL, service.has_file(files::FLAG_TIMEOUT_KILLPG))
            }
            _ => return None,
        };
        self.services.signal(pid, number, group);
        match effect {
            ServiceEffect::Terminate(_) => {
                self.services.signal(pid, signal::CONT, false);
                Some(ServiceInput::Terminating(settings::timeout_kill_ms(service)))
            }
            ServiceEffect::Signal(_, signal::KILL) => {
                self.forget_waiting(id);
                None
            }
            _ => None,
        }
    }

    /// Forks the waiting starts, as long as not too many processes are between fork and exec.
    pub(super) fn pump_starts(&mut self) {
        while self.spawner.has_free_range() {
            let Some(id) = self.starts.pop() else { return };
            if self.services.get(id).is_some_and(|service| service.machine().awaits_fork()) {
                let input = match self.fork_run(id) {
                    Ok(pid) => ServiceInput::Forked(pid),
                    Err(why) => ServiceInput::SpawnFailed(why),
                };
                self.spawn_answered(id, input);
            }
        }
    }

    fn spawn_answered(&mut self, id: Id, input: ServiceInput) {
        if let ServiceInput::SpawnFailed(why) | ServiceInput::ClearFailed(why) | ServiceInput::AskFailed(why) =
            &input
            && let Some(service) = self.services.get(id)
        {
            let policy = settings::restart_policy(service);
            say!("warning: {}: cannot start: {why}", service.name());
            self.step_with(id, input, &policy);
        } else {
            self.step(id, input);
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
            service.listen_to(Some(ReadinessPipe::new(reader, &self.readiness_pipes)));
        }
        Ok(pid)
    }

    fn spawn_finish(&mut self, id: Id, pid: Pid, how: WaitStatus) -> ServiceInput {
        let Some(service) = self.services.get(id) else { return ServiceInput::FinishAbsent };
        match service_scripts::trusted(service, files::FINISH) {
            Ok(()) => {}
            Err(UntrustedScript::Errno(Errno::NOENT)) => return ServiceInput::FinishAbsent,
            Err(distrust) => {
                say!("warning: {}: its `finish` is not run: {distrust}", service.name());
                return ServiceInput::FinishAbsent;
            }
        }
        if self.settings.rules == Rules::Native
            && self.spawner.is_ours(service.dir(), files::FINISH, "finish")
        {
            // It would only tell which exit codes are final, and those are in `data/`, which we
            // read ourselves.
            return ServiceInput::FinishAbsent;
        }
        let timeout_ms = settings::timeout_finish_ms(service);
        let outputs =
            self.logs.outputs_of(service, self.settings.labels_output_of(service.owner().is_some()));
        let started = self.spawner.start_finish(service, (pid, how), outputs);
        match started.and_then(|starting| self.accompany(id, InFlight::Finish(starting))) {
            Ok(pid) => ServiceInput::FinishForked(pid, timeout_ms),
            Err(failure) => {
                if let Some(service) = self.services.get(id) {
                    say!("warning: {}: {}", service.name(), explain("finish", failure));
                }
                ServiceInput::FinishAbsent
            }
        }
    }

    /// Starts the process that asks whether a service wants to be started again.
    fn spawn_question(&mut self, id: Id, pid: Pid, code: u8) -> ServiceInput {
        let gone = StartFailure { step: StartStep::Fork, errno: Errno::SRCH };
        let Some(service) = self.services.get(id) else {
            return ServiceInput::AskFailed(explain("run", gone));
        };
        let outputs =
            self.logs.outputs_of(service, self.settings.labels_output_of(service.owner().is_some()));
        let started = self.spawner.start_question(service, (pid, code), outputs);
        let forked = started.and_then(|(starting, ms)| {
            Ok(ServiceInput::AskForked(self.accompany(id, InFlight::Ask(starting))?, ms))
        });
        forked.unwrap_or_else(|failure| {
            ServiceInput::AskFailed(format!(
                "what asks for a handoff cannot be started: {}",
                explain("run", failure)
            ))
        })
    }

    /// Starts the process that ends leftover processes.
    fn spawn_cleanup(&mut self, id: Id, whose: Leftover) -> ServiceInput {
        let gone = StartFailure { step: StartStep::Fork, errno: Errno::SRCH };
        let service = self.services.get(id).ok_or(gone);
        let forked = service.and_then(|service| self.spawner.start_cleanup(service, whose)).and_then(
            |(starting, ms)| {
                Ok(ServiceInput::ClearForked(self.accompany(id, InFlight::Clear(starting))?, ms))
            },
        );
        forked.unwrap_or_else(|failure| {
            ServiceInput::ClearFailed(format!(
                "what ends processes that were left behind cannot be started: {}",
                explain("finish", failure)
            ))
        })
    }

    /// Watches a process until it has reached its program.
    fn accompany(&mut self, id: Id, process: InFlight) -> Result<Pid, StartFailure> {
        let fail = |errno| StartFailure { step: StartStep::Fork, errno };
        let pid = Pid::new(process.starting().pid()).ok_or(fail(Errno::INVAL))?;
        self.services.has_process(id, pid);
        if let Err(errno) = self.reactor.listen(process.starting(), EventSource::Start(id)) {
            // Without the report, nobody would learn of the exec, and the process's memory must
            // stay until then.
            self.services.signal(pid, signal::KILL, false);
            self.services.forget_process(pid);
            std::mem::forget(process);
            return Err(fail(errno));
        }
        if let Some(service) = self.services.get_mut(id) {
            self.starts.forked(service.uid());
            service.sets_off(process);
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
                self.spawn_answered(id, ServiceInput::ClearFailed(explain("gatevisor", failure)));
            }
            InFlight::Ask(starting) => {
                self.disown(starting);
                self.spawn_answered(id, ServiceInput::AskFailed(explain("gatevisor", failure)));
            }
            InFlight::Run(starting) => {
                let why = explained("run").map(|(_, why)| why).unwrap_or_default();
                self.disown(starting);
                self.spawn_answered(id, ServiceInput::SpawnFailed(why));
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
    pub(super) fn arrived(&mut self, owner: u32) {
        if self.starts.arrived(owner) {
            self.scanner.descriptors_are_back();
            if self.starts.is_empty() {
                self.spawner.rest();
            }
        }
    }

    /// Notes that a service's `event` has more entries than receive events; reports that once.
    pub(super) fn found_crowded(&mut self, id: Id) {
        if let Some(service) = self.services.get_mut(id)
            && service.becomes_crowded()
        {
            broadcast::say_crowded(&service.name());
        }
    }

    /// Forgets a process that was killed while it waited for its lock.
    fn forget_waiting(&mut self, id: Id) {
        let Some(service) = self.services.get_mut(id) else { return };
        if service.waits_for_lock() == Some(true)
            && let Some(process) = service.take_in_flight()
        {
            service.listen_to(None);
            self.disown(process.into_starting());
        }
    }

    /// Forgets a process that is ending and has not reached its program.
    fn disown(&mut self, starting: Starting) {
        if let Some(pid) = self.spawner.disown(starting) {
            self.services.forget_process(pid);
        }
    }

    /// Receives whether a service is ready.
    pub(super) fn take_readiness(&mut self, id: Id) {
        if self.services.get_mut(id).is_some_and(SupervisedService::read_readiness) {
            self.step(id, ServiceInput::Ready);
        }
    }
}
