//! The dispatcher: it waits for an event and tells the part that it belongs to.
//!
//! *Lives here:* the loop, the parts, and what one part asks of another one. *Does not live here:*
//! decisions (`gatevisor-core`), and what a part does: each owns its fields, and none knows this
//! file.

mod commands;
mod deaths;
mod effects;
mod entries;
mod stopping;

use std::cell::Cell;
use std::os::fd::AsFd;
use std::rc::Rc;

use gatevisor_core::command_limiter::CommandLimiter;
use gatevisor_core::descriptors::DescriptorBudget;
use gatevisor_core::restart::Rules;
use gatevisor_core::scan_queue::ScanScope;
use gatevisor_core::shutdown::Shutdown;
use gatevisor_core::start_queue::StartQueue;
use gatevisor_core::{Coalesced, ServiceEffects, ServiceInput};
use gatevisor_sys::signal::{self, SignalFd};
use gatevisor_sys::user::User;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::broadcast::Broadcasts;
use crate::command::ContainerCommand;
use crate::directory::{self, Owners};
use crate::entries::ScandirEntries;
use crate::id::Id;
use crate::logging::{LogContext, LogDaemons};
use crate::reactor::{Alarm, EventSource, Reactor, Timer};
use crate::scandir::Scandir;
use crate::scanner::Scanner;
use crate::services::Services;
use crate::spawner::Spawner;
use crate::stderr_log::say;
use crate::{Config, ServiceLimits, StartError, limits, log_failure, memory, scripts};

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

/// What the supervisor was told at its start, as far as it matters later.
#[derive(Debug)]
struct SupervisorSettings {
    rules: Rules,
    limits: ServiceLimits,
    label_output: bool,
    /// What the names of the services of a container begin with that are stopped before its
    /// command.
    stop_first: Option<Vec<u8>>,
}

impl SupervisorSettings {
    /// Returns whether what the services of a user print is shown with a label. Root under root may
    /// print as it likes: it need not forge anything.
    fn labels_output_of(&self, owner: Option<&User>) -> bool {
        self.label_output && (owner.is_some() || directory::our_user() != 0)
    }
}

/// The parts, and what passes between them.
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
    /// The starts that wait, and the processes between fork and exec.
    starts: StartQueue<Id>,
    broadcasts: Broadcasts,
    logs: LogDaemons,
    command: ContainerCommand,
    /// How fast commands are taken.
    limiter: CommandLimiter<Id>,
    limiter_alarm: Alarm,
    shutdown: Shutdown,
    shutdown_alarm: Alarm,
    descriptors: DescriptorBudget,
    /// How many readiness pipes are open.
    readiness_pipes: Rc<Cell<usize>>,
    /// How often the kernel killed for want of memory; none where that is not told.
    memory: Option<memory::Counter>,
    iterations: usize,
    /// Not everybody who has ended has been collected.
    more_dead: bool,
    /// It was said that somebody else's command to end is not obeyed.
    has_refused: bool,
    effects: ServiceEffects,
    /// What is not published yet of the service that has many commands to obey.
    coalesced: Option<(Id, Coalesced)>,
    seed: u64,
}

impl Supervisor {
    pub(crate) fn new(config: &Config) -> Result<Self, StartError> {
        let failed = |step| move |errno| StartError::Step { scandir: config.scandir.clone(), step, errno };
        // Whatever we were started with: children get the defaults.
        signal::block_all(&signal::all()).map_err(failed("blocking signals"))?;
        gatevisor_sys::process::forget_inherited_fds();
        let signals = SignalFd::new(&LISTENED).map_err(failed("listening for signals"))?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(failed("becoming the reaper of orphans"))?;
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
            settings: SupervisorSettings {
                rules: config.rules,
                limits: config.limits,
                label_output: config.label_output,
                stop_first: container.map(|container| container.stop_first.clone()),
            },
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
            limiter: CommandLimiter::default(),
            limiter_alarm: Alarm::default(),
            shutdown: Shutdown::new(config.grace_ms, container.is_some()),
            shutdown_alarm: Alarm::default(),
            descriptors: DescriptorBudget { limit },
            readiness_pipes: Rc::default(),
            memory: memory::Counter::find(tick),
            iterations: 0,
            more_dead: false,
            has_refused: false,
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
        while !self.is_over() {
            self.iterate();
        }
        deaths::reap_last();
        // The last events go to as many listeners as this allows.
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

    /// Becomes the `finish` of the scandir; returns where there is none.
    pub(crate) fn become_finish(&self) {
        scripts::become_finish(&self.spawner, &self.scandir);
    }

    /// Returns the exit code of the container.
    pub(crate) fn exit_code(&self) -> u8 {
        self.command.exit_code()
    }

    /// Waits for something to happen and deals with it.
    fn iterate(&mut self) {
        self.pump_scan();
        self.pump_starts();
        let starts_command = self.command.is_due() && self.shutdown.is_running() && !self.scanner.is_busy();
        if starts_command && !self.command.start(&self.spawner) {
            self.begin_shutdown();
        }
        for id in self.broadcasts.go_on() {
            self.found_crowded(id);
        }
        // What follows from these deaths, or from a command that cannot be started, may be that
        // nothing is left to wait for.
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

    /// Deals with facts in the order in which they came, then with commands; not always with the
    /// same service's first, as those that come late may find their user's budget used up.
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
                        service.alarm.rang();
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
            }
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.next() {
            match signal {
                signal::SIGCHLD => {}
                other if scripts::divert(&mut self.spawner, &self.scandir, other) => {}
                other if self.command.forward(other) => {}
                signal::SIGHUP => self.scanner.request(ScanScope::Whole),
                signal::SIGTERM | signal::SIGINT => {
                    self.command.asked_to_stop(signal);
                    self.begin_shutdown();
                }
                // What LXC and power buttons say.
                signal::SIGPWR if self.settings.stop_first.is_some() => {
                    self.command.asked_to_stop(signal::SIGTERM);
                    self.begin_shutdown();
                }
                signal::SIGQUIT => self.quit(),
                signal::SIGALRM => self.scanner.request(ScanScope::Changes),
                signal::SIGABRT => self.shutdown.abandon(),
                signal::SIGUSR1 | signal::SIGUSR2 | signal::SIGPWR | signal::SIGWINCH => {}
                other => say!("warning: signal {other} is not one that was asked for"),
            }
        }
        self.reap();
    }

    /// Has the log daemons do something, and lets go of the entries whose pipes they have let go of
    /// by that.
    fn with_logs(&mut self, act: impl FnOnce(&mut LogDaemons, &mut LogContext<'_>)) {
        let mut with = LogContext {
            reactor: &mut self.reactor,
            spawner: &self.spawner,
            scandir: self.scandir.as_fd(),
            is_last: self.shutdown.writes_last_logs(),
        };
        act(&mut self.logs, &mut with);
        for name in self.logs.take_released() {
            self.log_is_released(&name);
        }
    }
}
