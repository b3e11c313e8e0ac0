//! The log daemons: one process a log owner, which writes what all its services print.
//!
//! We keep both ends of every log pipe, so neither a service nor a daemon can break one by ending. A
//! daemon is handed the read ends over a socket; a restarted one is handed them all again.
//!
//! The daemon of an owner is that owner's process, so nothing is taken from it but bytes, and few of them at a time.

use std::collections::{HashMap, VecDeque};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::log_daemon::LogDaemonHistory;
use gatevisor_sys::spawn::{self, GivenBack, ProcessSpec, Starting};
use gatevisor_sys::user::User;
use gatevisor_sys::{Errno, memory, socket};
use gatevisor_wire::Pid;
use gatevisor_wire::log_protocol::{JOURNAL_FD, LogCommand, LogReply, REPLY_SIZE, SOCKET_FD, STAGE_FD};
use gatevisor_wire::wait::WaitStatus;
use rustix::event::epoll;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use crate::log_failure::LogDaemonFailure;
use crate::service::{ServiceRole, SupervisedService};
use crate::shutdown::Stage;
use crate::stderr_log::say;
use crate::supervisor::{EventSource, Supervisor, Timer};

/// Replies taken at once.
const REPLIES: usize = 64;
/// Times that a log daemon is started again while we are going down.
const LAST_CHANCES: u32 = 3;

/// Something to tell a daemon.
#[derive(Debug)]
enum DaemonMessage {
    /// Answer into this pipe.
    ReplyPipe(OwnedFd),
    Take(Rc<[u8]>),
    Release(Rc<[u8]>),
    Quit,
}

/// The read end of a slot's log pipe.
#[derive(Debug)]
pub(crate) struct LogPipe {
    pub(crate) number: u32,
    pub(crate) daemon: u32,
    pub(crate) reader: OwnedFd,
    /// Kept when the service is gone, so that the daemon never sees an end it was not told of; and what a service and its
    /// logger print beside what they log.
    writer: Option<OwnedFd>,
    /// Its service directory; none for what is only shown.
    service_dir: Option<Rc<OwnedFd>>,
    /// The pipe of the service's standard error, where it is a stream of its own.
    pub(crate) stderr: Option<Pipe>,
    pub(crate) releasing: bool,
}

/// Both ends of a pipe.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub reader: OwnedFd,
    pub writer: OwnedFd,
}

/// Two files of memory that outlive a log daemon: bytes that have left their pipes and are not on file yet, and whose
/// they are. What is in them is the daemon's affair.
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
pub(crate) struct LogDaemon {
    pub(crate) owner: Option<Rc<User>>,
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
    pub(crate) history: LogDaemonHistory,
    /// What is known of its failing.
    pub(crate) failure: LogDaemonFailure,
    chances_used: u32,
}

/// All log daemons and the pipes they serve.
#[derive(Debug, Default)]
pub(crate) struct Logging {
    daemons: Vec<LogDaemon>,
    pub(crate) pipes: HashMap<Rc<[u8]>, LogPipe>,
    /// The slots whose pipes are to be let go of, by the numbers of these.
    releasing: HashMap<u32, Rc<[u8]>>,
    last_number: u32,
}

impl Logging {
    /// Returns where the standard error of a slot's service goes, if that is a stream of its own.
    pub(crate) fn stderr_of(&self, slot: &[u8]) -> Option<BorrowedFd<'_>> {
        self.pipes.get(slot)?.stderr.as_ref().map(|pipe| pipe.writer.as_fd())
    }

    /// Returns where a slot's service and its logger print what they do not log, if that is shown with a label.
    pub(crate) fn console_of(&self, slot: &[u8]) -> Option<BorrowedFd<'_>> {
        self.pipes.get(slot)?.writer.as_ref().map(AsFd::as_fd)
    }

    /// Returns where the standard output and the standard error of a service's programs go; ours where that is `None`.
    ///
    /// With `labelled`, nothing goes there as it is: whoever reads it takes what begins as our lines do for ours.
    pub(crate) fn outputs_of<'a>(
        &'a self,
        service: &'a SupervisedService,
        labelled: bool,
    ) -> (Option<BorrowedFd<'a>>, Option<BorrowedFd<'a>>) {
        let beside = self.console_of(&service.slot);
        if service.role == ServiceRole::Logger {
            return (beside, beside);
        }
        let stdout = service.pipe.as_ref().map(AsFd::as_fd);
        (stdout, self.stderr_of(&service.slot).or(beside).or(stdout.filter(|_| labelled)))
    }

    pub(crate) fn daemon(&mut self, number: u32) -> Option<&mut LogDaemon> {
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
                failure: LogDaemonFailure::default(),
                chances_used: 0,
            });
            self.daemons.len().saturating_sub(1)
        });
        (u32::try_from(position).unwrap_or(u32::MAX), known.is_none())
    }
}

impl Supervisor {
    /// Hands the read end of a slot's log pipe to the daemon of its owner.
    pub(crate) fn take_on_log(
        &mut self,
        slot: &Rc<[u8]>,
        owner: Option<Rc<User>>,
        reader: OwnedFd,
        service_dir: Option<Rc<OwnedFd>>,
        stderr: Option<Pipe>,
        writer: Option<OwnedFd>,
    ) {
        let seed = self.next_seed();
        let (daemon, is_first) = self.logging.daemon_of(owner, seed);
        self.logging.last_number = self.logging.last_number.wrapping_add(1);
        let number = self.logging.last_number;
        let pipe = LogPipe { number, daemon, reader, writer, service_dir, stderr, releasing: false };
        self.logging.pipes.insert(Rc::clone(slot), pipe);
        if self.logging.daemon(daemon).is_some_and(|d| d.socket.is_some()) {
            self.order(daemon, DaemonMessage::Take(Rc::clone(slot)));
        } else if is_first {
            // The first of its owner; a daemon that died is started again by its timer.
            self.start_log_daemon(daemon);
        }
    }

    /// Keeps the write end of a slot's pipe whose service is gone.
    pub(crate) fn keep_log_writer(&mut self, slot: &[u8], writer: Option<OwnedFd>) {
        if let Some(pipe) = self.logging.pipes.get_mut(slot)
            && pipe.writer.is_none()
        {
            pipe.writer = writer;
        }
    }

    /// Asks the daemon to write what is left of a slot's output and to let go of it.
    pub(crate) fn give_up_log(&mut self, slot: &[u8]) {
        let Some((name, _)) = self.logging.pipes.get_key_value(slot) else {
            self.log_released(slot);
            return;
        };
        let name = Rc::clone(name);
        let Some(pipe) = self.logging.pipes.get_mut(slot) else { return };
        pipe.releasing = true;
        let (daemon, pipe_number) = (pipe.daemon, pipe.number);
        self.logging.releasing.insert(pipe_number, Rc::clone(&name));
        if self.is_failing(daemon) {
            // Nobody would ever let go of it.
            self.drop_released(daemon);
        } else {
            self.order(daemon, DaemonMessage::Release(name));
        }
    }

    fn order(&mut self, number: u32, order: DaemonMessage) {
        if let Some(daemon) = self.logging.daemon(number)
            && daemon.socket.is_some()
        {
            daemon.orders.push_back(order);
            self.flush_orders(number);
        }
    }

    /// Starts a log daemon and hands it every pipe of its owner.
    pub(crate) fn start_log_daemon(&mut self, number: u32) {
        if let Err(errno) = self.try_start_log_daemon(number) {
            if !self.is_failing(number) {
                say!("warning: cannot start a log daemon: {errno}");
            }
            self.retry_log_daemon(number, &format!("it cannot be started: {errno}"));
        }
    }

    fn try_start_log_daemon(&mut self, number: u32) -> Result<(), Errno> {
        let now = self.now.tick;
        let (ours, theirs) = socket::seqpacket_pair()?;
        socket::refuse_all(&ours)?;
        let (replies, reply_pipe) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let Some(daemon) = self.logging.daemons.get_mut(usize::try_from(number).unwrap_or(usize::MAX)) else {
            return Ok(());
        };
        let environment = self.environments.of(daemon.owner.as_deref());
        daemon.history.begins(now);
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
        let mut argv = vec![c"gatevisor".to_owned(), c"logd".to_owned()];
        if let Some(user) = &daemon.owner {
            argv.push(CString::new(user.uid.to_string()).unwrap_or_default());
        }
        let starting = spawn::start(ProcessSpec {
            directory: self.scandir.as_fd(),
            program: &self.ourselves,
            argv,
            environment,
            stdin: self.null.as_fd(),
            stdout: None,
            stderr: None,
            extras: [Some((theirs.as_fd(), SOCKET_FD)), stage, journal],
            // It becomes the owner by itself, so that the owner cannot look into it.
            user: None,
            // It needs as many files as we do.
            given_back: GivenBack { open_files: None, ..self.given_back },
            pool: None,
        })
        .map_err(|failure| failure.errno)?;
        daemon.process = Pid::new(starting.pid());
        daemon.starting = Some(starting);
        let token = EventSource::LogDaemon(number).token();
        epoll::add(&self.epoll, &replies, token, epoll::EventFlags::IN)?;
        epoll::add(&self.epoll, &ours, token, epoll::EventFlags::empty())?;
        (daemon.socket, daemon.reply_pipe) = (Some(ours), Some(replies));
        daemon.interest = epoll::EventFlags::empty();
        daemon.orders.clear();
        daemon.orders.push_back(DaemonMessage::ReplyPipe(reply_pipe));
        for (name, pipe) in self.logging.pipes.iter().filter(|(_, pipe)| pipe.daemon == number) {
            daemon.orders.push_back(DaemonMessage::Take(Rc::clone(name)));
            if pipe.releasing {
                daemon.orders.push_back(DaemonMessage::Release(Rc::clone(name)));
            }
        }
        if self.stage == Stage::Logs {
            daemon.orders.push_back(DaemonMessage::Quit);
        }
        self.flush_orders(number);
        Ok(())
    }

    /// Has a daemon started again after a while.
    fn retry_log_daemon(&mut self, number: u32, how: &str) {
        let now = self.now.tick;
        let Some(daemon) = self.logging.daemon(number) else { return };
        let pause_ms = daemon.history.ended(now);
        self.wake_at(now.after(pause_ms), Timer::LogDaemon(number));
        self.log_daemon_fails(number, how);
    }

    /// Sends a daemon what waits for it, as far as it takes it now.
    fn flush_orders(&mut self, number: u32) {
        let Some(daemon) = self.logging.daemons.get_mut(usize::try_from(number).unwrap_or(usize::MAX)) else {
            return;
        };
        let Some(socket) = &daemon.socket else { return };
        let mut interest = epoll::EventFlags::empty();
        while let Some(order) = daemon.orders.front() {
            match send(socket, order, &self.logging.pipes) {
                Ok(()) => {
                    daemon.orders.pop_front();
                }
                Err(Errno::AGAIN | Errno::NOBUFS) => {
                    interest |= epoll::EventFlags::OUT;
                    break;
                }
                // It is gone; its death, which is on the way, has everything said again to the next one.
                Err(_) => break,
            }
        }
        if interest != daemon.interest {
            daemon.interest = interest;
            let _ = epoll::modify(&self.epoll, socket, EventSource::LogDaemon(number).token(), interest);
        }
    }

    /// Takes note of what a daemon has released, and goes on telling it what waits.
    pub(crate) fn take_log_daemon(&mut self, number: u32) {
        let mut released = Vec::new();
        let mut works = false;
        if let Some(daemon) = self.logging.daemon(number)
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
            self.log_daemon_works(number);
        }
        for pipe_number in released {
            self.released(number, pipe_number);
        }
        self.hang_up_or_flush(number);
    }

    /// A daemon has let go of a pipe, which is its own and was to be let go of, unless it says anything.
    pub(crate) fn released(&mut self, daemon: u32, number: u32) {
        let Some(name) = self.logging.releasing.get(&number) else { return };
        let is_its_own = |pipe: &LogPipe| pipe.daemon == daemon && pipe.number == number;
        if self.logging.pipes.get(name).is_some_and(is_its_own)
            && let Some(name) = self.logging.releasing.remove(&number)
        {
            self.logging.pipes.remove(&name);
            self.log_released(&name);
        }
    }

    /// Stops listening to a daemon that hung up; otherwise tells it what waits.
    fn hang_up_or_flush(&mut self, number: u32) {
        let Some(daemon) = self.logging.daemon(number) else { return };
        let Some(socket) = &daemon.socket else { return };
        let mut fds = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::empty())];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let hung_up = matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(n) if n > 0);
        if hung_up {
            daemon.socket = None;
        } else {
            self.flush_orders(number);
        }
    }

    /// Deals with the death of a process that is no service: perhaps a log daemon.
    pub(crate) fn log_daemon_died(&mut self, pid: Pid, how: WaitStatus) {
        let Some(position) = self.logging.daemons.iter().position(|daemon| daemon.process == Some(pid))
        else {
            return;
        };
        let number = u32::try_from(position).unwrap_or(u32::MAX);
        // It may have released something as its last act.
        self.take_log_daemon(number);
        let going_down = self.stage == Stage::Logs;
        let Some(daemon) = self.logging.daemon(number) else { return };
        daemon.process = None;
        daemon.starting = None;
        (daemon.socket, daemon.reply_pipe) = (None, None);
        daemon.orders.clear();
        if going_down {
            if how.success() || daemon.chances_used >= LAST_CHANCES {
                return;
            }
            daemon.chances_used = daemon.chances_used.saturating_add(1);
            say!("warning: a log daemon ended before everything was written ({how}); starting it again");
            self.start_log_daemon(number);
            return;
        }
        if !self.is_failing(number) {
            say!("warning: a log daemon ended ({how}); starting it again");
        }
        self.retry_log_daemon(number, &format!("it ended ({how})"));
    }

    /// Tells every daemon to write what is left and to end.
    pub(crate) fn quit_log_daemons(&mut self) {
        let count = u32::try_from(self.logging.daemons.len()).unwrap_or(u32::MAX);
        for number in 0..count {
            self.order(number, DaemonMessage::Quit);
        }
    }

    /// Kills every daemon, and has none started again for what it has not written.
    pub(crate) fn give_up_log_daemons(&mut self) {
        for daemon in &mut self.logging.daemons {
            daemon.chances_used = LAST_CHANCES;
        }
        self.kill_log_daemons(|_| true);
    }

    /// Kills the daemons that have not let go of a pipe which they were told to let go of. What they leave is written by
    /// those that are started in their place.
    pub(crate) fn kill_late_log_daemons(&self) {
        let late = |number| self.logging.pipes.values().any(|pipe| pipe.releasing && pipe.daemon == number);
        self.kill_log_daemons(late);
    }

    fn kill_log_daemons(&self, which: impl Fn(u32) -> bool) {
        for (number, daemon) in (0..).zip(&self.logging.daemons) {
            if let Some(pid) = daemon.process.and_then(|pid| rustix::process::Pid::from_raw(pid.get()))
                && which(number)
            {
                crate::kill::kill(pid, Signal::KILL, false);
            }
        }
    }

    /// Returns whether a process is a log daemon.
    pub(crate) fn is_log_daemon(&self, pid: Pid) -> bool {
        self.logging.daemons.iter().any(|daemon| daemon.process == Some(pid))
    }

    /// Returns whether any log daemon is still running.
    pub(crate) fn has_log_daemons(&self) -> bool {
        self.logging.daemons.iter().any(|daemon| daemon.process.is_some())
    }
}

fn send(socket: &OwnedFd, message: &DaemonMessage, pipes: &HashMap<Rc<[u8]>, LogPipe>) -> Result<(), Errno> {
    let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
    let command = match message {
        DaemonMessage::ReplyPipe(pipe) => {
            fds.push(pipe.as_fd());
            LogCommand::ReplyPipe
        }
        DaemonMessage::Quit => LogCommand::Quit,
        DaemonMessage::Take(name) => {
            // A pipe that was released in the meantime needs no word.
            let Some(pipe) = pipes.get(name) else { return Ok(()) };
            fds.push(pipe.reader.as_fd());
            fds.extend(pipe.service_dir.as_ref().map(|dir| dir.as_fd()));
            fds.extend(pipe.stderr.as_ref().map(|pipe| pipe.reader.as_fd()));
            match pipe.service_dir {
                Some(_) => LogCommand::Log { id: pipe.number, name },
                None => LogCommand::Show { id: pipe.number, name },
            }
        }
        DaemonMessage::Release(name) => {
            let Some(pipe) = pipes.get(name) else { return Ok(()) };
            LogCommand::Release { id: pipe.number }
        }
    };
    socket::send_with_fds(socket, &command.encode(), &fds).map(|_| ())
}
