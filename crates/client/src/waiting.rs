//! *Lives here:* waiting until a service, or each of many, is as requested: by events, with the status as the start.
//!
//! *Does not live here:* the state machine of one waiter (`waiting::entry`) and the one poll for all (`waiting::run`).

mod entry;
mod run;

use crate::{SendError, ServiceDir, StatusError, status_changes::StatusChanges};
use entry::{Entry, Goal};
use gatevisor_wire::{control::Control, event::ServiceEvent, status::Status};
use std::{fmt, io, path::PathBuf, time::Instant};

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
    pub const fn holds(self, status: &Status) -> bool {
        match self {
            Self::Up => status.is_up(),
            Self::Ready => status.is_up() && status.ready,
            Self::Down => !status.is_up(),
            Self::Finished => status.pid.is_none(),
        }
    }

    /// Returns whether an event says that the service has become so.
    pub const fn met_by(self, event: ServiceEvent) -> bool {
        match self {
            Self::Up => matches!(event, ServiceEvent::Up | ServiceEvent::Ready),
            Self::Ready => matches!(event, ServiceEvent::Ready),
            Self::Down => matches!(event, ServiceEvent::Died | ServiceEvent::Finished),
            Self::Finished => matches!(event, ServiceEvent::Finished),
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

/// Waits for each of many services as `wait` does, with one poll for all, and returns the outcomes in the same order.
///
/// `on_progress` is called with the index and the outcome of each service that could be waited for, as soon as it is
/// known. Three descriptors are needed for each service; the soft limit is raised meanwhile where it is too low.
pub fn wait_all(
    dirs: &[ServiceDir],
    cond: Condition,
    deadline: Option<Instant>,
    on_progress: &mut dyn FnMut(usize, Waited),
) -> Vec<Result<Waited, WaitError>> {
    all(dirs, &[], &|_| Goal::Reach(cond), deadline, on_progress)
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

/// Does for each of many services what `act` does, with one poll for all; see `wait_all`.
///
/// All listeners are there before the first command is sent.
pub fn act_all(
    dirs: &[ServiceDir],
    commands: &[Control],
    cond: Condition,
    deadline: Option<Instant>,
    on_progress: &mut dyn FnMut(usize, Waited),
) -> Vec<Result<Waited, WaitError>> {
    collect(dirs.len(), on_progress, |done| act_on(dirs, commands, cond, deadline, done))
}

/// Sends commands that make an up service die, and waits until it has died and is as requested again (`-wr`, `-wR`).
///
/// `cond` is `Up` or `Ready`. Of a service that is down nothing is received, so look first.
pub fn restart(
    dir: &ServiceDir,
    commands: &[Control],
    cond: Condition,
    deadline: Option<Instant>,
) -> Result<Waited, WaitError> {
    let mut waiter = Waiter::subscribe(dir)?;
    dir.send(commands)?;
    waiter.run(Goal::Again(cond), deadline)
}

/// Does for each of many services what `restart` does, with one poll for all; see `wait_all`.
pub fn restart_all(
    dirs: &[ServiceDir],
    commands: &[Control],
    cond: Condition,
    deadline: Option<Instant>,
    on_progress: &mut dyn FnMut(usize, Waited),
) -> Vec<Result<Waited, WaitError>> {
    all(dirs, commands, &|_| Goal::Again(cond), deadline, on_progress)
}

/// Listens to one service from the moment it is made, so that the caller can act and then wait.
#[derive(Debug)]
pub struct Waiter {
    entry: Entry,
}

impl Waiter {
    /// Subscribes to the events of a service, which need not be supervised yet.
    ///
    /// The directory may be renamed afterwards; events still arrive. What is read from files is then read at the
    /// path given here, so `moved` says where the directory is now.
    pub fn subscribe(dir: &ServiceDir) -> Result<Self, WaitError> {
        let mut entry = Entry::subscribe(dir);
        match entry.failure.take() {
            Some(error) => Err(error),
            None => Ok(Self { entry }),
        }
    }

    /// Notes that the directory was renamed.
    pub fn moved(&mut self, dir: &ServiceDir) {
        self.entry.dir = dir.clone();
    }

    /// Waits until the service is as requested, by its status now or by an event.
    pub fn reach(&mut self, cond: Condition, deadline: Option<Instant>) -> Result<Waited, WaitError> {
        self.run(Goal::Reach(cond), deadline)
    }

    /// Waits until an event says that the service has become so, whatever its status is now.
    ///
    /// The event that says so is taken, those after it are kept for the next call: after `t`, `receive(Down)` and then
    /// `receive(Up)` wait for the restart.
    pub fn receive(&mut self, cond: Condition, deadline: Option<Instant>) -> Result<Waited, WaitError> {
        self.run(Goal::Hear(cond), deadline)
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
        let mut outcome = Ok(Waited::TimedOut);
        let one = std::slice::from_mut(&mut self.entry);
        run::until(one, &|_| goal, None, deadline, &mut |_, result| outcome = result);
        outcome
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
        _ => Goal::Obey(cond),
    };
    let _limit = run::room_for(dirs.len());
    let mut entries = entries(dirs, commands);
    run::until(&mut entries, &goal, changes.as_ref(), deadline, done);
}

/// Subscribes to all services, and only then sends the commands, if any, to each.
fn entries(dirs: &[ServiceDir], commands: &[Control]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = dirs.iter().map(Entry::subscribe).collect();
    if !commands.is_empty() {
        for entry in &mut entries {
            entry.send(commands);
        }
    }
    entries
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

fn all(
    dirs: &[ServiceDir],
    commands: &[Control],
    goal: &dyn Fn(usize) -> Goal,
    deadline: Option<Instant>,
    on_progress: &mut dyn FnMut(usize, Waited),
) -> Vec<Outcome> {
    collect(dirs.len(), on_progress, |done| {
        let _limit = run::room_for(dirs.len());
        run::until(&mut entries(dirs, commands), goal, None, deadline, done);
    })
}

/// Returns the outcomes by index, each told to `on_progress` as it comes.
fn collect(
    count: usize,
    on_progress: &mut dyn FnMut(usize, Waited),
    work: impl FnOnce(&mut dyn FnMut(usize, Outcome)),
) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = (0..count).map(|_| Ok(Waited::TimedOut)).collect();
    work(&mut |index, outcome| {
        if let Ok(waited) = outcome {
            on_progress(index, waited);
        }
        if let Some(slot) = outcomes.get_mut(index) {
            *slot = outcome;
        }
    });
    outcomes
}

#[cfg(test)]
mod tests {
    use super::{Condition, wants_down};
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
            assert_eq!(Condition::ALL.map(|cond| cond.met_by(event)), expected, "{event:?}");
        }
        for event in
            [ServiceEvent::SupervisionStarted, ServiceEvent::SupervisionEnded, ServiceEvent::PermanentFailure]
        {
            assert!(!Condition::ALL.iter().any(|cond| cond.met_by(event)));
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
