//! One log daemon: its process, and the messages to and from it.
//!
//! *Lives here:* starting it, the messages that wait for it, its replies, and the state that one
//! process leaves to the next.
//! *Does not live here:* when it is started again (`gatevisor_core::helper`), and which pipes it
//! has (`logging`).
//!
//! The daemon runs as the owner of its services. So only bytes are accepted from it, and few at a
//! time.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::Now;
use gatevisor_core::helper::HelperHistory;
use gatevisor_sys::spawn::Starting;
use gatevisor_sys::user::User;
use gatevisor_sys::{Errno, memory, socket};
use gatevisor_wire::Pid;
use gatevisor_wire::log_protocol::{JOURNAL_FD, LogReply, REPLY_SIZE, SOCKET_FD, STAGE_FD};
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use crate::directory;
use crate::kill::kill;
use crate::log_message::{DaemonMessage, send};
use crate::log_pipe::LogPipe;
use crate::reactor::{EventSource, Reactor, Timer};
use crate::spawner::Spawner;
use crate::stderr_log::say;

/// The most replies that are read at once.
const REPLIES: usize = 64;

/// The log pipes, by the names of their entries.
pub(crate) type LogPipes = HashMap<Rc<[u8]>, LogPipe>;

/// Two memory files that outlive a log daemon: bytes that have left their pipes and are in no log
/// file yet, and a record of which service they belong to. Only daemons interpret them.
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

/// The parts of the supervisor that log daemons need.
#[derive(Debug)]
pub(crate) struct LogContext<'a> {
    reactor: &'a mut Reactor,
    spawner: &'a Spawner,
    scandir: BorrowedFd<'a>,
    is_last: bool,
}

impl<'a> LogContext<'a> {
    /// With `is_last`, the daemons only have to write the rest.
    pub(crate) fn new(
        reactor: &'a mut Reactor,
        spawner: &'a Spawner,
        scandir: BorrowedFd<'a>,
        is_last: bool,
    ) -> Self {
        Self { reactor, spawner, scandir, is_last }
    }

    pub(crate) fn now(&self) -> Now {
        self.reactor.now()
    }

    pub(crate) fn wake_at(&mut self, at: gatevisor_core::Tick, timer: Timer) {
        self.reactor.wake_at(at, timer);
    }

    pub(crate) fn null(&self) -> &'a OwnedFd {
        self.spawner.null()
    }

    pub(crate) fn scandir(&self) -> BorrowedFd<'a> {
        self.scandir
    }

    pub(crate) fn is_last(&self) -> bool {
        self.is_last
    }
}

/// Both ends of the connection to a process.
#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    /// The events of the socket that are watched.
    interest: EventFlags,
    messages: VecDeque<DaemonMessage>,
}

/// A log daemon, running or waiting to be started.
#[derive(Debug)]
pub(crate) struct LogDaemon {
    number: u32,
    owner: Option<Rc<User>>,
    process: Option<Pid>,
    /// Memory that the process uses until it has reached its program.
    starting: Option<Starting>,
    connection: Option<Connection>,
    /// The pipe for its replies.
    reply_pipe: Option<OwnedFd>,
    /// The state that one process leaves to the next.
    handover: Option<HandoverFiles>,
    history: HelperHistory,
    /// Bytes that were dropped since a process last worked.
    dropped: u64,
}

impl LogDaemon {
    /// Returns the daemon with this number for the services of an owner. `seed` makes the delays of
    /// many daemons differ.
    pub(crate) fn new(number: u32, owner: Option<Rc<User>>, seed: u64) -> Self {
        Self {
            number,
            owner,
            process: None,
            starting: None,
            connection: None,
            reply_pipe: None,
            handover: None,
            history: HelperHistory::new(seed),
            dropped: 0,
        }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Returns the owner of its services.
    pub(crate) fn uid(&self) -> u32 {
        self.owner.as_ref().map_or_else(directory::our_user, |owner| owner.uid)
    }

    /// Returns its process while it runs.
    pub(crate) fn process(&self) -> Option<Pid> {
        self.process
    }

    /// Returns its history.
    pub(crate) fn history(&mut self) -> &mut HelperHistory {
        &mut self.history
    }

    /// Returns whether none of its processes can work.
    pub(crate) fn is_failing(&self) -> bool {
        self.history.is_failing()
    }

    /// Counts bytes that were dropped.
    pub(crate) fn drops(&mut self, bytes: u64) {
        self.dropped = self.dropped.saturating_add(bytes);
    }

    /// Notes that it works. If it had been reported that it cannot, returns the number of dropped
    /// bytes.
    pub(crate) fn works(&mut self) -> Option<u64> {
        let dropped = std::mem::take(&mut self.dropped);
        self.history.works().then_some(dropped)
    }

    /// Starts a process that can receive messages.
    pub(crate) fn start(&mut self, with: &LogContext<'_>) -> Result<(), Errno> {
        let (ours, theirs) = socket::seqpacket_pair()?;
        socket::refuse_all(&ours)?;
        let (replies, reply_pipe) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        self.history.begins(with.now().tick);
        if self.handover.is_none() {
            match HandoverFiles::new() {
                Ok(handover) => self.handover = Some(handover),
                Err(errno) => say!("warning: no memory for what a log daemon may leave behind: {errno}"),
            }
        }
        let handover = self.handover.as_ref();
        let extras = [
            Some((theirs.as_fd(), SOCKET_FD)),
            handover.map(|files| (files.stage.as_fd(), STAGE_FD)),
            handover.map(|files| (files.journal.as_fd(), JOURNAL_FD)),
        ];
        let starting = with.spawner.start_log_daemon(with.scandir, self.owner.as_deref(), extras)?;
        self.process = Pid::new(starting.pid());
        self.starting = Some(starting);
        let (source, interest) = (EventSource::LogDaemon(self.number), EventFlags::empty());
        with.reactor.listen(&replies, source)?;
        with.reactor.listen_for(&ours, source, interest)?;
        self.reply_pipe = Some(replies);
        let messages = [DaemonMessage::ReplyPipe(reply_pipe)].into();
        self.connection = Some(Connection { socket: ours, interest, messages });
        Ok(())
    }

    /// Notes that its process has ended.
    pub(crate) fn ended(&mut self) {
        (self.process, self.starting, self.connection, self.reply_pipe) = (None, None, None, None);
    }

    /// Queues a message for the next [`Self::flush`].
    pub(crate) fn tell(&mut self, message: DaemonMessage) {
        if let Some(connection) = &mut self.connection {
            connection.messages.push_back(message);
        }
    }

    /// Sends the queued messages, as many as the socket accepts now.
    pub(crate) fn flush(&mut self, with: &LogContext<'_>, pipes: &LogPipes) {
        let Some(Connection { socket, interest, messages }) = &mut self.connection else { return };
        let mut wanted = EventFlags::empty();
        while let Some(message) = messages.front() {
            match send(socket, message, pipes) {
                Ok(()) => {
                    messages.pop_front();
                }
                Err(Errno::AGAIN | Errno::NOBUFS) => {
                    wanted |= EventFlags::OUT;
                    break;
                }
                // The process is gone. Its death will be reported soon, and then the next process
                // receives everything again.
                Err(_) => break,
            }
        }
        if wanted != *interest {
            *interest = wanted;
            with.reactor.attend(socket, EventSource::LogDaemon(self.number), wanted);
        }
    }

    /// Returns its replies.
    pub(crate) fn replies(&mut self) -> Vec<LogReply> {
        let Some(reply_pipe) = &self.reply_pipe else { return Vec::new() };
        let mut buffer = [0; REPLY_SIZE * REPLIES];
        match rustix::io::read(reply_pipe, &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(count @ 1..) => {
                let (replies, _) = buffer.get(..count).unwrap_or_default().as_chunks();
                return replies.iter().filter_map(|bytes| LogReply::decode(*bytes)).collect();
            }
            // It will send no more replies.
            Ok(0) | Err(_) => self.reply_pipe = None,
        }
        Vec::new()
    }

    /// Closes the connection if the process has closed its end.
    pub(crate) fn look_for_hangup(&mut self) {
        let has_hung_up = |connection: &mut Connection| {
            let mut fds = [PollFd::new(&connection.socket, PollFlags::empty())];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            matches!(poll(&mut fds, Some(&now)), Ok(n) if n > 0)
        };
        self.connection.take_if(has_hung_up);
    }

    /// Kills its process.
    pub(crate) fn kill(&self) {
        if let Some(pid) = self.process.and_then(|pid| rustix::process::Pid::from_raw(pid.get())) {
            kill(pid, Signal::KILL, false);
        }
    }
}
