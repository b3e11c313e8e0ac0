//! *Lives here:* waiting until one or all of several services are as requested, all at the same time.
//!
//! *Does not live here:* sending commands. `client` waits until each service *has been* as requested, which is what the
//! manager needs; `s6-svwait` promises what is so of all of them at once, or of any.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use gatevisor_client::{Listener, ServiceDir};
use gatevisor_wire::{event::ServiceEvent, files, policy::RestartPhase};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::fatal::{NOT_SUPERVISED, SYSTEM, TIMED_OUT};
use crate::{Fatal, Outcome};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Goal {
    /// Up, or down.
    pub(crate) up: bool,
    /// And ready: up and serving, or down and finished.
    pub(crate) ready: bool,
    /// Down and finished first, and then this.
    pub(crate) again: bool,
}

impl Goal {
    /// Returns the goal of a letter, as `s6-svwait` has them as options.
    pub(crate) const fn of(letter: u8) -> Option<Self> {
        let (up, ready, again) = match letter {
            b'u' => (true, false, false),
            b'U' => (true, true, false),
            b'd' => (false, false, false),
            b'D' => (false, true, false),
            b'r' => (true, false, true),
            b'R' => (true, true, true),
            _ => return None,
        };
        Some(Self { up, ready, again })
    }

    /// Returns the goal of the argument of `-w`, of which the first letter counts.
    pub(crate) fn named(what: &OsStr) -> Option<Self> {
        what.as_bytes().first().and_then(|letter| Self::of(*letter))
    }
}

/// Returns the deadline so many milliseconds from now; 0 is for ever.
pub(crate) fn deadline(ms: u32) -> Option<Instant> {
    if ms == 0 { None } else { Instant::now().checked_add(Duration::from_millis(ms.into())) }
}

/// Returns the time that is left until `deadline`, or `None` for ever.
pub(crate) fn remaining(deadline: Option<Instant>) -> Option<Timespec> {
    Timespec::try_from(deadline?.saturating_duration_since(Instant::now())).ok()
}

/// Waits until all of the services, or with `any` one of them, are as requested.
///
/// The exit code is 0, or how many were given up for good. **Source:** <https://skarnet.org/software/s6/s6-svwait.html>
pub(crate) fn until(dirs: &[ServiceDir], goal: Goal, any: bool, deadline: Option<Instant>) -> Outcome {
    raise_limit();
    let mut all = Vec::new();
    for dir in dirs {
        all.push(Heard::subscribe(dir)?);
    }
    if goal.again {
        reach(&mut all, Goal { up: false, ready: true, again: false }, any, deadline)?;
    }
    reach(&mut all, goal, any, deadline)
}

/// Listens to one service from the moment it is made, so that commands can be sent and then waited for.
#[derive(Debug)]
pub(crate) struct Waiter(Vec<Heard>);

impl Waiter {
    pub(crate) fn subscribe(dir: &ServiceDir) -> Result<Self, Fatal> {
        raise_limit();
        let heard = Heard::subscribe(dir)?;
        // What failed before the commands is not what comes of them.
        Ok(Self(vec![Heard { failed: false, ..heard }]))
    }

    /// Waits until the service is as requested, by its status when this was made or by any letter since.
    ///
    /// **Source:** <https://skarnet.org/software/s6/s6-svlisten1.html>
    pub(crate) fn reach(&mut self, goal: Goal, deadline: Option<Instant>) -> Outcome {
        if goal.again {
            reach(&mut self.0, Goal { up: false, ready: true, again: false }, true, deadline)?;
        }
        reach(&mut self.0, goal, true, deadline)
    }

    /// Waits until the service, which its status shows to be wanted down, is down also by its status: a restart that was
    /// due may have come before the request.
    pub(crate) fn settle(&mut self, goal: Goal, deadline: Option<Instant>) -> Outcome {
        for one in &mut self.0 {
            if let Ok(status) = one.dir.status()
                && !status.want_up
            {
                (one.up, one.ready) = (status.is_up(), status.ready);
            }
        }
        reach(&mut self.0, goal, true, deadline)
    }
}

/// One service: what it is by its status and by every letter since.
#[expect(clippy::struct_excessive_bools, reason = "they are what letters say, and occur in all mixtures")]
#[derive(Debug)]
struct Heard {
    dir: ServiceDir,
    listener: Listener,
    /// The supervisor's FIFO, on which poll reports an error when the supervisor has gone.
    control: Option<OwnedFd>,
    up: bool,
    ready: bool,
    gone: bool,
    failed: bool,
}

impl Heard {
    fn subscribe(dir: &ServiceDir) -> Result<Self, Fatal> {
        let no_supervisor = || {
            let message = format!(
                "no supervisor holds `{}`; is the scandir running, and is this service in it?",
                dir.path().display()
            );
            Fatal::new(NOT_SUPERVISED, message)
        };
        let listener = match Listener::subscribe(dir) {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir.is_there() => {
                return Err(no_supervisor());
            }
            Err(error) => {
                let message =
                    format!("cannot listen for events in `{}`: {error}", dir.event_path().display());
                return Err(Fatal::new(SYSTEM, message));
            }
        };
        let control = match dir.open_file(files::CONTROL, OFlags::WRONLY) {
            Ok(control) if is_fifo(&control) => Some(control),
            // Nobody would ever go away from it, so it could be waited for without end.
            Ok(_) => {
                let message = format!("`{}` is not a FIFO", dir.control_path().display());
                return Err(Fatal::new(SYSTEM, message));
            }
            Err(Errno::NXIO | Errno::NOENT) => return Err(no_supervisor()),
            // Whoever may listen need not be allowed to command.
            Err(Errno::ACCESS) => None,
            Err(errno) => {
                let message = format!("cannot open control FIFO `{}`: {errno}", dir.control_path().display());
                return Err(Fatal::new(SYSTEM, message));
            }
        };
        let status = dir.status().map_err(|error| Fatal::of(SYSTEM, &error, error.hint()))?;
        let failed = status.pid.is_none()
            && !status.want_up
            && dir
                .policy()
                .is_some_and(|policy| matches!(policy.phase, RestartPhase::Failed | RestartPhase::Refused));
        let (up, ready) = (status.is_up(), status.ready);
        Ok(Self { dir: dir.clone(), listener, control, up, ready, gone: false, failed })
    }

    fn is(&self, goal: Goal) -> bool {
        // One that failed for good settles the matter: nothing else will come of it.
        (goal.up && self.failed) || (self.up == goal.up && (!goal.ready || self.ready))
    }

    /// Takes the next letter, and returns whether there was one.
    fn hear(&mut self) -> Result<bool, Fatal> {
        let letter = self.listener.try_next().map_err(|error| {
            let message =
                format!("cannot read the events from `{}`: {error}", self.dir.event_path().display());
            Fatal::new(SYSTEM, message)
        })?;
        match letter {
            None => return Ok(false),
            Some(ServiceEvent::Up) => (self.up, self.ready, self.failed) = (true, false, false),
            Some(ServiceEvent::Ready) => (self.up, self.ready) = (true, true),
            Some(ServiceEvent::Died) => (self.up, self.ready) = (false, false),
            Some(ServiceEvent::Finished) => (self.up, self.ready) = (false, true),
            Some(ServiceEvent::PermanentFailure) => self.failed = true,
            Some(ServiceEvent::SupervisionEnded) => self.gone = true,
            Some(ServiceEvent::SupervisionStarted) => self.gone = false,
        }
        Ok(true)
    }
}

fn is_fifo(opened: &OwnedFd) -> bool {
    fstat(opened).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_fifo())
}

fn settled(all: &[Heard], goal: Goal, any: bool) -> bool {
    if any { all.iter().any(|one| one.is(goal)) } else { all.iter().all(|one| one.is(goal)) }
}

fn reach(all: &mut [Heard], goal: Goal, any: bool, deadline: Option<Instant>) -> Outcome {
    loop {
        if settled(all, goal, any) {
            return verdict(all, goal);
        }
        for place in 0..all.len() {
            while let Some(one) = all.get_mut(place)
                && one.hear()?
            {
                // What was so for an instant counts, even if more letters have come.
                if settled(all, goal, any) {
                    return verdict(all, goal);
                }
            }
        }
        let hopeless = |one: &Heard| one.gone && !one.is(goal);
        let lost = if any { all.iter().all(hopeless) } else { all.iter().any(hopeless) };
        if lost {
            let who = all.iter().find(|one| hopeless(one)).map(|one| one.dir.path().display().to_string());
            let message = format!("the supervisor of `{}` has gone", who.unwrap_or_default());
            return Err(Fatal::new(NOT_SUPERVISED, message));
        }
        wait(all, deadline)?;
    }
}

/// Returns the exit code now that the matter is settled.
fn verdict(all: &[Heard], goal: Goal) -> Outcome {
    let failed = if goal.up { all.iter().filter(|one| one.failed).count() } else { 0 };
    if failed == 0 {
        return Ok(0);
    }
    let code = u8::try_from(failed).unwrap_or(u8::MAX).min(TIMED_OUT.saturating_sub(1));
    let names: Vec<String> =
        all.iter().filter(|one| one.failed).map(|one| format!("`{}`", one.dir.path().display())).collect();
    Err(Fatal::new(code, format!("failed for good and will not come up by itself: {}", names.join(", "))))
}

/// Waits for a letter or the end of a supervisor.
fn wait(all: &mut [Heard], deadline: Option<Instant>) -> Result<(), Fatal> {
    let mut fds = Vec::new();
    for one in &*all {
        fds.push(PollFd::from_borrowed_fd(one.listener.as_fd(), PollFlags::IN));
    }
    let mut holders = Vec::new();
    for (place, one) in all.iter().enumerate() {
        if let Some(control) = one.control.as_ref().filter(|_| !one.gone) {
            holders.push(place);
            // Only the error that says that there is no reader, which poll reports unasked.
            fds.push(PollFd::new(control, PollFlags::empty()));
        }
    }
    match poll(&mut fds, remaining(deadline).as_ref()) {
        Ok(0) => return Err(Fatal::new(TIMED_OUT, "timed out")),
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(Fatal::new(SYSTEM, format!("cannot wait for events: {errno}"))),
    }
    let lost: Vec<bool> =
        fds.iter().skip(all.len()).map(|fd| fd.revents().contains(PollFlags::ERR)).collect();
    drop(fds);
    for (place, lost) in holders.into_iter().zip(lost) {
        if let Some(one) = all.get_mut(place)
            && lost
        {
            // The last letters came before the end, and are heard before it counts.
            one.gone = true;
        }
    }
    Ok(())
}

/// Makes room for three descriptors a service, as far as that is allowed.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    // If it may not be raised, subscribing says so for the service that has no room.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
