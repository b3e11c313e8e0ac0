//! The shutdown: in which order everything comes to its end.
//!
//! *Lives here:* which stage is next and when, who is asked to end in it, who is killed, and when
//! what cannot be killed is left behind. *Does not live here:* signals and processes.
//!
//! Every stage ends with an event, never after a fixed pause; the grace only bounds it. An event
//! that never comes holds nobody up: a process that cannot be killed, because somebody traces it,
//! for example, is left behind.

use std::collections::BTreeSet;

use crate::stop::{Rank, StopOrder};
use crate::time::Tick;

/// Milliseconds that processes without a service have between `SIGTERM` and `SIGKILL`.
const ORPHAN_GRACE_MS: u64 = 2000;
/// Milliseconds between two rounds of killing what did not die.
const AGAIN_MS: u64 = 500;
/// Milliseconds of killing after which what did not die is left behind.
const KILLING_MS: u64 = 10_000;
/// The same in a container. Its engine soon kills it as a whole, and the other services must have
/// their last lines written before that.
const KILLING_OF_CONTAINER_MS: u64 = 1000;
/// Milliseconds between two hunts for processes that fork and end faster than one hunt takes.
const HUNT_AGAIN_MS: u64 = 20;

/// How far the shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownStage {
    /// It has not begun.
    Running,
    /// The command and the services are going down, those of each user in order.
    Services,
    /// The services are down. Loggers read what is left, up to the end of their pipes.
    Loggers,
    /// The log daemons are writing what is left.
    Logs,
    /// Processes that belong to no service are told to end.
    Orphans,
    /// Nothing is left, or what is left cannot be ended.
    Over,
}

/// What is left to end, as the shell finds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Which users have a service or the command running, and of which rank.
    pub ranks: BTreeSet<(u32, Rank)>,
    /// Whether any name of the scandir still has a service, a logger or a log pipe.
    pub has_entries: bool,
    /// Whether any log daemon runs.
    pub has_log_daemons: bool,
    /// Whether orphans can be found: the shell needs a `/proc` for that.
    pub can_find_orphans: bool,
}

/// What the shell does next, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShutdownAction {
    /// Say that the shutdown begins, and drop the scans that wait.
    Begin,
    /// Tell the services and the command of these users and ranks to stop.
    Stop(Vec<(u32, Rank)>),
    /// Tell the loggers to stop at once, instead of at the end of their pipes.
    StopLoggers,
    /// Say what is killed because it did not stop in time.
    SayKilling,
    /// Kill the command and every service.
    Kill,
    /// Say what is left behind because it cannot be killed.
    SayLeftBehind,
    /// Tell every log daemon to write what is left and to end.
    QuitLogDaemons,
    /// Kill the log daemons that have not let go of a pipe as they were told to.
    KillLateLogDaemons,
    /// Kill every log daemon, and start none again.
    GiveUpLogDaemons,
    /// Ask the processes that belong to no service to end.
    AskOrphans,
    /// Kill the processes that belong to no service, with all that descends from them.
    KillOrphans,
    /// Collect who has ended: that tells whether any process is left.
    Collect,
    /// Say that all that is known here has stopped.
    SayKnownStopped,
    /// Say that everything has stopped.
    SayStopped,
}

/// The actions of one step, in order.
pub type ShutdownActions = Vec<ShutdownAction>;

/// The shutdown of one supervisor.
#[derive(Debug)]
pub struct Shutdown {
    stage: ShutdownStage,
    order: StopOrder,
    grace_ms: u64,
    is_container: bool,
    /// When those are asked to stop as well who were to stop after others.
    advance_at: Option<Tick>,
    /// When what has not ended is killed.
    kill_at: Option<Tick>,
    /// When the orphans are killed that loggers wait for.
    kill_orphans_at: Option<Tick>,
    /// When killing began: the grace was over, or somebody insisted.
    killing_since: Option<Tick>,
}

impl Shutdown {
    /// Returns a shutdown that has not begun and may take `grace_ms` before everything is killed.
    pub fn new(grace_ms: u64, is_container: bool) -> Self {
        Self {
            stage: ShutdownStage::Running,
            order: StopOrder::default(),
            grace_ms,
            is_container,
            advance_at: None,
            kill_at: None,
            kill_orphans_at: None,
            killing_since: None,
        }
    }

    /// Returns how far it is.
    pub fn stage(&self) -> ShutdownStage {
        self.stage
    }

    /// Returns whether it has not begun.
    pub fn is_running(&self) -> bool {
        self.stage == ShutdownStage::Running
    }

    /// Returns whether log daemons are only to write what is left.
    pub fn writes_last_logs(&self) -> bool {
        self.stage == ShutdownStage::Logs
    }

    /// Returns when the next [`Self::due`] is to be called.
    pub fn deadline(&self) -> Option<Tick> {
        [self.advance_at, self.kill_at, self.kill_orphans_at].into_iter().flatten().min()
    }

    /// Begins; asked a second time, it waits for nobody any longer.
    pub fn ask(&mut self, now: Tick, left: &Remaining, out: &mut ShutdownActions) {
        if self.stage != ShutdownStage::Running {
            return self.force(now, left, out);
        }
        self.stage = ShutdownStage::Services;
        self.kill_at = Some(now.after(self.grace_ms));
        if self.is_container {
            // Who stops after others must be asked as well before everything is killed.
            self.advance_at = Some(now.after(self.grace_ms.saturating_sub(self.grace_ms / 4)));
        }
        out.push(ShutdownAction::Begin);
        self.stop_due(left, out);
    }

    /// Begins, and has loggers end at once instead of at the end of their pipes.
    pub fn quit(&mut self, now: Tick, left: &Remaining, out: &mut ShutdownActions) {
        let begins = self.stage == ShutdownStage::Running;
        self.ask(now, left, out);
        if begins {
            out.push(ShutdownAction::StopLoggers);
        }
    }

    /// Leaves everything as it is and ends.
    pub fn abandon(&mut self) {
        self.stage = ShutdownStage::Over;
    }

    /// Does what is due: [`Self::deadline`] has come.
    pub fn due(&mut self, now: Tick, left: &Remaining, out: &mut ShutdownActions) {
        let take = |at: &mut Option<Tick>| at.take_if(|at| *at <= now).is_some();
        if take(&mut self.kill_orphans_at) && self.stage == ShutdownStage::Loggers {
            out.push(ShutdownAction::KillOrphans);
            self.kill_orphans_at = Some(now.after(ORPHAN_GRACE_MS));
        }
        if take(&mut self.advance_at) {
            self.advance(left, out);
        }
        if take(&mut self.kill_at) {
            self.force(now, left, out);
        }
    }

    /// Takes in what is left; returns whether that changed anything, so that it is to be called
    /// again when the actions have been performed.
    pub fn look(&mut self, now: Tick, left: &Remaining, out: &mut ShutdownActions) -> bool {
        let (stage, before) = (self.stage, out.len());
        match self.stage {
            ShutdownStage::Services if left.ranks.is_empty() => self.services_are_down(now, left, out),
            ShutdownStage::Services => self.stop_due(left, out),
            ShutdownStage::Loggers if !left.has_entries => self.write_last_logs(out),
            ShutdownStage::Logs if !left.has_log_daemons => self.logs_are_written(now, left, out),
            ShutdownStage::Running
            | ShutdownStage::Loggers
            | ShutdownStage::Logs
            | ShutdownStage::Orphans
            | ShutdownStage::Over => {}
        }
        self.stage != stage || out.len() > before
    }

    /// Takes in that no child process is left.
    pub fn no_child_is_left(&mut self, out: &mut ShutdownActions) {
        if self.stage == ShutdownStage::Orphans {
            self.stage = ShutdownStage::Over;
            out.push(ShutdownAction::SayStopped);
        }
    }

    fn services_are_down(&mut self, now: Tick, left: &Remaining, out: &mut ShutdownActions) {
        self.stage = ShutdownStage::Loggers;
        if left.has_entries {
            // A process that a service left behind may hold its log pipe, and the logger waits for
            // the end of that.
            out.push(ShutdownAction::AskOrphans);
            self.kill_orphans_at = Some(now.after(ORPHAN_GRACE_MS));
        }
    }

    fn write_last_logs(&mut self, out: &mut ShutdownActions) {
        self.stage = ShutdownStage::Logs;
        self.kill_orphans_at = None;
        out.push(ShutdownAction::QuitLogDaemons);
    }

    fn logs_are_written(&mut self, now: Tick, left: &Remaining, out: &mut ShutdownActions) {
        if !left.can_find_orphans {
            // Nobody can be told to end, so nobody is waited for: helpers of ours end because we
            // do.
            self.stage = ShutdownStage::Over;
            return out.push(ShutdownAction::SayKnownStopped);
        }
        self.stage = ShutdownStage::Orphans;
        // When the grace is over they have none either: the container would be killed as a whole.
        let is_late = self.is_container && self.killing_since.is_some();
        out.push(if is_late { ShutdownAction::KillOrphans } else { ShutdownAction::AskOrphans });
        self.kill_by(now.after(ORPHAN_GRACE_MS));
        // Tells at once when there is none.
        out.push(ShutdownAction::Collect);
    }

    /// Tells everybody to stop whose turn it is.
    fn stop_due(&mut self, left: &Remaining, out: &mut ShutdownActions) {
        let due = self.order.due(&left.ranks);
        if !due.is_empty() {
            out.push(ShutdownAction::Stop(due));
        }
    }

    /// Tells everybody to stop, whoever is still to stop before them.
    fn advance(&mut self, left: &Remaining, out: &mut ShutdownActions) {
        self.order.advance();
        if self.stage == ShutdownStage::Services {
            self.stop_due(left, out);
        }
    }

    /// Kills what has not ended, as the grace is over or somebody insists, and in the end leaves it
    /// behind.
    fn force(&mut self, now: Tick, left: &Remaining, out: &mut ShutdownActions) {
        self.advance(left, out);
        if matches!(self.stage, ShutdownStage::Running | ShutdownStage::Over) {
            return;
        }
        let is_first = self.killing_since.is_none();
        let since = *self.killing_since.get_or_insert(now);
        let killing_ms = if self.is_container { KILLING_OF_CONTAINER_MS } else { KILLING_MS };
        let gives_up = now.since(since) > killing_ms;
        let mut again_ms = AGAIN_MS;
        match self.stage {
            ShutdownStage::Running | ShutdownStage::Over => {}
            ShutdownStage::Services | ShutdownStage::Loggers if gives_up => {
                out.push(ShutdownAction::SayLeftBehind);
                self.write_last_logs(out);
            }
            ShutdownStage::Services | ShutdownStage::Loggers => {
                out.extend(is_first.then_some(ShutdownAction::SayKilling));
                // An orphan may be what a service cannot end for.
                out.extend([ShutdownAction::Kill, ShutdownAction::KillOrphans]);
                // The owners of late log daemons may have stopped them.
                out.extend((!is_first).then_some(ShutdownAction::KillLateLogDaemons));
            }
            ShutdownStage::Logs => {
                out.push(ShutdownAction::GiveUpLogDaemons);
                if gives_up {
                    self.stage = ShutdownStage::Orphans;
                    out.push(ShutdownAction::KillOrphans);
                }
            }
            ShutdownStage::Orphans if gives_up => self.stage = ShutdownStage::Over,
            ShutdownStage::Orphans => {
                out.push(ShutdownAction::KillOrphans);
                again_ms = HUNT_AGAIN_MS;
            }
        }
        self.kill_by(now.after(again_ms));
    }

    /// Has [`Self::force`] called at this time, unless it is to be called before.
    fn kill_by(&mut self, at: Tick) {
        self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
    }
}
