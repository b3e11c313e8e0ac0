//! The log daemons: one process a log owner, which writes what all its services print.
//!
//! We keep both ends of every log pipe, so neither a service nor a daemon can break one by ending.
//! A daemon is handed the read ends over a socket; a restarted one is handed them all again.
//!
//! The daemon of an owner is that owner's process, so nothing is taken from it but bytes, and few
//! of them at a time.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::Tick;
use gatevisor_core::log_daemon::{LogDaemonHistory, LogDaemonRestart};
use gatevisor_sys::spawn::Starting;
use gatevisor_sys::user::User;
use gatevisor_sys::{Errno, memory, socket};
use gatevisor_wire::Pid;
use gatevisor_wire::log_error::LogError;
use gatevisor_wire::log_protocol::{JOURNAL_FD, LogReply, REPLY_SIZE, SOCKET_FD, STAGE_FD};
use gatevisor_wire::wait::WaitStatus;
use rustix::event::epoll;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use crate::kill::kill;
use crate::log_message::{DaemonMessage, send};
use crate::log_pipe::{LogPipe, NewLogPipe, drop_from};
use crate::reactor::{EventSource, Reactor, Timer};
use crate::service::{ServiceRole, SupervisedService};
use crate::spawner::{Outputs, Spawner};
use crate::stderr_log::say;
use crate::{directory, log_failure};

/// Replies taken at once.
const REPLIES: usize = 64;
/// Milliseconds between two looks at pipes that nobody reads.
const LOOK_MS: u64 = 250;
/// Bytes with which a pipe is soon full.
const NEARLY_FULL: u64 = 32 << 10;

/// Two files of memory that outlive a log daemon: bytes that have left their pipes and are not on
/// file yet, and whose they are. What is in them is the daemon's affair.
#[derive(Debug)]
struct HandoverFiles {
    stage: OwnedFd,
    journal: OwnedFd,
}

impl HandoverFiles {
    fn new() -> Result<Self, Errno> {
        Ok(Self { stage: memory::file("gatevisor-stage")?, journal: memory::file("gatevisor-journal")? })
    }
}

/// A log daemon, running or to be started.
#[derive(Debug)]
struct LogDaemon {
    owner: Option<Rc<User>>,
    process: Option<Pid>,
    /// Memory that the process uses until it has reached its program.
    starting: Option<Starting>,
    socket: Option<OwnedFd>,
    /// What it answers into.
    reply_pipe: Option<OwnedFd>,
    /// What one process leaves to the next.
    handover: Option<HandoverFiles>,
    /// What is waited for on the socket.
    interest: epoll::EventFlags,
    orders: VecDeque<DaemonMessage>,
    history: LogDaemonHistory,
    /// Bytes that were dropped since it worked.
    dropped: u64,
}

impl LogDaemon {
    /// Returns the user whose services it serves.
    fn uid(&self) -> u32 {
        self.owner.as_ref().map_or_else(directory::our_user, |owner| owner.uid)
    }
}

/// What log daemons are started and talked to with.
#[derive(Debug)]
pub(crate) struct LogContext<'a> {
    pub(crate) reactor: &'a mut Reactor,
    pub(crate) spawner: &'a Spawner,
    pub(crate) scandir: BorrowedFd<'a>,
    /// The daemons are only to write what is left.
    pub(crate) is_last: bool,
}

/// All log daemons and the pipes they serve.
#[derive(Debug, Default)]
pub(crate) struct LogDaemons {
    daemons: Vec<LogDaemon>,
    pipes: HashMap<Rc<[u8]>, LogPipe>,
    /// The entries whose pipes are to be let go of, by the numbers of these.
    releasing: HashMap<u32, Rc<[u8]>>,
    last_number: u32,
    /// The names whose pipes a daemon has let go of, until [`Self::take_released`].
    released: Vec<Rc<[u8]>>,
}

impl LogDaemons {
    /// Returns where the standard error of an entry's service goes, if that is a stream of its own.
    fn stderr_of(&self, entry: &[u8]) -> Option<BorrowedFd<'_>> {
        self.pipes.get(entry)?.stderr.as_ref().map(|pipe| pipe.writer.as_fd())
    }

    /// Returns where an entry's service and its logger print what they do not log, if that is shown
    /// with a label.
    fn console_of(&self, entry: &[u8]) -> Option<BorrowedFd<'_>> {
        self.pipes.get(entry)?.writer.as_ref().map(AsFd::as_fd)
    }

    /// Returns where the standard output and the standard error of a service's programs go; ours
    /// where that is `None`.
    ///
    /// With `labelled`, no output goes there unchanged: a reader would take lines that begin like
    /// ours for ours.
    pub(crate) fn outputs_of<'a>(&'a self, service: &'a SupervisedService, labelled: bool) -> Outputs<'a> {
        let beside = self.console_of(&service.entry);
        if service.role == ServiceRole::Logger {
            return (beside, beside);
        }
        let stdout = service.pipe.as_ref().map(AsFd::as_fd);
        (stdout, self.stderr_of(&service.entry).or(beside).or(stdout.filter(|_| labelled)))
    }

    fn daemon(&mut self, number: u32) -> Option<&mut LogDaemon> {
        self.daemons.get_mut(usize::try_from(number).ok()?)
    }

    /// Returns the number of the owner's daemon, and whether it is a new one.
    fn daemon_of(&mut self, owner: Option<Rc<User>>, seed: u64) -> (u32, bool) {
        let uid = |user: &Option<Rc<User>>| user.as_ref().map(|user| user.uid);
        let known = self.daemons.iter().position(|daemon| uid(&daemon.owner) == uid(&owner));
        let position = known.unwrap_or_else(|| {
            self.daemons.push(LogDaemon {
                owner,
                process: None,
                starting: None,
                socket: None,
                reply_pipe: None,
                handover: None,
                interest: epoll::EventFlags::empty(),
                orders: VecDeque::new(),
                history: LogDaemonHistory::new(seed),
                dropped: 0,
            });
            self.daemons.len().saturating_sub(1)
        });
        (u32::try_from(position).unwrap_or(u32::MAX), known.is_none())
    }

    /// Returns the names whose pipes have been let go of since the last time.
    pub(crate) fn take_released(&mut self) -> Vec<Rc<[u8]>> {
        std::mem::take(&mut self.released)
    }

    /// Hands the read end of a log pipe to the daemon of its owner; `seed` spreads the delays of
    /// many daemons.
    pub(crate) fn take_on(
        &mut self,
        with: &mut LogContext<'_>,
        entry: &Rc<[u8]>,
        (owner, seed): (Option<Rc<User>>, u64),
        NewLogPipe { reader, service_dir, stderr, writer }: NewLogPipe,
    ) {
        let (daemon, is_first) = self.daemon_of(owner, seed);
        self.last_number = self.last_number.wrapping_add(1);
        let number = self.last_number;
        let pipe = LogPipe { number, daemon, reader, writer, service_dir, stderr, releasing: false };
        self.pipes.insert(Rc::clone(entry), pipe);
        if self.daemon(daemon).is_some_and(|d| d.socket.is_some()) {
            self.order(with, daemon, DaemonMessage::Take(Rc::clone(entry)));
        } else if is_first {
            // The first of its owner; a daemon that died is started again by its timer.
            self.start(with, daemon);
        }
    }

    /// Keeps the write end of an entry's pipe whose service is gone.
    pub(crate) fn keep_writer(&mut self, entry: &[u8], writer: Option<OwnedFd>) {
        if let Some(pipe) = self.pipes.get_mut(entry)
            && pipe.writer.is_none()
        {
            pipe.writer = writer;
        }
    }

    /// Asks the daemon to write what is left of an entry's output and to let go of it.
    pub(crate) fn release(&mut self, with: &mut LogContext<'_>, entry: &Rc<[u8]>) {
        let Some((name, _)) = self.pipes.get_key_value(entry) else {
            return self.released.push(Rc::clone(entry));
        };
        let name = Rc::clone(name);
        let Some(pipe) = self.pipes.get_mut(entry) else { return };
        pipe.releasing = true;
        let (daemon, pipe_number) = (pipe.daemon, pipe.number);
        self.releasing.insert(pipe_number, Rc::clone(&name));
        if self.is_failing(daemon) {
            // Nobody would ever let go of it.
            self.drop_releasing(with, daemon);
        } else {
            self.order(with, daemon, DaemonMessage::Release(name));
        }
    }

    fn order(&mut self, with: &LogContext<'_>, number: u32, order: DaemonMessage) {
        if let Some(daemon) = self.daemon(number)
            && daemon.socket.is_some()
        {
            daemon.orders.push_back(order);
            self.flush_orders(with, number);
        }
    }

    /// Starts a log daemon and hands it every pipe of its owner.
    pub(crate) fn start(&mut self, with: &mut LogContext<'_>, number: u32) {
        if let Err(errno) = self.try_start(with, number) {
            if !self.is_failing(number) {
                say!("warning: cannot start a log daemon: {errno}");
            }
            if let Some(daemon) = self.daemon(number) {
                let at = daemon.history.failed(with.reactor.now().tick);
                self.retry(with, number, at, &format!("it cannot be started: {errno}"));
            }
        }
    }

    fn try_start(&mut self, with: &LogContext<'_>, number: u32) -> Result<(), Errno> {
        let (ours, theirs) = socket::seqpacket_pair()?;
        socket::refuse_all(&ours)?;
        let (replies, reply_pipe) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let Some(daemon) = self.daemons.get_mut(usize::try_from(number).unwrap_or(usize::MAX)) else {
            return Ok(());
        };
        daemon.history.begins(with.reactor.now().tick);
        if daemon.handover.is_none() {
            match HandoverFiles::new() {
                Ok(handover) => daemon.handover = Some(handover),
                Err(errno) => say!("warning: no memory for what a log daemon may leave behind: {errno}"),
            }
        }
        let (stage, journal) = match &daemon.handover {
            Some(HandoverFiles { stage, journal }) => {
                (Some((stage.as_fd(), STAGE_FD)), Some((journal.as_fd(), JOURNAL_FD)))
            }
            None => (None, None),
        };
        let extras = [Some((theirs.as_fd(), SOCKET_FD)), stage, journal];
        let starting = with.spawner.start_log_daemon(with.scandir, daemon.owner.as_deref(), extras)?;
        daemon.process = Pid::new(starting.pid());
        daemon.starting = Some(starting);
        with.reactor.listen(&replies, EventSource::LogDaemon(number))?;
        with.reactor.listen_for(&ours, EventSource::LogDaemon(number), epoll::EventFlags::empty())?;
        (daemon.socket, daemon.reply_pipe) = (Some(ours), Some(replies));
        daemon.interest = epoll::EventFlags::empty();
        daemon.orders.clear();
        daemon.orders.push_back(DaemonMessage::ReplyPipe(reply_pipe));
        for (name, pipe) in self.pipes.iter().filter(|(_, pipe)| pipe.daemon == number) {
            daemon.orders.push_back(DaemonMessage::Take(Rc::clone(name)));
            if pipe.releasing {
                daemon.orders.push_back(DaemonMessage::Release(Rc::clone(name)));
            }
        }
        if with.is_last {
            daemon.orders.push_back(DaemonMessage::Quit);
        }
        self.flush_orders(with, number);
        Ok(())
    }

    /// Has a daemon started again at a time; says and publishes it where none can work.
    fn retry(&mut self, with: &mut LogContext<'_>, number: u32, at: Tick, how: &str) {
        with.reactor.wake_at(at, Timer::LogDaemon(number));
        let Some(daemon) = self.daemon(number) else { return };
        if !daemon.history.must_report() {
            return;
        }
        let (uid, times) = (daemon.uid(), daemon.history.failures());
        let reason = format!(
            "the log daemon of uid {uid} cannot work: {how}, {times} times in a row; what its services print is lost"
        );
        say!("warning: {reason}; trying again every ten seconds");
        let log_error = LogError { since: with.reactor.now().wall, reason };
        if let Err(errno) = log_failure::publish(with.scandir, uid, &log_error) {
            say!("warning: cannot publish that: {errno}");
        }
        self.drop_releasing(with, number);
        self.make_room(with, number);
    }

    /// Takes in that a daemon works.
    fn works(&mut self, with: &LogContext<'_>, number: u32) {
        let Some(daemon) = self.daemon(number) else { return };
        let dropped = std::mem::take(&mut daemon.dropped);
        if daemon.history.works() {
            let uid = daemon.uid();
            say!("the log daemon of uid {uid} works again; {dropped} bytes of its services are lost");
            log_failure::withdraw(with.scandir, uid);
        }
    }

    /// Returns whether a log daemon cannot work.
    fn is_failing(&mut self, number: u32) -> bool {
        self.daemon(number).is_some_and(|daemon| daemon.history.is_failing())
    }

    /// Drops something of what is in full pipes of a daemon that cannot work, so that no service
    /// stands still for it.
    pub(crate) fn make_room(&mut self, with: &mut LogContext<'_>, number: u32) {
        if !self.is_failing(number) {
            return;
        }
        let null = with.spawner.null();
        let pipes = self.pipes.values().filter(|pipe| pipe.daemon == number);
        let dropped = pipes.map(|pipe| drop_from(pipe, null, NEARLY_FULL)).fold(0, u64::saturating_add);
        if let Some(daemon) = self.daemon(number) {
            daemon.dropped = daemon.dropped.saturating_add(dropped);
        }
        let at = with.reactor.now().tick.after(LOOK_MS);
        with.reactor.wake_at(at, Timer::Unread(number));
    }

    /// Lets go of the pipes that a daemon which cannot work should let go of.
    fn drop_releasing(&mut self, with: &LogContext<'_>, number: u32) {
        let releasing = self.pipes.iter().filter(|(_, pipe)| pipe.daemon == number && pipe.releasing);
        let releasing: Vec<(Rc<[u8]>, u32)> =
            releasing.map(|(name, pipe)| (Rc::clone(name), pipe.number)).collect();
        for (name, pipe_number) in releasing {
            let lost = self.pipes.get(&name).map_or(0, |pipe| drop_from(pipe, with.spawner.null(), 1));
            if lost > 0 {
                let shown = String::from_utf8_lossy(&name);
                say!("warning: {shown}: {lost} bytes in the log pipe are lost: no log daemon works");
            }
            self.let_go(number, pipe_number);
        }
    }

    /// Sends a daemon the messages that wait for it, as many as its socket takes now.
    fn flush_orders(&mut self, with: &LogContext<'_>, number: u32) {
        let Some(daemon) = self.daemons.get_mut(usize::try_from(number).unwrap_or(usize::MAX)) else {
            return;
        };
        let Some(socket) = &daemon.socket else { return };
        let mut interest = epoll::EventFlags::empty();
        while let Some(order) = daemon.orders.front() {
            match send(socket, order, &self.pipes) {
                Ok(()) => {
                    daemon.orders.pop_front();
                }
                Err(Errno::AGAIN | Errno::NOBUFS) => {
                    interest |= epoll::EventFlags::OUT;
                    break;
                }
                // It is gone; its death, which is on the way, has everything said again to the next
                // one.
                Err(_) => break,
            }
        }
        if interest != daemon.interest {
            daemon.interest = interest;
            with.reactor.attend(socket, EventSource::LogDaemon(number), interest);
        }
    }

    /// Takes note of what a daemon has released, and goes on telling it what waits.
    pub(crate) fn receive(&mut self, with: &mut LogContext<'_>, number: u32) {
        let mut released = Vec::new();
        let mut works = false;
        if let Some(daemon) = self.daemon(number)
            && let Some(reply_pipe) = &daemon.reply_pipe
        {
            let mut buffer = [0; REPLY_SIZE * REPLIES];
            match rustix::io::read(reply_pipe, &mut buffer) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Ok(count @ 1..) => {
                    let (replies, _) = buffer.get(..count).unwrap_or_default().as_chunks();
                    for reply in replies.iter().filter_map(|bytes| LogReply::decode(*bytes)) {
                        match reply {
                            LogReply::Works => works = true,
                            LogReply::Released { id } => released.push(id),
                        }
                    }
                }
                // It will not say anything any more.
                Ok(0) | Err(_) => daemon.reply_pipe = None,
            }
        }
        if works {
            self.works(with, number);
        }
        for pipe_number in released {
            self.let_go(number, pipe_number);
        }
        self.hang_up_or_flush(with, number);
    }

    /// A daemon has let go of a pipe, which is its own and was to be let go of, unless it says
    /// anything.
    fn let_go(&mut self, daemon: u32, number: u32) {
        let Some(name) = self.releasing.get(&number) else { return };
        let is_its_own = |pipe: &LogPipe| pipe.daemon == daemon && pipe.number == number;
        if self.pipes.get(name).is_some_and(is_its_own)
            && let Some(name) = self.releasing.remove(&number)
        {
            self.pipes.remove(&name);
            self.released.push(name);
        }
    }

    /// Stops listening to a daemon that hung up; otherwise tells it what waits.
    fn hang_up_or_flush(&mut self, with: &LogContext<'_>, number: u32) {
        let Some(daemon) = self.daemon(number) else { return };
        let Some(socket) = &daemon.socket else { return };
        let mut fds = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::empty())];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let hung_up = matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(n) if n > 0);
        if hung_up {
            daemon.socket = None;
        } else {
            self.flush_orders(with, number);
        }
    }

    /// Takes in the death of a process that is no service: perhaps a log daemon.
    pub(crate) fn died(&mut self, with: &mut LogContext<'_>, pid: Pid, how: WaitStatus) {
        let Some(position) = self.daemons.iter().position(|daemon| daemon.process == Some(pid)) else {
            return;
        };
        let number = u32::try_from(position).unwrap_or(u32::MAX);
        // It may have released something as its last act.
        self.receive(with, number);
        let Some(daemon) = self.daemon(number) else { return };
        daemon.process = None;
        daemon.starting = None;
        (daemon.socket, daemon.reply_pipe) = (None, None);
        daemon.orders.clear();
        let was_failing = daemon.history.is_failing();
        match daemon.history.ended(with.reactor.now().tick, how, with.is_last) {
            LogDaemonRestart::Never => {}
            LogDaemonRestart::Now => {
                say!("warning: a log daemon ended before everything was written ({how}); starting it again");
                self.start(with, number);
            }
            LogDaemonRestart::At(at) => {
                if !was_failing {
                    say!("warning: a log daemon ended ({how}); starting it again");
                }
                self.retry(with, number, at, &format!("it ended ({how})"));
            }
        }
    }

    /// Tells every daemon to write what is left and to end.
    pub(crate) fn quit(&mut self, with: &LogContext<'_>) {
        let count = u32::try_from(self.daemons.len()).unwrap_or(u32::MAX);
        for number in 0..count {
            self.order(with, number, DaemonMessage::Quit);
        }
    }

    /// Kills every daemon, and has none started again for what it has not written.
    pub(crate) fn give_up(&mut self) {
        for daemon in &mut self.daemons {
            daemon.history.give_up();
        }
        self.kill_those(|_| true);
    }

    /// Kills the daemons that have not let go of a pipe which they were told to let go of. What
    /// they leave is written by those that are started in their place.
    pub(crate) fn kill_late(&self) {
        let late = |number| self.pipes.values().any(|pipe| pipe.releasing && pipe.daemon == number);
        self.kill_those(late);
    }

    fn kill_those(&self, which: impl Fn(u32) -> bool) {
        for (number, daemon) in (0..).zip(&self.daemons) {
            if let Some(pid) = daemon.process.and_then(|pid| rustix::process::Pid::from_raw(pid.get()))
                && which(number)
            {
                kill(pid, Signal::KILL, false);
            }
        }
    }

    /// Returns whether a process is a log daemon.
    pub(crate) fn is_daemon(&self, pid: Pid) -> bool {
        self.daemons.iter().any(|daemon| daemon.process == Some(pid))
    }

    /// Returns whether any log daemon is still running.
    pub(crate) fn are_running(&self) -> bool {
        self.daemons.iter().any(|daemon| daemon.process.is_some())
    }
}
