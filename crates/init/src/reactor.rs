//! What the loop waits for: descriptors, timers, the time.
//!
//! *Lives here:* the queue of the kernel's events, the timers, both clocks as of the last event.
//! *Does not live here:* what an event or a timer means.

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

/// Events taken from the kernel at once.
const EVENTS_AT_ONCE: usize = 256;

/// Which descriptor an event belongs to.
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

/// Which part a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Service(Id),
    LogDaemon(u32),
    /// The pipes of a log daemon that cannot work, before the services that write to them wait.
    Unread(u32),
    Shutdown,
    /// FIFOs whose commands came too fast.
    Commands,
}

/// When a timer that is set again and again goes off next.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Tick>);

impl Alarm {
    /// Takes in that it has gone off.
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

    /// Asks for events of `fd` when it can be read.
    pub(crate) fn listen(&self, fd: impl AsFd, source: EventSource) -> Result<(), Errno> {
        self.listen_for(fd, source, EventFlags::IN)
    }

    /// Asks for certain events of `fd`; a hang-up is always reported.
    pub(crate) fn listen_for(
        &self,
        fd: impl AsFd,
        source: EventSource,
        what: EventFlags,
    ) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, source.token(), what)
    }

    /// Changes which events of `fd` are asked for.
    pub(crate) fn attend(&self, fd: impl AsFd, source: EventSource, what: EventFlags) {
        if let Err(errno) = epoll::modify(&self.epoll, fd, source.token(), what) {
            // Cannot happen with a descriptor of ours; then it is listened to as before.
            say!("warning: changing what is listened to failed: {errno}");
        }
    }

    /// Sets a timer that goes off once.
    pub(crate) fn wake_at(&mut self, at: Tick, timer: Timer) {
        self.timers.insert((at, timer));
    }

    /// Sets a timer anew, or takes it back, unless it is set like that already.
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

    /// Returns the timers that are due now. One that is set while these are dealt with is due in
    /// the next iteration.
    pub(crate) fn due(&self) -> Vec<(Tick, Timer)> {
        self.timers.iter().take_while(|(at, _)| *at <= self.now.tick).copied().collect()
    }

    /// Takes a timer that is due; returns false where it was taken back meanwhile.
    pub(crate) fn take(&mut self, at: Tick, timer: Timer) -> bool {
        self.timers.remove(&(at, timer))
    }

    /// Waits for something to happen, unless `is_busy`, and appends the sources of what did;
    /// returns false where waiting was interrupted.
    pub(crate) fn wait(&mut self, is_busy: bool, sources: &mut Vec<EventSource>) -> bool {
        let mut space = [MaybeUninit::uninit(); EVENTS_AT_ONCE];
        let timeout = if is_busy { Some(Timespec { tv_sec: 0, tv_nsec: 0 }) } else { self.timeout() };
        let events = match epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return false,
            Err(errno) => {
                // Cannot happen with a descriptor of ours; if it does, supervision must go on.
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
        // One more than the difference: the clock's milliseconds are rounded down.
        let ms = at.since(Tick(clock::monotonic_ms()));
        let ms = if ms == 0 { 0 } else { ms.saturating_add(1) };
        Some(Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from((ms % 1000).saturating_mul(1_000_000)).unwrap_or(0),
        })
    }
}
