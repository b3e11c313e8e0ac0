//! Collecting the dead: ours and every orphan below us.

use gatevisor_core::Event;
use gatevisor_sys::Errno;
use gatevisor_wire::Pid;
use gatevisor_wire::wait::WaitStatus;
use rustix::process::{WaitOptions, wait};

use crate::settings;
use crate::shutdown::Stage;
use crate::supervisor::Supervisor;
use crate::talk::say;

impl Supervisor {
    /// Collects every process that has ended and tells its machine.
    pub(crate) fn reap(&mut self) {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if let Some(pid) = Pid::new(pid.as_raw_nonzero().get()) {
                        self.buried(pid, WaitStatus::from_raw(status.as_raw()));
                    }
                }
                Ok(None) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    // No child is left at all.
                    if self.stage == Stage::Strays {
                        self.stage = Stage::Over;
                        say!("everything has stopped");
                    }
                    return;
                }
            }
        }
    }

    fn buried(&mut self, pid: Pid, how: WaitStatus) {
        if self.command_ended(pid, how) {
            return;
        }
        if let Some(&id) = self.pids.get(&pid) {
            // Whether it reached its program, and said that it is ready, comes before its death.
            if let Some(process) = self.services.get_mut(id).and_then(|service| service.on_its_way.as_mut()) {
                process.starting_mut().ended();
            }
            self.take_start_report(id);
            self.take_readiness(id);
        }
        // The report may have said that it never did; then its death says nothing more.
        if let Some(id) = self.pids.remove(&pid) {
            // What somebody asked for before we knew of the death was not meant for what comes after it. No signal
            // goes out any more: the number is no longer ours.
            self.take_control(id);
            let numbers =
                self.services.get(id).map(|service| settings::policy_numbers(&service.dir, &service.name()));
            self.step_with(id, Event::Exited(how), &numbers.unwrap_or_default());
        } else if self.doomed.remove(&pid).is_some() {
            self.groups.ending.remove(&pid);
        } else {
            self.log_daemon_died(pid, how);
        }
    }
}
