//! *Lives here:* gateways that were paused through their supervisor and continued behind its back.
//!
//! *Does not live here:* what a pause means for whoever follows a gateway (`watcher`).
//!
//! A supervisor that has paused a process believes until the next command that it is paused. If
//! somebody continues the process by hand, and a signal stops it later, nothing in the status tells
//! that from the pause. So a process that goes on is noticed here, and the supervisor is told,
//! which is right for all who read its status.

use std::collections::BTreeMap;

use gatevisor_client::ServiceDir;
use gatevisor_wire::control::{Control, ControlSignal};
use gatevisor_wire::status::Status;

use super::process;

/// The services that are paused by their status, with their processes, and whether these went on at
/// the last look.
#[derive(Debug, Default)]
pub(super) struct ContinuedByHand(BTreeMap<String, (i32, bool)>);

impl ContinuedByHand {
    /// Returns whether a service is paused by its status, so that the next look must come soon:
    /// what stops a process before it was seen to go on looks like the pause.
    pub fn is_any_paused(&self) -> bool {
        !self.0.is_empty()
    }

    /// Looks at a service with this status, and tells its supervisor to continue it if it goes on
    /// now and went on at the look `before`. Returns whether it was told.
    pub fn look(&mut self, before: &Self, service: &str, dir: &ServiceDir, status: &Status) -> bool {
        if !self.is_to_tell(before, service, status, process::goes_on) {
            return false;
        }
        // Somebody may have paused it again meanwhile.
        let is_same = dir.status().is_ok_and(|now| now.paused && now.pid == status.pid);
        is_same && dir.send(&[Control::Signal(ControlSignal::Continue)]).is_ok()
    }

    /// The kernel may stop a process a little later than its supervisor says so, so one look is not
    /// enough.
    fn is_to_tell(
        &mut self,
        before: &Self,
        service: &str,
        status: &Status,
        goes_on: impl Fn(i32) -> bool,
    ) -> bool {
        let paused = status.pid.filter(|_| status.paused && status.is_up());
        let Some(pid) = paused.map(gatevisor_wire::Pid::get) else { return false };
        let goes_on = goes_on(pid);
        if goes_on && before.0.get(service) == Some(&(pid, true)) {
            return true;
        }
        self.0.insert(service.to_owned(), (pid, goes_on));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatevisor_wire::Pid;
    use gatevisor_wire::tai::Tai64n;
    use gatevisor_wire::wait::WaitStatus;

    const PAUSED: Status = Status {
        changed: Tai64n::EPOCH,
        ready_at: Tai64n::EPOCH,
        pid: None,
        last: WaitStatus::exited(0),
        paused: true,
        finishing: false,
        want_up: true,
        ready: false,
    };

    #[test]
    fn a_supervisor_is_told_that_a_paused_process_goes_on_once_two_looks_have_seen_it() {
        let status = |pid| Status { pid: Pid::new(pid), ..PAUSED };
        let look = |before: &ContinuedByHand, status: Status, goes_on: bool| {
            let mut now = ContinuedByHand::default();
            let told = now.is_to_tell(before, "a", &status, |_| goes_on);
            (now, told)
        };
        let none = ContinuedByHand::default();
        let (stopped, told) = look(&none, status(7), false);
        assert!(!told && stopped.is_any_paused(), "it is looked at again soon");
        assert!(!look(&stopped, status(7), true).1, "it went on at one look alone");
        let (once, told) = look(&none, status(7), true);
        assert!(!told && once.is_any_paused());
        assert!(look(&once, status(7), true).1);
        assert!(!look(&once, status(7), false).1, "it is stopped again");
        assert!(!look(&once, status(8), true).1, "another process");
        for (status, why) in [
            (Status { paused: false, ..status(7) }, "it is not paused any more"),
            (PAUSED, "it has no process"),
        ] {
            let (now, told) = look(&once, status, true);
            assert!(!told && !now.is_any_paused(), "{why}");
        }
    }
}
