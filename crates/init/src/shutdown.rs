//! The shutdown and its timer.
//!
//! *Lives here:* one step of the shutdown, after which the timer is set.
//! *Does not live here:* the stages and their times (`gatevisor_core::shutdown`), and the actions
//! (`supervisor/stopping`).

use gatevisor_core::Tick;
use gatevisor_core::shutdown::{ChildKind, Shutdown, ShutdownActions, ShutdownStage};

use crate::reactor::{Alarm, Reactor, Timer};

/// How far the shutdown has come, with its timer.
#[derive(Debug)]
pub(crate) struct ShutdownProgress {
    machine: Shutdown,
    alarm: Alarm,
    /// Whether every orphan below us becomes our child.
    adopts_orphans: bool,
}

impl ShutdownProgress {
    pub(crate) fn new(grace_ms: u64, is_container: bool, adopts_orphans: bool) -> Self {
        Self { machine: Shutdown::new(grace_ms, is_container), alarm: Alarm::default(), adopts_orphans }
    }

    /// Returns whether it has not begun.
    pub(crate) fn is_running(&self) -> bool {
        self.machine.is_running()
    }

    /// Returns whether only orphans are left.
    pub(crate) fn is_at_orphans(&self) -> bool {
        self.machine.stage() == ShutdownStage::Orphans
    }

    /// Returns whether nothing is left, or the rest is left as it is.
    pub(crate) fn is_over(&self) -> bool {
        self.machine.stage() == ShutdownStage::Over
    }

    /// Returns whether log daemons only have to write the rest.
    pub(crate) fn writes_last_logs(&self) -> bool {
        self.machine.writes_last_logs()
    }

    /// Returns whether a child process counts as an orphan, which is to be killed if `kills`.
    pub(crate) fn is_orphan(&self, child: ChildKind, kills: bool) -> bool {
        self.machine.is_orphan(child, kills)
    }

    /// Ends, and leaves everything as it is.
    pub(crate) fn abandon(&mut self) {
        self.machine.abandon();
    }

    /// Notes that the timer has fired.
    pub(crate) fn rang(&mut self) {
        self.alarm.rang();
    }

    /// Makes one step, and returns what is to be done.
    pub(crate) fn step(
        &mut self,
        reactor: &mut Reactor,
        step: impl FnOnce(&mut Shutdown, Tick, &mut ShutdownActions),
    ) -> ShutdownActions {
        let mut actions = ShutdownActions::new();
        step(&mut self.machine, reactor.now().tick, &mut actions);
        reactor.set(&mut self.alarm, Timer::Shutdown, self.machine.deadline());
        actions
    }

    /// Notes that no child process is left, and returns what is to be done.
    pub(crate) fn no_child_is_left(&mut self, reactor: &mut Reactor) -> ShutdownActions {
        let adopts_orphans = self.adopts_orphans;
        self.step(reactor, |machine, _, actions| machine.no_child_is_left(adopts_orphans, actions))
    }
}
