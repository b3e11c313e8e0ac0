//! *Lives here:* waiting for one gateway to be up or down, without telling its supervisor anything.
//!
//! *Does not live here:* following it (`follow`).

use std::time::Duration;

use gatevisor_client::status_view::StateName;
use gatevisor_client::{ServiceDir, Waited};

use super::errors::GatewayWaitError;
use super::follow::{Aim, FollowEnd, Follower, after};
use super::{ScandirManager, WaitOutcome};
use crate::desired::Desired;
use crate::profile::ProfileName;

impl ScandirManager {
    pub(super) fn wait_down(
        &self,
        name: &ProfileName,
        dir: &ServiceDir,
        timeout: Option<Duration>,
    ) -> Result<WaitOutcome, GatewayWaitError> {
        match gatevisor_client::wait(dir, gatevisor_client::Condition::Finished, timeout.map(after)) {
            Ok(Waited::Reached) => Ok(WaitOutcome::Reached),
            Ok(Waited::Failed) => Ok(WaitOutcome::Failed { reason: None }),
            Ok(Waited::TimedOut) => Ok(WaitOutcome::TimedOut),
            Ok(Waited::SupervisorGone) => Err(self.not_supervised(name)),
            Err(source) => Err(GatewayWaitError::System { name: name.clone(), source }),
        }
    }

    /// Waits on evidence. A command that cannot be executed is an answer, and so is a gateway that
    /// nothing reports ready.
    pub(super) fn wait_up(
        &self,
        name: &ProfileName,
        dir: ServiceDir,
        aim: Aim,
        timeout: Option<Duration>,
    ) -> Result<WaitOutcome, GatewayWaitError> {
        let system = |source| GatewayWaitError::Follow { name: name.clone(), source };
        match dir.supervised() {
            Ok(true) => {}
            Ok(false) => return Err(self.not_supervised(name)),
            Err(source) => return Err(system(source)),
        }
        // Without a notification descriptor, nobody can announce readiness. This counts only for a
        // gateway that is down and shall stay so: one that is up may have been started with an
        // earlier slot, and one that is starting will soon report.
        let has_readiness = dir.has_readiness();
        let is_down = dir.status().is_ok_and(|status| status.pid.is_none() && !status.want_up);
        let mut follower = Follower::new(dir).map_err(system)?;
        // It failed before anybody waited.
        if let StateName::Failed { reason } | StateName::FailedToStart { reason, .. } = follower.state() {
            return Ok(WaitOutcome::Failed { reason });
        }
        if aim == Aim::ReadyAtLast && is_down && !has_readiness {
            return Ok(WaitOutcome::NeverReady { is_up: false });
        }
        match follower.follow(aim, timeout.map(after)).map_err(system)? {
            FollowEnd::Up(_) | FollowEnd::Live(_) | FollowEnd::Ready(_) | FollowEnd::Supervised => {
                Ok(WaitOutcome::Reached)
            }
            FollowEnd::Unresponsive(reason) => Ok(WaitOutcome::Failed { reason }),
            FollowEnd::Stopped => {
                Ok(WaitOutcome::Failed { reason: Some(self.told_by(name, Desired::Stopped)) })
            }
            FollowEnd::NeverReady(_) => Ok(WaitOutcome::NeverReady { is_up: true }),
            FollowEnd::FailedToStart(reason) | FollowEnd::Failed(reason) => {
                Ok(WaitOutcome::Failed { reason })
            }
            FollowEnd::Refused(reason) => Ok(WaitOutcome::Failed { reason: Some(reason) }),
            FollowEnd::Ended(ended) => {
                Ok(WaitOutcome::Failed { reason: ended.how.map(|how| how.to_string()) })
            }
            FollowEnd::Gone => Err(self.not_supervised(name)),
            FollowEnd::TimedOut(_) | FollowEnd::SupervisorStopped(..) => Ok(WaitOutcome::TimedOut),
        }
    }
}
