//! `gatevisor takeover`, and the same part of `gatevisor profile-watcher`: watches the profiles of
//! a home while this container runs its gateways, and waits for the lock while another container
//! runs them.
//!
//! *Lives here:* the consequences of having, losing and getting the lock of the home.
//! *Does not live here:* the lock (`gatevisor_boot::volume`); watching
//! (`gatevisor_gateways::watch`).
//!
//! These are ordinary services of the agent's user. One of them is in the scandir of each container
//! that runs, or may run, gateways. A container that loses the lock stops its gateways and waits
//! for the lock again.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use gatevisor_boot::environment::{self, Variable};
use gatevisor_boot::volume::{self, HeldHomeLock, LockFile, LockFileWatch};
use gatevisor_client::ServiceDir;
use gatevisor_gateways::desired::Desired;
use gatevisor_gateways::manager::{ScandirManager, ServiceManager};
use gatevisor_gateways::reconcile::{ProfileAction, ReconcileSettings, take_over};
use gatevisor_gateways::watch::ProfileWatcher;
use gatevisor_paths::OpenHome;
use gatevisor_slot::home_lock::{BootNote, LockClaim};
use gatevisor_sys::Errno;
use gatevisor_wire::control::Control;
use jiff::Zoned;
use rustix::process::Pid;

use crate::exit::{CommandError, Exit};
use crate::{enter, live, out, watch};

/// The name of the service and of the verb.
pub const NAME: &str = "takeover";
/// Bytes of stack of a waiting thread.
const STACK: usize = 256 << 10;
/// The most looks of a waiting process at a lock that is being replaced. Each look leaves a thread
/// behind.
const LOOKS: usize = 64;

/// The lock that this process has taken, and the record for starts of gateways.
struct TakenLock {
    lock: HeldHomeLock,
    _claim: Option<LockClaim>,
}

impl TakenLock {
    fn new(lock: HeldHomeLock, scandir: &OpenHome) -> Self {
        let claim = LockClaim::publish(scandir, lock.identity()).inspect_err(|errno| {
            out::warn(&format!(
                "cannot write down in `{}` that the lock of the home is held, so no gateway starts here: {errno}",
                scandir.path().display()
            ));
        });
        Self { lock, _claim: claim.ok() }
    }
}

/// This container's hold on the lock of its home; empty if the lock is not possible, so that nobody
/// can tell.
struct Hold {
    scandir: OpenHome,
    /// The file that the first process has locked.
    inherited: Option<LockFile>,
    /// The file that this process has locked.
    taken: Option<TakenLock>,
    /// Whether the lock can be watched.
    is_known: bool,
}

impl Hold {
    fn new(scandir: &Path) -> Result<Self, CommandError> {
        let cannot = |why: &dyn std::fmt::Display| {
            let shown = scandir.display();
            CommandError::new(
                Exit::System,
                format!("cannot tell what the boot says of the lock in `{shown}`: {why}"),
            )
        };
        let scandir = OpenHome::open(scandir).map_err(|error| cannot(&error))?;
        let inherited = BootNote::read(&scandir).map_err(|errno| cannot(&errno))?.and_then(|boot| boot.held);
        Ok(Self { scandir, inherited, taken: None, is_known: false })
    }

    fn take(&mut self, lock: HeldHomeLock) {
        self.taken = Some(TakenLock::new(lock, &self.scandir));
    }

    fn is_named(&self, home: &OpenHome) -> bool {
        let own = [self.inherited, self.taken.as_ref().map(|taken| taken.lock.identity())];
        volume::current(home).is_ok_and(|current| own.contains(&Some(current)))
    }

    /// Returns whether the lock is this container's, after taking it if it is free.
    fn look(&mut self, home: &OpenHome) -> bool {
        self.is_known = true;
        if self.is_named(home) {
            return true;
        }
        match volume::make(home).and_then(|()| volume::try_take(home)) {
            Ok(Some(lock)) => {
                if self.inherited.is_some() || self.taken.is_some() {
                    say_retaken(home);
                }
                self.take(lock);
                true
            }
            // The file may have got its name back meanwhile.
            Ok(None) => self.is_named(home),
            Err(errno) => {
                warn_unknown(home, errno);
                self.is_known = false;
                true
            }
        }
    }
}

/// Who runs the gateways when a service of a container begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Began {
    /// This container does. The boot has started the wanted gateways.
    Here,
    /// Another container does.
    Elsewhere,
}

/// Waits for the home, starts the desired gateways, and watches the profiles. Returns only if it
/// cannot continue, with the reason.
pub fn run(began: Began) -> CommandError {
    let variables: Vec<Variable> = std::env::vars_os().collect();
    perform(&variables, began).unwrap_or_else(|failure| failure)
}

fn perform(variables: &[Variable], began: Began) -> Result<CommandError, CommandError> {
    let manager = Arc::new(enter::manager(variables)?);
    // This comes before the second thread. If another container runs the gateways, there is nothing
    // here for the watcher.
    let keeper = live::beside(&manager, [watch::NAME, NAME])?;
    let home =
        OpenHome::open(manager.home().root()).map_err(|error| CommandError::of(Exit::System, &error))?;
    let home = Arc::new(home);
    // The present slots are those of the profiles that existed when this container began to wait.
    let mut watcher =
        ProfileWatcher::new(Arc::clone(&manager), watch::tell).map_err(|error| watch::failure(&error))?;
    let mut hold = Hold::new(manager.scandir())?;
    let waited = obtain(&manager, &home, &mut hold)?;
    if waited || began == Began::Elsewhere {
        out::say(format_args!(
            "taking over the gateways of `{}`: the container that ran them is gone",
            home.path().display()
        ));
        watcher.catch_up().map_err(|error| watch::failure(&error))?;
        start(&manager, variables)?;
    }
    watch_all(watcher, &manager, home, hold, keeper)
}

/// Returns when the lock is this container's, and whether another one had it.
fn obtain(manager: &ScandirManager, home: &Arc<OpenHome>, hold: &mut Hold) -> Result<bool, CommandError> {
    for looks in 0..LOOKS {
        if hold.look(home) {
            return Ok(looks > 0);
        }
        give_up_gateways(manager);
        hold.taken = None;
        if let Some(lock) = wait(home)? {
            hold.take(lock);
        }
    }
    Err(CommandError::new(Exit::System, format!("`{}` is replaced again and again", shown(home))))
}

/// Waits for the lock of another container; returns `None` if another file gets the name meanwhile.
fn wait(home: &Arc<OpenHome>) -> Result<Option<HeldHomeLock>, CommandError> {
    let cannot = |errno: Errno| {
        CommandError::new(
            Exit::System,
            format!("cannot wait for the home `{}`: {errno}", home.path().display()),
        )
    };
    let (sender, receiver) = channel();
    let waited_for = volume::current(home).map_err(cannot)?;
    let vigil = LockFileWatch::new(home).map_err(cannot)?;
    let (owned, changed) = (Arc::clone(home), sender.clone());
    thread(sender, move || Some(volume::take(&*owned)))?;
    let owned = Arc::clone(home);
    thread(changed, move || {
        // Only the name of the file matters. Other things may change with it.
        while volume::current(&*owned) == Ok(waited_for) {
            if let Err(errno) = vigil.wait() {
                return Some(Err(errno));
            }
        }
        Some(Ok(None))
    })?;
    receiver.recv().unwrap_or(Ok(None)).map_err(cannot)
}

/// Watches the profiles, the lock, and what keeps the watcher of gateways running. Returns why one
/// of them cannot be watched any longer; the supervisor then begins again with all of them.
fn watch_all(
    watcher: ProfileWatcher,
    manager: &Arc<ScandirManager>,
    home: Arc<OpenHome>,
    hold: Hold,
    keeper: Pid,
) -> Result<CommandError, CommandError> {
    let (sender, receiver) = channel();
    let (own, manager) = (sender.clone(), Arc::clone(manager));
    thread(own, move || keep(&manager, &home, hold))?;
    thread(sender.clone(), move || Some(live::ended(keeper)))?;
    thread(sender, move || Some(watch::failure(&watcher.run())))?;
    receiver.recv().map_err(|_| CommandError::new(Exit::System, "nobody watches the profiles any more"))
}

/// Keeps the lock: if its name leads to another file, this container locks that as well. Returns
/// why it has lost the lock, after telling its gateways to stop; returns nothing if it is unknown
/// who has the lock.
fn keep(manager: &ScandirManager, home: &OpenHome, mut hold: Hold) -> Option<CommandError> {
    while hold.is_known {
        // The watch begins before the look, so that no change between them is missed.
        let vigil = LockFileWatch::new(home);
        if !hold.is_named(home) {
            if !hold.look(home) {
                give_up_gateways(manager);
                return Some(lost(home));
            }
        } else if let Err(errno) = vigil.and_then(|vigil| vigil.wait()) {
            warn_unknown(home, errno);
            return None;
        }
    }
    None
}

fn lost(home: &OpenHome) -> CommandError {
    let file = shown(home);
    CommandError::new(
        Exit::System,
        format!(
            "`{file}` was replaced by another file, which another container has locked: the gateways run there"
        ),
    )
}

/// Stops the gateways here. Their desired states stay as they are.
fn give_up_gateways(manager: &ScandirManager) {
    let names = manager.list().unwrap_or_default();
    for name in names {
        let slot = manager.slot(&name);
        let runs = slot.status().is_ok_and(|status| status.pid.is_some() || status.want_up);
        if !runs {
            continue;
        }
        match slot.send(&[Control::Down]) {
            Ok(()) => out::say(format_args!(
                "stopping the gateway of {name}: another container has the lock of the home, and runs it"
            )),
            Err(error) => out::warn(&CommandError::of(Exit::System, &error).message),
        }
    }
}

fn thread<T: Send + 'static>(
    sender: Sender<T>,
    work: impl FnOnce() -> Option<T> + Send + 'static,
) -> Result<(), CommandError> {
    let job = move || {
        if let Some(result) = work() {
            let _ = sender.send(result);
        }
    };
    let begun = std::thread::Builder::new().stack_size(STACK).spawn(job);
    begun
        .map(drop)
        .map_err(|error| CommandError::new(Exit::System, format!("cannot begin to watch: {error}")))
}

fn shown(home: &OpenHome) -> String {
    home.path().join(volume::FILE).display().to_string()
}

fn say_retaken(home: &OpenHome) {
    out::say(format_args!(
        "warning: `{}` was replaced by another file; this container has locked that as well, and goes on",
        shown(home)
    ));
}

fn warn_unknown(home: &OpenHome, errno: Errno) {
    out::warn(&format!(
        "cannot watch `{}`, so the gateways of this home may run in two containers: {errno}",
        shown(home)
    ));
}

/// Starts the desired gateways, after cleaning up the rest of their last life.
fn start(manager: &ScandirManager, variables: &[Variable]) -> Result<(), CommandError> {
    let program = gatevisor_sys::process::own_program().map_err(|error| {
        CommandError::new(Exit::System, format!("cannot find this program's own file: {error}"))
    })?;
    let settings = ReconcileSettings {
        agent: manager.agent(),
        home: manager.home(),
        scandir: manager.scandir(),
        interpreter: &program,
        container_argv: &[],
        earlier: None,
        elsewhere: false,
        variable: &|name| environment::get(variables, name).map(OsStr::to_owned),
        now: Zoned::now(),
    };
    let report = take_over(&settings)?;
    for line in report.lines() {
        out::line(format_args!("{line}"))?;
    }
    let wanted = report.actions.iter().filter(|action| action.action == ProfileAction::Started);
    for name in wanted.filter_map(|action| action.name.as_ref()) {
        let slot = ServiceDir::new(manager.scandir().join(name.service_entry()));
        match slot.send(&[Control::Up]) {
            // A command may have stopped it since its desired state was read.
            Ok(()) => manager.settle(name, Desired::Running, None),
            Err(error) => out::warn(&CommandError::of(Exit::System, &error).message),
        }
    }
    Ok(())
}
