//! A step of a service's machine or of an entry, and what follows from it: the steps of others.
//!
//! *Lives here:* which service or entry makes the next step, and supervising and releasing.
//! *Does not live here:* decisions about a service (its machine) and the life of an entry
//! (`gatevisor_core::entry`).

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::entry::{EntryAction, EntryMachine, ServiceRole};
use gatevisor_core::restart::RestartPolicy;
use gatevisor_core::{Machine, ServiceEffects, ServiceInput};
use gatevisor_wire::name::ServiceName;
use rustix::fs::FileType;

use super::opening::EntryPipes;
use super::parts::Supervisor;
use crate::directory::{OpenedService, Refusal};
use crate::id::Id;
use crate::log_daemon::LogContext;
use crate::logging::LogDaemons;
use crate::reactor::EventSource;
use crate::service::SupervisedService;
use crate::settings;
use crate::stderr_log::say;

/// After this many reads of 4096 bytes, a control FIFO is empty unless somebody goes on writing.
const UNREAD_READS: usize = 256;

impl Supervisor {
    /// Passes `input` to the machine of `id`, and performs its decisions.
    pub(super) fn step(&mut self, id: Id, input: ServiceInput) {
        self.step_with(id, input, &RestartPolicy::default());
    }

    /// Does the same as [`Self::step`], with the restart policy of the service.
    pub(super) fn step_with(&mut self, id: Id, input: ServiceInput, policy: &RestartPolicy) {
        let now = self.reactor.now();
        let Some(service) = self.services.get_mut(id) else { return };
        let mut effects = self.publications.lend_room();
        service.step(now, input, policy, &mut effects);
        self.follow(id, effects);
    }

    /// Does what follows from a step of a service. If an effect has an answer, the machine makes
    /// another step at once.
    fn follow(&mut self, id: Id, mut effects: ServiceEffects) {
        let performed = self.perform(id, &mut effects);
        // The steps that follow use the same room.
        self.publications.take_room_back(effects);
        if performed.has_ended {
            self.let_go(id);
            self.host.changed(&mut self.reactor);
        }
        for answer in performed.answers {
            self.answer(id, answer);
        }
        if let Some(service) = self.services.get_mut(id) {
            service.set_alarm(&mut self.reactor, id);
        }
    }

    /// Passes the answer to an effect on. One that says that something cannot be started is
    /// reported.
    pub(super) fn answer(&mut self, id: Id, input: ServiceInput) {
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

    /// Calls the log daemons, and releases the entries whose pipes they have released by that.
    pub(super) fn with_logs(&mut self, act: impl FnOnce(&mut LogDaemons, &mut LogContext<'_>)) {
        let is_last = self.shutdown.writes_last_logs();
        let mut with = LogContext::new(&mut self.reactor, &self.spawner, self.scandir.as_fd(), is_last);
        act(&mut self.logs, &mut with);
        for name in self.logs.take_released() {
            self.log_is_released(&name);
        }
    }

    /// Handles one name: adopts, withdraws or replaces its entry.
    pub(super) fn look_at(&mut self, name: &[u8]) {
        let stat = self.scandir.stat(name);
        if stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink()) {
            self.scanner.recheck(name);
        }
        let there = stat.and_then(|stat| self.scandir.identity_of(name, &stat));
        let action = self.entries.look(name, there, self.shutdown.is_running());
        self.act_on(name, action);
    }

    /// Handles one name, but only if its entry is gone.
    pub(super) fn look_for_loss(&mut self, name: &[u8]) {
        let (there, is_running) = (self.scandir.identity(name), self.shutdown.is_running());
        let action = self.entries.step(name, |entry| entry.look_for_loss(there, is_running));
        self.act_on(name, action);
    }

    fn act_on(&mut self, name: &[u8], action: EntryAction<Id>) {
        match action {
            EntryAction::Nothing => {}
            EntryAction::ForgetRefusal => self.scanner.forget_refusal(name),
            EntryAction::Adopt => self.adopt(name),
            EntryAction::Tell(id, input) => self.step(id, input),
            EntryAction::Revive(role) => {
                let Some(name) = self.entries.name(name) else { return };
                let pipe = self.entries.take_reader(&name);
                self.revive(&name, role, pipe);
            }
            EntryAction::Recheck => self.scanner.recheck(name),
            EntryAction::ReleaseLog => {
                let Some(name) = self.entries.name(name) else { return };
                self.with_logs(|logs, with| logs.release(with, &name));
            }
            EntryAction::Free { look_again } => {
                self.entries.free(name);
                if look_again {
                    self.look_at(name);
                    self.scanner.line_up_recheck();
                }
            }
        }
    }

    fn adopt(&mut self, name: &[u8]) {
        if let Err(error) = ServiceName::new(name) {
            return self.scanner.refuse_name(name, &error.to_string(), self.scandir.owner_of(name));
        }
        match self.adopt_checked(name) {
            Ok(()) => self.scanner.forget_refusal(name),
            Err(refusal) => {
                let lacks_descriptors = matches!(refusal, Refusal::NoDescriptors);
                let owner = self.scandir.owner_of(name);
                self.scanner.refuse(name, &refusal.to_string(), owner, lacks_descriptors);
            }
        }
    }

    fn adopt_checked(&mut self, name: &[u8]) -> Result<(), Refusal> {
        let (service, owner) = self.open_new(name)?;
        let name: Rc<[u8]> = name.into();
        let identity = service.identity();
        let EntryPipes { writer, logger, for_daemon } = self.make_pipes(&service)?;
        let is_logged = for_daemon.is_some();
        if let Some(pipe) = for_daemon {
            let whose = (service.owner().cloned(), self.services.next_seed());
            self.with_logs(|logs, with| logs.take_on(with, &name, whose, pipe));
        }
        let logger = logger
            .and_then(|(opened, reader)| self.supervise(&name, ServiceRole::Logger, opened, Some(reader)));
        let main = self.supervise(&name, ServiceRole::Main, service, writer);
        self.entries.insert(name, EntryMachine::new(identity, main, logger, is_logged), owner);
        for id in [logger, main].into_iter().flatten() {
            self.step(id, ServiceInput::Deadline);
        }
        Ok(())
    }

    fn supervise(
        &mut self,
        entry: &Rc<[u8]>,
        role: ServiceRole,
        opened: OpenedService,
        pipe: Option<OwnedFd>,
    ) -> Option<Id> {
        let mut effects = self.publications.lend_room();
        let (now, seed) = (self.reactor.now(), self.services.next_seed());
        let (rules, is_up) = (self.settings.rules, opened.is_normally_up());
        let mut machine = Machine::new(now, rules, is_up, seed, &mut effects);
        if opened.is_published() {
            effects.leave_out_status();
        }
        if let Some(orphan) = opened.orphan() {
            machine.inherit(orphan.pid(), &mut effects);
        }
        self.entries.supervises(opened.identity(), entry);
        let service = SupervisedService::new((entry, role), opened, machine, pipe);
        let id = self.services.insert(service)?;
        if let Some(service) = self.services.get(id)
            && let Err(errno) = self.reactor.listen(service.control(), EventSource::Control(id))
        {
            say!("warning: {}: its commands cannot be received: {errno}", service.name());
        }
        self.follow(id, effects);
        Some(id)
    }

    /// Removes a service whose supervision has ended.
    fn let_go(&mut self, id: Id) {
        let Some(mut service) = self.services.remove(id) else { return };
        service.cancel_alarm(&mut self.reactor, id);
        if service.waits_for_lock() == Some(false) {
            self.starts.arrived(service.uid());
        }
        let (name, role, group) = (Rc::clone(service.entry()), service.role(), service.group().cloned());
        self.entries.supervises_no_more(service.directory().identity());
        drop_unread(&service);
        let pipe = service.close();
        if let Some(group) = group {
            self.spawner.end_group(self.scandir.as_fd(), group);
        }
        let (scandir, is_running) = (&self.scandir, self.shutdown.is_running());
        let there = || scandir.identity(&name);
        match self.entries.step(&name, |entry| entry.ended(role, there, is_running)) {
            EntryAction::Revive(role) => self.revive(&name, role, pipe),
            action => {
                self.keep_pipe(&name, role, pipe);
                self.act_on(&name, action);
            }
        }
    }

    /// Keeps the pipe of a lost half, so that the log daemon never sees an unannounced end and the
    /// service can go on writing.
    fn keep_pipe(&mut self, name: &[u8], role: ServiceRole, pipe: Option<OwnedFd>) {
        match role {
            ServiceRole::Main => self.logs.keep_writer(name, pipe),
            ServiceRole::Logger => self.entries.keep_reader(name, pipe),
        }
    }

    /// Supervises one half of an entry anew, with the same pipe.
    fn revive(&mut self, name: &Rc<[u8]>, role: ServiceRole, pipe: Option<OwnedFd>) {
        let half = match self.open_half(name, role) {
            Ok(opened) => self.supervise(name, role, opened, pipe),
            Err(refusal) => {
                say!("warning: {} is no longer supervised: {refusal}", String::from_utf8_lossy(name));
                self.keep_pipe(name, role, pipe);
                None
            }
        };
        let is_running = self.shutdown.is_running();
        let action = self.entries.step(name, |entry| entry.revived(role, half, is_running));
        self.act_on(name, action);
        if let Some(id) = half {
            self.step(id, ServiceInput::Deadline);
        }
    }

    /// Notes that a log daemon has released an entry's pipe.
    fn log_is_released(&mut self, name: &[u8]) {
        let is_running = self.shutdown.is_running();
        let action = self.entries.step(name, |entry| entry.log_is_released(is_running));
        self.act_on(name, action);
    }
}

/// Discards the commands to a service that were not obeyed, because its supervision ends. A process
/// between fork and exec may hold the FIFO open a little longer, and the next supervision would
/// find them there.
fn drop_unread(service: &SupervisedService) {
    let mut unread = [0; 4096];
    for _ in 0..UNREAD_READS {
        if !matches!(rustix::io::read(service.control(), &mut unread), Ok(1..)) {
            break;
        }
    }
}
