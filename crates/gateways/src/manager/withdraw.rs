//! *Lives here:* removing a slot. For every reader it is there as a whole or not at all, and its
//! process is gone when we report success.
//!
//! *Does not live here:* deleting the profile.
//!
//! **Source:** L-10, B.5-5, B.5-6.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gatevisor_client::{Condition, ServiceDir, Waited, Waiter, act};
use gatevisor_paths::by_path;
use gatevisor_sys::proc::Process;
use gatevisor_wire::control::{Control, ControlSignal};
use gatevisor_wire::files;
use gatevisor_wire::scan::ScanCommand;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::errors::UnregisterError;
use super::follow::after;
use super::{Done, GRACE, ScandirManager, Unregistered};
use crate::files::{open_directory, remove_tree, retire};
use crate::planned_stop_marker;
use crate::profile::ProfileName;

/// Removes a slot that was published and that no supervisor took, and leaves nothing behind.
pub(super) fn undo(manager: &ScandirManager, name: &ProfileName) {
    let Ok(parent) = open_directory(manager.scandir()) else { return };
    if let Ok(gone) = retire(parent.as_fd(), &name.service_entry()) {
        let path = manager.scandir().join(gone);
        // A supervisor that is only slow may take the slot at the last moment.
        let _ = ServiceDir::new(&path).send(&[Control::Down, Control::Exit]);
        let _ = manager.scan().send(&[ScanCommand::Rescan, ScanCommand::NukeGone]);
        let _ = remove_tree(&path);
    }
}

/// Brings a gateway down whose slot is still there, so that it has all the time that its definition
/// gives it. One that is withdrawn while it is up is killed after a few seconds.
fn bring_down(manager: &ScandirManager, dir: &ServiceDir) {
    let deadline = Some(after(manager.stop_timeout()));
    // One that no supervisor has, or that does not end, is withdrawn as it is.
    let _ = act(dir, &[Control::Down], Condition::Finished, deadline);
}

/// Tells the supervisor that a service directory is gone.
///
/// When it notices that, it stops the gateway, if that is still up, and releases the directory.
fn tell_gone(manager: &ScandirManager, service: &Withdrawn, logger: Option<&Withdrawn>) {
    if manager.scan().send(&[ScanCommand::Rescan, ScanCommand::NukeGone]).is_err() {
        let _ = service.dir.send(&[Control::Down, Control::Exit]);
        let _ = logger.map(|logger| logger.dir.send(&[Control::Exit]));
    }
}

/// Returns whether a logger ends: by itself when it has read everything, or when it is told to.
fn ends(logger: &mut Withdrawn) -> Result<bool, gatevisor_client::WaitError> {
    if logger.released(GRACE)? {
        return Ok(true);
    }
    let _ = logger.dir.send(&[Control::Down]);
    logger.released(GRACE)
}

/// Stops a gateway and removes its slot.
pub(super) fn unregister(
    manager: &ScandirManager,
    name: &ProfileName,
) -> Result<Done<Unregistered>, UnregisterError> {
    let absent = Done { outcome: Unregistered::WasAbsent, warnings: Vec::new() };
    let withdraw = |source| UnregisterError::Withdraw { name: name.clone(), source };
    let dir = manager.slot(name);
    match by_path::look_itself(dir.path()) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(absent),
        Err(source) => return Err(withdraw(source)),
    }
    if let Some(pid) = manager.supervisor_that_stays_stopped() {
        return Err(UnregisterError::SupervisorStopped { name: name.clone(), pid });
    }
    let follow = |source| UnregisterError::Follow { name: name.clone(), source };
    let mut service = Withdrawn::new(dir.clone()).map_err(follow)?;
    let logger = ServiceDir::new(dir.path().join(files::LOG));
    // A logger that is supervised on its own, as under s6, has to let go too.
    let own = logger.open(files::SUPERVISE, OFlags::PATH | OFlags::DIRECTORY).is_ok();
    let mut logger = own.then(|| Withdrawn::new(logger)).transpose().map_err(follow)?;
    let mut warnings: Vec<String> = manager.announce_stop(name).into_iter().collect();

    let began = Instant::now();
    bring_down(manager, &dir);
    let parent = open_directory(manager.scandir()).map_err(withdraw)?;
    let gone = match retire(parent.as_fd(), &name.service_entry()) {
        Ok(gone) => manager.scandir().join(gone),
        Err(Errno::NOENT) => return Ok(absent),
        Err(errno) => return Err(withdraw(errno.into())),
    };
    service.moved(&gone);
    if let Some(logger) = &mut logger {
        logger.moved(&gone.join(files::LOG));
    }
    tell_gone(manager, &service, logger.as_ref());

    let timeout = manager.stop_timeout();
    if !service.released(timeout).map_err(follow)? {
        let _ = service.dir.send(&[Control::Signal(ControlSignal::Kill)]);
        if !service.released(GRACE).map_err(follow)? {
            return Err(still_running(name, began.elapsed(), &service, gone));
        }
    }
    if service.orphan() {
        return Err(still_running(name, began.elapsed(), &service, gone));
    }
    if let Some(mut logger) = logger
        && !ends(&mut logger).map_err(follow)?
    {
        warnings.push(format!("the logger of `{name}` has not ended"));
    }
    if let Some(planned) = &manager.agent().gateway.planned_stop {
        planned_stop_marker::clear(&manager.home().profile_dir(name), planned);
    }
    match remove_tree(&gone) {
        Ok(()) => Ok(Done { outcome: Unregistered::Gone, warnings }),
        Err(source) => Err(UnregisterError::Remove { name: name.clone(), left: gone, source }),
    }
}

fn still_running(name: &ProfileName, after: Duration, service: &Withdrawn, left: PathBuf) -> UnregisterError {
    let pid = service.dir.status().ok().and_then(|status| status.pid);
    UnregisterError::StillRunning { name: name.clone(), after, pid, left }
}

/// A service directory that is being withdrawn.
struct Withdrawn {
    dir: ServiceDir,
    waiter: Waiter,
}

impl Withdrawn {
    fn new(dir: ServiceDir) -> Result<Self, gatevisor_client::WaitError> {
        let waiter = Waiter::subscribe(&dir)?;
        Ok(Self { dir, waiter })
    }

    fn moved(&mut self, to: &Path) {
        self.dir = ServiceDir::new(to);
        self.waiter.moved(&self.dir);
    }

    /// Returns whether its supervisor has let go of it in time.
    fn released(&mut self, timeout: Duration) -> Result<bool, gatevisor_client::WaitError> {
        let deadline = Instant::now().checked_add(timeout);
        Ok(self.waiter.released(deadline)? != Waited::TimedOut)
    }

    /// Returns whether the process of a supervisor that does not run any more is still there.
    ///
    /// The status of a supervisor that ended normally names no process. The number alone may belong
    /// to another process by now, but only a supervised process leads a session of its own number.
    fn orphan(&self) -> bool {
        let Some(pid) = self.dir.status().ok().and_then(|status| status.pid) else { return false };
        Process::of(pid.get()).is_some_and(|process| process.session == pid.get())
    }
}
