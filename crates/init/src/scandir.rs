//! The scandir: which slots there are, which came, which went.
//!
//! *Lives here:* what a name of the scandir means. *Does not live here:* which names are looked at, and when (`watch`).

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::fair::Counts;
use gatevisor_core::scan::{DirectoryIdentity, ScanChange, compare};
use gatevisor_core::{Machine, ServiceEffects, ServiceInput};
use gatevisor_sys::user::User;
use gatevisor_sys::{Errno, file};
use gatevisor_wire::files;
use gatevisor_wire::name::ServiceName;
use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::ServiceLimits;
use crate::directory;
use crate::logging::Pipe;
use crate::service::{Id, ServiceRole, SupervisedService};
use crate::shutdown::Stage;
use crate::stderr_log::say;
use crate::supervisor::{EventSource, Supervisor};

/// Reads of 4096 bytes after which a control FIFO is empty, unless somebody goes on writing.
const UNREAD_READS: usize = 256;

/// Milliseconds that a service whose directory is gone has until it is killed, where it names none.
const WITHDRAWN_KILL_MS: u64 = 5000;

/// Names looked at before other events get their turn.
const NAMES_A_TURN: usize = 8;

/// What a link is said to lead to whose owner may not decide that: refused, and the same whether anything is there.
const NOBODYS: DirectoryIdentity = DirectoryIdentity { device: 0, inode: 0 };

/// One name of the scandir and what is supervised under it.
#[derive(Debug)]
pub(crate) struct ScandirEntry {
    pub(crate) identity: DirectoryIdentity,
    pub(crate) main: Option<Id>,
    pub(crate) logger: Option<Id>,
    /// What the logger reads from, kept while there is none, so that the service can go on writing.
    reader: Option<OwnedFd>,
    /// The log pipe is with a log daemon that has not released it yet.
    pub(crate) logged: bool,
    /// The directory is gone; the name is free when everything above is.
    pub(crate) leaving: bool,
    /// The user whose directory it is.
    owner: u32,
}

/// All slots by name.
#[derive(Debug, Default)]
pub(crate) struct ScandirEntries {
    by_name: HashMap<Rc<[u8]>, ScandirEntry>,
    /// The slot of each supervised directory. One directory may be there under two names, for an instant when it
    /// is renamed and for good through links; it is supervised once.
    by_directory: HashMap<DirectoryIdentity, Rc<[u8]>>,
    /// How many each user has.
    owned: Counts,
}

impl ScandirEntries {
    pub(crate) fn get_mut(&mut self, name: &[u8]) -> Option<&mut ScandirEntry> {
        self.by_name.get_mut(name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    fn names(&self) -> Vec<Vec<u8>> {
        self.by_name.keys().map(|name| name.to_vec()).collect()
    }
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

impl Supervisor {
    /// Takes in changes of the scandir: what left is let go at once, what came waits for a rescan.
    pub(crate) fn take_watch_events(&mut self) {
        let news = self.watch.drain();
        news.left.iter().for_each(|name| self.look_for_loss(name));
        if news.lost_count {
            self.watch.verify(self.slots.names());
        }
    }

    /// Asks to bring the supervised slots in line with the scandir, as far as something changed.
    pub(crate) fn scan(&mut self) {
        self.watch.ask(false);
    }

    /// Asks to bring the supervised slots in line with the whole scandir.
    pub(crate) fn scan_all(&mut self) {
        self.watch.ask(true);
    }

    /// Goes on with the scan.
    ///
    /// A large scandir is taken in parts, so that starts already go on and no command has to wait.
    pub(crate) fn pump_scan(&mut self) {
        if !self.watch.is_busy() {
            return;
        }
        self.watch.next_to_verify().iter().for_each(|name| self.look_for_loss(name));
        if self.watch.must_drain() {
            self.take_watch_events();
        }
        if let Some(whole) = self.watch.begin() {
            self.owners.clear();
            if whole {
                self.watch.read_all(&self.scandir, self.slots.names());
            } else {
                self.watch.line_up_changes();
            }
        }
        self.watch.read_on();
        for _ in 0..NAMES_A_TURN {
            let Some(name) = self.watch.next() else { break };
            self.look_at(&name);
        }
    }

    /// Looks again at the slots that were refused for want of descriptors, now that no process is starting.
    pub(crate) fn recheck_the_refused(&mut self) {
        if std::mem::take(&mut self.watch.lacked_descriptors) {
            self.watch.line_up_recheck();
        }
    }

    /// Drops the names that nobody shall look at any more.
    pub(crate) fn forget_pending_scan(&mut self) {
        self.watch.stop();
    }

    /// Returns whether a scan has not looked at every name yet.
    pub(crate) fn has_pending_scan(&self) -> bool {
        self.watch.is_busy()
    }

    fn identity(&self, name: &[u8]) -> Option<DirectoryIdentity> {
        self.identity_of(name, &self.stat(name)?)
    }

    fn stat(&self, name: &[u8]) -> Option<Stat> {
        statat(&self.scandir, name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    /// Returns which directory the entry leads to that `stat` is of.
    fn identity_of(&self, name: &[u8], stat: &Stat) -> Option<DirectoryIdentity> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !kind.is_symlink() {
            return kind.is_dir().then(|| directory::identity(stat));
        }
        match directory::open_slot(&self.scandir, self.mounted_slots, name) {
            Ok(dir) => fstat(dir).ok().map(|stat| directory::identity(&stat)),
            Err(directory::Refusal::Step { .. }) => None,
            Err(_) => Some(NOBODYS),
        }
    }

    /// Prepares a directory for supervision unless it is supervised already.
    ///
    /// A new slot must leave descriptors to other users; one that is supervised anew has its own already.
    fn prepare(
        &mut self,
        dir: OwnedFd,
        stat: &Stat,
        is_new: bool,
    ) -> Result<directory::OpenedService, directory::Refusal> {
        let identity = directory::identity(stat);
        if self.not_slots.contains(&identity) {
            return Err(directory::Refusal::Ours);
        }
        let own = if is_new { self.slots.owned.of(stat.st_uid) } else { 0 };
        match self.slots.by_directory.get(&identity) {
            Some(name) => Err(directory::Refusal::Taken(String::from_utf8_lossy(name).into_owned())),
            // Before anything in it is touched: with its FIFO open it would look supervised for an instant.
            None if !self.can_spare(&dir, own) => Err(directory::Refusal::NoDescriptors),
            None => directory::prepare(
                dir,
                stat,
                &mut self.owners,
                self.follows_a_killed_one && is_new,
                |normally_up| Machine::first_status(self.now, self.config.rules, normally_up),
            ),
        }
    }

    /// Acts on one name: adopts, withdraws or replaces.
    pub(crate) fn look_at(&mut self, name: &[u8]) {
        let stat = self.stat(name);
        if stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink()) {
            self.watch.keep_for_recheck(name);
        }
        let there = stat.and_then(|stat| self.identity_of(name, &stat));
        let slot = self.slots.get_mut(name);
        if slot.as_ref().is_some_and(|slot| slot.leaving) {
            // The name is not free yet; it is looked at again when it is.
            return;
        }
        match compare(slot.map(|slot| slot.identity), there) {
            ScanChange::Nothing if there.is_none() => self.watch.refusals.forget(name),
            ScanChange::Nothing => self.try_lost_logger(name),
            ScanChange::Adopt => self.adopt(name),
            ScanChange::Withdraw | ScanChange::Replace => self.withdraw(name),
        }
    }

    /// Acts on one name only as far as its slot is gone.
    fn look_for_loss(&mut self, name: &[u8]) {
        let there = self.identity(name);
        let supervised = self.slots.get_mut(name).filter(|slot| !slot.leaving).map(|slot| slot.identity);
        match compare(supervised, there) {
            ScanChange::Withdraw | ScanChange::Replace => self.withdraw(name),
            ScanChange::Nothing | ScanChange::Adopt => {}
        }
    }

    fn adopt(&mut self, name: &[u8]) {
        if self.stage != Stage::Running {
            return;
        }
        if let Err(error) = ServiceName::new(name) {
            self.refuse(name, error.to_string());
            return;
        }
        match self.adopt_checked(name) {
            Ok(()) => self.watch.refusals.forget(name),
            Err(refusal) => {
                self.watch.lacked_descriptors |= matches!(refusal, directory::Refusal::NoDescriptors);
                if self.refuse(name, refusal.to_string()) {
                    self.watch.keep_for_recheck(name);
                } else {
                    // Nobody remembers it but the directory.
                    self.watch.needs_full_scan = true;
                }
            }
        }
    }

    /// Takes in that a name is refused; returns whether that is remembered.
    fn refuse(&mut self, name: &[u8], reason: String) -> bool {
        let owner = statat(&self.scandir, name, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| stat.st_uid);
        self.watch.refusals.refuse(name, reason, owner)
    }

    /// Returns an error where a user, or all of them, have as many slots as they may.
    fn has_room(&self, owner: u32) -> Result<(), directory::Refusal> {
        let ServiceLimits { of_one_owner, in_all } = self.config.limits;
        if self.slots.owned.of(owner) >= of_one_owner {
            return Err(directory::Refusal::TooManyOfOwner { owner, limit: of_one_owner });
        }
        if self.slots.owned.all() >= in_all {
            return Err(directory::Refusal::TooMany { limit: in_all });
        }
        Ok(())
    }

    fn adopt_checked(&mut self, name: &[u8]) -> Result<(), directory::Refusal> {
        let dir = directory::open_slot(&self.scandir, self.mounted_slots, name)?;
        let stat = directory::look(&dir)?;
        let owner = stat.st_uid;
        self.has_room(owner)?;
        let opened = self.prepare(dir, &stat, true)?;
        let identity = opened.identity;
        let name: Rc<[u8]> = name.into();
        let logger_dir = match file::open_directory(&opened.dir, files::LOG) {
            Ok(dir) => Some(dir),
            Err(Errno::NOENT) => None,
            // A file of that name is nothing to s6, nor to us.
            Err(Errno::NOTDIR) if is_file(&opened.dir, files::LOG) => None,
            Err(errno) => return Err(directory::Refusal::Step { step: "opening log", errno }),
        };
        let by_daemon = logger_dir.as_ref().is_some_and(|dir| self.is_logged_by_daemon(dir));
        let mut pipe = None;
        let mut logger = None;
        if let Some(logger_dir) = logger_dir {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)
                .map_err(|errno| directory::Refusal::Step { step: "making the log pipe", errno })?;
            if by_daemon {
                let stderr = stderr_pipe(&logger_dir)
                    .map_err(|errno| directory::Refusal::Step { step: "making the log pipe", errno })?;
                let service_dir = Rc::clone(&opened.dir);
                let user = opened.owner.clone();
                self.take_on_log(&name, user, reader, Some(service_dir), stderr, None);
            } else {
                directory::log_belongs(&opened.dir, &logger_dir)?;
                let stat = directory::look(&logger_dir)?;
                logger = Some((self.prepare(logger_dir, &stat, true)?, reader));
            }
            pipe = Some(writer);
        }
        let is_shown = !by_daemon && self.labels_output_of(opened.owner.as_deref());
        if is_shown {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)
                .map_err(|errno| directory::Refusal::Step { step: "making the output pipe", errno })?;
            // Where there is a logger it is beside what is logged.
            let beside = if pipe.is_some() { Some(writer) } else { pipe.replace(writer) };
            self.take_on_log(&name, opened.owner.clone(), reader, None, None, beside);
        }
        let logger = logger
            .and_then(|(opened, reader)| self.supervise(&name, ServiceRole::Logger, opened, Some(reader)));
        let main = self.supervise(&name, ServiceRole::Main, opened, pipe);
        let slot = ScandirEntry {
            identity,
            main,
            logger,
            reader: None,
            logged: by_daemon || is_shown,
            leaving: false,
            owner,
        };
        if self.slots.by_name.insert(name, slot).is_none() {
            self.slots.owned.add(owner);
        }
        for id in [logger, main].into_iter().flatten() {
            self.step(id, ServiceInput::Deadline);
        }
        Ok(())
    }

    /// Returns whether what the services of a user print is shown with a label. Root under root may print as it likes: it need not
    /// forge anything.
    pub(crate) fn labels_output_of(&self, owner: Option<&User>) -> bool {
        self.config.label_output && (owner.is_some() || directory::our_user() != 0)
    }

    fn supervise(
        &mut self,
        slot: &Rc<[u8]>,
        role: ServiceRole,
        opened: directory::OpenedService,
        pipe: Option<OwnedFd>,
    ) -> Option<Id> {
        let mut effects = ServiceEffects::new();
        let seed = self.next_seed();
        let ours = directory::our_user();
        let mut machine = Machine::new(self.now, self.config.rules, opened.normally_up, seed, &mut effects);
        if opened.is_published {
            effects.leave_out_status();
        }
        if let Some(orphan) = &opened.orphan {
            machine.inherit(orphan.pid(), &mut effects);
        }
        self.slots.by_directory.insert(opened.identity, Rc::clone(slot));
        let id = self.services.insert(|_| SupervisedService {
            slot: Rc::clone(slot),
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
            timer: None,
        })?;
        if let Some(service) = self.services.get(id)
            && let Err(errno) = self.listen(&service.control, EventSource::Control(id))
        {
            say!("warning: {}: its commands cannot be received: {errno}", service.name());
        }
        self.perform_first(id, effects);
        Some(id)
    }

    /// Lets go of a slot whose directory is gone: brings it down, its logger after it.
    fn withdraw(&mut self, name: &[u8]) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        slot.leaving = true;
        match slot.main {
            Some(main) => self.step(main, ServiceInput::Withdraw(WITHDRAWN_KILL_MS)),
            None => self.main_is_gone(name),
        }
    }

    /// Removes a service whose supervision has ended.
    pub(crate) fn let_go(&mut self, id: Id) {
        let Some(mut service) = self.services.remove(id) else { return };
        if let Some(at) = service.timer.take() {
            self.timers.remove(&(at, crate::supervisor::Timer::SupervisedService(id)));
        }
        if service.in_flight.as_ref().is_some_and(|process| !process.starting().has_waited()) {
            self.in_flight.remove(service.uid);
        }
        let name = Rc::clone(&service.slot);
        let role = service.role;
        let pipe = service.pipe.take();
        let group = service.group.take();
        self.slots.by_directory.remove(&service.identity);
        // What it was told and has not answered ends with it. A process between fork and exec may hold the FIFO open a little
        // longer, and the next supervision would find it there.
        let mut unread = [0; 4096];
        for _ in 0..UNREAD_READS {
            if !matches!(rustix::io::read(&service.control, &mut unread), Ok(1..)) {
                break;
            }
        }
        // Closes the descriptors; the lock is free.
        drop(service);
        if let Some(group) = group {
            self.end_group(group);
        }
        let Some(slot) = self.slots.get_mut(&name) else { return };
        match role {
            ServiceRole::Main => slot.main = None,
            ServiceRole::Logger => slot.logger = None,
        }
        let stays = !slot.leaving && self.stage == Stage::Running;
        if stays && self.revive(&name, role, pipe.as_ref()) {
            return;
        }
        match role {
            ServiceRole::Main => {
                self.keep_log_writer(&name, pipe);
                if let Some(slot) = self.slots.get_mut(&name) {
                    // Its logger follows it; then the name is free.
                    slot.leaving = true;
                }
                self.main_is_gone(&name);
            }
            ServiceRole::Logger => {
                if let Some(slot) = self.slots.get_mut(&name) {
                    slot.reader = pipe;
                }
                if let Some(slot) = self.slots.get_mut(&name)
                    && (slot.leaving && slot.main.is_none() && slot.logged)
                {
                    self.give_up_log(&name);
                }
                if stays {
                    self.watch.keep_for_recheck(&name);
                }
                self.settle_slot(&name);
            }
        }
    }

    /// Supervises one half of a slot anew after an `x`, with the same pipe, as s6-svscan does.
    fn revive(&mut self, name: &Rc<[u8]>, role: ServiceRole, pipe: Option<&OwnedFd>) -> bool {
        let identity = self.slots.get_mut(name).map(|slot| slot.identity);
        if identity.is_none() || self.identity(name) != identity {
            return false;
        }
        let dir = directory::open_slot(&self.scandir, self.mounted_slots, name);
        let opened = dir.and_then(|dir| match role {
            ServiceRole::Main => {
                let stat = directory::look(&dir)?;
                self.prepare(dir, &stat, false)
            }
            ServiceRole::Logger => {
                let log = file::open_directory(&dir, files::LOG)
                    .map_err(|errno| directory::Refusal::Step { step: "opening log", errno })?;
                directory::log_belongs(&dir, &log)?;
                let stat = directory::look(&log)?;
                self.prepare(log, &stat, false)
            }
        });
        let opened = match opened {
            Ok(opened) => opened,
            Err(refusal) => {
                say!("warning: {} is no longer supervised: {refusal}", String::from_utf8_lossy(name));
                return false;
            }
        };
        let pipe = pipe.and_then(|fd| fd.try_clone().ok());
        let id = self.supervise(name, role, opened, pipe);
        if let Some(slot) = self.slots.get_mut(name) {
            match role {
                ServiceRole::Main => slot.main = id,
                ServiceRole::Logger => slot.logger = id,
            }
        }
        if let Some(id) = id {
            self.step(id, ServiceInput::Deadline);
        }
        id.is_some()
    }

    /// Tries again to supervise a logger that was refused when it ended.
    fn try_lost_logger(&mut self, name: &[u8]) {
        let Some((name, _)) = self.slots.by_name.get_key_value(name) else { return };
        let name = Rc::clone(name);
        let Some(reader) = self.slots.get_mut(&name).and_then(|slot| slot.reader.take()) else { return };
        if !self.revive(&name, ServiceRole::Logger, Some(&reader)) {
            self.watch.keep_for_recheck(&name);
            if let Some(slot) = self.slots.get_mut(&name) {
                slot.reader = Some(reader);
            }
        }
    }

    /// The service of a slot is gone for good: its logger may end when it has read everything.
    fn main_is_gone(&mut self, name: &[u8]) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        // A logger may still have something to say; what it says it with is let go of when it has gone.
        let (logged, has_logger) = (slot.logged, slot.logger.is_some());
        if let Some(logger) = slot.logger {
            // At the end of everything what holds the pipe is ended first; otherwise somebody may hold it for ever.
            let last = match self.stage {
                Stage::Running => ServiceInput::Drain(WITHDRAWN_KILL_MS),
                _ => ServiceInput::Control(gatevisor_wire::control::Control::Exit),
            };
            self.step(logger, last);
        }
        if logged && !has_logger {
            self.give_up_log(name);
        }
        self.settle_slot(name);
    }

    /// The log daemon has let go of a slot's pipe.
    pub(crate) fn log_released(&mut self, name: &[u8]) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.logged = false;
            self.settle_slot(name);
        }
    }

    /// Frees the name when nothing of the slot is left.
    fn settle_slot(&mut self, name: &[u8]) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        if slot.main.is_some() || slot.logger.is_some() || slot.logged {
            return;
        }
        let (leaving, owner) = (slot.leaving, slot.owner);
        if self.slots.by_name.remove(name).is_some() {
            self.slots.owned.remove(owner);
        }
        if leaving && self.stage == Stage::Running {
            // Something may have taken the name meanwhile, or the directory may be waiting under another one.
            self.look_at(name);
            self.watch.line_up_recheck();
        }
    }
}
