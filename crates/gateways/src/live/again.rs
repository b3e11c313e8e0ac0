//! *Lives here:* starting a gateway again that the watcher has ended, if the supervisor leaves it
//! down because it ended with 0.
//!
//! *Does not live here:* ending it, and the meaning of exit codes (`gatevisor-core`).
//!
//! Some agents end with 0 when they are told to end, and also when they end by themselves to stay
//! down. Only the watcher knows which of the two it was.

use std::collections::BTreeMap;

use gatevisor_client::ServiceDir;
use gatevisor_liveness::Life;
use gatevisor_wire::control::Control;
use gatevisor_wire::policy::{ENDED_ON_PURPOSE, ENDED_UNANSWERED, RestartPhase};

use crate::desired::{self, Desired};
use crate::manager::ScandirManager;
use crate::profile::ProfileName;

/// The gateways that were told to end, each with the life that was meant.
#[derive(Debug, Default)]
pub(super) struct EndedHere(BTreeMap<String, Life>);

impl EndedHere {
    /// Notes that this life of a service, if it is known, was told to end.
    pub fn told(&mut self, service: &str, life: Option<Life>) {
        self.0.extend(life.map(|life| (service.to_owned(), life)));
    }

    /// Looks at a service that is not followed at the moment. Starts it again if it was ended here,
    /// and its supervisor leaves it down because of that.
    pub fn look(&mut self, manager: &ScandirManager, dir: &ServiceDir, service: &str) {
        let Some(life) = self.0.get(service) else { return };
        let Ok(status) = dir.status() else { return };
        match status.pid {
            Some(pid) if pid.get() == life.pid => return,
            Some(_) if status.finishing => return,
            Some(_) => {}
            None if is_left_down(dir) => {
                if !is_stopped(manager, service) {
                    // If nobody reads it, there is no supervisor that could start it.
                    let _ = dir.send(&[Control::Up]);
                    // A command may have stopped it since its state was read.
                    if let Some(name) = ProfileName::of_service(service.as_bytes()) {
                        manager.settle(&name, Desired::Running, None);
                    }
                }
            }
            // Its supervisor has not decided yet, or starts it by itself.
            None => return,
        }
        self.0.remove(service);
    }
}

/// Returns whether a supervisor leaves a service down because it ended with 0.
fn is_left_down(dir: &ServiceDir) -> bool {
    let ended_with_0 = dir.status().is_ok_and(|status| status.last.exit_code() == Some(0));
    let by_itself = |reason: &str| [ENDED_ON_PURPOSE, ENDED_UNANSWERED].contains(&reason);
    let is_final = dir.policy().is_some_and(|policy| {
        policy.phase == RestartPhase::Failed || policy.reason.as_deref().is_some_and(by_itself)
    });
    ended_with_0 && is_final
}

/// Returns whether somebody wants the gateway to be stopped.
fn is_stopped(manager: &ScandirManager, service: &str) -> bool {
    let Some(name) = ProfileName::of_service(service.as_bytes()) else { return false };
    desired::is_stopped(&manager.home().profile_dir(&name), &manager.agent().gateway.state_file)
}
