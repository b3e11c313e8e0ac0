//! Reaps dead processes: our children and every orphan below us.
//!
//! *Lives here:* how many are reaped at once, and which part learns of a death.
//! *Does not live here:* the consequences.

use gatevisor_core::ServiceInput;
use gatevisor_wire::Pid;
use gatevisor_wire::wait::WaitStatus;

use super::parts::Supervisor;
use crate::deaths::{ChildChange, Deaths};
use crate::id::Id;
use crate::reactor::Timer;
use crate::settings;

/// The most processes that are reaped before other events are handled, because orphans can end as
/// fast as somebody makes them.
const DEATHS_AT_ONCE: usize = 256;
/// The most processes of services among them. For each of these, files are written and perhaps a
/// process is started.
const SERVICES_AT_ONCE: usize = 16;

impl Supervisor {
    /// Reaps the processes that have ended, and tells their machines. If there are many, some are
    /// left for the next iteration.
    pub(super) fn reap(&mut self) {
        let mut services = 0;
        for _ in 0..DEATHS_AT_ONCE {
            match Deaths::next() {
                ChildChange::Ended(pid, how) => services += usize::from(self.reaped(pid, how)),
                ChildChange::Stopped(pid) => self.was_stopped(pid),
                ChildChange::Nothing => {}
                ChildChange::AllRunning => return,
                ChildChange::NoChildren => return self.no_child_is_left(),
            }
            if services >= SERVICES_AT_ONCE {
                break;
            }
        }
        self.deaths.expect_more();
    }

    /// Handles that a signal has stopped a child. In a shutdown, whoever is left is killed anyway.
    fn was_stopped(&self, pid: Pid) {
        if self.companion.is(pid) && self.shutdown.is_running() {
            self.companion.replace();
        }
    }

    /// Handles a death; returns whether it was one of a service's process.
    fn reaped(&mut self, pid: Pid, how: WaitStatus) -> bool {
        if self.command.machine().ended(pid, how) {
            if self.shutdown.is_running() {
                self.begin_shutdown();
            }
            return false;
        }
        if let Some(id) = self.services.of_process(pid) {
            // Whether it reached its program, and whether it is ready, must be known before its
            // death.
            if let Some(service) = self.services.get_mut(id) {
                service.process_ended();
            }
            self.take_start_report(id);
            self.take_readiness(id);
        }
        // The report may have been that it never reached its program; then its death tells nothing
        // more.
        if let Some(id) = self.services.forget_process(pid) {
            // Commands that were sent before we knew of the death were not meant for the next
            // process. No signal is sent any more, because the number is no longer ours.
            self.take_control_before_death(id);
            self.tell_of_memory(id, how);
            let policy = self.services.get(id).map(settings::policy_at_death);
            self.step_with(id, ServiceInput::Exited(how), &policy.unwrap_or_default());
            return true;
        }
        if self.companion.is(pid) {
            self.companion.ended();
            if self.shutdown.is_running() {
                let at = self.companion.start_again(self.reactor.now().tick, how);
                self.reactor.wake_at(at, Timer::Companion);
            }
        } else if !self.spawner.reaped(pid) {
            self.with_logs(|logs, with| logs.died(with, pid, how));
        }
        false
    }

    /// Tells a service's machine, before it learns of the end, that the kernel killed the process
    /// because memory ran out.
    fn tell_of_memory(&mut self, id: Id, how: WaitStatus) {
        let is_unexplained =
            self.services.get(id).is_some_and(|it| it.machine().may_have_run_out_of_memory(how));
        let now = self.reactor.now().tick;
        if is_unexplained && self.deaths.are_explained_by_memory(now) {
            self.step(id, ServiceInput::OutOfMemory);
        }
    }
}
