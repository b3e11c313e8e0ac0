//! *Lives here:* waiting until a service, or each of many, is as requested: by events, with the status as the start.
//!
//! *Does not live here:* what is known of one service (`waiting::tracked`), several services at one moment
//! (`waiting::together`), and the one poll for all (`engine`).

mod together;
mod tracked;

use crate::{SendError, ServiceDir, StatusError, descriptors, engine, status_changes::StatusChanges};
use gatevisor_wire::{control::Control, status::Status};
use std::{fmt, io, path::PathBuf, time::Instant};
pub use together::{Quantifier, WaitedTogether, wait_together};
use tracked::{Goal, Known, Tracked, TrackedGoal};

/// What is waited for.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svwait.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The service is up (`-u`).
    Up,
    /// The service is up and has said that it is ready (`-U`).
    ///
    /// A service without a `notification-fd` never says so; ask `ServiceDir::has_readiness` first.
    Ready,
    /// The service is down; its finish script may still run (`-d`).
    Down,
    /// The service is down, its finish script has ended, and it may be started again (`-D`).
    Finished,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Self; 4] = [Self::Up, Self::Ready, Self::Down, Self::Finished];

    /// Returns whether the service is so, going by its status.
    pub fn holds(self, status: &Status) -> bool {
        self.is_met(Known::by_status(status))
    }

    const fn is_met(self, known: Known) -> bool {
        match self {
            Self::Up => known.up,
            Self::Ready => known.up && known.ready,
            Self::Down => !known.up,
            Self::Finished => !known.up && known.ready,
        }
    }

    /// Returns whether a service that failed for good cannot become so by itself.
    pub const fn wants_up(self) -> bool {
        matches!(self, Self::Up | Self::Ready)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Ready => "ready",
            Self::Down => "down",
            Self::Finished => "finished",
        })
    }
}

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Waited {
    /// The service is, or has been, as requested.
    Reached,
    /// The service failed for good, so it will not come up by itself.
    Failed,
    /// No supervisor holds the service, or the one that did has gone.
    SupervisorGone,
    /// The deadline passed.
    TimedOut,
}

/// Why waiting was not possible.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// There is no such directory.
    #[error("there is no service directory `{}`", dir.display())]
    Missing {
        /// The service directory.
        dir: PathBuf,
    },
    /// No listener can be made.
    #[error("cannot listen for events in `{}`", dir.display())]
    Subscribe {
        /// The event fifodir.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The listener cannot be read.
    #[error("cannot read the events from `{}`", dir.display())]
    Listen {
        /// The event fifodir.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It cannot be told whether a supervisor reads the control FIFO.
    #[error("cannot open control FIFO `{}`", fifo.display())]
    Control {
        /// The control FIFO.
        fifo: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The status cannot be read.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The commands were not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Waiting itself failed.
    #[error("cannot wait for events")]
    Poll {
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl WaitError {
    /// Returns what to look at next, where there is something.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } => Some("is the name right, and is the service registered?"),
            Self::Status(error) => error.hint(),
            Self::Send(error) => error.hint(),
            Self::Subscribe { .. } | Self::Listen { .. } | Self::Control { .. } | Self::Poll { .. } => None,
        }
    }
}

type Outcome = Result<Waited, WaitError>;

/// Waits until the service is as requested, or cannot become so, or `deadline` passes; `None` is for ever.
///
/// A service that is so already is reached at once.
pub fn wait(dir: &ServiceDir, cond: Condition, deadline: Option<Instant>) -> Result<Waited, WaitError> {
    Waiter::subscribe(dir)?.reach(cond, deadline)
}

/// Sends commands, and waits until the service is as requested on account of them.
///
/// The listener is there before the commands are sent, so nothing is missed. After `d` or `D`, the service counts as
/// down only once its status also says that it is wanted down, so a restart that was due cannot slip in between;
/// where the client may not look into `supervise/`, being down is enough, as it is for `s6-svc -wd`.
pub fn act(
    dir: &ServiceDir,
    commands: &[Control],
    cond: Condition,
    deadline: Option<Instant>,
) -> Result<Waited, WaitError> {
    let mut outcome = Ok(Waited::TimedOut);
    act_on(std::slice::from_ref(dir), commands, cond, deadline, &mut |_, result| outcome = result);
    outcome
}

/// Does for each of many services what `act` does, with one poll for all, and returns the outcomes in the same order.
///
/// All listeners are there before the first command is sent. `on_progress` is called with the index and the outcome of
/// each service that could be waited for, as soon as it is known. Three descriptors are needed for each service; the
/// soft limit is raised meanwhile where it is too low.
pub fn act_all(
    dirs: &[ServiceDir],
    commands: &[Control],
    cond: Condition,
    deadline: Option<Instant>,
    on_progress: &mut dyn FnMut(usize, Waited),
) -> Vec<Result<Waited, WaitError>> {
    let mut outcomes: Vec<Outcome> = dirs.iter().map(|_| Ok(Waited::TimedOut)).collect();
    act_on(dirs, commands, cond, deadline, &mut |index, outcome| {
        if let Ok(waited) = outcome {
            on_progress(index, waited);
        }
        if let Some(known) = outcomes.get_mut(index) {
            *known = outcome;
        }
    });
    outcomes
}

/// Listens to one service from the moment it is made, so that the caller can act and then wait.
#[derive(Debug)]
pub struct Waiter {
    tracked: Tracked,
}

impl Waiter {
    /// Subscribes to the events of a service, which need not be supervised yet.
    ///
    /// The directory may be renamed afterwards; events still arrive. What is read from files is then read at the
    /// path given here, so `moved` says where the directory is now.
    pub fn subscribe(dir: &ServiceDir) -> Result<Self, WaitError> {
        let mut tracked = Tracked::subscribe(dir);
        match tracked.take_failure() {
            Some(error) => Err(error),
            None => Ok(Self { tracked }),
        }
    }

    /// Subscribes to the events of a service that must be supervised, and whose status must be readable.
    ///
    /// `None` says that no supervisor holds it.
    pub fn subscribe_supervised(dir: &ServiceDir) -> Result<Option<Self>, WaitError> {
        let mut waiter = Self::subscribe(dir)?;
        if !waiter.tracked.is_supervised()? {
            return Ok(None);
        }
        match waiter.tracked.take_unreadable() {
            Some(error) => Err(error.into()),
            None => Ok(Some(waiter)),
        }
    }

    /// Notes that the directory was renamed.
    pub fn moved(&mut self, dir: &ServiceDir) {
        self.tracked.dir = dir.clone();
    }

    /// Does not take a failure for final that is older than the commands that were sent.
    pub fn forget_failure(&mut self) {
        self.tracked.forget_failure();
    }

    /// Goes by the status again if that says that the service is wanted down: a restart that was due may have come
    /// before the request.
    pub fn look_if_wanted_down(&mut self) {
        self.tracked.look_if_wanted_down();
    }

    /// Waits until the service is as requested, by its status when this was made or by any event since.
    ///
    /// The event that decides is taken; those after it are kept for the next call.
    pub fn reach(&mut self, cond: Condition, deadline: Option<Instant>) -> Result<Waited, WaitError> {
        self.run(Goal::Become(cond), deadline)
    }

    /// Waits until a supervisor holds the service and has published its status.
    pub fn supervised(&mut self, deadline: Option<Instant>) -> Result<Waited, WaitError> {
        self.run(Goal::Supervised, deadline)
    }

    /// Waits until no supervisor holds the service.
    pub fn released(&mut self, deadline: Option<Instant>) -> Result<Waited, WaitError> {
        self.run(Goal::Released, deadline)
    }

    fn run(&mut self, goal: Goal, deadline: Option<Instant>) -> Outcome {
        let one = TrackedGoal { tracked: &mut self.tracked, goal };
        engine::wait_one(one, deadline).unwrap_or(Ok(Waited::TimedOut))
    }
}

/// Subscribes, sends, and waits with the goal that the commands allow.
fn act_on(
    dirs: &[ServiceDir],
    commands: &[Control],
    cond: Condition,
    deadline: Option<Instant>,
    done: &mut dyn FnMut(usize, Outcome),
) {
    // Only a request to be down can be obeyed without an event.
    let changes = if wants_down(commands) && !cond.wants_up() {
        StatusChanges::watch(dirs.iter().enumerate())
    } else {
        None
    };
    let goal = |index| match &changes {
        Some(changes) if changes.watches(index) => Goal::Settle(cond),
        _ => Goal::Become(cond),
    };
    let _limit = descriptors::room_for(dirs.len());
    let mut all: Vec<Tracked> = dirs.iter().map(Tracked::subscribe).collect();
    for tracked in &mut all {
        tracked.send(commands);
    }
    let goals = all.iter_mut().enumerate().map(|(index, tracked)| TrackedGoal { tracked, goal: goal(index) });
    let mut goals: Vec<TrackedGoal<'_>> = goals.collect();
    engine::wait_each_with(&mut goals, changes.as_ref(), deadline, done);
}

/// Returns whether the last request among the commands is to be down.
fn wants_down(commands: &[Control]) -> bool {
    commands
        .iter()
        .rev()
        .find_map(|command| match command {
            Control::Down | Control::DownAndDisable => Some(true),
            Control::Up | Control::UpAndEnable | Control::Once => Some(false),
            _ => None,
        })
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::{Condition, Known, wants_down};
    use gatevisor_wire::{
        Pid, control::Control, event::ServiceEvent, status::Status, tai::Tai64n, wait::WaitStatus,
    };

    #[test]
    fn a_condition_holds_by_status_as_it_is_met_by_events() {
        let status = |pid, finishing, ready| Status {
            changed: Tai64n::ZERO,
            ready_at: Tai64n::ZERO,
            pid: Pid::new(pid),
            last: WaitStatus::default(),
            paused: false,
            finishing,
            want_up: true,
            ready,
        };
        // The status after each event, and which of up, ready, down, finished it means.
        for (event, status, expected) in [
            (ServiceEvent::Up, status(7, false, false), [true, false, false, false]),
            (ServiceEvent::Ready, status(7, false, true), [true, true, false, false]),
            (ServiceEvent::Died, status(8, true, false), [false, false, true, false]),
            (ServiceEvent::Finished, status(0, false, true), [false, false, true, true]),
        ] {
            assert_eq!(Condition::ALL.map(|cond| cond.holds(&status)), expected, "{event:?}");
            let known = Known::after(event).unwrap();
            assert_eq!(Condition::ALL.map(|cond| cond.is_met(known)), expected, "{event:?}");
        }
        for event in
            [ServiceEvent::SupervisionStarted, ServiceEvent::SupervisionEnded, ServiceEvent::PermanentFailure]
        {
            assert!(Known::after(event).is_none());
        }
    }

    #[test]
    fn the_last_request_counts() {
        for (commands, down) in [
            (&[][..], false),
            (&[Control::Down], true),
            (&[Control::DownAndDisable, Control::Exit], true),
            (&[Control::Down, Control::Up], false),
            (&[Control::NoRestart], false),
        ] {
            assert_eq!(wants_down(commands), down, "{commands:?}");
        }
    }
}
