//! The event loop's sources: descriptors, timers, the time.
//!
//! *Lives here:* the queue of the kernel's events, the timers, and both clocks at the last event.
//! *Does not live here:* the meaning of an event or a timer.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use gatevisor_core::{Now, Tick};
use gatevisor_sys::{Errno, clock};
use gatevisor_wire::tai::Tai64n;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventFlags};

use crate::id::Id;
use crate::stderr_log::say;

/// The most events that are taken from the kernel at once.
const EVENTS_AT_ONCE: usize = 256;

/// The descriptor to which an event belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventSource {
    Signals,
    ScanControl,
    Watch,
    Control(Id),
    Start(Id),
    Readiness(Id),
    LogDaemon(u32),
}

impl EventSource {
    /// Returns its token: the kind in the low byte, the rest above.
    fn token(self) -> epoll::EventData {
        let (kind, rest) = match self {
            Self::Signals => (0, 0),
            Self::ScanControl => (1, 0),
            Self::Watch => (2, 0),
            Self::Control(id) => (3, id.bits()),
            Self::Start(id) => (4, id.bits()),
            Self::Readiness(id) => (5, id.bits()),
            Self::LogDaemon(number) => (6, u64::from(number)),
        };
        epoll::EventData::new_u64(kind | rest << 8)
    }

    fn from_token(token: u64) -> Option<Self> {
        let rest = token >> 8;
        Some(match token & 0xff {
            0 => Self::Signals,
            1 => Self::ScanControl,
            2 => Self::Watch,
            3 => Self::Control(Id::from_bits(rest)),
            4 => Self::Start(Id::from_bits(rest)),
            5 => Self::Readiness(Id::from_bits(rest)),
            6 => Self::LogDaemon(u32::try_from(rest).ok()?),
            _ => return None,
        })
    }
}

/// The part to which a timer belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Service(Id),
    LogDaemon(u32),
    /// The pipes of a log daemon that cannot work; it must fire before the services that write to
    /// them block.
    Unread(u32),
    Shutdown,
    /// FIFOs whose commands came too fast.
    Commands,
    /// A message to the service manager of the host.
    HostManager,
    /// The next start of the process beside us.
    Companion,
}

/// The next time of a timer that is set again and again.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Tick>);

impl Alarm {
    /// Notes that it has fired.
    pub(crate) fn rang(&mut self) {
        self.0 = None;
    }
}

/// The events of the kernel and the timers.
#[derive(Debug)]
pub(crate) struct Reactor {
    epoll: OwnedFd,
    timers: BTreeSet<(Tick, Timer)>,
    now: Now,
}

fn now() -> Now {
    let (seconds, nanos) = clock::wall();
    Now { tick: Tick(clock::monotonic_ms()), wall: Tai64n::from_unix(seconds, nanos) }
}

impl Reactor {
    pub(crate) fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, timers: BTreeSet::new(), now: now() })
    }

    /// Returns when the last events came.
    pub(crate) fn now(&self) -> Now {
        self.now
    }

    /// Watches `fd` for being readable.
    pub(crate) fn listen(&self, fd: impl AsFd, source: EventSource) -> Result<(), Errno> {
        self.listen_for(fd, source, EventFlags::IN)
    }

    /// Watches `fd` for certain events. A hang-up is always reported.
    pub(crate) fn listen_for(
        &self,
        fd: impl AsFd,
        source: EventSource,
        what: EventFlags,
    ) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, source.token(), what)
    }

    /// Changes the events for which `fd` is watched.
    pub(crate) fn attend(&self, fd: impl AsFd, source: EventSource, what: EventFlags) {
        if let Err(errno) = epoll::modify(&self.epoll, fd, source.token(), what) {
            // This cannot happen with a descriptor of ours. If it does, the descriptor is watched
            // as before.
            say!("warning: changing what is listened to failed: {errno}");
        }
    }

    /// Sets a timer that fires once.
    pub(crate) fn wake_at(&mut self, at: Tick, timer: Timer) {
        self.timers.insert((at, timer));
    }

    /// Sets a timer to another time, or cancels it, unless that is its setting already.
    pub(crate) fn set(&mut self, alarm: &mut Alarm, timer: Timer, wanted: Option<Tick>) {
        if alarm.0 == wanted {
            return;
        }
        if let Some(at) = alarm.0 {
            self.timers.remove(&(at, timer));
        }
        alarm.0 = wanted;
        if let Some(at) = wanted {
            self.timers.insert((at, timer));
        }
    }

    /// Returns the timers that are due now. A timer that is set while these are handled comes in
    /// the next iteration.
    pub(crate) fn due(&self) -> Vec<(Tick, Timer)> {
        self.timers.iter().take_while(|(at, _)| *at <= self.now.tick).copied().collect()
    }

    /// Removes a timer that is due; returns false if it was cancelled meanwhile.
    pub(crate) fn take(&mut self, at: Tick, timer: Timer) -> bool {
        self.timers.remove(&(at, timer))
    }

    /// Waits for events, unless `is_busy`, and appends their sources; returns false if the wait was
    /// interrupted.
    pub(crate) fn wait(&mut self, is_busy: bool, sources: &mut Vec<EventSource>) -> bool {
        let mut space = [MaybeUninit::uninit(); EVENTS_AT_ONCE];
        let timeout = if is_busy { Some(Timespec { tv_sec: 0, tv_nsec: 0 }) } else { self.timeout() };
        let events = match epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return false,
            Err(errno) => {
                // This cannot happen with a descriptor of ours. If it does, supervision must go on.
                say!("warning: waiting for events failed: {errno}");
                return false;
            }
        };
        self.now = now();
        sources.extend(events.iter().filter_map(|event| EventSource::from_token(event.data.u64())));
        true
    }

    fn timeout(&self) -> Option<Timespec> {
        let (at, _) = self.timers.first()?;
        // One more than the difference, because the clock's milliseconds are rounded down.
        let ms = at.since(Tick(clock::monotonic_ms()));
        let ms = if ms == 0 { 0 } else { ms.saturating_add(1) };
        Some(clock::timespec(ms))
    }
}
