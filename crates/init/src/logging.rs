//! The log daemons: for each owner of logs, one process writes the output of all the owner's
//! services.
//!
//! *Lives here:* which daemon has which pipe, and handing pipes over.
//! *Does not live here:* one daemon (`log_daemon`), when it is started again
//! (`gatevisor_core::helper`), and which lines are lost while none works
//! (`gatevisor_core::unread`).
//!
//! We keep both ends of every log pipe, so neither a service nor a daemon can break one by ending.
//! A daemon receives the read ends over a socket; a restarted one receives all of them again.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use gatevisor_core::entry::ServiceRole;
use gatevisor_core::helper::HelperRestart;
use gatevisor_core::{Tick, unread};
use gatevisor_sys::user::User;
use gatevisor_wire::Pid;
use gatevisor_wire::log_error::LogError;
use gatevisor_wire::log_protocol::LogReply;
use gatevisor_wire::wait::WaitStatus;

use crate::log_daemon::{LogContext, LogDaemon, LogPipes};
use crate::log_failure;
use crate::log_message::DaemonMessage;
use crate::log_pipe::{LogPipe, NewLogPipe};
use crate::reactor::Timer;
use crate::service::SupervisedService;
use crate::spawner::Outputs;
use crate::stderr_log::say;

/// All log daemons and the pipes they serve.
#[derive(Debug, Default)]
pub(crate) struct LogDaemons {
    daemons: Vec<LogDaemon>,
    pipes: LogPipes,
    /// The entries whose pipes are being released, by the pipes' numbers.
    releasing: HashMap<u32, Rc<[u8]>>,
    last_number: u32,
    /// The names whose pipes a daemon has released, until [`Self::take_released`].
    released: Vec<Rc<[u8]>>,
}

impl LogDaemons {
    /// Returns the outputs of a service's programs; `None` stands for our own standard output or
    /// standard error.
    ///
    /// With `labelled`, no program shares our own outputs: a reader would take lines that look like
    /// ours for ours.
    pub(crate) fn outputs_of<'a>(&'a self, service: &'a SupervisedService, labelled: bool) -> Outputs<'a> {
        let pipe = self.pipes.get(service.entry());
        let beside = pipe.and_then(LogPipe::beside);
        if service.role() == ServiceRole::Logger {
            return (beside, beside);
        }
        let (stdout, stderr) = (service.pipe(), pipe.and_then(LogPipe::stderr));
        (stdout, stderr.or(beside).or(stdout.filter(|_| labelled)))
    }

    fn daemon(&mut self, number: u32) -> Option<&mut LogDaemon> {
        self.daemons.get_mut(usize::try_from(number).ok()?)
    }

    /// Returns the number of the owner's daemon, and whether it is new.
    fn daemon_of(&mut self, owner: Option<Rc<User>>, seed: u64) -> (u32, bool) {
        let next = u32::try_from(self.daemons.len()).unwrap_or(u32::MAX);
        let new = LogDaemon::new(next, owner, seed);
        if let Some(known) = self.daemons.iter().find(|daemon| daemon.uid() == new.uid()) {
            return (known.number(), false);
        }
        self.daemons.push(new);
        (next, true)
    }

    /// Returns the names whose pipes were released since the last call.
    pub(crate) fn take_released(&mut self) -> Vec<Rc<[u8]>> {
        std::mem::take(&mut self.released)
    }

    /// Hands the read end of a log pipe to its owner's daemon. `seed` makes the delays of many
    /// daemons differ.
    pub(crate) fn take_on(
        &mut self,
        with: &mut LogContext<'_>,
        entry: &Rc<[u8]>,
        (owner, seed): (Option<Rc<User>>, u64),
        pipe: NewLogPipe,
    ) {
        let (daemon, is_first) = self.daemon_of(owner, seed);
        self.last_number = self.last_number.wrapping_add(1);
        self.pipes.insert(Rc::clone(entry), LogPipe::new(self.last_number, daemon, pipe));
        if is_first {
            self.start(with, daemon);
        } else {
            // A daemon that died is restarted by its timer, and then receives everything.
            self.tell(with, daemon, DaemonMessage::Take(Rc::clone(entry)));
        }
    }

    /// Keeps the write end of an entry's pipe whose service is gone.
    pub(crate) fn keep_writer(&mut self, entry: &[u8], writer: Option<OwnedFd>) {
        if let Some(pipe) = self.pipes.get_mut(entry) {
            pipe.keep_writer(writer);
        }
    }

    /// Asks the daemon to write the rest of an entry's output and to release the pipe.
    pub(crate) fn release(&mut self, with: &mut LogContext<'_>, entry: &Rc<[u8]>) {
        let Some(pipe) = self.pipes.get_mut(entry) else {
            return self.released.push(Rc::clone(entry));
        };
        pipe.release();
        let (daemon, number) = (pipe.daemon(), pipe.number());
        self.releasing.insert(number, Rc::clone(entry));
        if self.is_failing(daemon) {
            // Otherwise it would never be released.
            self.drop_releasing(with, daemon);
        } else {
            self.tell(with, daemon, DaemonMessage::Release(Rc::clone(entry)));
        }
    }

    fn tell(&mut self, with: &LogContext<'_>, number: u32, message: DaemonMessage) {
        if let Some(daemon) = self.daemon(number) {
            daemon.tell(message);
            self.flush(with, number);
        }
    }

    fn flush(&mut self, with: &LogContext<'_>, number: u32) {
        if let Some(daemon) = self.daemons.get_mut(usize::try_from(number).unwrap_or(usize::MAX)) {
            daemon.flush(with, &self.pipes);
        }
    }

    /// Starts a log daemon, and hands it all pipes of its owner.
    pub(crate) fn start(&mut self, with: &mut LogContext<'_>, number: u32) {
        let Some(daemon) = self.daemons.get_mut(usize::try_from(number).unwrap_or(usize::MAX)) else {
            return;
        };
        if let Err(errno) = daemon.start(with) {
            if !daemon.is_failing() {
                say!("warning: cannot start a log daemon: {errno}");
            }
            let at = daemon.history().failed(with.now().tick);
            return self.retry(with, number, at, &format!("it cannot be started: {errno}"));
        }
        for (name, pipe) in self.pipes.iter().filter(|(_, pipe)| pipe.daemon() == number) {
            daemon.tell(DaemonMessage::Take(Rc::clone(name)));
            if pipe.is_released_by(number) {
                daemon.tell(DaemonMessage::Release(Rc::clone(name)));
            }
        }
        if with.is_last() {
            daemon.tell(DaemonMessage::Quit);
        }
        daemon.flush(with, &self.pipes);
    }

    /// Schedules a restart of a daemon; reports and publishes it if none can work.
    fn retry(&mut self, with: &mut LogContext<'_>, number: u32, at: Tick, how: &str) {
        with.wake_at(at, Timer::LogDaemon(number));
        let Some(daemon) = self.daemon(number) else { return };
        if !daemon.history().must_report() {
            return;
        }
        let (uid, times) = (daemon.uid(), daemon.history().failures());
        let reason = format!(
            "the log daemon of uid {uid} cannot work: {how}, {times} times in a row; what its services print is lost"
        );
        say!("warning: {reason}; trying again every ten seconds");
        let log_error = LogError { since: with.now().wall, reason };
        if let Err(errno) = log_failure::publish(with.scandir(), uid, &log_error) {
            say!("warning: cannot publish that: {errno}");
        }
        self.drop_releasing(with, number);
        self.make_room(with, number);
    }

    /// Returns whether a log daemon cannot work.
    fn is_failing(&mut self, number: u32) -> bool {
        self.daemon(number).is_some_and(|daemon| daemon.is_failing())
    }

    /// Drops some of the bytes in full pipes of a daemon that cannot work, so that no service
    /// blocks because of it.
    pub(crate) fn make_room(&mut self, with: &mut LogContext<'_>, number: u32) {
        if !self.is_failing(number) {
            return;
        }
        let pipes = self.pipes.values().filter(|pipe| pipe.daemon() == number);
        let dropped = pipes.map(|pipe| pipe.drop_unread(with.null()));
        let dropped = dropped.fold(0, u64::saturating_add);
        if let Some(daemon) = self.daemon(number) {
            daemon.drops(dropped);
        }
        with.wake_at(unread::next_look(with.now().tick), Timer::Unread(number));
    }

    /// Releases the pipes that a daemon which cannot work should release.
    fn drop_releasing(&mut self, with: &LogContext<'_>, daemon: u32) {
        let mut numbers = Vec::new();
        for (name, pipe) in self.pipes.iter().filter(|(_, pipe)| pipe.is_released_by(daemon)) {
            let lost = pipe.drop_unread(with.null());
            if lost > 0 {
                let shown = String::from_utf8_lossy(name);
                say!("warning: {shown}: {lost} bytes in the log pipe are lost: no log daemon works");
            }
            numbers.push(pipe.number());
        }
        for number in numbers {
            self.let_go(daemon, number);
        }
    }

    /// Handles the replies of a daemon, and sends it the queued messages.
    pub(crate) fn receive(&mut self, with: &mut LogContext<'_>, number: u32) {
        let replies = self.daemon(number).map(LogDaemon::replies).unwrap_or_default();
        for reply in replies {
            match reply {
                LogReply::Works => self.works(with, number),
                LogReply::Released { id } => self.let_go(number, id),
            }
        }
        if let Some(daemon) = self.daemon(number) {
            daemon.look_for_hangup();
        }
        self.flush(with, number);
    }

    /// Notes that a daemon works.
    fn works(&mut self, with: &LogContext<'_>, number: u32) {
        if let Some(daemon) = self.daemon(number)
            && let Some(dropped) = daemon.works()
        {
            let uid = daemon.uid();
            say!("the log daemon of uid {uid} works again; {dropped} bytes of its services are lost");
            log_failure::withdraw(with.scandir(), uid);
        }
    }

    /// Handles a daemon's report that it has released a pipe. It counts only if the pipe is this
    /// daemon's and had to be released.
    fn let_go(&mut self, daemon: u32, number: u32) {
        let Some(name) = self.releasing.get(&number) else { return };
        let is_its_own = |pipe: &LogPipe| pipe.daemon() == daemon && pipe.number() == number;
        if self.pipes.get(name).is_some_and(is_its_own)
            && let Some(name) = self.releasing.remove(&number)
        {
            self.pipes.remove(&name);
            self.released.push(name);
        }
    }

    /// Handles the death of a process that is no service's; it may be a log daemon.
    pub(crate) fn died(&mut self, with: &mut LogContext<'_>, pid: Pid, how: WaitStatus) {
        let Some(number) = self.number_of(pid) else { return };
        // It may have released something just before its end.
        self.receive(with, number);
        let Some(daemon) = self.daemon(number) else { return };
        daemon.ended();
        let was_failing = daemon.is_failing();
        match daemon.history().ended(with.now().tick, how, with.is_last()) {
            HelperRestart::Never => {}
            HelperRestart::Now => {
                say!("warning: a log daemon ended before everything was written ({how}); starting it again");
                self.start(with, number);
            }
            HelperRestart::At(at) => {
                if !was_failing {
                    say!("warning: a log daemon ended ({how}); starting it again");
                }
                self.retry(with, number, at, &format!("it ended ({how})"));
            }
        }
    }

    /// Tells every daemon to write the rest and to end.
    pub(crate) fn quit(&mut self, with: &LogContext<'_>) {
        for daemon in &mut self.daemons {
            daemon.tell(DaemonMessage::Quit);
            daemon.flush(with, &self.pipes);
        }
    }

    /// Kills every daemon, and restarts none for unwritten output.
    pub(crate) fn give_up(&mut self) {
        for daemon in &mut self.daemons {
            daemon.history().give_up();
            daemon.kill();
        }
    }

    /// Kills the daemons that did not release a pipe when they were told to. Restarted daemons
    /// write the rest.
    pub(crate) fn kill_late(&self) {
        let is_late =
            |daemon: &&LogDaemon| self.pipes.values().any(|pipe| pipe.is_released_by(daemon.number()));
        self.daemons.iter().filter(is_late).for_each(LogDaemon::kill);
    }

    fn number_of(&self, pid: Pid) -> Option<u32> {
        self.daemons.iter().find(|daemon| daemon.process() == Some(pid)).map(LogDaemon::number)
    }

    /// Returns whether a process is a log daemon.
    pub(crate) fn is_daemon(&self, pid: Pid) -> bool {
        self.number_of(pid).is_some()
    }

    /// Returns whether any log daemon is still running.
    pub(crate) fn are_running(&self) -> bool {
        self.daemons.iter().any(|daemon| daemon.process().is_some())
    }
}
