//! *Lives here:* one service during a wait: what its status and its events tell, whether a
//! supervisor has it, and what all of that means for the goal.
//!
//! *Does not live here:* waiting for several at once (`engine`), and conditions on several together
//! (`together`).

use super::condition::{Condition, KnownState, WaitError, WaitResult, Waited};
use crate::engine::{Interests, Waiting, Woken};
use crate::{ServiceDir, StatusError, Subscription, open};
use gatevisor_wire::{control::Control, event::ServiceEvent, policy::RestartPhase, status::Status};
use rustix::io::Errno;
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

/// How often a caller is asked whether it gives up.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What ends the wait for one service.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    /// The condition held by its status when it was subscribed to, or by any event since.
    Become(Condition),
    /// The condition holds by its status, which must also say that it is wanted down. Events and
    /// changes only tell when to look.
    Settle(Condition),
    /// A supervisor has it.
    Supervised,
    /// No supervisor has it.
    Released,
}

/// Whether the control FIFO has a reader.
///
/// While it is open for writing, poll reports an error on it as soon as the last reader has gone.
/// This covers a reader that was killed and could send no event.
#[derive(Debug)]
enum ControlReader {
    Present(OwnedFd),
    Absent,
    /// The FIFO may not be opened, so there are only events.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) dir: ServiceDir,
    /// Why this service cannot be waited for.
    failure: Option<WaitError>,
    /// Why its status is unknown, which matters for some goals only.
    unreadable: Option<StatusError>,
    /// `None` if there is no event fifodir, because no supervisor has ever had the service.
    subscription: Option<Subscription>,
    control: ControlReader,
    /// `None` if the status does not tell and no event has come yet.
    known: Option<KnownState>,
    /// Whether it failed for good.
    has_failed: bool,
    /// Whether the supervisor has announced its end, or has gone.
    pub(super) is_abandoned: bool,
}

impl Tracked {
    pub(super) fn subscribe(dir: &ServiceDir) -> Self {
        let (subscription, failure) = match Subscription::subscribe(dir) {
            Ok(subscription) => (Some(subscription), None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let missing = (!dir.is_there()).then(|| WaitError::Missing { dir: dir.path().into() });
                (None, missing)
            }
            Err(source) => (None, Some(WaitError::Subscribe { dir: dir.event_path(), source })),
        };
        // The FIFO is kept open from now on, so that it stays the same supervisor's even if the
        // directory is renamed.
        let control = find_reader(dir).unwrap_or(ControlReader::Unknown);
        let mut tracked = Self {
            dir: dir.clone(),
            failure,
            unreadable: None,
            subscription,
            control,
            known: None,
            has_failed: false,
            is_abandoned: false,
        };
        match dir.status() {
            Ok(status) => {
                tracked.known = Some(KnownState::by_status(&status));
                tracked.has_failed = status.pid.is_none() && !status.want_up && has_given_up(dir);
            }
            Err(error) => tracked.unreadable = Some(error),
        }
        tracked
    }

    /// Takes the reason why the service cannot be waited for.
    pub(super) fn take_failure(&mut self) -> Option<WaitError> {
        self.failure.take()
    }

    /// Takes the reason why its status is unknown.
    pub(super) fn take_unreadable(&mut self) -> Option<StatusError> {
        self.unreadable.take()
    }

    pub(super) fn send(&mut self, commands: &[Control]) {
        if self.failure.is_none() {
            self.failure = self.dir.send(commands).err().map(WaitError::from);
        }
        self.forget_failure();
    }

    /// Ignores a failure that was there before commands were sent.
    pub(super) fn forget_failure(&mut self) {
        self.has_failed = false;
    }

    /// Uses the status again if it says that the service is wanted down.
    pub(super) fn look_if_wanted_down(&mut self) {
        if let Ok(status) = self.dir.status()
            && !status.want_up
        {
            self.known = Some(KnownState::by_status(&status));
        }
    }

    /// Returns whether a supervisor had the service when it was subscribed to, if that is known.
    ///
    /// # Errors
    /// The answer is unknown, or something other than a FIFO has the name of the control FIFO.
    pub(super) fn is_supervised(&self) -> Result<bool, WaitError> {
        Ok(self.subscription.is_some() && !matches!(find_reader(&self.dir)?, ControlReader::Absent))
    }

    /// Takes the next event that has arrived.
    pub(super) fn next_event(&mut self) -> Result<Option<ServiceEvent>, WaitError> {
        let event = self.subscription.as_mut().map_or(Ok(None), Subscription::try_next);
        let event = event.map_err(|source| WaitError::Listen { dir: self.dir.event_path(), source })?;
        self.known = event.and_then(KnownState::after).or(self.known);
        match event {
            Some(ServiceEvent::Up) => self.has_failed = false,
            Some(ServiceEvent::PermanentFailure) => self.has_failed = true,
            Some(ServiceEvent::SupervisionEnded) => self.is_abandoned = true,
            Some(ServiceEvent::SupervisionStarted) => self.is_abandoned = false,
            _ => {}
        }
        Ok(event)
    }

    /// Returns how the wait for a condition ends, according to what is known now.
    pub(super) fn settled(&self, cond: Condition) -> Option<Waited> {
        if self.known.is_some_and(|known| cond.is_met(known)) {
            return Some(Waited::Reached);
        }
        (self.has_failed && cond.wants_up()).then_some(Waited::Failed)
    }

    /// If the reported descriptor is this control FIFO, notes that it has no reader any more.
    pub(super) fn note_closed(&mut self) {
        if let ControlReader::Present(control) = &self.control {
            self.is_abandoned |= !open::is_read(control);
        }
    }

    /// Adds the descriptor on which events arrive, and the control FIFO if the end of its reader
    /// matters.
    pub(super) fn interests<'a>(&'a self, watches_reader: bool, interests: &mut Interests<'a>) {
        if let Some(subscription) = &self.subscription {
            interests.readable(subscription.as_fd());
        }
        if let (true, ControlReader::Present(control)) = (watches_reader, &self.control) {
            interests.closed(control.as_fd());
        }
    }

    /// Looks at everything once, after the subscriber exists.
    fn begin(&mut self, goal: Goal) -> Result<Option<Waited>, WaitError> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        if !matches!(&self.control, ControlReader::Present(fd) if open::is_read(fd)) {
            self.control = find_reader(&self.dir)?;
        }
        if matches!(self.control, ControlReader::Absent) {
            match goal {
                Goal::Released => return Ok(Some(Waited::Reached)),
                Goal::Supervised => {}
                // A status that nobody keeps up to date proves nothing.
                Goal::Become(_) | Goal::Settle(_) => return Ok(Some(Waited::SupervisorGone)),
            }
        }
        if self.subscription.is_none() && !matches!(goal, Goal::Released) {
            let source = Errno::NOENT.into();
            return Err(WaitError::Subscribe { dir: self.dir.event_path(), source });
        }
        match goal {
            Goal::Become(cond) => {
                let unreadable = self.unreadable.take().and_then(|error| telling(error).err());
                unreadable.map_or_else(|| Ok(self.settled(cond)), |error| Err(error.into()))
            }
            Goal::Settle(_) | Goal::Supervised => self.look(goal),
            Goal::Released => Ok(None),
        }
    }

    /// Handles the events that have arrived, up to the deciding one.
    fn take_events(&mut self, goal: Goal) -> Result<Option<Waited>, WaitError> {
        let mut any = false;
        while let Some(event) = self.next_event()? {
            if let Some(waited) = self.decided_by(event, goal)? {
                return Ok(Some(waited));
            }
            any = true;
        }
        // The status decides about these goals; events only tell when to look.
        if any && matches!(goal, Goal::Settle(_) | Goal::Supervised) { self.look(goal) } else { Ok(None) }
    }

    fn decided_by(&self, event: ServiceEvent, goal: Goal) -> Result<Option<Waited>, WaitError> {
        let has_ended = event == ServiceEvent::SupervisionEnded;
        match goal {
            Goal::Become(cond) => match self.settled(cond) {
                None if has_ended => self.left(goal).map(Some),
                settled => Ok(settled),
            },
            Goal::Settle(_) if has_ended => self.left(goal).map(Some),
            Goal::Supervised if event == ServiceEvent::SupervisionStarted => Ok(Some(Waited::Reached)),
            // The open FIFO is more reliable than the event, which comes a little before the end.
            Goal::Released if has_ended && !matches!(self.control, ControlReader::Present(_)) => {
                Ok(Some(Waited::Reached))
            }
            Goal::Settle(_) | Goal::Supervised | Goal::Released => Ok(None),
        }
    }

    /// Returns the outcome when the control FIFO has no reader any more.
    fn gone(&mut self, goal: Goal) -> Result<Waited, WaitError> {
        self.control = ControlReader::Absent;
        if matches!(goal, Goal::Released) {
            return Ok(Waited::Reached);
        }
        // The last events come before the end.
        match self.take_events(goal)? {
            Some(waited) => Ok(waited),
            None => self.left(goal),
        }
    }

    /// Returns the outcome when the supervisor leaves: the service is down if its status says so.
    fn left(&self, goal: Goal) -> Result<Waited, WaitError> {
        let (Goal::Become(cond) | Goal::Settle(cond)) = goal else { return Ok(Waited::SupervisorGone) };
        let is_down = !cond.wants_up() && self.status()?.is_some_and(|status| cond.holds(&status));
        Ok(if is_down { Waited::Reached } else { Waited::SupervisorGone })
    }

    /// Checks whether the status means that the goal is reached.
    fn look(&self, goal: Goal) -> Result<Option<Waited>, WaitError> {
        let is_absent = matches!(self.control, ControlReader::Absent);
        let is_so = self.status()?.is_some_and(|status| match goal {
            Goal::Settle(cond) => cond.holds(&status) && !status.want_up,
            Goal::Supervised => !is_absent,
            Goal::Become(_) | Goal::Released => false,
        });
        Ok(is_so.then_some(Waited::Reached))
    }

    /// Returns the status, or `None` if it does not exist yet or may not be read; then events
    /// decide.
    fn status(&self) -> Result<Option<Status>, WaitError> {
        match self.dir.status() {
            Ok(status) => Ok(Some(status)),
            Err(error) => Ok(telling(error).map(|()| None)?),
        }
    }
}

/// Returns the error unless events can decide instead: the supervisor has only just begun, or the
/// status may not be read.
fn telling(error: StatusError) -> Result<(), StatusError> {
    match error {
        StatusError::NeverSupervised { .. } | StatusError::Missing { .. } => Ok(()),
        StatusError::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        error => Err(error),
    }
}

fn find_reader(dir: &ServiceDir) -> Result<ControlReader, WaitError> {
    match dir.control() {
        Ok(Some(fd)) => Ok(ControlReader::Present(fd)),
        Ok(None) => Ok(ControlReader::Absent),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(ControlReader::Unknown),
        // If no descriptor is left for the FIFO, waiting by events alone is better than not
        // waiting.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::MFILE) => Ok(ControlReader::Unknown),
        Err(source) => Err(WaitError::Control { fifo: dir.control_path(), source }),
    }
}

/// Returns whether the policy says that the service failed for good.
fn has_given_up(dir: &ServiceDir) -> bool {
    dir.policy().is_some_and(|policy| matches!(policy.phase, RestartPhase::Failed | RestartPhase::Refused))
}

/// A service, with the goal of the wait for it.
pub(super) struct TrackedGoal<'a> {
    tracked: &'a mut Tracked,
    goal: Goal,
    /// Tells whether the caller gives up waiting for the service with this index.
    pub(super) gives_up: Option<(&'a dyn Fn(usize) -> bool, usize)>,
    /// When to ask that again.
    due: Option<Instant>,
}

impl<'a> TrackedGoal<'a> {
    pub(super) const fn new(tracked: &'a mut Tracked, goal: Goal) -> Self {
        Self { tracked, goal, gives_up: None, due: None }
    }

    /// Returns whether the caller gives up.
    fn is_given_up(&mut self) -> bool {
        let Some((gives_up, index)) = self.gives_up else { return false };
        let now = Instant::now();
        if self.due.is_some_and(|due| now < due) {
            return false;
        }
        self.due = now.checked_add(ASK_AGAIN);
        gives_up(index)
    }

    fn decide(&mut self, woken: Woken) -> Result<Option<Waited>, WaitError> {
        let (tracked, goal) = (&mut *self.tracked, self.goal);
        let mut waited = if woken.first { tracked.begin(goal)? } else { None };
        if waited.is_none() && (woken.first || woken.readable) {
            waited = tracked.take_events(goal)?;
        }
        if waited.is_none() && woken.changed {
            waited = tracked.look(goal)?;
        }
        if waited.is_none() && woken.closed { tracked.gone(goal).map(Some) } else { Ok(waited) }
    }
}

impl Waiting for TrackedGoal<'_> {
    type End = WaitResult;

    fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        self.tracked.interests(!matches!(self.goal, Goal::Supervised), interests);
    }

    fn step(&mut self, woken: Woken) -> Option<WaitResult> {
        let decided = self.decide(woken).transpose();
        decided.or_else(|| self.is_given_up().then_some(Ok(Waited::TimedOut)))
    }

    fn due(&self) -> Option<Instant> {
        self.due
    }

    fn late(&mut self) -> WaitResult {
        Ok(Waited::TimedOut)
    }

    fn broken(&mut self, errno: Errno) -> WaitResult {
        Err(WaitError::Poll { source: errno.into() })
    }
}
