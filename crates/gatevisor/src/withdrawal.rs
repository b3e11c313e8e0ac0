//! Removes the slots of gateways, with what belongs to them.
//!
//! *Lives here:* the meaning of Ctrl-C during that. *Does not live here:* removing a slot
//! (`gatevisor_gateways`), and the messages (`gateway`, `profile`).

use gatevisor_gateways::desired::{self, Desired};
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_paths::by_path;
use gatevisor_wire::control::Control;
use jiff::Timestamp;

use crate::context::CommandContext;
use crate::each::{self, Interruption};

/// Runs a job for each gateway that ends with the removal of its slot, many at the same time.
///
/// As long as a gateway is not down, Ctrl-C removes nothing of it, and has it started again if it
/// was up and nobody had stopped it. After that, the removal takes only milliseconds, and is
/// finished.
pub fn each(
    context: &CommandContext,
    names: &[ProfileName],
    job: impl Fn(&ProfileName) -> each::Result + Sync,
) -> Vec<each::Result> {
    let manager = context.manager.clone();
    let is_stopped = |name: &ProfileName| {
        desired::is_stopped(&manager.home().profile_dir(name), &manager.agent().gateway.state_file)
    };
    // A stop that was requested may not have reached the supervisor yet.
    let is_wanted = |name: &&ProfileName| {
        manager.slot(name).status().is_ok_and(|status| status.want_up) && !is_stopped(name)
    };
    let wanted = names.iter().filter(is_wanted).cloned().collect();
    each::at_once_until(context, names, Withdrawal { manager, wanted, began: Timestamp::now() }, job)
}

/// Slots that are being removed.
struct Withdrawal {
    manager: ScandirManager,
    /// The profiles whose gateways should be up.
    wanted: Vec<ProfileName>,
    /// When the command began.
    began: Timestamp,
}

impl Interruption for Withdrawal {
    fn may_end(&self, name: &ProfileName) -> bool {
        by_path::look_itself(self.manager.slot(name).path()).is_ok()
    }

    fn end(&self, name: &ProfileName) -> String {
        if !self.wanted.contains(name) {
            return "nothing of it was removed, and it stays down".to_owned();
        }
        match self.manager.slot(name).send(&[Control::Up]) {
            Ok(()) => {
                // Another command may have stopped it meanwhile.
                self.manager.settle(name, Desired::Running, Some(self.began));
                "nothing of it was removed, and its gateway is started again when it has ended".to_owned()
            }
            Err(error) => format!("nothing of it was removed, and its gateway is down: {error}"),
        }
    }
}
