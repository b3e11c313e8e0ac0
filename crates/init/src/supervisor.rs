//! The dispatcher: waits for an event and passes it to the part to which it belongs.
//!
//! *Lives here:* the loop, the parts, and calls from one part to another.
//! *Does not live here:* decisions (`gatevisor-core`), and the work of a part: each part owns its
//! fields, and none knows this file.

mod commands;
mod deaths;
mod effects;
mod entries;
mod stopping;

use std::cell::Cell;
use std::os::fd::AsFd;
use std::rc::Rc;

use gatevisor_core::capacity::{DescriptorBudget, ServiceLimits};
use gatevisor_core::command_limiter::CommandLimiter;
use gatevisor_core::request::{RequestPolicy, SIGNALS};
use gatevisor_core::restart::Rules;
use gatevisor_core::scan_queue::ScanScope;
use gatevisor_core::shutdown::Shutdown;
use gatevisor_core::start_queue::StartQueue;
use gatevisor_core::{Coalesced, ServiceEffects, ServiceInput};
use gatevisor_sys::signal::{self, SignalFd};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::broadcast::Broadcasts;
use crate::command::ContainerCommand;
use crate::companion::Companion;
use crate::directory::{self, Owners};
use crate::entries::ScandirEntries;
use crate::host_manager::HostChannel;
use crate::id::Id;
use crate::log_daemon::LogContext;
use crate::logging::LogDaemons;
use crate::reactor::{Alarm, EventSource, Reactor, Timer};
use crate::scandir::Scandir;
use crate::scanner::Scanner;
use crate::services::Services;
use crate::spawner::Spawner;
use crate::{Config, StartError, limits, log_failure, memory, orphans, scandir_scripts};

/// How many slices of long broadcasts are done after everything else has ended.
const LAST_SLICES: usize = 256;

/// The supervisor's settings that matter after its start.
#[derive(Debug)]
struct SupervisorSettings {
    rules: Rules,
    limits: ServiceLimits,
    label_output: bool,
    /// The prefix of the names of a container's services that are stopped before its command.
    stop_first: Option<Vec<u8>>,
}

impl SupervisorSettings {
    fn of(config: &Config) -> Self {
        Self {
            rules: config.rules,
            limits: config.limits,
            label_output: config.label_output,
            stop_first: config.container.as_ref().map(|container| container.stop_first.clone()),
        }
    }

    /// Returns whether the output of a user's services is shown with a label. Root's services under
    /// root's supervisor may print anything: they need not forge lines.
    fn labels_output_of(&self, is_of_other_user: bool) -> bool {
        self.label_output && (is_of_other_user || directory::our_user() != 0)
    }
}

/// The parts, and the state between them.
#[derive(Debug)]
pub(crate) struct Supervisor {
    settings: SupervisorSettings,
    reactor: Reactor,
    signals: SignalFd,
    scandir: Scandir,
    scanner: Scanner,
    entries: ScandirEntries,
    owners: Owners,
    services: Services,
    spawner: Spawner,
    /// The waiting starts, and the processes between fork and exec.
    starts: StartQueue<Id>,
    broadcasts: Broadcasts,
    logs: LogDaemons,
    command: ContainerCommand,
    companion: Companion,
    host: HostChannel,
    /// The limiter of the rate of commands.
    limiter: CommandLimiter<Id>,
    limiter_alarm: Alarm,
    shutdown: Shutdown,
    shutdown_alarm: Alarm,
    descriptors: DescriptorBudget,
    /// The number of open readiness pipes.
    readiness_pipes: Rc<Cell<usize>>,
    /// The kernel's count of kills because memory ran out; `None` if it cannot be read.
    memory: Option<memory::Counter>,
    iterations: usize,
    /// Whether some ended processes are not reaped yet.
    more_dead: bool,
    /// Whether every orphan below us becomes our child.
    adopts_orphans: bool,
    requests: RequestPolicy,
    effects: ServiceEffects,
    /// The publications that are held back for the service that has many commands to obey.
    coalesced: Option<(Id, Coalesced)>,
    seed: u64,
}

impl Supervisor {
    pub(crate) fn new(config: &Config) -> Result<Self, StartError> {
        let failed = |step| move |errno| StartError::Step { scandir: config.scandir.clone(), step, errno };
        // All signals are blocked regardless of what we inherited; children get the defaults.
        signal::block_all(&signal::all()).map_err(failed("blocking signals"))?;
        gatevisor_sys::process::forget_inherited_fds();
        let signals = SignalFd::new(&SIGNALS.map(i32::from)).map_err(failed("listening for signals"))?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let adopts_orphans = orphans::adopt();
        let given_back = limits::change();
        let (scandir, svscan) = Scandir::take(&config.scandir)?;
        log_failure::forget_all(&svscan);
        let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed("opening /dev/null"))?;
        let reactor = Reactor::new().map_err(failed("making the event queue"))?;
        let spawner = Spawner::new(config, &scandir, null, given_back);
        let scanner = Scanner::new(&config.scandir, &scandir, &svscan);
        let fill = failed("filling the event queue");
        reactor.listen(&signals, EventSource::Signals).map_err(fill)?;
        reactor.listen(scandir.control(), EventSource::ScanControl).map_err(fill)?;
        if let Some(fd) = scanner.descriptor() {
            reactor.listen(fd, EventSource::Watch).map_err(fill)?;
        }
        let tick = reactor.now().tick;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let container = config.container.as_ref();
        Ok(Self {
            settings: SupervisorSettings::of(config),
            reactor,
            signals,
            scandir,
            scanner,
            entries: ScandirEntries::default(),
            owners: Owners::default(),
            services: Services::default(),
            spawner,
            starts: StartQueue::default(),
            broadcasts: Broadcasts::default(),
            logs: LogDaemons::default(),
            command: ContainerCommand::new(container),
            companion: Companion::new(config.companion.clone(), tick.0),
            host: HostChannel::new(config.host.as_ref()),
            limiter: CommandLimiter::default(),
            limiter_alarm: Alarm::default(),
            shutdown: Shutdown::new(config.grace_ms, container.is_some()),
            shutdown_alarm: Alarm::default(),
            descriptors: DescriptorBudget { limit },
            readiness_pipes: Rc::default(),
            memory: memory::Counter::find(tick),
            iterations: 0,
            more_dead: false,
            adopts_orphans,
            requests: RequestPolicy::new(container.map(|container| !container.command.is_empty())),
            effects: ServiceEffects::new(),
            coalesced: None,
            seed: tick.0 ^ u64::from(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()),
        })
    }

    /// Returns a number that differs between services, for their jitter.
    fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed
    }

    /// Runs until the shutdown is complete.
    pub(crate) fn run(&mut self) {
        self.scanner.request(ScanScope::Whole);
        self.start_companion();
        while !self.is_over() {
            self.iterate();
        }
        Self::reap_last();
        // The last events go to as many subscribers as this allows.
        for _ in 0..LAST_SLICES {
            if !self.broadcasts.are_busy() {
                break;
            }
            self.broadcasts.go_on();
        }
        if self.services.processes() == 0 && self.services.count() == 0 {
            self.scandir.end_in_order();
        }
    }

    /// Becomes the `finish` of the scandir; returns if there is none.
    pub(crate) fn become_finish(&self) {
        scandir_scripts::become_finish(&self.spawner, &self.scandir);
    }

    /// Returns the exit code of the container.
    pub(crate) fn exit_code(&self) -> u8 {
        self.command.exit_code()
    }

    /// Waits for events and handles them.
    fn iterate(&mut self) {
        self.pump_scan();
        self.pump_starts();
        let is_settled = self.shutdown.is_running() && !self.scanner.is_busy();
        if is_settled {
            self.host.settled(&mut self.reactor);
        }
        let starts_command = self.command.start(&self.spawner, is_settled);
        if starts_command && self.command.machine().has_ended() {
            self.begin_shutdown();
        }
        for id in self.broadcasts.go_on() {
            self.found_crowded(id);
        }
        // The loop must not block after these deaths, or after a command that could not be started:
        // no further event may come.
        let has_reaped = std::mem::take(&mut self.more_dead);
        if has_reaped {
            self.reap();
        }
        let is_busy = self.scanner.is_busy()
            || starts_command
            || has_reaped
            || self.more_dead
            || self.broadcasts.are_busy();
        let mut sources = Vec::new();
        if self.reactor.wait(is_busy, &mut sources) {
            self.dispatch(&sources);
            self.fire_timers();
        }
    }

    /// Handles facts in the order in which they came, then commands. It does not always begin with
    /// the same service's commands, because the later ones may find their user's budget used up.
    fn dispatch(&mut self, sources: &[EventSource]) {
        let mut commanded = Vec::new();
        for source in sources {
            match *source {
                EventSource::Control(id) => commanded.push(id),
                EventSource::Signals => self.take_signals(),
                EventSource::ScanControl => self.take_scan_commands(),
                EventSource::Watch => self.take_watch_events(),
                EventSource::Start(id) => self.take_start_report(id),
                EventSource::Readiness(id) => self.take_readiness(id),
                EventSource::LogDaemon(number) => self.with_logs(|logs, with| logs.receive(with, number)),
            }
        }
        self.iterations = self.iterations.wrapping_add(1);
        let first = self.iterations.checked_rem(commanded.len()).unwrap_or(0);
        commanded.rotate_left(first);
        for id in commanded {
            self.take_admitted_control(id);
        }
    }

    fn fire_timers(&mut self) {
        for (at, timer) in self.reactor.due() {
            if !self.reactor.take(at, timer) {
                continue;
            }
            match timer {
                Timer::Service(id) => {
                    if let Some(service) = self.services.get_mut(id) {
                        service.alarm_rang();
                    }
                    self.step(id, ServiceInput::Deadline);
                }
                Timer::LogDaemon(number) => self.with_logs(|logs, with| logs.start(with, number)),
                Timer::Unread(number) => self.with_logs(|logs, with| logs.make_room(with, number)),
                Timer::Shutdown => {
                    self.shutdown_alarm.rang();
                    self.shutdown_is_due();
                }
                Timer::Commands => {
                    self.limiter_alarm.rang();
                    self.resume();
                }
                Timer::Companion => self.start_companion(),
                Timer::HostManager => {
                    let services = &self.services;
                    self.host.due(&mut self.reactor, || services.counts());
                }
            }
        }
    }

    /// Starts the process beside us, unless nothing is to be started any more.
    fn start_companion(&mut self) {
        let now = self.reactor.now().tick;
        if self.shutdown.is_running()
            && let Some(at) = self.companion.start(&self.spawner, self.scandir.as_fd(), now)
        {
            self.reactor.wake_at(at, Timer::Companion);
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.next() {
            let signal = u8::try_from(signal).unwrap_or_default();
            if !scandir_scripts::divert(&mut self.spawner, &self.scandir, signal) {
                self.obey(self.requests.signal(signal));
            }
        }
        self.reap();
    }

    /// Calls the log daemons, and releases the entries whose pipes they have released by that.
    fn with_logs(&mut self, act: impl FnOnce(&mut LogDaemons, &mut LogContext<'_>)) {
        let is_last = self.shutdown.writes_last_logs();
        let mut with = LogContext::new(&mut self.reactor, &self.spawner, self.scandir.as_fd(), is_last);
        act(&mut self.logs, &mut with);
        for name in self.logs.take_released() {
            self.log_is_released(&name);
        }
    }
}
