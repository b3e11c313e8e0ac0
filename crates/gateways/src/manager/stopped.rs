//! *Lives here:* the warnings and errors of a command if a signal has stopped the supervisor.
//!
//! *Does not live here:* noticing that while a gateway is waited for (`follow`, `down`).

use std::time::{Duration, Instant};

use gatevisor_wire::Pid;
use rustix::event::{Timespec, poll};

use super::{STOPPED_FOR, ScandirManager};

/// The pause between two looks at the supervisor.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

impl ScandirManager {
    /// Returns the supervisor, if a signal has stopped it for too long to wait for it.
    pub(super) fn supervisor_that_stays_stopped(&self) -> Option<Pid> {
        stays_stopped(&mut || self.stopped_supervisor(), STOPPED_FOR)
    }

    /// Returns the warning of a command that has not waited for the supervisor, if a signal has
    /// stopped it.
    pub(super) fn warning_of_stopped_supervisor(&self) -> Option<String> {
        let pid = self.stopped_supervisor()?;
        Some(format!(
            "a signal has stopped the supervisor (process {pid}), which does nothing until it goes on; `kill -CONT {pid}` \
             continues it"
        ))
    }
}

/// Returns the process, if `stopped` names the same one for `limit`.
fn stays_stopped(stopped: &mut dyn FnMut() -> Option<Pid>, limit: Duration) -> Option<Pid> {
    let began = Instant::now();
    loop {
        let pid = stopped()?;
        if began.elapsed() >= limit {
            return Some(pid);
        }
        let _ = poll(&mut [], Some(&PAUSE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_that_goes_on_within_the_time_is_not_stopped() {
        let pid = Pid::new(7);
        let mut answers = vec![None, pid, pid];
        assert_eq!(stays_stopped(&mut || answers.pop().flatten(), Duration::MAX), None);
        assert!(answers.is_empty(), "it was asked until it went on");
        assert_eq!(stays_stopped(&mut || pid, Duration::ZERO), pid);
    }
}
