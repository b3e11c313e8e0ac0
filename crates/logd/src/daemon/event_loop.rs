//! The event loop of the log daemon: its socket, its pipes, and the times of new attempts.
//!
//! *Lives here:* what is read when, and releasing services.
//! *Does not live here:* the processing of a batch (`pipeline`).
//!
//! One thread does all this; another one writes to standard output (`console`). No operation on one
//! service looks at the others: services that wait for a time are in a separate set.
//!
//! The supervisor keeps the write ends, so no pipe ends while the daemon lives. A pipe is finished
//! when the supervisor has released it and it holds nothing more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::time::Duration;

use gatevisor_sys::clock::monotonic_ms;
use gatevisor_wire::exit::error_chain;
use gatevisor_wire::log_protocol::{LogCommand, LogReply, MAX_PACKET};
use gatevisor_wire::name::ServiceName;
use rustix::event::epoll;
use rustix::io::Errno;

use crate::handover::stage::Intake;
use crate::pipeline::service::{LoggedService, ServicePipe};
use crate::pipeline::settings::{LogSettings, OutputOwner};
use crate::pipeline::stream::{DaemonContext, make_non_blocking};
use crate::time::until;

/// Milliseconds that a stream may take to finish while its file cannot be written.
const GIVE_UP_MS: u64 = 5_000;
/// How long the console may take to show the last lines.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Milliseconds from lines to the moment at which the service directory tells of them.
const TELL_MS: u64 = 5_000;
/// The most packets that are read before the pipes are read again.
const PACKETS: usize = 64;
/// The most events that are taken at once.
const EVENTS: usize = 64;
/// The event key of the socket. Keys of pipes have 33 bits, so none is equal to it.
const SOCKET: u64 = u64::MAX;
/// The event key of the pipe for replies.
const REPLY_PIPE: u64 = u64::MAX - 1;

/// A service, and its progress towards release.
struct ServedService {
    service: LoggedService,
    /// The state of each of its pipes.
    pipe_states: Vec<PipeState>,
    leaving: Option<Leaving>,
    /// Whether it is in the queue of those whose counts will be told.
    will_tell: bool,
}

/// The reading state of a pipe.
#[derive(Debug, Clone, Copy, Default)]
struct PipeState {
    /// Whether events of the pipe are watched.
    watched: bool,
    /// How many bytes are still to be read, once that is known; `None` while services write.
    left: Option<u64>,
}

impl ServedService {
    fn is_done(&self) -> bool {
        self.pipe_states.iter().all(|pipe_state| pipe_state.left == Some(0))
    }

    fn left(&self) -> u64 {
        self.pipe_states.iter().filter_map(|pipe_state| pipe_state.left).fold(0, u64::saturating_add)
    }
}

#[derive(Clone, Copy)]
struct Leaving {
    give_up_at_ms: u64,
    answer: bool,
}

/// The index of standard output among a service's pipes.
const OUT: usize = 0;
/// The index of standard error, if it has a pipe of its own.
const ERR: usize = 1;

/// Returns the key of a pipe among events and in the journal.
fn key(id: u32, index: usize) -> u64 {
    u64::from(id) << 1 | u64::from(index == ERR)
}

fn id_of(key: u64) -> u32 {
    u32::try_from(key >> 1).unwrap_or(u32::MAX)
}

fn index_of(key: u64) -> usize {
    if key & 1 == 0 { OUT } else { ERR }
}

/// Reads the bytes in a pipe, as many as its file can accept.
fn read_on(
    service: &mut LoggedService,
    index: usize,
    pipe_state: &mut PipeState,
    daemon: &mut DaemonContext,
) {
    // A service that writes without end must not delay the others.
    let live = pipe_state.left.is_none();
    while service.has_room(index) && pipe_state.left != Some(0) {
        let limit = usize::try_from(pipe_state.left.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        match (service.pump(index, limit, daemon), &mut pipe_state.left) {
            (Intake::Some(n), Some(left)) => {
                *left = left.saturating_sub(u64::try_from(n).unwrap_or(u64::MAX));
            }
            (Intake::Some(_) | Intake::Empty, None) => {}
            (Intake::Empty, Some(_)) if !service.has_room(index) => {}
            (Intake::Empty | Intake::End, left) => *left = Some(0),
        }
        if live {
            break;
        }
    }
}

/// The loop of a log daemon.
pub(crate) struct EventLoop {
    socket: Option<OwnedFd>,
    /// The pipe for replies.
    reply_pipe: Option<OwnedFd>,
    epoll: OwnedFd,
    context: DaemonContext,
    output: OutputOwner,
    entries: BTreeMap<u32, Box<ServedService>>,
    /// The services that wait for a time: some bytes are held back, or they are being released.
    timed: BTreeSet<u32>,
    /// The services whose counts will be told, each with the time, the next first.
    untold: VecDeque<(u64, u32)>,
    replies: VecDeque<LogReply>,
    replies_blocked: bool,
}

impl EventLoop {
    pub(crate) fn new(socket: OwnedFd, context: DaemonContext, output: OutputOwner) -> Result<Self, Errno> {
        make_non_blocking(&socket)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &socket, epoll::EventData::new_u64(SOCKET), epoll::EventFlags::IN)?;
        Ok(Self {
            socket: Some(socket),
            reply_pipe: None,
            epoll,
            context,
            output,
            entries: BTreeMap::new(),
            timed: BTreeSet::new(),
            untold: VecDeque::new(),
            replies: VecDeque::new(),
            replies_blocked: false,
        })
    }

    pub(crate) fn run(mut self) -> Result<(), Errno> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        while self.socket.is_some() || !self.entries.is_empty() {
            let timeout = self.next_time_ms().map(until);
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            }
            for event in &events {
                let data = event.data.u64();
                if data == SOCKET {
                    self.handle_socket();
                } else if data == REPLY_PIPE {
                    self.send_replies();
                } else {
                    self.advance(id_of(data), Some(index_of(data)));
                }
            }
            self.handle_times();
        }
        if !self.context.console.flush(LAST_WORDS) {
            // Standard output is stalled. The lines are in the files, and the container is ending.
            self.context
                .console
                .warn("gatevisor: logd: standard output is stalled; the last lines were not shown");
        }
        Ok(())
    }

    /// Returns when the next of the timed services is due.
    fn next_time_ms(&self) -> Option<u64> {
        let times = self.timed.iter().filter_map(|id| self.entries.get(id)).flat_map(|entry| {
            [entry.service.retry_at_ms(), entry.leaving.map(|leaving| leaving.give_up_at_ms)]
        });
        times.flatten().chain(self.untold.front().map(|(at, _)| *at)).min()
    }

    /// Tells the counts that are due.
    fn tell_counts(&mut self) {
        let Some((first, _)) = self.untold.front() else { return };
        let now = monotonic_ms();
        if now < *first {
            return;
        }
        while let Some((_, id)) = self.untold.pop_front_if(|(at, _)| *at <= now) {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.will_tell = false;
                entry.service.tell_counts();
            }
        }
    }

    fn handle_times(&mut self) {
        self.tell_counts();
        if self.timed.is_empty() {
            return;
        }
        let now = monotonic_ms();
        let ids: Vec<u32> = self.timed.iter().copied().collect();
        for id in ids {
            let Some(entry) = self.entries.get_mut(&id) else {
                self.timed.remove(&id);
                continue;
            };
            let retry = entry.service.retry_at_ms().is_some_and(|at| at <= now);
            let give_up = entry.leaving.is_some_and(|leaving| leaving.give_up_at_ms <= now);
            if retry {
                entry.service.retry(&mut self.context);
            }
            if retry || give_up {
                self.advance(id, None);
            }
        }
    }

    /// Reads all pipes of a service, or one of them, as much as its file can accept, and releases
    /// the service when it is finished.
    fn advance(&mut self, id: u32, only: Option<usize>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        for (index, pipe_state) in entry.pipe_states.iter_mut().enumerate() {
            if only.is_none_or(|only| only == index) {
                read_on(&mut entry.service, index, pipe_state, &mut self.context);
            }
        }
        if !entry.will_tell && entry.service.has_untold() {
            entry.will_tell = true;
            self.untold.push_back((monotonic_ms().saturating_add(TELL_MS), id));
        }
        let settled = entry.service.retry_at_ms().is_none();
        let late = entry.leaving.is_some_and(|leaving| leaving.give_up_at_ms <= monotonic_ms());
        if (entry.is_done() && settled) || late {
            entry.service.abandon(entry.left(), &self.context);
            entry.service.close(&mut self.context);
            if let Some(leaving) = entry.leaving {
                self.remove(id, leaving.answer);
                return;
            }
        }
        self.watch(id);
    }

    /// Makes the loop wait for exactly those events that can be handled.
    fn watch(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        for (index, (pipe_state, pipe)) in entry.pipe_states.iter_mut().zip(entry.service.pipes()).enumerate()
        {
            let wanted = pipe_state.left.is_none() && entry.service.has_room(index);
            if wanted != pipe_state.watched {
                // A pipe that must not be read is not watched, because its end would be reported
                // again and again.
                let changed = if wanted {
                    let data = epoll::EventData::new_u64(key(id, index));
                    epoll::add(&self.epoll, pipe, data, epoll::EventFlags::IN)
                } else {
                    epoll::delete(&self.epoll, pipe)
                };
                if let Err(errno) = changed {
                    let why = error_chain(&errno);
                    self.context.console.warn(&format!("gatevisor: logd: cannot wait for a log pipe: {why}"));
                }
                pipe_state.watched = wanted;
            }
        }
        if entry.leaving.is_some() || entry.service.retry_at_ms().is_some() {
            self.timed.insert(id);
        } else {
            self.timed.remove(&id);
        }
    }

    fn remove(&mut self, id: u32, answer: bool) {
        if let Some(entry) = self.entries.remove(&id) {
            self.forget(id, &entry);
        }
        self.timed.remove(&id);
        if answer {
            self.replies.push_back(LogReply::Released { id });
            self.send_replies();
        }
    }

    fn forget(&mut self, id: u32, entry: &ServedService) {
        for (index, (pipe_state, pipe)) in entry.pipe_states.iter().zip(entry.service.pipes()).enumerate() {
            if pipe_state.watched {
                // The supervisor holds the same pipe, so closing our end does not remove it from
                // the set.
                let _ = epoll::delete(&self.epoll, pipe);
            }
            self.context.journal.release(key(id, index));
        }
    }

    fn handle_socket(&mut self) {
        let mut packet = [0; MAX_PACKET];
        for _ in 0..PACKETS {
            let mut fds = Vec::new();
            let Some(socket) = &self.socket else { return };
            match gatevisor_sys::socket::recv_with_fds(socket, &mut packet, &mut fds) {
                Ok(0) => return self.quit(),
                Ok(n) => self.execute(packet.get(..n).unwrap_or_default(), fds),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => return self.quit(),
            }
        }
    }

    fn execute(&mut self, packet: &[u8], fds: Vec<OwnedFd>) {
        match LogCommand::decode(packet) {
            Some(LogCommand::Log { id, name }) => self.accept(id, name, fds, true),
            Some(LogCommand::Show { id, name }) => self.accept(id, name, fds, false),
            Some(LogCommand::Release { id }) => self.leave(id, true),
            Some(LogCommand::Quit) => self.quit(),
            Some(LogCommand::ReplyPipe) => self.reply_into(fds.into_iter().next()),
            None => {
                let shown = packet.get(..16).unwrap_or(packet).escape_ascii();
                self.context
                    .console
                    .warn(&format!("gatevisor: logd: the supervisor sent `{shown}`; ignored"));
            }
        }
    }

    fn reply_into(&mut self, pipe: Option<OwnedFd>) {
        self.replies_blocked = false;
        self.reply_pipe = pipe.filter(|pipe| make_non_blocking(pipe).is_ok());
        self.replies.push_front(LogReply::Works);
        self.send_replies();
    }

    fn accept(&mut self, id: u32, name: &[u8], fds: Vec<OwnedFd>, has_log: bool) {
        let mut fds = fds.into_iter();
        let (Some(out), directory, err) = (fds.next(), fds.next(), fds.next()) else {
            self.context.console.warn(&format!("gatevisor: logd: no pipe came with service {id}; ignored"));
            return;
        };
        let Ok(name) = ServiceName::new(name) else {
            let shown = name.escape_ascii();
            self.context
                .console
                .warn(&format!("gatevisor: logd: `{shown}` is no name of a service; ignored"));
            return;
        };
        // A supervisor that uses the same number again has forgotten the first pipe.
        self.leave(id, false);
        if let Some(mut old) = self.entries.remove(&id) {
            old.service.abandon(old.left(), &self.context);
            old.service.close(&mut self.context);
            self.forget(id, &old);
        }
        let journal = &mut self.context.journal;
        let mut input = |pipe: OwnedFd, index| {
            let _ = make_non_blocking(&pipe);
            Some(ServicePipe { record: journal.adopt(key(id, index))?, pipe })
        };
        let (Some(out), err) = (input(out, OUT), err.and_then(|err| input(err, ERR))) else {
            self.context.console.warn(&format!("gatevisor: logd: too many services; {name} is not logged"));
            return;
        };
        let pipe_states = vec![PipeState::default(); if err.is_some() { 2 } else { 1 }];
        let console = &self.context.console;
        let settings = if has_log {
            LogSettings::of_service(directory.as_ref(), &name, self.output, &mut |line| console.warn(&line))
        } else {
            LogSettings::shown(&name)
        };
        let service = LoggedService::new(out, err, settings, &mut self.context);
        self.entries
            .insert(id, Box::new(ServedService { service, pipe_states, leaving: None, will_tell: false }));
        self.watch(id);
    }

    /// Reads the rest of a pipe and releases it. Bytes that its file cannot accept at once get some
    /// time.
    fn leave(&mut self, id: u32, answer: bool) {
        let Some(entry) = self.entries.get_mut(&id) else {
            if answer {
                // A supervisor that asks again, or asks about an unknown pipe, must not wait for
                // ever.
                self.replies.push_back(LogReply::Released { id });
                self.send_replies();
            }
            return;
        };
        let answer = answer || entry.leaving.is_some_and(|leaving| leaving.answer);
        // Only the present bytes count, because a remaining writer must not delay us for ever.
        for (index, pipe_state) in entry.pipe_states.iter_mut().enumerate() {
            pipe_state.left = Some(pipe_state.left.unwrap_or_else(|| entry.service.waiting(index)));
        }
        entry.leaving = Some(Leaving { give_up_at_ms: monotonic_ms().saturating_add(GIVE_UP_MS), answer });
        self.advance(id, None);
    }

    fn quit(&mut self) {
        if let Some(socket) = self.socket.take() {
            let _ = epoll::delete(&self.epoll, &socket);
        }
        self.replies.clear();
        let ids: Vec<u32> = self.entries.keys().copied().collect();
        for id in ids {
            self.leave(id, false);
        }
    }

    fn send_replies(&mut self) {
        let Some(reply_pipe) = &self.reply_pipe else { return };
        while let Some(reply) = self.replies.front() {
            // Few bytes are written completely or not at all.
            match rustix::io::write(reply_pipe, &reply.encode()) {
                Ok(_) => {
                    self.replies.pop_front();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // The end of the socket will be read.
                Err(_) => self.replies.clear(),
            }
        }
        let blocked = !self.replies.is_empty();
        if blocked != self.replies_blocked {
            self.replies_blocked = blocked;
            let _ = if blocked {
                let data = epoll::EventData::new_u64(REPLY_PIPE);
                epoll::add(&self.epoll, reply_pipe, data, epoll::EventFlags::OUT)
            } else {
                epoll::delete(&self.epoll, reply_pipe)
            };
        }
    }
}
