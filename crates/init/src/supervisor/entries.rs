//! The entries of the scandir: supervised ones, new ones, vanished ones.
//!
//! *Lives here:* opening, supervising and releasing entries.
//! *Does not live here:* which names are looked at, and when (`gatevisor_core::scan_queue`), and
//! the life of an entry (`gatevisor_core::entry`).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::entry::{EntryAction, EntryMachine, ServiceRole};
use gatevisor_core::{Machine, ServiceEffects, ServiceInput};
use gatevisor_sys::{Errno, file};
use gatevisor_wire::files;
use gatevisor_wire::name::ServiceName;
use rustix::fs::{AtFlags, FileType, Stat, statat};
use rustix::pipe::{PipeFlags, pipe_with};

use super::Supervisor;
use crate::directory::{self, OpenedService, Refusal};
use crate::id::Id;
use crate::log_pipe::NewLogPipe;
use crate::reactor::EventSource;
use crate::service::SupervisedService;
use crate::stderr_log::say;

/// After this many reads of 4096 bytes, a control FIFO is empty unless somebody goes on writing.
const UNREAD_READS: usize = 256;

/// The most names that are looked at before other events are handled.
const NAMES_AT_ONCE: usize = 8;

/// The pipes of an entry that is about to be supervised.
#[derive(Debug, Default)]
struct EntryPipes {
    /// The write end for the service's log.
    writer: Option<OwnedFd>,
    /// The opened logger, and its input.
    logger: Option<(OpenedService, OwnedFd)>,
    /// Whether a log daemon reads one of them.
    logged: bool,
}

/// Returns a pipe for standard error if the `log` of a service directory asks for one.
fn stderr_pipe(log: &OwnedFd) -> Result<Option<(OwnedFd, OwnedFd)>, Errno> {
    if !files::LOG_STDERR.rsplit('/').next().is_some_and(|name| is_file(log, name)) {
        return Ok(None);
    }
    pipe_with(PipeFlags::CLOEXEC).map(Some)
}

fn is_file(dir: impl AsFd, name: &str) -> bool {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file())
}

fn new_pipe(step: &'static str) -> Result<(OwnedFd, OwnedFd), Refusal> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Refusal::Step { step, errno })
}

impl Supervisor {
    /// Handles changes of the scandir: entries that left are released at once, new ones wait for a
    /// rescan.
    pub(super) fn take_watch_events(&mut self) {
        let changes = self.scanner.drain();
        changes.left.iter().for_each(|name| self.look_for_loss(name));
        if changes.lost_count {
            self.scanner.lost_count(self.entries.names());
        }
    }

    /// Continues the scan.
    ///
    /// Only a few names of a large scandir are looked at in one iteration, so that services are
    /// started meanwhile and no command has to wait.
    pub(super) fn pump_scan(&mut self) {
        if !self.scanner.is_busy() {
            return;
        }
        self.scanner.next_unverified().iter().for_each(|name| self.look_for_loss(name));
        if self.scanner.must_drain() {
            self.take_watch_events();
        }
        if let Some(scope) = self.scanner.next_scope() {
            self.owners.clear();
            self.scanner.begin(&self.scandir, scope, || self.entries.names());
        }
        self.scanner.read_on();
        for _ in 0..NAMES_AT_ONCE {
            let Some(name) = self.scanner.next_name() else { break };
            self.look_at(&name);
        }
    }

    /// Prepares a directory for supervision unless it is supervised already.
    ///
    /// A new entry must leave descriptors to other users. One that is supervised anew has its
    /// descriptors already.
    fn prepare(&mut self, dir: OwnedFd, stat: &Stat, is_new: bool) -> Result<OpenedService, Refusal> {
        let identity = directory::identity(stat);
        if self.scandir.is_own(identity) {
            return Err(Refusal::Ours);
        }
        if let Some(name) = self.entries.name_of(identity) {
            return Err(Refusal::Taken(String::from_utf8_lossy(name).into_owned()));
        }
        let own = if is_new { self.entries.owned_by(stat.st_uid) } else { 0 };
        let without_readiness = self.services.count().saturating_sub(self.readiness_pipes.get());
        // The check comes before anything in it is touched: with its FIFO open, it would look
        // supervised for a moment.
        let newest = u64::try_from(dir.as_raw_fd()).unwrap_or(u64::MAX);
        if !self.descriptors.can_spare(newest, without_readiness, own) {
            return Err(Refusal::NoDescriptors);
        }
        let may_be_orphaned = self.scandir.follows_a_killed_one() && is_new;
        let (now, rules) = (self.reactor.now(), self.settings.rules);
        directory::prepare(dir, stat, &mut self.owners, may_be_orphaned, |normally_up| {
            Machine::first_status(now, rules, normally_up)
        })
    }

    /// Handles one name: adopts, withdraws or replaces its entry.
    fn look_at(&mut self, name: &[u8]) {
        let stat = self.scandir.stat(name);
        if stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink()) {
            self.scanner.recheck(name);
        }
        let there = stat.and_then(|stat| self.scandir.identity_of(name, &stat));
        let action = self.entries.look(name, there, self.shutdown.is_running());
        self.act_on(name, action);
    }

    /// Handles one name, but only if its entry is gone.
    fn look_for_loss(&mut self, name: &[u8]) {
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
        let dir = self.scandir.open(name)?;
        let stat = directory::look(&dir)?;
        let owner = stat.st_uid;
        self.entries.has_room(self.settings.limits, owner)?;
        let opened = self.prepare(dir, &stat, true)?;
        let identity = opened.identity();
        let name: Rc<[u8]> = name.into();
        let EntryPipes { writer, logger, logged } = self.make_pipes(&name, &opened)?;
        let logger = logger
            .and_then(|(opened, reader)| self.supervise(&name, ServiceRole::Logger, opened, Some(reader)));
        let main = self.supervise(&name, ServiceRole::Main, opened, writer);
        self.entries.insert(name, EntryMachine::new(identity, main, logger, logged), owner);
        for id in [logger, main].into_iter().flatten() {
            self.step(id, ServiceInput::Deadline);
        }
        Ok(())
    }

    /// Makes the pipes of an entry's log, and of labelled output.
    fn make_pipes(&mut self, name: &Rc<[u8]>, opened: &OpenedService) -> Result<EntryPipes, Refusal> {
        let logger_dir = match file::open_directory(opened.dir(), files::LOG) {
            Ok(dir) => Some(dir),
            Err(Errno::NOENT) => None,
            // A regular file of that name means nothing to s6, nor to us.
            Err(Errno::NOTDIR) if is_file(opened.dir(), files::LOG) => None,
            Err(errno) => return Err(Refusal::Step { step: "opening log", errno }),
        };
        let by_daemon = logger_dir.as_ref().is_some_and(|dir| self.spawner.is_logged_by_daemon(dir));
        let mut pipes = EntryPipes { logged: by_daemon, ..EntryPipes::default() };
        if let Some(logger_dir) = logger_dir {
            let (reader, writer) = new_pipe("making the log pipe")?;
            if by_daemon {
                let stderr = stderr_pipe(&logger_dir)
                    .map_err(|errno| Refusal::Step { step: "making the log pipe", errno })?;
                let pipe = NewLogPipe::logged(reader, Rc::clone(opened.dir()), stderr);
                self.take_on_log(name, opened, pipe);
            } else {
                directory::log_belongs(opened.dir(), &logger_dir)?;
                let stat = directory::look(&logger_dir)?;
                pipes.logger = Some((self.prepare(logger_dir, &stat, true)?, reader));
            }
            pipes.writer = Some(writer);
        }
        if !by_daemon && self.settings.labels_output_of(opened.owner().is_some()) {
            let (reader, writer) = new_pipe("making the output pipe")?;
            // If there is a logger, this pipe is for output that bypasses the log.
            let beside = if pipes.writer.is_some() { Some(writer) } else { pipes.writer.replace(writer) };
            self.take_on_log(name, opened, NewLogPipe::shown(reader, beside));
            pipes.logged = true;
        }
        Ok(pipes)
    }

    fn take_on_log(&mut self, name: &Rc<[u8]>, opened: &OpenedService, pipe: NewLogPipe) {
        let whose = (opened.owner().cloned(), self.next_seed());
        self.with_logs(|logs, with| logs.take_on(with, name, whose, pipe));
    }

    fn supervise(
        &mut self,
        entry: &Rc<[u8]>,
        role: ServiceRole,
        opened: OpenedService,
        pipe: Option<OwnedFd>,
    ) -> Option<Id> {
        let mut effects = ServiceEffects::new();
        let (now, seed) = (self.reactor.now(), self.next_seed());
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
        self.perform(id, &mut effects);
        Some(id)
    }

    /// Removes a service whose supervision has ended.
    pub(super) fn let_go(&mut self, id: Id) {
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

    fn open_half(&mut self, name: &[u8], role: ServiceRole) -> Result<OpenedService, Refusal> {
        let mut dir = self.scandir.open(name)?;
        if role == ServiceRole::Logger {
            let log = file::open_directory(&dir, files::LOG)
                .map_err(|errno| Refusal::Step { step: "opening log", errno })?;
            directory::log_belongs(&dir, &log)?;
            dir = log;
        }
        let stat = directory::look(&dir)?;
        self.prepare(dir, &stat, false)
    }

    /// Notes that a log daemon has released an entry's pipe.
    pub(super) fn log_is_released(&mut self, name: &[u8]) {
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
