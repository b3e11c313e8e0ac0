//! Collecting the dead: ours and every orphan below us.
//!
//! *Lives here:* how many are collected at once, and who learns of a death. *Does not live here:*
//! what follows from it.

use gatevisor_core::ServiceInput;
use gatevisor_sys::Errno;
use gatevisor_wire::Pid;
use gatevisor_wire::wait::WaitStatus;
use rustix::process::{WaitOptions, wait};

use super::Supervisor;
use crate::id::Id;
use crate::settings;

/// Processes that are collected before other events are dealt with: orphans can end as fast as
/// somebody makes them.
const DEATHS_AT_ONCE: usize = 256;
/// Those of services among them, each of which has files written and perhaps a process started.
const SERVICES_AT_ONCE: usize = 16;
/// The dead that are collected at the very end.
const LAST_DEATHS: usize = 1 << 20;

impl Supervisor {
    /// Collects the processes that have ended and tells their machines; of many it leaves some for
    /// the next iteration.
    pub(super) fn reap(&mut self) {
        let mut services = 0;
        for _ in 0..DEATHS_AT_ONCE {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if let Some(pid) = Pid::new(pid.as_raw_nonzero().get()) {
                        services += usize::from(self.reaped(pid, WaitStatus::from_raw(status.as_raw())));
                    }
                    if services >= SERVICES_AT_ONCE {
                        break;
                    }
                }
                Ok(None) => return,
                Err(Errno::INTR) => {}
                Err(_) => return self.no_child_is_left(),
            }
        }
        self.more_dead = true;
    }

    /// Takes in a death; returns whether it was one of a service.
    fn reaped(&mut self, pid: Pid, how: WaitStatus) -> bool {
        if self.command.ended(pid, how) {
            if self.shutdown.is_running() {
                self.begin_shutdown();
            }
            return false;
        }
        if let Some(id) = self.services.of_process(pid) {
            // Whether it reached its program, and said that it is ready, comes before its death.
            if let Some(process) = self.services.get_mut(id).and_then(|service| service.in_flight.as_mut()) {
                process.starting_mut().ended();
            }
            self.take_start_report(id);
            self.take_readiness(id);
        }
        // The report may have said that it never did; then its death says nothing more.
        if let Some(id) = self.services.forget_process(pid) {
            // What somebody asked for before we knew of the death was not meant for what comes
            // after it. No signal goes out any more: the number is no longer ours.
            self.take_control_before_death(id);
            self.tell_of_memory(id, how);
            let policy =
                self.services.get(id).map(|service| settings::restart_policy(&service.dir, &service.name()));
            self.step_with(id, ServiceInput::Exited(how), &policy.unwrap_or_default());
            return true;
        }
        if !self.spawner.reaped(pid) {
            self.with_logs(|logs, with| logs.died(with, pid, how));
        }
        false
    }

    /// Tells a service's machine, before it learns of the end, that the kernel brought that about
    /// for want of memory.
    fn tell_of_memory(&mut self, id: Id, how: WaitStatus) {
        let is_unexplained =
            self.services.get(id).is_some_and(|it| it.machine.may_have_run_out_of_memory(how));
        let now = self.reactor.now().tick;
        if is_unexplained && self.memory.as_mut().is_some_and(|counter| counter.explains_a_death(now)) {
            self.step(id, ServiceInput::OutOfMemory);
        }
    }
}

/// Collects the processes that have ended, so that our own parent has none of them to reap.
pub(super) fn reap_last() {
    for _ in 0..LAST_DEATHS {
        if !matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {
            break;
        }
    }
}
