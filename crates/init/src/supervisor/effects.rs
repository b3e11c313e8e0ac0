//! Performs the decisions of a service's machine. Each effect is one small action, and its failure
//! is the next input of the machine.
//!
//! *Lives here:* which part performs which effect.
//! *Does not live here:* decisions, how anything is done, and what follows from it (`steps`).

use gatevisor_core::broadcasts::Reach;
use gatevisor_core::restart::Rules;
use gatevisor_core::{Coalescing, Leftover, ServiceEffect, ServiceEffects, ServiceInput};
use gatevisor_sys::Errno;
use gatevisor_sys::spawn::{StartFailure, StartStep, Starting};
use gatevisor_wire::wait::WaitStatus;
use gatevisor_wire::{Pid, files, signal};

use super::parts::Supervisor;
use crate::broadcast;
use crate::id::Id;
use crate::publish;
use crate::reactor::EventSource;
use crate::service::InFlight;
use crate::service_scripts::{self, UntrustedScript, explain};
use crate::settings;
use crate::stderr_log::say;

/// What came of the effects of a step.
#[derive(Debug, Default)]
pub(super) struct Performed {
    /// The answers, which are further inputs of the machine.
    pub(super) answers: Vec<ServiceInput>,
    /// Whether the service is to be released.
    pub(super) has_ended: bool,
}

impl Supervisor {
    /// Performs `effects` in order, and returns what is to be done then.
    pub(super) fn perform(&mut self, id: Id, effects: &mut ServiceEffects) -> Performed {
        // At most one effect of a step has an answer. It is the last, or its answer does not depend
        // on the later effects. So answers may be passed on after the other effects are performed.
        // The end is the last effect, and has no answer.
        let mut performed = Performed::default();
        for effect in effects.drain() {
            self.hold_or_perform(id, effect, &mut performed);
        }
        performed
    }

    /// Publishes what was held back.
    pub(super) fn publish_held(&mut self) {
        let Some((id, held)) = self.publications.take_held() else { return };
        // None of these effects has an answer.
        for effect in held {
            self.perform_one(id, effect, &mut Performed::default());
        }
    }

    fn hold_or_perform(&mut self, id: Id, effect: ServiceEffect, performed: &mut Performed) {
        match self.publications.sort(id, effect) {
            Coalescing::Held => {}
            Coalescing::Perform(effect) => self.perform_one(id, effect, performed),
            Coalescing::PerformAfterHeld(effect) => {
                self.publish_held();
                self.publications.hold_for(id);
                self.perform_one(id, effect, performed);
            }
        }
    }

    fn perform_one(&mut self, id: Id, effect: ServiceEffect, performed: &mut Performed) {
        let Some(service) = self.services.get_mut(id) else { return };
        match effect {
            ServiceEffect::SpawnRun => self.starts.push(service.uid(), id),
            ServiceEffect::SpawnFinish(pid, how) => performed.answers.push(self.spawn_finish(id, pid, how)),
            ServiceEffect::AskHandoff(pid, code) => {
                performed.answers.push(self.spawn_question(id, pid, code));
            }
            ServiceEffect::Clear(whose) => performed.answers.push(self.spawn_cleanup(id, whose)),
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
            ServiceEffect::End => performed.has_ended = true,
            ServiceEffect::Signal(..)
            | ServiceEffect::SignalGroup(..)
            | ServiceEffect::Terminate(_)
            | ServiceEffect::DownSignal(_)
            | ServiceEffect::ReloadSignal(_)
            | ServiceEffect::KillOverdue(_) => performed.answers.extend(self.signal(id, &effect)),
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
    pub(super) fn accompany(&mut self, id: Id, process: InFlight) -> Result<Pid, StartFailure> {
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

    /// Notes that some of a service's subscribers lose events; reports that once.
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
    pub(super) fn disown(&mut self, starting: Starting) {
        if let Some(pid) = self.spawner.disown(starting) {
            self.services.forget_process(pid);
        }
    }
}
