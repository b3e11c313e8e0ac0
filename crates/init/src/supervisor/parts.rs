//! The parts of the supervisor.
//!
//! *Lives here:* which parts there are, and making them.
//! *Does not live here:* the fields of a part, which nobody but the part can touch (but for the
//! settings, which do not change), and calls from one part to another (the other files of this
//! directory).

use gatevisor_core::Tick;
use gatevisor_core::capacity::ServiceLimits;
use gatevisor_core::request::{RequestPolicy, SIGNALS};
use gatevisor_core::restart::Rules;
use gatevisor_sys::signal::{self, SignalFd};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::broadcast::Broadcasts;
use crate::command::ContainerCommand;
use crate::commands::Commands;
use crate::companion::Companion;
use crate::deaths::Deaths;
use crate::directory::{self, Owners};
use crate::entries::ScandirEntries;
use crate::host_manager::HostChannel;
use crate::logging::LogDaemons;
use crate::pending_starts::PendingStarts;
use crate::publications::Publications;
use crate::reactor::{EventSource, Reactor};
use crate::scandir::Scandir;
use crate::scanner::Scanner;
use crate::services::Services;
use crate::shutdown::ShutdownProgress;
use crate::spawner::Spawner;
use crate::{Config, StartError, limits, log_failure, orphans};

/// The supervisor's settings that matter after its start.
#[derive(Debug)]
pub(super) struct SupervisorSettings {
    pub(super) rules: Rules,
    pub(super) limits: ServiceLimits,
    label_output: bool,
    /// The prefix of the names of a container's services that are stopped before its command.
    pub(super) stop_first: Option<Vec<u8>>,
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
    pub(super) fn labels_output_of(&self, is_of_other_user: bool) -> bool {
        self.label_output && (is_of_other_user || directory::our_user() != 0)
    }
}

/// The parts. The files of this directory call one part after another, so they share the parts; no
/// file but a part's own touches the fields of that part, except for the settings.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(super) settings: SupervisorSettings,
    pub(super) reactor: Reactor,
    pub(super) signals: SignalFd,
    pub(super) scandir: Scandir,
    pub(super) scanner: Scanner,
    pub(super) entries: ScandirEntries,
    pub(super) owners: Owners,
    pub(super) services: Services,
    pub(super) spawner: Spawner,
    pub(super) starts: PendingStarts,
    pub(super) publications: Publications,
    pub(super) broadcasts: Broadcasts,
    pub(super) logs: LogDaemons,
    pub(super) command: ContainerCommand,
    pub(super) companion: Companion,
    pub(super) host: HostChannel,
    pub(super) commands: Commands,
    pub(super) shutdown: ShutdownProgress,
    pub(super) deaths: Deaths,
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
            services: Services::new(seed(tick)),
            spawner,
            starts: PendingStarts::new(limit),
            publications: Publications::new(),
            broadcasts: Broadcasts::default(),
            logs: LogDaemons::default(),
            command: ContainerCommand::new(container),
            companion: Companion::new(config.companion.clone(), tick.0),
            host: HostChannel::new(config.host.as_ref()),
            commands: Commands::new(RequestPolicy::new(
                container.map(|container| !container.command.is_empty()),
            )),
            shutdown: ShutdownProgress::new(config.grace_ms, container.is_some(), adopts_orphans),
            deaths: Deaths::new(tick),
        })
    }
}

/// Returns a number that differs between supervisors.
fn seed(now: Tick) -> u64 {
    now.0 ^ u64::from(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs())
}
