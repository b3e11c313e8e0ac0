//! Performing effects: each is one small thing, and its failure comes back as the next event.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::AsFd;

use gatevisor_core::restart::Rules;
use gatevisor_core::{ServiceEffect, ServiceEffects, ServiceInput};
use gatevisor_sys::descriptor_pool::DescriptorPool;
use gatevisor_sys::spawn::{self, Apart, EXTRAS, ProcessSpec, StartFailure, StartReport};
use gatevisor_sys::user::User;
use gatevisor_sys::{Errno, file};
use gatevisor_wire::log_script::LogScript;
use gatevisor_wire::script::Flaw;
use gatevisor_wire::wait::WaitStatus;
use gatevisor_wire::{Pid, files, signal};
use rustix::fs::{AtFlags, FileType, statat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use crate::broadcast::{self, Reach};
use crate::directory;
use crate::kill::kill;
use crate::noexec;
use crate::publish;
use crate::service::{Id, InFlight, ReadinessPipe, ServiceRole, SupervisedService};
use crate::settings;
use crate::stderr_log::say;
use crate::supervisor::{EventSource, Supervisor};

/// Processes between fork and exec at one time; more wait in a queue.
const MAX_IN_FLIGHT: usize = 32;
/// Those of one user at one time.
const MAX_OF_ONE_OWNER: usize = 24;
/// Those that a user can have there however many of others are.
const ALWAYS_IN_FLIGHT: usize = 4;
/// The file below `supervise/` that is locked where `lock-fd` says so.
const SERVICE_LOCK: &str = "service-lock";
/// Bytes of a script that are enough to know its interpreter.
const SHEBANG_BYTES: usize = 256;

/// Sends a signal to a process of ours, unless it has been reaped: its number may be somebody else's by now.
fn send(ours: &HashMap<Pid, Id>, pid: Pid, number: u8, group: bool) {
    if !ours.contains_key(&pid) {
        return;
    }
    let (Some(pid), Some(signal)) =
        (rustix::process::Pid::from_raw(pid.get()), Signal::from_named_raw(i32::from(number)))
    else {
        return;
    };
    kill(pid, signal, group);
}

impl Supervisor {
    /// Performs `effects` in order; those that have an answer step the machine again at once.
    pub(crate) fn perform(&mut self, id: Id, effects: &mut ServiceEffects) {
        // At most one effect of a step is answered, and it comes last or its answer does not depend on
        // what follows; so answers may be given after the others are performed.
        let mut answers = Vec::new();
        for effect in effects.drain() {
            self.perform_one(id, effect, &mut answers);
        }
        for answer in answers {
            self.spawn_answered(id, answer);
        }
    }

    pub(crate) fn perform_one(&mut self, id: Id, effect: ServiceEffect, answers: &mut Vec<ServiceInput>) {
        let Some(effect) = self.coalesce(id, effect) else { return };
        if effect == ServiceEffect::End {
            self.let_go(id);
            return;
        }
        let Some(service) = self.services.get_mut(id) else { return };
        match effect {
            ServiceEffect::SpawnRun => self.start_queue.push(service.uid, id),
            ServiceEffect::SpawnFinish(pid, how) => answers.push(self.spawn_finish(id, pid, how)),
            ServiceEffect::Clear(whose) => answers.push(self.spawn_clearing(id, whose)),
            ServiceEffect::Signal(pid, number) => {
                send(&self.pids, pid, number, false);
                if number == signal::KILL {
                    self.forget_waiting(id);
                }
            }
            ServiceEffect::SignalGroup(pid, number) => send(&self.pids, pid, number, true),
            ServiceEffect::Terminate(pid) => {
                let name = service.name();
                send(&self.pids, pid, settings::down_signal(&service.dir, &name), false);
                send(&self.pids, pid, signal::CONT, false);
                answers.push(ServiceInput::Terminating(settings::timeout_kill_ms(&service.dir, &name)));
            }
            ServiceEffect::DownSignal(pid) => {
                send(&self.pids, pid, settings::down_signal(&service.dir, &service.name()), false);
            }
            ServiceEffect::ReloadSignal(pid) => {
                send(&self.pids, pid, settings::reload_signal(&service.dir, &service.name()), false);
            }
            ServiceEffect::KillOverdue(pid) => {
                let group =
                    statat(&service.dir, files::FLAG_TIMEOUT_KILLPG, AtFlags::SYMLINK_NOFOLLOW).is_ok();
                send(&self.pids, pid, signal::KILL, group);
            }
            ServiceEffect::CloseReadiness => service.readiness = None,
            ServiceEffect::RecordDeath(death) => publish::death(service, death),
            ServiceEffect::PublishStatus(status) => publish::status(service, &status),
            ServiceEffect::PublishPolicy(policy) => publish::policy(service, &policy),
            ServiceEffect::Broadcast(events) => {
                if self.broadcasts.begin(id, service.uid, &service.dir, events) == Reach::CutShort {
                    self.found_crowded(id);
                }
            }
            ServiceEffect::CreateDownFile => publish::down_file(service, true),
            ServiceEffect::RemoveDownFile => publish::down_file(service, false),
            ServiceEffect::End => {}
        }
    }

    /// Forks what waits to be started, as long as not too many are between fork and exec.
    pub(crate) fn pump_starts(&mut self) {
        // With all of the pool taken a start would copy every descriptor; one is free as soon as its child has its own table.
        while self.pool.as_ref().is_none_or(DescriptorPool::has_free) {
            let (under_way, all) = (&self.in_flight, self.in_flight.all());
            // Whoever has programs that take for ever to be executed keeps itself waiting and nobody else.
            let may = |owner: u32| {
                let own = under_way.of(owner);
                own < ALWAYS_IN_FLIGHT || (all < MAX_IN_FLIGHT && own < MAX_OF_ONE_OWNER)
            };
            let Some((_, id)) = self.start_queue.pop(may) else { return };
            if self.services.get(id).is_some_and(|service| service.machine.awaits_fork()) {
                let event = match self.fork_run(id) {
                    Ok(pid) => ServiceInput::Forked(pid),
                    Err(why) => ServiceInput::SpawnFailed(why),
                };
                self.spawn_answered(id, event);
            }
        }
    }

    fn spawn_answered(&mut self, id: Id, event: ServiceInput) {
        if let ServiceInput::SpawnFailed(why) | ServiceInput::ClearFailed(why) = &event
            && let Some(service) = self.services.get(id)
        {
            let policy = settings::restart_policy(&service.dir, &service.name());
            say!("warning: {}: cannot start: {why}", service.name());
            self.step_with(id, event, &policy);
        } else {
            self.step(id, event);
        }
    }

    /// Returns whether what a service prints is shown with a label.
    fn labels_output(&self, id: Id) -> bool {
        self.services.get(id).is_some_and(|service| self.labels_output_of(service.owner.as_deref()))
    }

    /// Forks `run`, or returns why not.
    fn fork_run(&mut self, id: Id) -> Result<Pid, String> {
        let forking = |errno| explain("run", StartFailure { step: spawn::StartStep::Fork, errno });
        let environment = self.services.get(id).map(|service| self.environment_of(service));
        let environment = environment.ok_or_else(|| forking(Errno::SRCH))?;
        let labels_output = self.labels_output(id);
        let service = self.services.get_mut(id).ok_or_else(|| forking(Errno::SRCH))?;
        let name = service.name();
        trusted(service, files::RUN).map_err(|distrust| format!("executing ./run: {distrust}"))?;
        let notification = settings::number(&service.dir, &name, files::NOTIFICATION_FD)
            .and_then(|number| i32::try_from(number).ok());
        let apart = apart(service, &name, notification)?;
        let program = noexec::program(&service.dir, c"run", vec![service.argument()]);
        let grouped = self.groups.enter(service, apart, &program, &self.ourselves)?;
        let (is_grouped, (program, argv)) = match grouped {
            Some(ourselves) => (true, ourselves),
            None => (false, program),
        };
        let mut pipe = None;
        if notification.is_some() {
            pipe = Some(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(forking)?);
        }
        let stdin = match (service.role, &service.pipe) {
            (ServiceRole::Logger, Some(reader)) => reader.as_fd(),
            (ServiceRole::Main, _) | (ServiceRole::Logger, None) => self.null.as_fd(),
        };
        let (stdout, stderr) = self.logging.outputs_of(service, labels_output);
        let command = ProcessSpec {
            directory: service.dir.as_fd(),
            program: &program,
            argv,
            environment,
            stdin,
            stdout,
            stderr,
            extras: [
                notification.and_then(|number| pipe.as_ref().map(|(_, writer)| (writer.as_fd(), number))),
                None,
                None,
            ],
            // Ours until the group is made; then it becomes the owner.
            user: if is_grouped { None } else { service.owner.as_deref() },
            given_back: self.given_back,
            pool: self.pool.as_ref(),
        };
        let starting = spawn::start_apart(command, apart).map_err(|failure| explain("run", failure))?;
        service.readiness = None;
        let reader = pipe.map(|(reader, _)| reader);
        let pid = self.accompany(id, InFlight::Run(starting)).map_err(|failure| explain("run", failure))?;
        if let Some(reader) = reader {
            if let Err(errno) = self.listen(&reader, EventSource::Readiness(id)) {
                say!("warning: {name}: its readiness cannot be received: {errno}");
            }
            let pipe = ReadinessPipe::new(reader, &self.readiness_pipes);
            if let Some(service) = self.services.get_mut(id) {
                service.readiness = Some(pipe);
            }
        }
        Ok(pid)
    }

    /// Watches a process until it has reached its program.
    pub(crate) fn accompany(&mut self, id: Id, process: InFlight) -> Result<Pid, StartFailure> {
        let fail = |errno| StartFailure { step: spawn::StartStep::Fork, errno };
        let pid = Pid::new(process.starting().pid()).ok_or(fail(Errno::INVAL))?;
        self.pids.insert(pid, id);
        if let Err(errno) = self.listen(process.starting(), EventSource::Start(id)) {
            // Without the report nobody would learn of the exec; the memory it runs on must stay.
            send(&self.pids, pid, signal::KILL, false);
            self.pids.remove(&pid);
            std::mem::forget(process);
            return Err(fail(errno));
        }
        if let Some(service) = self.services.get_mut(id) {
            self.in_flight.add(service.uid);
            service.in_flight = Some(Box::new(process));
        }
        Ok(pid)
    }

    /// Learns whether a process has reached its program.
    pub(crate) fn take_start_report(&mut self, id: Id) {
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(process) = &mut service.in_flight else { return };
        let report = process.starting_mut().report();
        if report == StartReport::Pending {
            return;
        }
        if report == StartReport::Blocked {
            say!(
                "warning: {}: another instance of the service is already running and holds ./supervise/service-lock; it is \
                 started when that has ended",
                service.name()
            );
            // It may wait for long, so it is not one of those that others wait for.
            let owner = service.uid;
            self.one_less_in_flight(owner);
            self.step(id, ServiceInput::Blocked);
            return;
        }
        let owner = service.uid;
        let Some(process) = service.in_flight.take() else { return };
        if !process.starting().has_waited() {
            self.one_less_in_flight(owner);
        }
        match (*process, report) {
            (_, StartReport::Pending | StartReport::Blocked)
            | (InFlight::Finish(_) | InFlight::Clear(_), StartReport::Executed) => {}
            (InFlight::Clear(starting), StartReport::Failed(failure)) => {
                self.disown(starting);
                self.spawn_answered(id, ServiceInput::ClearFailed(explain("gatevisor", failure)));
            }
            (InFlight::Run(_), StartReport::Executed) => self.step(id, ServiceInput::Spawned),
            (InFlight::Run(starting), StartReport::Failed(failure)) => {
                self.disown(starting);
                let why = self.explain_in(id, "run", failure);
                self.spawn_answered(id, ServiceInput::SpawnFailed(why));
            }
            (InFlight::Finish(starting), StartReport::Failed(failure)) => {
                self.disown(starting);
                if let Some(service) = self.services.get(id) {
                    let why = self.explain_in(id, "finish", failure);
                    say!("warning: {}: {why}", service.name());
                }
                self.step(id, ServiceInput::FinishAbsent);
            }
        }
    }

    /// Takes in that a service's `event` has more entries than are told; says so once.
    pub(crate) fn found_crowded(&mut self, id: Id) {
        if let Some(service) = self.services.get_mut(id)
            && !std::mem::replace(&mut service.is_crowded, true)
        {
            broadcast::say_crowded(&service.name());
        }
    }

    /// Returns why a script of a service is not executed; where the reason is one that no editor shows, that too.
    fn explain_in(&self, id: Id, script: &'static str, failure: StartFailure) -> String {
        let why = explain(script, failure);
        let is_hidden = matches!(failure.errno, Errno::NOENT | Errno::NOEXEC);
        let mut head = [0; SHEBANG_BYTES];
        let flaw = self
            .services
            .get(id)
            .filter(|_| is_hidden)
            .and_then(|service| file::read_small(&service.dir, script, &mut head).ok())
            .and_then(Flaw::of);
        flaw.map_or(why.clone(), |flaw| format!("{why}: {}; fix that: {} {script}", flaw.words(), flaw.fix()))
    }

    fn one_less_in_flight(&mut self, owner: u32) {
        self.in_flight.remove(owner);
        if self.in_flight.all() == 0 {
            self.recheck_the_refused();
            if self.start_queue.is_empty()
                && let Some(pool) = &self.pool
            {
                pool.rest();
            }
        }
    }

    /// Forgets a process that was killed while it waited for its lock.
    fn forget_waiting(&mut self, id: Id) {
        let Some(service) = self.services.get_mut(id) else { return };
        if service.in_flight.as_ref().is_some_and(|process| process.starting().has_waited())
            && let Some(process) = service.in_flight.take()
        {
            service.readiness = None;
            let (InFlight::Run(starting) | InFlight::Finish(starting) | InFlight::Clear(starting)) = *process;
            self.disown(starting);
        }
    }

    /// Forgets a process that is ending without having reached its program.
    ///
    /// It may still run on its stage for an instant, so that is freed when it is reaped.
    fn disown(&mut self, starting: spawn::Starting) {
        if let Some(pid) = Pid::new(starting.pid()) {
            self.pids.remove(&pid);
            self.unreaped.insert(pid, starting);
        }
    }

    fn spawn_finish(&mut self, id: Id, pid: Pid, how: WaitStatus) -> ServiceInput {
        let Some(service) = self.services.get(id) else { return ServiceInput::FinishAbsent };
        match trusted(service, files::FINISH) {
            Ok(()) => {}
            Err(UntrustedScript::Errno(Errno::NOENT)) => return ServiceInput::FinishAbsent,
            Err(distrust) => {
                say!("warning: {}: its `finish` is not run: {distrust}", service.name());
                return ServiceInput::FinishAbsent;
            }
        }
        if self.config.rules == Rules::Native && self.is_ours(&service.dir, files::FINISH, "finish") {
            // It would only say which exit codes are final, and those are in `data/`, which we read ourselves.
            return ServiceInput::FinishAbsent;
        }
        let code = how.exit_code().map_or(256, u16::from);
        let signal = how.signal().unwrap_or(0);
        let timeout_ms = settings::timeout_finish_ms(&service.dir, &service.name());
        let text = |number: String| CString::new(number).unwrap_or_default();
        let arguments =
            vec![text(code.to_string()), text(signal.to_string()), service.argument(), text(pid.to_string())];
        let (program, argv) = noexec::program(&service.dir, c"finish", arguments);
        let (stdout, stderr) = self.logging.outputs_of(service, self.labels_output(id));
        let started = spawn::start(ProcessSpec {
            directory: service.dir.as_fd(),
            program: &program,
            argv,
            environment: self.environment_of(service),
            stdin: self.null.as_fd(),
            stdout,
            stderr,
            extras: [None; EXTRAS],
            user: service.owner.as_deref(),
            given_back: self.given_back,
            pool: self.pool.as_ref(),
        });
        let forked = started.and_then(|starting| self.accompany(id, InFlight::Finish(starting)));
        match forked {
            Ok(pid) => ServiceInput::FinishForked(pid, timeout_ms),
            Err(failure) => {
                if let Some(service) = self.services.get(id) {
                    say!("warning: {}: {}", service.name(), explain("finish", failure));
                }
                ServiceInput::FinishAbsent
            }
        }
    }

    /// Returns whether the log daemon does the work of this `log/run`: its interpreter is this very program, or s6-log
    /// with directives that the daemon can express.
    pub(crate) fn is_logged_by_daemon(&self, log: impl AsFd) -> bool {
        let mut head = [0; SHEBANG_BYTES];
        file::read_small(log, files::RUN, &mut head)
            .is_ok_and(|head| LogScript::from_file(head).is_some() || self.begins_as_ours(head, "log"))
    }

    /// Returns whether the script's interpreter is this very program, called with `verb`.
    pub(crate) fn is_ours(&self, dir: impl AsFd, script: &str, verb: &str) -> bool {
        let mut head = [0; SHEBANG_BYTES];
        file::read_small(dir, script, &mut head).is_ok_and(|head| self.begins_as_ours(head, verb))
    }

    /// Returns whether this is how a script begins whose interpreter is this very program, called with `verb`.
    fn begins_as_ours(&self, head: &[u8], verb: &str) -> bool {
        let Some(line) = head.split(|&b| b == b'\n').next().and_then(|line| line.strip_prefix(b"#!")) else {
            return false;
        };
        let program = self.config.program.as_os_str().as_encoded_bytes();
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.next() == Some(program) && words.next() == Some(verb.as_bytes()) && words.next().is_none()
    }
}

/// Why a script is not executed.
#[derive(Debug, thiserror::Error)]
enum UntrustedScript {
    #[error("{}", said(*.0))]
    Errno(Errno),
    #[error(
        "its directory was given to uid {0} while it was supervised; take it out of the scandir and put it back"
    )]
    NewOwner(u32),
    #[error("it belongs to uid {0}, neither root nor the owner of its directory")]
    Stranger(u32),
    #[error("others than its owner may write to it (mode {0:04o}); remove that permission")]
    WritableByOthers(u32),
}

impl From<Errno> for UntrustedScript {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// Returns whether a directory with this owner has still the one that its programs run as: `user`, or `ours` where that is
/// `None`.
fn is_still_of(owner: u32, user: Option<&User>, ours: u32) -> bool {
    user.map_or(owner == ours || owner == 0, |user| user.uid == owner)
}

/// Returns an error unless `script` is a regular file of root, of us or of the directory's owner, and nobody
/// else may write to it.
fn trusted(service: &SupervisedService, script: &str) -> Result<(), UntrustedScript> {
    let stat = statat(&service.dir, script, AtFlags::SYMLINK_NOFOLLOW)?;
    let owner = rustix::fs::fstat(&service.dir)?.st_uid;
    let ours = directory::our_user();
    if !is_still_of(owner, service.owner.as_deref(), ours) {
        return Err(UntrustedScript::NewOwner(owner));
    }
    if stat.st_uid != 0 && stat.st_uid != owner && stat.st_uid != ours {
        return Err(UntrustedScript::Stranger(stat.st_uid));
    }
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind.is_symlink() {
        // Whose link it is decides; what it points to is that user's choice.
        return Ok(());
    }
    if !kind.is_file() {
        return Err(Errno::ACCESS.into());
    }
    if directory::writable_by_others(&stat, service.owner.as_deref()) {
        return Err(UntrustedScript::WritableByOthers(stat.st_mode & 0o7777));
    }
    Ok(())
}

/// Returns what the small files of a service say about what sets its process apart, or why they contradict themselves.
fn apart(service: &SupervisedService, name: &str, notification: Option<i32>) -> Result<Apart, String> {
    let lock = settings::number(&service.dir, name, files::LOCK_FD).and_then(|n| i32::try_from(n).ok());
    if lock.is_some() {
        if lock == notification {
            return Err("passing descriptors to ./run: notification-fd and lock-fd are the same; change one"
                .to_owned());
        }
        if statat(&service.supervise, SERVICE_LOCK, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| stat.st_size > 0)
        {
            say!(
                "warning: {name}: something was written to ./supervise/{SERVICE_LOCK}, which is only there to be locked"
            );
        }
    }
    let pid_namespace = statat(&service.dir, files::FLAG_NEWPIDNS, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    Ok(Apart { lock, pid_namespace })
}

pub(crate) fn explain(script: &str, failure: StartFailure) -> String {
    if failure.step == spawn::StartStep::Lock {
        return format!("locking ./supervise/{SERVICE_LOCK}: {}", said(failure.errno));
    }
    format!("{} ./{script}: {}", failure.step.words(), said(failure.errno))
}

/// Returns the words for an error number, and the number.
fn said(errno: Errno) -> String {
    let text = errno.to_string();
    let words = text.rsplit_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    format!("{words} (errno {})", errno.raw_os_error())
}
