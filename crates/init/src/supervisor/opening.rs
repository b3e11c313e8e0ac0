//! Opens the directories of services, and makes the pipes of their logs.
//!
//! *Lives here:* which part is asked whether a directory may be supervised.
//! *Does not live here:* what is opened how (`directory`), and supervising it (`steps`).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::Machine;
use gatevisor_core::entry::ServiceRole;
use gatevisor_sys::{Errno, file};
use gatevisor_wire::files;
use rustix::fs::{AtFlags, FileType, Stat, statat};
use rustix::pipe::{PipeFlags, pipe_with};

use super::parts::Supervisor;
use crate::directory::{self, OpenedService, Refusal};
use crate::log_pipe::NewLogPipe;

/// The pipes of an entry that is about to be supervised.
#[derive(Debug, Default)]
pub(super) struct EntryPipes {
    /// The write end for the service's log.
    pub(super) writer: Option<OwnedFd>,
    /// The opened logger, and its input.
    pub(super) logger: Option<(OpenedService, OwnedFd)>,
    /// What a log daemon is to read.
    pub(super) for_daemon: Option<NewLogPipe>,
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
    /// Opens a new entry; also returns its owner.
    pub(super) fn open_new(&mut self, name: &[u8]) -> Result<(OpenedService, u32), Refusal> {
        let dir = self.scandir.open(name)?;
        let stat = directory::look(&dir)?;
        self.entries.has_room(self.settings.limits, stat.st_uid)?;
        Ok((self.prepare(dir, &stat, true)?, stat.st_uid))
    }

    /// Opens one half of an entry again.
    pub(super) fn open_half(&mut self, name: &[u8], role: ServiceRole) -> Result<OpenedService, Refusal> {
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
        // The check comes before anything in it is touched: with its FIFO open, it would look
        // supervised for a moment.
        let newest = u64::try_from(dir.as_raw_fd()).unwrap_or(u64::MAX);
        if !self.starts.can_spare(newest, self.services.count(), own) {
            return Err(Refusal::NoDescriptors);
        }
        let may_be_orphaned = self.scandir.follows_a_killed_one() && is_new;
        let (now, rules) = (self.reactor.now(), self.settings.rules);
        directory::prepare(dir, stat, &mut self.owners, may_be_orphaned, |normally_up| {
            Machine::first_status(now, rules, normally_up)
        })
    }

    /// Makes the pipes of an entry's log, and of labelled output.
    pub(super) fn make_pipes(&mut self, opened: &OpenedService) -> Result<EntryPipes, Refusal> {
        let logger_dir = match file::open_directory(opened.dir(), files::LOG) {
            Ok(dir) => Some(dir),
            Err(Errno::NOENT) => None,
            // A regular file of that name means nothing to s6, nor to us.
            Err(Errno::NOTDIR) if is_file(opened.dir(), files::LOG) => None,
            Err(errno) => return Err(Refusal::Step { step: "opening log", errno }),
        };
        let by_daemon = logger_dir.as_ref().is_some_and(|dir| self.spawner.is_logged_by_daemon(dir));
        let mut pipes = EntryPipes::default();
        if let Some(logger_dir) = logger_dir {
            let (reader, writer) = new_pipe("making the log pipe")?;
            if by_daemon {
                let stderr = stderr_pipe(&logger_dir)
                    .map_err(|errno| Refusal::Step { step: "making the log pipe", errno })?;
                pipes.for_daemon = Some(NewLogPipe::logged(reader, Rc::clone(opened.dir()), stderr));
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
            pipes.for_daemon = Some(NewLogPipe::shown(reader, beside));
        }
        Ok(pipes)
    }
}
