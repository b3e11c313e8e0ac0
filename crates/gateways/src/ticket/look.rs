//! *Lives here:* looking at a gateway that has asked for its own restart.
//!
//! *Does not live here:* the decision that follows (`decide`).

use gatevisor_client::status_view;
use gatevisor_sys::proc::Process;

use super::decide::GatewaySeen;
use crate::manager::ScandirManager;
use crate::profile::ProfileName;

/// Returns the state of a gateway.
pub(super) fn seen(manager: &ScandirManager, name: &ProfileName) -> GatewaySeen {
    let dir = manager.slot(name);
    if !dir.supervised().unwrap_or(false) {
        return GatewaySeen::Nothing;
    }
    let Ok(status) = dir.status() else { return GatewaySeen::Nothing };
    let (want_up, paused) = (status.want_up, status_view::is_paused(&status));
    match status.pid.filter(|_| status.is_up()) {
        None => GatewaySeen::Down { want_up },
        Some(pid) => match Process::of(pid.get()) {
            Some(process) => {
                GatewaySeen::Up { pid: process.pid, start_ticks: process.began, want_up, paused }
            }
            None => GatewaySeen::Nothing,
        },
    }
}
