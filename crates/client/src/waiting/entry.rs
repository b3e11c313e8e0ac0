//! *Lives here:* one service that is waited for: its listener, its supervisor's end of the control FIFO, and what each
//! event and each change means for the goal.
//!
//! *Does not live here:* waiting for several at once.

use super::{Condition, Outcome, WaitError, Waited};
use crate::{Listener, ServiceDir, StatusError, open};
use gatevisor_wire::{control::Control, event::ServiceEvent, policy::RestartPhase};
use rustix::io::Errno;
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// What ends the wait.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    /// The status, or a event. A service that has failed for good already does not come up.
    Reach(Condition),
    /// The same, after commands were sent that the status and the policy do not know of yet.
    Obey(Condition),
    /// The status alone, which must also say that the service is wanted down. Letters and changes say when to look.
    Settle(Condition),
    /// A event alone.
    Hear(Condition),
    /// The event of a death and then another.
    Again(Condition),
    /// A supervisor holds the service.
    Supervised,
    /// No supervisor holds it.
    Released,
}

/// Whether somebody reads the control FIFO.
///
/// While it is held open for writing, poll reports an error on it as soon as the last reader has gone, even one that
/// was killed and could send no event.
#[derive(Debug)]
enum Reader {
    Present(OwnedFd),
    Absent,
    /// The FIFO may not be opened; there are only events to go by.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) dir: ServiceDir,
    /// Why this service cannot be waited for.
    pub(super) failure: Option<WaitError>,
    /// `None` where there is no event fifodir: no supervisor has ever held the service.
    listener: Option<Listener>,
    reader: Reader,
    died: bool,
}

impl Entry {
    pub(super) fn subscribe(dir: &ServiceDir) -> Self {
        let (listener, failure) = match Listener::subscribe(dir) {
            Ok(listener) => (Some(listener), None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let missing = (!dir.is_there()).then(|| WaitError::Missing { dir: dir.path().into() });
                (None, missing)
            }
            Err(source) => (None, Some(WaitError::Subscribe { dir: dir.event_path(), source })),
        };
        let mut entry = Self { dir: dir.clone(), failure, listener, reader: Reader::Unknown, died: false };
        // Held from now on, so that it is the same supervisor's even if the directory is renamed.
        if let Ok(reader) = entry.find_reader() {
            entry.reader = reader;
        }
        entry
    }

    pub(super) fn send(&mut self, commands: &[Control]) {
        if self.failure.is_none() {
            self.failure = self.dir.send(commands).err().map(WaitError::from);
        }
    }

    /// Returns the outcome if there is nothing to wait for.
    pub(super) fn begin(&mut self, goal: Goal) -> Option<Outcome> {
        match self.look(goal) {
            Ok(None) => self.events(goal),
            Ok(Some(waited)) => Some(Ok(waited)),
            Err(error) => Some(Err(error)),
        }
    }

    /// Returns what arriving events are polled on.
    pub(super) fn events_fd(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    /// Returns what the going of the supervisor is polled on, where that matters and can be seen.
    pub(super) fn reader_fd(&self, goal: Goal) -> Option<BorrowedFd<'_>> {
        match (&self.reader, goal) {
            (Reader::Present(fd), goal) if !matches!(goal, Goal::Supervised) => Some(fd.as_fd()),
            _ => None,
        }
    }

    /// Takes the events that have arrived, up to the one that decides.
    pub(super) fn events(&mut self, goal: Goal) -> Option<Outcome> {
        let mut look = false;
        loop {
            let event = match self.listener.as_mut().map_or(Ok(None), Listener::try_next) {
                Ok(event) => event,
                Err(source) => return Some(Err(WaitError::Listen { dir: self.dir.event_path(), source })),
            };
            let Some(event) = event else { break };
            if let Some(waited) = self.receive(goal, event) {
                return Some(waited);
            }
            look = true;
        }
        // These goals are reached by what is so, of which events only bring news.
        if look && matches!(goal, Goal::Settle(_) | Goal::Supervised) { self.changed(goal) } else { None }
    }

    /// Looks at the status again, because it may have changed.
    pub(super) fn changed(&self, goal: Goal) -> Option<Outcome> {
        match self.is_so(goal) {
            Ok(true) => Some(Ok(Waited::Reached)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Returns the outcome now that nobody reads the control FIFO any more.
    pub(super) fn gone(&mut self, goal: Goal) -> Outcome {
        self.reader = Reader::Absent;
        if matches!(goal, Goal::Released) {
            return Ok(Waited::Reached);
        }
        // The last events come before the going.
        self.events(goal).unwrap_or_else(|| self.ended(goal))
    }

    fn receive(&mut self, goal: Goal, event: ServiceEvent) -> Option<Outcome> {
        let ended = event == ServiceEvent::SupervisionEnded;
        match goal {
            Goal::Reach(cond) | Goal::Obey(cond) | Goal::Hear(cond) => match event {
                _ if cond.met_by(event) => Some(Ok(Waited::Reached)),
                ServiceEvent::PermanentFailure if cond.wants_up() => Some(Ok(Waited::Failed)),
                _ if ended => Some(self.ended(goal)),
                _ => None,
            },
            Goal::Again(cond) => match event {
                ServiceEvent::PermanentFailure => Some(Ok(Waited::Failed)),
                ServiceEvent::Died | ServiceEvent::Finished => {
                    self.died = true;
                    None
                }
                _ if self.died && cond.met_by(event) => Some(Ok(Waited::Reached)),
                _ if ended => Some(self.ended(goal)),
                _ => None,
            },
            Goal::Settle(_) => ended.then(|| self.ended(goal)),
            Goal::Supervised => (event == ServiceEvent::SupervisionStarted).then_some(Ok(Waited::Reached)),
            // The open FIFO knows better than the event, which comes a little before the end.
            Goal::Released => {
                (ended && !matches!(self.reader, Reader::Present(_))).then_some(Ok(Waited::Reached))
            }
        }
    }

    /// Returns the outcome when the supervisor leaves: what it has left is down if its status says so.
    fn ended(&self, goal: Goal) -> Outcome {
        match goal {
            Goal::Reach(cond) | Goal::Obey(cond) | Goal::Settle(cond) if !cond.wants_up() => {
                let down = self.is_so(Goal::Reach(cond))?;
                Ok(if down { Waited::Reached } else { Waited::SupervisorGone })
            }
            _ => Ok(Waited::SupervisorGone),
        }
    }

    /// Looks at everything once, after the listener is there.
    fn look(&mut self, goal: Goal) -> Result<Option<Waited>, WaitError> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        if !matches!(&self.reader, Reader::Present(fd) if open::is_read(fd)) {
            self.reader = self.find_reader()?;
        }
        if matches!(self.reader, Reader::Absent) {
            match goal {
                Goal::Released => return Ok(Some(Waited::Reached)),
                Goal::Supervised => {}
                // A status that nobody keeps up to date says nothing.
                _ => return Ok(Some(Waited::SupervisorGone)),
            }
        }
        if self.listener.is_none() && !matches!(goal, Goal::Released) {
            let source = Errno::NOENT.into();
            return Err(WaitError::Subscribe { dir: self.dir.event_path(), source });
        }
        if self.is_so(goal)? {
            return Ok(Some(Waited::Reached));
        }
        Ok(if self.has_failed(goal) { Some(Waited::Failed) } else { None })
    }

    fn find_reader(&self) -> Result<Reader, WaitError> {
        match self.dir.control() {
            Ok(Some(fd)) => Ok(Reader::Present(fd)),
            Ok(None) => Ok(Reader::Absent),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Reader::Unknown),
            // With no descriptor left for it, waiting by events alone is better than not waiting.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::MFILE) => Ok(Reader::Unknown),
            Err(source) => Err(WaitError::Control { fifo: self.dir.control_path(), source }),
        }
    }

    /// Returns whether the goal is reached by what is so now.
    fn is_so(&self, goal: Goal) -> Result<bool, WaitError> {
        if matches!(goal, Goal::Hear(_) | Goal::Again(_) | Goal::Released)
            || matches!((goal, &self.reader), (Goal::Supervised, Reader::Absent))
        {
            return Ok(false);
        }
        let status = match self.dir.status() {
            Ok(status) => status,
            // The supervisor has only just begun, and its event will say so.
            Err(StatusError::NeverSupervised { .. } | StatusError::Missing { .. }) => return Ok(false),
            // Who may not look goes by events.
            Err(StatusError::Read { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        Ok(match goal {
            Goal::Reach(cond) | Goal::Obey(cond) => cond.holds(&status),
            Goal::Settle(cond) => cond.holds(&status) && !status.want_up,
            Goal::Supervised => true,
            Goal::Hear(_) | Goal::Again(_) | Goal::Released => false,
        })
    }

    /// Returns whether the service was given up for good before anybody listened.
    fn has_failed(&self, goal: Goal) -> bool {
        let Goal::Reach(cond) = goal else { return false };
        cond.wants_up()
            && self.dir.status().is_ok_and(|status| status.pid.is_none() && !status.want_up)
            && self
                .dir
                .policy()
                .is_some_and(|policy| matches!(policy.phase, RestartPhase::Failed | RestartPhase::Refused))
    }
}
