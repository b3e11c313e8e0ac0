//! The entries of the scandir: which are supervised, which came, which went.
//!
//! *Lives here:* what a change of the scandir means for what is supervised. *Does not live here:*
//! which names are looked at, and when (`gatevisor_core::scan_queue`).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::scan::{ScanChange, compare};
use gatevisor_core::{Machine, ServiceEffects, ServiceInput};
use gatevisor_sys::{Errno, file};
use gatevisor_wire::control::Control;
use gatevisor_wire::files;
use gatevisor_wire::name::ServiceName;
use rustix::fs::{AtFlags, FileType, Stat, statat};
use rustix::pipe::{PipeFlags, pipe_with};

use super::Supervisor;
use crate::directory::{self, OpenedService, Refusal};
use crate::entries::ScandirEntry;
use crate::id::Id;
use crate::log_pipe::{NewLogPipe, Pipe};
use crate::reactor::{Alarm, EventSource, Timer};
use crate::service::{ServiceRole, SupervisedService};
use crate::stderr_log::say;

/// Reads of 4096 bytes after which a control FIFO is empty, unless somebody goes on writing.
const UNREAD_READS: usize = 256;

/// Milliseconds that a service whose directory is gone has until it is killed, where it names none.
const WITHDRAWN_KILL_MS: u64 = 5000;

/// Names looked at before other events are dealt with.
const NAMES_AT_ONCE: usize = 8;

/// The pipes of an entry that is about to be supervised.
#[derive(Debug, Default)]
struct EntryPipes {
    /// What the service writes its log to.
    writer: Option<OwnedFd>,
    /// The logger, opened, and what it reads from.
    logger: Option<(OpenedService, OwnedFd)>,
    /// A log daemon reads one of them.
    logged: bool,
}

/// Returns a pipe for standard error where the `log` of a service directory asks for one.
fn stderr_pipe(log: &OwnedFd) -> Result<Option<Pipe>, Errno> {
    if !files::LOG_STDERR.rsplit('/').next().is_some_and(|name| is_file(log, name)) {
        return Ok(None);
    }
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok(Some(Pipe { reader, writer }))
}

fn is_file(dir: impl AsFd, name: &str) -> bool {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file())
}

fn new_pipe(step: &'static str) -> Result<(OwnedFd, OwnedFd), Refusal> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Refusal::Step { step, errno })
}

impl Supervisor {
    /// Takes in changes of the scandir: what left is let go at once, what came waits for a rescan.
    pub(super) fn take_watch_events(&mut self) {
        let changes = self.scanner.drain();
        changes.left.iter().for_each(|name| self.look_for_loss(name));
        if changes.lost_count {
            self.scanner.lost_count(self.entries.names());
        }
    }

    /// Goes on with the scan.
    ///
    /// A large scandir is looked at a few names at a time, so that starts already go on and no
    /// command has to wait.
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
    /// A new entry must leave descriptors to other users; one that is supervised anew has its own
    /// already.
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
        // Before anything in it is touched: with its FIFO open it would look supervised for an
        // instant.
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

    /// Acts on one name: adopts, withdraws or replaces.
    fn look_at(&mut self, name: &[u8]) {
        let stat = self.scandir.stat(name);
        if stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink()) {
            self.scanner.recheck(name);
        }
        let there = stat.and_then(|stat| self.scandir.identity_of(name, &stat));
        let entry = self.entries.get_mut(name);
        if entry.as_ref().is_some_and(|entry| entry.leaving) {
            // The name is not free yet; it is looked at again when it is.
            return;
        }
        match compare(entry.map(|entry| entry.identity), there) {
            ScanChange::Nothing if there.is_none() => self.scanner.forget_refusal(name),
            ScanChange::Nothing => self.try_lost_logger(name),
            ScanChange::Adopt => self.adopt(name),
            ScanChange::Withdraw | ScanChange::Replace => self.withdraw(name),
        }
    }

    /// Acts on one name only as far as its entry is gone.
    fn look_for_loss(&mut self, name: &[u8]) {
        let there = self.scandir.identity(name);
        let supervised =
            self.entries.get_mut(name).filter(|entry| !entry.leaving).map(|entry| entry.identity);
        match compare(supervised, there) {
            ScanChange::Withdraw | ScanChange::Replace => self.withdraw(name),
            ScanChange::Nothing | ScanChange::Adopt => {}
        }
    }

    fn adopt(&mut self, name: &[u8]) {
        if !self.shutdown.is_running() {
            return;
        }
        if let Err(error) = ServiceName::new(name) {
            return self.scanner.refuse_name(name, error.to_string(), self.scandir.owner_of(name));
        }
        match self.adopt_checked(name) {
            Ok(()) => self.scanner.forget_refusal(name),
            Err(refusal) => {
                let lacks_descriptors = matches!(refusal, Refusal::NoDescriptors);
                let owner = self.scandir.owner_of(name);
                self.scanner.refuse(name, refusal.to_string(), owner, lacks_descriptors);
            }
        }
    }

    fn adopt_checked(&mut self, name: &[u8]) -> Result<(), Refusal> {
        let dir = self.scandir.open(name)?;
        let stat = directory::look(&dir)?;
        let owner = stat.st_uid;
        self.entries.has_room(self.settings.limits, owner)?;
        let opened = self.prepare(dir, &stat, true)?;
        let identity = opened.identity;
        let name: Rc<[u8]> = name.into();
        let EntryPipes { writer, logger, logged } = self.make_pipes(&name, &opened)?;
        let logger = logger
            .and_then(|(opened, reader)| self.supervise(&name, ServiceRole::Logger, opened, Some(reader)));
        let main = self.supervise(&name, ServiceRole::Main, opened, writer);
        let entry = ScandirEntry { identity, main, logger, reader: None, logged, leaving: false, owner };
        self.entries.insert(name, entry);
        for id in [logger, main].into_iter().flatten() {
            self.step(id, ServiceInput::Deadline);
        }
        Ok(())
    }

    /// Makes the pipes of an entry's log, and of what is shown with a label.
    fn make_pipes(&mut self, name: &Rc<[u8]>, opened: &OpenedService) -> Result<EntryPipes, Refusal> {
        let logger_dir = match file::open_directory(&opened.dir, files::LOG) {
            Ok(dir) => Some(dir),
            Err(Errno::NOENT) => None,
            // A file of that name is nothing to s6, nor to us.
            Err(Errno::NOTDIR) if is_file(&opened.dir, files::LOG) => None,
            Err(errno) => return Err(Refusal::Step { step: "opening log", errno }),
        };
        let by_daemon = logger_dir.as_ref().is_some_and(|dir| self.spawner.is_logged_by_daemon(dir));
        let mut pipes = EntryPipes { logged: by_daemon, ..EntryPipes::default() };
        if let Some(logger_dir) = logger_dir {
            let (reader, writer) = new_pipe("making the log pipe")?;
            if by_daemon {
                let stderr = stderr_pipe(&logger_dir)
                    .map_err(|errno| Refusal::Step { step: "making the log pipe", errno })?;
                let service_dir = Some(Rc::clone(&opened.dir));
                self.take_on_log(name, opened, NewLogPipe { reader, service_dir, stderr, writer: None });
            } else {
                directory::log_belongs(&opened.dir, &logger_dir)?;
                let stat = directory::look(&logger_dir)?;
                pipes.logger = Some((self.prepare(logger_dir, &stat, true)?, reader));
            }
            pipes.writer = Some(writer);
        }
        if !by_daemon && self.settings.labels_output_of(opened.owner.as_deref()) {
            let (reader, writer) = new_pipe("making the output pipe")?;
            // Where there is a logger it is beside what is logged.
            let beside = if pipes.writer.is_some() { Some(writer) } else { pipes.writer.replace(writer) };
            let pipe = NewLogPipe { reader, service_dir: None, stderr: None, writer: beside };
            self.take_on_log(name, opened, pipe);
            pipes.logged = true;
        }
        Ok(pipes)
    }

    fn take_on_log(&mut self, name: &Rc<[u8]>, opened: &OpenedService, pipe: NewLogPipe) {
        let whose = (opened.owner.clone(), self.next_seed());
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
        let ours = directory::our_user();
        let mut machine = Machine::new(now, self.settings.rules, opened.normally_up, seed, &mut effects);
        if opened.is_published {
            effects.leave_out_status();
        }
        if let Some(orphan) = &opened.orphan {
            machine.inherit(orphan.pid(), &mut effects);
        }
        self.entries.supervises(opened.identity, entry);
        let id = self.services.insert(SupervisedService {
            entry: Rc::clone(entry),
            role,
            identity: opened.identity,
            machine,
            uid: opened.owner.as_ref().map_or(ours, |owner| owner.uid),
            dir: opened.dir,
            supervise: opened.supervise,
            control: opened.control,
            _lock: opened.lock,
            owner: opened.owner,
            pipe,
            in_flight: None,
            group: None,
            readiness: None,
            orphan: opened.orphan,
            is_crowded: false,
            alarm: Alarm::default(),
        })?;
        if let Some(service) = self.services.get(id)
            && let Err(errno) = self.reactor.listen(&service.control, EventSource::Control(id))
        {
            say!("warning: {}: its commands cannot be received: {errno}", service.name());
        }
        self.perform(id, &mut effects);
        Some(id)
    }

    /// Lets go of an entry whose directory is gone: brings it down, its logger after it.
    fn withdraw(&mut self, name: &[u8]) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.leaving = true;
        match entry.main {
            Some(main) => self.step(main, ServiceInput::Withdraw(WITHDRAWN_KILL_MS)),
            None => self.main_is_gone(name),
        }
    }

    /// Removes a service whose supervision has ended.
    pub(super) fn let_go(&mut self, id: Id) {
        let Some(mut service) = self.services.remove(id) else { return };
        self.reactor.set(&mut service.alarm, Timer::Service(id), None);
        if service.in_flight.as_ref().is_some_and(|process| !process.starting().has_waited()) {
            self.starts.arrived(service.uid);
        }
        let (name, role) = (Rc::clone(&service.entry), service.role);
        let (pipe, group) = (service.pipe.take(), service.group.take());
        self.entries.supervises_no_more(service.identity);
        drop_unread(&service);
        // Closes the descriptors; the lock is free.
        drop(service);
        if let Some(group) = group {
            self.spawner.end_group(self.scandir.as_fd(), group);
        }
        let Some(entry) = self.entries.get_mut(&name) else { return };
        *entry.half(role) = None;
        let stays = !entry.leaving && self.shutdown.is_running();
        if stays && self.revive(&name, role, pipe.as_ref()) {
            return;
        }
        match role {
            ServiceRole::Main => {
                self.logs.keep_writer(&name, pipe);
                if let Some(entry) = self.entries.get_mut(&name) {
                    // Its logger follows it; then the name is free.
                    entry.leaving = true;
                }
                self.main_is_gone(&name);
            }
            ServiceRole::Logger => self.logger_is_gone(&name, pipe, stays),
        }
    }

    fn logger_is_gone(&mut self, name: &Rc<[u8]>, pipe: Option<OwnedFd>, stays: bool) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.reader = pipe;
            if entry.leaving && entry.main.is_none() && entry.logged {
                self.with_logs(|logs, with| logs.release(with, name));
            }
        }
        if stays {
            self.scanner.recheck(name);
        }
        self.settle_entry(name);
    }

    /// Supervises one half of an entry anew after an `x`, with the same pipe, as s6-svscan does.
    fn revive(&mut self, name: &Rc<[u8]>, role: ServiceRole, pipe: Option<&OwnedFd>) -> bool {
        let identity = self.entries.get_mut(name).map(|entry| entry.identity);
        if identity.is_none() || self.scandir.identity(name) != identity {
            return false;
        }
        let opened = match self.open_half(name, role) {
            Ok(opened) => opened,
            Err(refusal) => {
                say!("warning: {} is no longer supervised: {refusal}", String::from_utf8_lossy(name));
                return false;
            }
        };
        let pipe = pipe.and_then(|fd| fd.try_clone().ok());
        let id = self.supervise(name, role, opened, pipe);
        if let Some(entry) = self.entries.get_mut(name) {
            *entry.half(role) = id;
        }
        if let Some(id) = id {
            self.step(id, ServiceInput::Deadline);
        }
        id.is_some()
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

    /// Tries again to supervise a logger that was refused when it ended.
    fn try_lost_logger(&mut self, name: &[u8]) {
        let Some(name) = self.entries.name(name) else { return };
        let Some(reader) = self.entries.get_mut(&name).and_then(|entry| entry.reader.take()) else { return };
        if !self.revive(&name, ServiceRole::Logger, Some(&reader)) {
            self.scanner.recheck(&name);
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.reader = Some(reader);
            }
        }
    }

    /// The service of an entry is gone for good: its logger may end when it has read everything.
    fn main_is_gone(&mut self, name: &[u8]) {
        let Some(name) = self.entries.name(name) else { return };
        let Some(entry) = self.entries.get_mut(&name) else { return };
        // A logger may still have something to say; what it says it with is let go of when it has
        // gone.
        let releases = entry.logged && entry.logger.is_none();
        if let Some(logger) = entry.logger {
            // At the end of everything what holds the pipe is ended first; otherwise somebody may
            // hold it for ever.
            let last = if self.shutdown.is_running() {
                ServiceInput::Drain(WITHDRAWN_KILL_MS)
            } else {
                ServiceInput::Control(Control::Exit)
            };
            self.step(logger, last);
        }
        if releases {
            self.with_logs(|logs, with| logs.release(with, &name));
        }
        self.settle_entry(&name);
    }

    /// Takes in that a log daemon has let go of an entry's pipe.
    pub(super) fn log_is_released(&mut self, name: &[u8]) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.logged = false;
            self.settle_entry(name);
        }
    }

    /// Frees the name when nothing of the entry is left.
    fn settle_entry(&mut self, name: &[u8]) {
        if self.entries.settle(name) && self.shutdown.is_running() {
            // Something may have taken the name meanwhile, or the directory may be waiting under
            // another one.
            self.look_at(name);
            self.scanner.line_up_recheck();
        }
    }
}

/// Reads what a service was told and has not obeyed: that ends with it. A process between fork and
/// exec may hold the FIFO open a little longer, and the next supervision would find it there.
fn drop_unread(service: &SupervisedService) {
    let mut unread = [0; 4096];
    for _ in 0..UNREAD_READS {
        if !matches!(rustix::io::read(&service.control, &mut unread), Ok(1..)) {
            break;
        }
    }
}
