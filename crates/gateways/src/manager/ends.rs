//! *Lives here:* why a gateway is no longer up, according to exit codes, ports and records.
//!
//! *Does not live here:* noticing that it ended (see `follow`).

use gatevisor_wire::wait::WaitStatus;
use jiff::Timestamp;

use super::{ControlError, GatewayVerb, ScandirManager};
use crate::desired::{self, Desired};
use crate::inspect::{meaning, served_by};
use crate::ports::PortTable;
use crate::profile::ProfileName;

impl ScandirManager {
    /// Returns why a delayed stop or restart is not carried out: since it was requested at `since`,
    /// another command has recorded something else.
    pub fn overruled(&self, name: &ProfileName, verb: GatewayVerb, since: Timestamp) -> Option<ControlError> {
        match (verb, self.commanded_since(name, Some(since))?) {
            (GatewayVerb::Stop, Desired::Running) => {
                Some(ControlError::Started { by: self.told_by(name, Desired::Running), name: name.clone() })
            }
            (GatewayVerb::Start | GatewayVerb::Restart, Desired::Stopped) => Some(ControlError::Stopped {
                verb,
                by: self.told_by(name, Desired::Stopped),
                name: name.clone(),
            }),
            (GatewayVerb::Stop, Desired::Stopped)
            | (GatewayVerb::Start | GatewayVerb::Restart, Desired::Running) => None,
        }
    }

    /// Returns who told the supervisor of a gateway to establish the desired state, if that is
    /// recorded.
    pub(super) fn told_by(&self, name: &ProfileName, desired: Desired) -> String {
        let recorded = desired::read(&self.home.profile_dir(name), &self.agent.gateway.state_file);
        match recorded.ok().flatten().filter(|recorded| recorded.prior.word() == Some(desired.word())) {
            Some(recorded) => format!("its desired state is now {}{}", desired.word(), recorded.origin),
            None => "somebody told its supervisor so, and recorded no desired state".to_owned(),
        }
    }

    /// Returns the last exit code of a gateway and its meaning, if anything is known of it.
    pub(super) fn last_exit(&self, name: &ProfileName) -> Option<String> {
        let observed = self.seen(name).ok()??;
        let code = observed.status?.last.exit_code()?;
        let meaning = || Some(format!("exit {code}: {}", meaning(&self.agent, &observed, code)?));
        self.beyond_its_code(name, code).or_else(meaning)
    }

    /// Returns why a gateway ended, if something else than the exit code tells it.
    fn beyond_its_code(&self, name: &ProfileName, code: u8) -> Option<String> {
        if let Some(by) = served_by(self, name) {
            return Some(format!("exit {code}: the gateway of {by} serves it"));
        }
        PortTable::now().held(self, name, None).map(|held| format!("{held}; exit {code}"))
    }

    /// Returns how a gateway ended and what that means.
    pub(super) fn meant(&self, name: &ProfileName, how: WaitStatus) -> Option<String> {
        let Some(code) = how.exit_code() else { return Some(how.to_string()) };
        let observed = self.seen(name).ok()??;
        self.beyond_its_code(name, code).or_else(|| {
            Some(match meaning(&self.agent, &observed, code) {
                Some(meaning) => format!("exit {code}: {meaning}"),
                None => format!("exit {code}"),
            })
        })
    }
}
