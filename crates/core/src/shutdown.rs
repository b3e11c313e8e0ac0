//! The stages of the shutdown.
//!
//! *Lives here:* which stage is next and when, who is stopped in it, who is killed, and when
//! processes that cannot be killed are left behind.
//! *Does not live here:* signals and processes.
//!
//! Every stage ends with an event, never after a fixed pause; the grace only bounds it. An event
//! that never comes delays nobody for ever: a process that cannot be killed, for example because it
//! is being traced, is left behind.

use std::collections::BTreeSet;

use crate::stop::{Rank, StopOrder};
use crate::time::Tick;

/// Milliseconds from `SIGTERM` to `SIGKILL` for processes without a service.
const ORPHAN_GRACE_MS: u64 = 2000;
/// Milliseconds between two attempts to kill what did not die.
const AGAIN_MS: u64 = 500;
/// Milliseconds of killing after which survivors are left behind.
const KILLING_MS: u64 = 10_000;
/// The same in a container. Its engine soon kills the whole container, and the last lines of the
/// other services must be written before that.
const KILLING_OF_CONTAINER_MS: u64 = 1000;
/// Milliseconds between two searches for processes that fork and end faster than one search takes.
const HUNT_AGAIN_MS: u64 = 20;

/// How far the shutdown has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownStage {
    /// It has not begun.
    Running,
    /// The command and the services are being stopped, those of each user in order.
    Services,
    /// The services are down. Loggers read what is left, up to the end of their pipes.
    Loggers,
    /// The log daemons are writing the rest.
    Logs,
    /// Processes that belong to no service are being stopped.
    Orphans,
    /// Nothing is left, or the rest cannot be ended.
    Over,
}

/// What is left to end, according to the shell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remaining {
    /// The users who have a service or the command running, each with its rank.
    pub ranks: BTreeSet<(u32, Rank)>,
    /// Whether any name of the scandir still has a service, a logger or a log pipe.
    pub has_entries: bool,
    /// Whether any log daemon runs.
    pub has_log_daemons: bool,
}

/// The kind of a child process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildKind {
    /// A service's process, a log daemon, or the container's command.
    Known,
    /// A script of the scandir, or another process that nobody waits for.
    Helper,
    /// The process that ends a control group.
    GroupEnder,
    /// Any other process.
    Stranger,
}

/// The shell's next actions, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShutdownAction {
    /// Report that the shutdown begins, and drop the waiting scans.
    Begin,
    /// Stop the services and the command of these users and ranks.
    Stop(Vec<(u32, Rank)>),
    /// Stop the loggers at once, instead of at the end of their pipes.
    StopLoggers,
    /// Report what is killed because it did not stop in time.
    SayKilling,
    /// Kill the command and every service.
    Kill,
    /// Report what is left behind because it cannot be killed.
    SayLeftBehind,
    /// Tell every log daemon to write the rest and to end.
    QuitLogDaemons,
    /// Kill the log daemons that did not release a pipe when they were told to.
    KillLateLogDaemons,
    /// Kill every log daemon, and start none again.
    GiveUpLogDaemons,
    /// Ask the processes that belong to no service to end.
    AskOrphans,
    /// Kill the processes that belong to no service, with all their descendants.
    KillOrphans,
    /// Reap ended processes in the next pass, which shows whether any process is left.
    Collect,
    /// Report that all known processes have stopped.
    SayKnownStopped,
    /// Report that everything has stopped.
    SayStopped,
}

/// The actions of one step, in order.
pub type ShutdownActions = Vec<ShutdownAction>;

/// The state of a supervisor's shutdown.
#[derive(Debug)]
pub struct Shutdown {
    stage: ShutdownStage,
    order: StopOrder,
    grace_ms: u64,
    is_container: bool,
    /// When the later ranks are stopped, even if the earlier ones still run.
    advance_at: Option<Tick>,
    /// When everything that still runs is killed.
    kill_at: Option<Tick>,
    /// When the orphans that loggers wait for are killed.
    kill_orphans_at: Option<Tick>,
    /// When killing began, because the grace was over or somebody insisted.
    killing_since: Option<Tick>,
}

impl Shutdown {
    /// Returns a shutdown that has not begun. It may take `grace_ms` before everything is killed.
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

    /// Returns the present stage.
    pub fn stage(&self) -> ShutdownStage {
        self.stage
    }

    /// Returns whether it has not begun.
    pub fn is_running(&self) -> bool {
        self.stage == ShutdownStage::Running
    }

    /// Returns whether log daemons only have to write the rest.
    pub fn writes_last_logs(&self) -> bool {
        self.stage == ShutdownStage::Logs
    }

    /// Returns when [`Self::due`] must be called.
    pub fn deadline(&self) -> Option<Tick> {
        [self.advance_at, self.kill_at, self.kill_orphans_at].into_iter().flatten().min()
    }

    /// Begins the shutdown. A second call stops all waiting.
    pub fn ask(&mut self, now: Tick, left: &Remaining, out: &mut ShutdownActions) {
        if self.stage != ShutdownStage::Running {
            return self.force(now, left, out);
        }
        self.stage = ShutdownStage::Services;
        self.kill_at = Some(now.after(self.grace_ms));
        if self.is_container {
            // The later ranks must also be stopped in time before everything is killed.
            self.advance_at = Some(now.after(self.grace_ms.saturating_sub(self.grace_ms / 4)));
        }
        out.push(ShutdownAction::Begin);
        self.stop_due(left, out);
    }

    /// Begins the shutdown, and makes loggers end at once instead of at the end of their pipes.
    pub fn quit(&mut self, now: Tick, left: &Remaining, out: &mut ShutdownActions) {
        let begins = self.stage == ShutdownStage::Running;
        self.ask(now, left, out);
        if begins {
            out.push(ShutdownAction::StopLoggers);
        }
    }

    /// Ends, and leaves everything as it is.
    pub fn abandon(&mut self) {
        self.stage = ShutdownStage::Over;
    }

    /// Handles [`Self::deadline`].
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

    /// Handles the remaining processes; returns whether that changed anything. If so, call it again
    /// after performing the actions.
    ///
    /// `can_find_orphans` returns whether orphans can be found. The shell needs `/proc` for that.
    pub fn look(
        &mut self,
        now: Tick,
        left: &Remaining,
        can_find_orphans: impl FnOnce() -> bool,
        out: &mut ShutdownActions,
    ) -> bool {
        let (stage, before) = (self.stage, out.len());
        match self.stage {
            ShutdownStage::Services if left.ranks.is_empty() => self.services_are_down(now, left, out),
            ShutdownStage::Services => self.stop_due(left, out),
            ShutdownStage::Loggers if !left.has_entries => self.write_last_logs(out),
            ShutdownStage::Logs if !left.has_log_daemons => {
                self.logs_are_written(now, can_find_orphans(), out);
            }
            ShutdownStage::Running
            | ShutdownStage::Loggers
            | ShutdownStage::Logs
            | ShutdownStage::Orphans
            | ShutdownStage::Over => {}
        }
        self.stage != stage || out.len() > before
    }

    /// Returns whether a child process counts as an orphan, which is asked to end, or is killed if
    /// `kills`.
    pub fn is_orphan(&self, child: ChildKind, kills: bool) -> bool {
        let is_last = self.stage == ShutdownStage::Orphans;
        match child {
            ChildKind::Known => false,
            // It may be the process that asked for the shutdown, so it may run until everything
            // else is down.
            ChildKind::Helper => is_last,
            // It ends soon by itself, unless there is no time at all.
            ChildKind::GroupEnder => is_last && kills,
            ChildKind::Stranger => true,
        }
    }

    /// Notes that no child process is left. That means that no process is left only if orphans
    /// become children of this process.
    pub fn no_child_is_left(&mut self, adopts_orphans: bool, out: &mut ShutdownActions) {
        if self.stage == ShutdownStage::Orphans {
            self.stage = ShutdownStage::Over;
            out.push(if adopts_orphans {
                ShutdownAction::SayStopped
            } else {
                ShutdownAction::SayKnownStopped
            });
        }
    }

    fn services_are_down(&mut self, now: Tick, left: &Remaining, out: &mut ShutdownActions) {
        self.stage = ShutdownStage::Loggers;
        if left.has_entries {
            // A leftover process of a service may hold its log pipe, and the logger waits for the
            // end of that.
            out.push(ShutdownAction::AskOrphans);
            self.kill_orphans_at = Some(now.after(ORPHAN_GRACE_MS));
        }
    }

    fn write_last_logs(&mut self, out: &mut ShutdownActions) {
        self.stage = ShutdownStage::Logs;
        self.kill_orphans_at = None;
        out.push(ShutdownAction::QuitLogDaemons);
    }

    fn logs_are_written(&mut self, now: Tick, can_find_orphans: bool, out: &mut ShutdownActions) {
        if !can_find_orphans {
            // Without `/proc` no orphan can be asked to end, so none is waited for. Helpers of ours
            // end because the supervisor does.
            self.stage = ShutdownStage::Over;
            return out.push(ShutdownAction::SayKnownStopped);
        }
        self.stage = ShutdownStage::Orphans;
        // After the grace, orphans get no time either, because the engine would kill the whole
        // container.
        let is_late = self.is_container && self.killing_since.is_some();
        out.push(if is_late { ShutdownAction::KillOrphans } else { ShutdownAction::AskOrphans });
        self.kill_by(now.after(ORPHAN_GRACE_MS));
        // The next pass shows whether any process is left.
        out.push(ShutdownAction::Collect);
    }

    /// Stops everything whose turn it is.
    fn stop_due(&mut self, left: &Remaining, out: &mut ShutdownActions) {
        let due = self.order.due(&left.ranks);
        if !due.is_empty() {
            out.push(ShutdownAction::Stop(due));
        }
    }

    /// Stops everything, even if earlier ranks still run.
    fn advance(&mut self, left: &Remaining, out: &mut ShutdownActions) {
        self.order.advance();
        if self.stage == ShutdownStage::Services {
            self.stop_due(left, out);
        }
    }

    /// Kills everything that has not ended, because the grace is over or somebody insisted. Finally
    /// leaves the rest behind.
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
                // A service may be waiting for an orphan.
                out.extend([ShutdownAction::Kill, ShutdownAction::KillOrphans]);
                // The owners of late log daemons may have paused them.
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

    /// Makes [`Self::force`] run at this time at the latest.
    fn kill_by(&mut self, at: Tick) {
        self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
    }
}
