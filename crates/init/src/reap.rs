//! Collecting the dead: ours and every orphan below us.

use gatevisor_core::ServiceInput;
use gatevisor_sys::Errno;
use gatevisor_wire::Pid;
use gatevisor_wire::wait::WaitStatus;
use rustix::process::{WaitOptions, wait};

use crate::service::Id;
use crate::settings;
use crate::shutdown::Stage;
use crate::stderr_log::say;
use crate::supervisor::Supervisor;

/// Processes that are collected before other events get their turn: orphans can end as fast as somebody makes them.
const DEATHS_A_TURN: usize = 256;
/// Those of services among them, each of which has files written and perhaps a process started.
const SERVICES_A_TURN: usize = 16;

impl Supervisor {
    /// Collects the processes that have ended and tells their machines; many of them by and by.
    pub(crate) fn reap(&mut self) {
        let mut services = 0;
        for _ in 0..DEATHS_A_TURN {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if let Some(pid) = Pid::new(pid.as_raw_nonzero().get()) {
                        services += usize::from(self.reaped(pid, WaitStatus::from_raw(status.as_raw())));
                    }
                    if services >= SERVICES_A_TURN {
                        break;
                    }
                }
                Ok(None) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    // No child is left at all.
                    if self.stage == Stage::Orphans {
                        self.stage = Stage::Over;
                        say!("everything has stopped");
                    }
                    return;
                }
            }
        }
        self.more_dead = true;
    }

    /// Takes in a death; returns whether it was one of a service.
    fn reaped(&mut self, pid: Pid, how: WaitStatus) -> bool {
        if self.command_ended(pid, how) {
            return false;
        }
        if let Some(&id) = self.pids.get(&pid) {
            // Whether it reached its program, and said that it is ready, comes before its death.
            if let Some(process) = self.services.get_mut(id).and_then(|service| service.in_flight.as_mut()) {
                process.starting_mut().ended();
            }
            self.take_start_report(id);
            self.take_readiness(id);
        }
        // The report may have said that it never did; then its death says nothing more.
        if let Some(id) = self.pids.remove(&pid) {
            // What somebody asked for before we knew of the death was not meant for what comes after it. No signal
            // goes out any more: the number is no longer ours.
            self.take_control_before_death(id);
            self.tell_of_memory(id, how);
            let policy =
                self.services.get(id).map(|service| settings::restart_policy(&service.dir, &service.name()));
            self.step_with(id, ServiceInput::Exited(how), &policy.unwrap_or_default());
            return true;
        }
        if self.unreaped.remove(&pid).is_some() {
            self.groups.ending.remove(&pid);
        } else {
            self.log_daemon_died(pid, how);
        }
        false
    }

    /// Tells a service's machine, before it learns of the end, that the kernel brought that about for want of memory.
    fn tell_of_memory(&mut self, id: Id, how: WaitStatus) {
        let is_unexplained =
            self.services.get(id).is_some_and(|it| it.machine.may_have_run_out_of_memory(how));
        let now = self.now.tick;
        if is_unexplained && self.memory.as_mut().is_some_and(|counter| counter.explains_a_death(now)) {
            self.step(id, ServiceInput::OutOfMemory);
        }
    }
}
