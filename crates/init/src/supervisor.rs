//! The loop: wait for an event, let the machine decide, perform what it says.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use gatevisor_core::fair::{Counts, FairQueue};
use gatevisor_core::restart::RestartPolicy;
use gatevisor_core::scan::DirectoryIdentity;
use gatevisor_core::stop::StopOrder;
use gatevisor_core::{Now, ServiceEffects, ServiceInput, Tick};
use gatevisor_paths::Mounts;
use gatevisor_sys::descriptor_pool::DescriptorPool;
use gatevisor_sys::signal::{self, SignalFd};
use gatevisor_sys::spawn::{GivenBack, Starting};
use gatevisor_sys::{Errno, clock, file};
use gatevisor_wire::Pid;
use gatevisor_wire::files;
use gatevisor_wire::tai::Tai64n;
use rustix::event::{Timespec, epoll};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::broadcast::Broadcasts;
use crate::command::ContainerCommand;
use crate::control::RateLimiter;
use crate::directory::{self, Owners};
use crate::environments::Environments;
use crate::groups::Groups;
use crate::limits;
use crate::log_failure;
use crate::logging::Logging;
use crate::memory;
use crate::publish::Coalesced;
use crate::scandir::ScandirEntries;
use crate::service::{Id, ServiceTable};
use crate::shutdown::{self, Stage};
use crate::stderr_log::say;
use crate::watch::Watch;
use crate::{Config, StartError, survivors};

/// The signals that mean something to the supervisor.
const LISTENED: [i32; 11] = [
    signal::SIGCHLD,
    signal::SIGTERM,
    signal::SIGINT,
    signal::SIGQUIT,
    signal::SIGHUP,
    signal::SIGALRM,
    signal::SIGABRT,
    signal::SIGUSR1,
    signal::SIGUSR2,
    signal::SIGPWR,
    signal::SIGWINCH,
];

/// Broadcasts that take longer go on this often after the end of everything else.
const LAST_SLICES: usize = 256;
/// Processes that start from low descriptors at a time; the others get a copy of all.
const POOLED_STARTS: usize = 8;
/// Descriptors that the preparation of a service directory adds to that of the directory.
const PREPARED_DESCRIPTORS: u64 = 3;
/// Descriptors kept for what passes: processes that are starting, files being replaced, listeners being told.
const SPARE_DESCRIPTORS: u64 = 48;
/// Services of a user who need not think of others yet.
const FEW_SERVICES: usize = 16;
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
    /// Returns the token of it: the kind in the low byte, the rest above.
    pub(crate) fn token(self) -> epoll::EventData {
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

/// Who a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    SupervisedService(Id),
    LogDaemon(u32),
    /// The pipes of a log daemon that cannot work, before the services that write to them wait.
    Unread(u32),
    Orphans,
    /// The services that are stopped first have had their time alone.
    Advance,
    Shutdown,
    /// FIFOs of commands that were too many for their user's rate limit.
    RateLimiter,
}

/// Everything the loop holds.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) config: Config,
    pub(crate) epoll: OwnedFd,
    signals: SignalFd,
    pub(crate) scandir: OwnedFd,
    /// Which mounts in the scandir may be slots.
    pub(crate) mounted_slots: Mounts,
    pub(crate) scan_control: OwnedFd,
    /// Held for its lock only.
    _scan_lock: OwnedFd,
    /// The same, where it can be had: it tells clients whose supervisor this is.
    _ours_lock: Option<OwnedFd>,
    /// The scandir and its `.s6-svscan`, which its owner could rename.
    pub(crate) not_slots: [DirectoryIdentity; 2],
    pub(crate) watch: Watch,
    pub(crate) null: OwnedFd,
    /// Where processes are started from; none on an old kernel.
    pub(crate) pool: Option<DescriptorPool>,
    pub(crate) environments: Environments,
    /// What tells the scandir from every other one.
    pub(crate) scandir_identity: String,
    /// The last supervisor of the scandir did not end in order.
    pub(crate) follows_a_killed_one: bool,
    /// What we changed for ourselves, as children shall have it.
    pub(crate) given_back: GivenBack,
    /// How often the kernel killed for want of memory; none where that is not told.
    pub(crate) memory: Option<memory::Counter>,
    /// The number that every descriptor is below; none if there is no limit.
    max_descriptors: Option<u64>,
    pub(crate) services: ServiceTable,
    pub(crate) slots: ScandirEntries,
    pub(crate) owners: Owners,
    pub(crate) pids: HashMap<Pid, Id>,
    pub(crate) timers: BTreeSet<(Tick, Timer)>,
    /// Services whose `run` shall be forked as soon as enough earlier ones have reached their program.
    pub(crate) start_queue: FairQueue<Id>,
    /// Processes that failed to reach their program, and scripts of signals, until they are reaped.
    pub(crate) unreaped: HashMap<Pid, Starting>,
    /// Processes between fork and exec.
    pub(crate) in_flight: Counts,
    pub(crate) broadcasts: Broadcasts,
    /// How fast commands are taken.
    pub(crate) rate_limiter: RateLimiter,
    iterations: usize,
    /// Not everybody who has ended has been collected.
    pub(crate) more_dead: bool,
    /// How many readiness pipes are open.
    pub(crate) readiness_pipes: Rc<Cell<usize>>,
    pub(crate) groups: Groups,
    /// What is executed to become this very program.
    pub(crate) ourselves: CString,
    pub(crate) logging: Logging,
    pub(crate) stage: Stage,
    pub(crate) command: ContainerCommand,
    /// Whom the end has reached.
    pub(crate) stop_order: StopOrder,
    /// When the grace of the shutdown was over, or somebody insisted.
    pub(crate) killing_since: Option<Tick>,
    /// It was said that somebody else's command to end is not obeyed.
    pub(crate) has_refused: bool,
    pub(crate) now: Now,
    effects: ServiceEffects,
    pub(crate) coalesced: Option<Coalesced>,
    seed: u64,
}

fn moment() -> Now {
    let (seconds, nanos) = clock::wall();
    Now { tick: Tick(clock::monotonic_ms()), wall: Tai64n::from_unix(seconds, nanos) }
}

impl Supervisor {
    pub(crate) fn new(config: Config) -> Result<Self, StartError> {
        let failed = |step| {
            let scandir = config.scandir.clone();
            move |errno| StartError::Step { scandir, step, errno }
        };
        // Whatever we were started with: children get the defaults.
        signal::block_all(&signal::all()).map_err(failed("blocking signals"))?;
        gatevisor_sys::process::forget_inherited_fds();
        let signals = SignalFd::new(&LISTENED).map_err(failed("listening for signals"))?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(failed("becoming the reaper of orphans"))?;
        let given_back = limits::change();
        let scandir = directory::make_scandir(&config.scandir).map_err(failed("opening the directory"))?;
        or_there(rustix::fs::mkdirat(&scandir, files::SVSCAN, Mode::from_raw_mode(0o700)))
            .map_err(failed("making .s6-svscan"))?;
        let svscan = file::open_directory(&scandir, files::SVSCAN).map_err(failed("opening .s6-svscan"))?;
        let scan_lock = file::lock_with_mode(&svscan, "lock", Mode::from_raw_mode(0o600))
            .map_err(failed("locking"))?
            .ok_or_else(|| StartError::AlreadyRunning(config.scandir.clone()))?;
        let ours_lock = take_own_lock(&svscan);
        log_failure::forget_all(&svscan);
        let mode = Mode::from_raw_mode(0o600);
        or_there(rustix::fs::mknodat(&svscan, "control", rustix::fs::FileType::Fifo, mode, 0))
            .map_err(failed("making .s6-svscan/control"))?;
        let (scan_control, _) = directory::open_fifo(&svscan, "control")
            .map_err(failed("opening .s6-svscan/control"))?
            .ok_or_else(|| failed(".s6-svscan/control is not a FIFO")(Errno::INVAL))?;
        let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed("opening /dev/null"))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed("making the event queue"))?;
        let pool = DescriptorPool::new(&null, POOLED_STARTS).ok();
        let watch = Watch::new(&config.scandir, &scandir, &svscan);
        let identity = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| directory::identity(&stat));
        let not_slots = [
            identity(&scandir).map_err(failed("looking at the directory"))?,
            identity(&svscan).map_err(failed("looking at .s6-svscan"))?,
        ];
        let now = moment();
        let supervisor = Self {
            groups: Groups::new(&scandir),
            mounted_slots: directory::mounted_slots(&scandir),
            scandir_identity: survivors::identity(&scandir),
            ourselves: ourselves(&config.program),
            pool,
            epoll,
            signals,
            scandir,
            scan_control,
            _scan_lock: scan_lock,
            _ours_lock: ours_lock,
            not_slots,
            watch,
            null,
            environments: Environments::new(&config),
            follows_a_killed_one: survivors::begin(&svscan),
            given_back,
            memory: memory::Counter::find(now.tick),
            max_descriptors: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            services: ServiceTable::default(),
            slots: ScandirEntries::default(),
            owners: Owners::default(),
            pids: HashMap::new(),
            timers: BTreeSet::new(),
            start_queue: FairQueue::default(),
            unreaped: HashMap::new(),
            in_flight: Counts::default(),
            broadcasts: Broadcasts::default(),
            rate_limiter: RateLimiter::default(),
            iterations: 0,
            more_dead: false,
            readiness_pipes: Rc::default(),
            logging: Logging::default(),
            stage: Stage::Running,
            command: ContainerCommand::default(),
            stop_order: StopOrder::default(),
            killing_since: None,
            has_refused: false,
            now,
            effects: ServiceEffects::new(),
            coalesced: None,
            seed: now.tick.0 ^ u64::from(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()),
            config,
        };
        supervisor.listen_at(&supervisor.signals, EventSource::Signals)?;
        supervisor.listen_at(&supervisor.scan_control, EventSource::ScanControl)?;
        if let Some(fd) = supervisor.watch.descriptor() {
            supervisor.listen_at(fd, EventSource::Watch)?;
        }
        Ok(supervisor)
    }

    fn listen_at(&self, fd: impl AsFd, source: EventSource) -> Result<(), StartError> {
        self.listen(fd, source).map_err(|errno| StartError::Step {
            scandir: self.config.scandir.clone(),
            step: "filling the event queue",
            errno,
        })
    }

    /// Asks for events of `fd` when it can be read.
    pub(crate) fn listen(&self, fd: impl AsFd, source: EventSource) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, source.token(), epoll::EventFlags::IN)
    }

    /// Returns whether enough descriptors are left to serve all services and the one whose directory is `newest`, the
    /// descriptor that was opened last.
    ///
    /// What is short of descriptors can neither start a service nor write its status nor tell anybody, so one
    /// service too many would be a problem for every service.
    ///
    /// Who has `own` services, and these are many, leaves some descriptors to others.
    pub(crate) fn can_spare(&self, newest: impl AsFd, own: usize) -> bool {
        // The lowest free number is taken, so this is about how many are in use. Each service may need one more for
        // its readiness, unless it has it already.
        let used = u64::try_from(newest.as_fd().as_raw_fd())
            .unwrap_or(u64::MAX)
            .saturating_add(PREPARED_DESCRIPTORS);
        let without_readiness = self.services.count().saturating_sub(self.readiness_pipes.get());
        let needed = u64::try_from(without_readiness).unwrap_or(u64::MAX).saturating_add(SPARE_DESCRIPTORS);
        self.max_descriptors.is_none_or(|most| {
            let for_others = if own < FEW_SERVICES { 0 } else { most / 8 };
            used.saturating_add(needed).saturating_add(for_others) < most
        })
    }

    /// Returns a number that differs between services, for their jitter.
    pub(crate) fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed
    }

    /// Runs until the shutdown is complete.
    pub(crate) fn run(&mut self) {
        self.scan_all();
        while !self.is_over() {
            self.iterate();
        }
        shutdown::reap_last();
        // The last events, to whoever is not one of too many.
        for _ in 0..LAST_SLICES {
            if !self.broadcasts.are_busy() {
                break;
            }
            self.broadcasts.go_on();
        }
        if self.pids.is_empty() && self.services.count() == 0 {
            self.end_in_order();
        }
    }

    /// Waits for something to happen and deals with it.
    fn iterate(&mut self) {
        self.pump_scan();
        self.pump_starts();
        let starts_command = self.command_is_due();
        if starts_command {
            self.start_command();
        }
        for id in self.broadcasts.go_on() {
            self.found_crowded(id);
        }
        // What follows from these deaths, or from a command that cannot be started, may be that nothing is left to wait for.
        let has_reaped = std::mem::take(&mut self.more_dead);
        if has_reaped {
            self.reap();
        }
        let mut space = [MaybeUninit::uninit(); EVENTS_AT_ONCE];
        let is_busy = self.has_pending_scan()
            || starts_command
            || has_reaped
            || self.more_dead
            || self.broadcasts.are_busy();
        let timeout = if is_busy { Some(Timespec { tv_sec: 0, tv_nsec: 0 }) } else { self.timeout() };
        let events = match epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return,
            Err(errno) => {
                // Cannot happen with a descriptor of ours; if it does, supervision must go on.
                say!("warning: waiting for events failed: {errno}");
                return;
            }
        };
        self.now = moment();
        // Facts in the order in which they came, then commands; not always the same service's first, as those that come
        // late may find their user's share used up.
        let mut commanded = Vec::new();
        for event in events.iter() {
            match EventSource::from_token(event.data.u64()) {
                Some(EventSource::Control(id)) => commanded.push(id),
                Some(source) => self.handle(source),
                None => {}
            }
        }
        self.iterations = self.iterations.wrapping_add(1);
        let first = self.iterations.checked_rem(commanded.len()).unwrap_or(0);
        commanded.rotate_left(first);
        for id in commanded {
            self.take_share_of_control(id);
        }
        self.fire_timers();
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

    fn handle(&mut self, source: EventSource) {
        match source {
            EventSource::Signals => self.take_signals(),
            EventSource::ScanControl => self.take_scan_commands(),
            EventSource::Watch => self.take_watch_events(),
            EventSource::Control(id) => self.take_share_of_control(id),
            EventSource::Start(id) => self.take_start_report(id),
            EventSource::Readiness(id) => self.take_readiness(id),
            EventSource::LogDaemon(number) => self.take_log_daemon(number),
        }
    }

    /// Gives `event` to the machine of `id` and performs what it decides.
    pub(crate) fn step(&mut self, id: Id, event: ServiceInput) {
        self.step_with(id, event, &RestartPolicy::default());
    }

    /// As [`Self::step`], with the numbers of the slot's policy.
    pub(crate) fn step_with(&mut self, id: Id, event: ServiceInput, policy: &RestartPolicy) {
        let Some(service) = self.services.get_mut(id) else { return };
        let mut effects = std::mem::take(&mut self.effects);
        service.machine.step(self.now, event, policy, &mut effects);
        self.perform(id, &mut effects);
        self.effects = effects;
        self.set_timer(id);
    }

    /// Performs effects that came with a new machine.
    pub(crate) fn perform_first(&mut self, id: Id, mut effects: ServiceEffects) {
        self.perform(id, &mut effects);
        self.set_timer(id);
    }

    fn set_timer(&mut self, id: Id) {
        let Some(service) = self.services.get_mut(id) else { return };
        let wanted = service.machine.deadline();
        if wanted == service.timer {
            return;
        }
        if let Some(at) = service.timer {
            self.timers.remove(&(at, Timer::SupervisedService(id)));
        }
        service.timer = wanted;
        if let Some(at) = wanted {
            self.timers.insert((at, Timer::SupervisedService(id)));
        }
    }

    /// Sets a timer that belongs to no service.
    pub(crate) fn wake_at(&mut self, at: Tick, timer: Timer) {
        self.timers.insert((at, timer));
    }

    fn fire_timers(&mut self) {
        // Those due now, once each: a timer that is set anew while we work waits for the next loop iteration.
        let due: Vec<(Tick, Timer)> =
            self.timers.iter().take_while(|(at, _)| *at <= self.now.tick).copied().collect();
        for (at, timer) in due {
            if !self.timers.remove(&(at, timer)) {
                continue;
            }
            match timer {
                Timer::SupervisedService(id) => {
                    if let Some(service) = self.services.get_mut(id) {
                        service.timer = None;
                    }
                    self.step(id, ServiceInput::Deadline);
                }
                Timer::LogDaemon(number) => self.start_log_daemon(number),
                Timer::Unread(number) => self.make_room_in_pipes(number),
                Timer::Orphans => self.kill_orphans(),
                Timer::Advance => self.advance_shutdown(),
                Timer::Shutdown => self.force_shutdown(),
                Timer::RateLimiter => self.resume(),
            }
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.next() {
            match signal {
                signal::SIGCHLD => {}
                other if self.divert(other) || self.forward(other) => {}
                signal::SIGHUP => self.scan_all(),
                signal::SIGTERM | signal::SIGINT => {
                    self.asked_to_stop(signal);
                    self.begin_shutdown();
                }
                // What LXC and power buttons say.
                signal::SIGPWR if self.config.container.is_some() => {
                    self.asked_to_stop(signal::SIGTERM);
                    self.begin_shutdown();
                }
                signal::SIGQUIT => self.quit(),
                signal::SIGALRM => self.scan(),
                signal::SIGABRT => self.abandon(),
                signal::SIGUSR1 | signal::SIGUSR2 | signal::SIGPWR | signal::SIGWINCH => {}
                other => say!("warning: signal {other} is not one that was asked for"),
            }
        }
        self.reap();
    }

    pub(crate) fn take_readiness(&mut self, id: Id) {
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(pipe) = &service.readiness else { return };
        let mut bytes = [0; 4096];
        match rustix::io::read(pipe, &mut bytes) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(count) if count > 0 => {
                if bytes.iter().take(count).any(|&byte| byte == b'\n') {
                    service.readiness = None;
                    self.step(id, ServiceInput::Ready);
                }
            }
            Ok(_) | Err(_) => service.readiness = None,
        }
    }
}

/// Takes the lock by which clients know our supervisor, under whatever name it runs and whoever they are.
/// Returns what is executed to become this very program: whatever its path leads to by now, where there is a `/proc`.
fn ourselves(program: &Path) -> CString {
    const SELF: &CStr = c"/proc/self/exe";
    let by_path = || CString::new(program.as_os_str().as_encoded_bytes()).unwrap_or_default();
    rustix::fs::readlink(SELF, Vec::new()).map_or_else(|_| by_path(), |_| SELF.to_owned())
}

fn take_own_lock(svscan: &OwnedFd) -> Option<OwnedFd> {
    let name = files::SVSCAN_OURS.rsplit('/').next()?;
    match file::lock(svscan, name) {
        Ok(Some(lock)) => return Some(lock),
        Ok(None) => say!("warning: another process holds `{}`", files::SVSCAN_OURS),
        Err(errno) => say!("warning: cannot lock `{}`: {errno}", files::SVSCAN_OURS),
    }
    None
}

/// Takes it as done where what should be made was there already.
fn or_there(made: Result<(), Errno>) -> Result<(), Errno> {
    if made == Err(Errno::EXIST) { Ok(()) } else { made }
}
