//! *Lives here:* waiting until a service, or each of many, is in a requested state: first by its
//! status, then by events.
//!
//! *Does not live here:* the state of one service during a wait (`waiting::tracked`), several
//! services at one moment (`waiting::together`), and the one poll for all (`engine`).

mod condition;
mod together;
mod tracked;

use crate::engine::SharedNews;
use crate::{ServiceDir, descriptors, engine, status_changes::StatusChanges};
use condition::WaitResult;
pub use condition::{Condition, WaitError, Waited};
use gatevisor_wire::control::Control;
use std::time::Instant;
pub use together::{Quantifier, WaitedTogether, wait_together};
use tracked::{Goal, Tracked, TrackedGoal};

/// Waits until the service is in the requested state, or can no longer reach it, or `deadline`
/// passes. `None` means no deadline.
///
/// For a service that is in the state already, it returns at once.
pub fn wait(dir: &ServiceDir, cond: Condition, deadline: Option<Instant>) -> Result<Waited, WaitError> {
    Waiter::subscribe(dir)?.reach(cond, deadline)
}

/// Sends commands, and waits until they have brought the service into the requested state.
///
/// The subscriber exists before the commands are sent, so no event is missed. After `d` or `D`, the
/// service counts as down only once its status also says that it is wanted down, so that a restart
/// that was due cannot come in between. If the client may not look into `supervise/`, being down is
/// enough, as for `s6-svc -wd`.
pub fn act(
    dir: &ServiceDir,
    commands: &[Control],
    cond: Condition,
    deadline: Option<Instant>,
) -> Result<Waited, WaitError> {
    let mut outcome = Ok(Waited::TimedOut);
    let mut done = |_: usize, result: WaitResult| outcome = result;
    act_on(std::slice::from_ref(dir), commands, cond, deadline, Beside::default(), &mut done);
    outcome
}

/// Does the same as `act` for each of many services, with one poll for all, and returns the
/// outcomes in the same order.
///
/// All subscribers exist before the first command is sent. `on_progress` is called with the index
/// and the outcome of each service that could be waited for, as soon as the outcome is known. Each
/// service needs three descriptors; if the soft limit is too low, it is raised meanwhile.
pub fn act_all(
    dirs: &[ServiceDir],
    commands: &[Control],
    cond: Condition,
    deadline: Option<Instant>,
    on_progress: &mut dyn FnMut(usize, Waited),
) -> Vec<Result<Waited, WaitError>> {
    act_all_beside(dirs, commands, cond, deadline, Beside::default(), on_progress)
}

/// What a caller does while it waits for what it has requested.
#[derive(Default)]
pub struct Beside<'a> {
    /// Called when all commands are sent.
    pub on_sent: Option<&'a mut dyn FnMut()>,
    /// Returns whether the service with this index need not be waited for any longer, which counts
    /// as if the deadline had passed. Asked at the beginning, and every second at the least.
    pub gives_up: Option<&'a dyn Fn(usize) -> bool>,
}

/// Does the same as [`act_all`], and something else beside.
pub fn act_all_beside(
    dirs: &[ServiceDir],
    commands: &[Control],
    cond: Condition,
    deadline: Option<Instant>,
    beside: Beside<'_>,
    on_progress: &mut dyn FnMut(usize, Waited),
) -> Vec<Result<Waited, WaitError>> {
    let mut outcomes: Vec<WaitResult> = dirs.iter().map(|_| Ok(Waited::TimedOut)).collect();
    act_on(dirs, commands, cond, deadline, beside, &mut |index, outcome| {
        if let Ok(waited) = outcome {
            on_progress(index, waited);
        }
        if let Some(known) = outcomes.get_mut(index) {
            *known = outcome;
        }
    });
    outcomes
}

/// Listens to one service from its creation on, so that the caller can act and then wait.
#[derive(Debug)]
pub struct Waiter {
    tracked: Tracked,
}

impl Waiter {
    /// Subscribes to the events of a service, which need not be supervised yet.
    ///
    /// The directory may be renamed afterwards; events still arrive. But files are read at the path
    /// given here, so `moved` must tell where the directory is now.
    pub fn subscribe(dir: &ServiceDir) -> Result<Self, WaitError> {
        let mut tracked = Tracked::subscribe(dir);
        match tracked.take_failure() {
            Some(error) => Err(error),
            None => Ok(Self { tracked }),
        }
    }

    /// Subscribes to the events of a service that must be supervised and have a readable status.
    ///
    /// `None` means that no supervisor has it.
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

    /// Ignores a failure that is older than the commands that were sent.
    pub fn forget_failure(&mut self) {
        self.tracked.forget_failure();
    }

    /// Uses the status again if it says that the service is wanted down: a restart that was due may
    /// have come before the request.
    pub fn look_if_wanted_down(&mut self) {
        self.tracked.look_if_wanted_down();
    }

    /// Waits until the service is in the requested state, by its status when this was created or by
    /// any event since.
    ///
    /// The deciding event is consumed; later ones are kept for the next call.
    pub fn reach(&mut self, cond: Condition, deadline: Option<Instant>) -> Result<Waited, WaitError> {
        self.run(Goal::Become(cond), deadline)
    }

    /// Waits until a supervisor has the service and has published its status.
    pub fn supervised(&mut self, deadline: Option<Instant>) -> Result<Waited, WaitError> {
        self.run(Goal::Supervised, deadline)
    }

    /// Waits until no supervisor has the service.
    pub fn released(&mut self, deadline: Option<Instant>) -> Result<Waited, WaitError> {
        self.run(Goal::Released, deadline)
    }

    fn run(&mut self, goal: Goal, deadline: Option<Instant>) -> WaitResult {
        let one = TrackedGoal::new(&mut self.tracked, goal);
        engine::wait_one(one, deadline).unwrap_or(Ok(Waited::TimedOut))
    }
}

/// Subscribes, sends, and waits for the goal that the commands allow.
fn act_on(
    dirs: &[ServiceDir],
    commands: &[Control],
    cond: Condition,
    deadline: Option<Instant>,
    beside: Beside<'_>,
    done: &mut dyn FnMut(usize, WaitResult),
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
    if let Some(on_sent) = beside.on_sent {
        on_sent();
    }
    let goals = all.iter_mut().enumerate().map(|(index, tracked)| {
        let mut one = TrackedGoal::new(tracked, goal(index));
        one.gives_up = beside.gives_up.map(|gives_up| (gives_up, index));
        one
    });
    let mut goals: Vec<TrackedGoal<'_>> = goals.collect();
    let shared = changes.as_ref().map(|changes| changes as &dyn SharedNews);
    engine::wait_each_with(&mut goals, shared, deadline, done);
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
    use super::condition::KnownState;
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
        // The columns are the event, the status after it, and which of up, ready, down and finished
        // that status means.
        for (event, status, expected) in [
            (ServiceEvent::Up, status(7, false, false), [true, false, false, false]),
            (ServiceEvent::Ready, status(7, false, true), [true, true, false, false]),
            (ServiceEvent::Died, status(8, true, false), [false, false, true, false]),
            (ServiceEvent::Finished, status(0, false, true), [false, false, true, true]),
        ] {
            assert_eq!(Condition::ALL.map(|cond| cond.holds(&status)), expected, "{event:?}");
            let known = KnownState::after(event).unwrap();
            assert_eq!(Condition::ALL.map(|cond| cond.is_met(known)), expected, "{event:?}");
        }
        for event in
            [ServiceEvent::SupervisionStarted, ServiceEvent::SupervisionEnded, ServiceEvent::PermanentFailure]
        {
            assert!(KnownState::after(event).is_none());
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
