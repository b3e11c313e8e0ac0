//! *Lives here:* following the starts of many gateways that a supervisor has just been given.
//!
//! *Does not live here:* asking for them (`up`, `reconcile`).

use std::io;
use std::time::Duration;

use gatevisor_client::status_view::StateName;

use super::follow::{Aim, FollowEnd, Follower, GatewayEnd, follow_all_while_queued};
use super::{FollowedStart, ScandirManager, WaitFor};
use crate::desired::Desired;
use crate::profile::ProfileName;

/// The shortest time for which gateways that start at once are followed.
const UP_WITHIN: Duration = Duration::from_secs(30);

impl ScandirManager {
    /// Follows the starts of many gateways that a supervisor has just taken, and reports the result
    /// of each.
    pub fn follow_starts(&self, names: &[ProfileName], tell: &mut dyn FnMut(&ProfileName, FollowedStart)) {
        let mut followed = Vec::new();
        let mut followers = Vec::new();
        for name in names {
            match Follower::new(self.slot(name)) {
                Ok(new) => match new.state() {
                    // The start was over before it was followed.
                    StateName::Failed { reason } | StateName::FailedToStart { reason, .. } => {
                        tell(name, FollowedStart::Failed { reason });
                    }
                    _ => {
                        followed.push(name);
                        followers.push(new);
                    }
                },
                Err(_) => tell(name, FollowedStart::NotSupervised),
            }
        }
        let window = Duration::from_millis(self.agent.gateway.start_window_ms);
        let timeout = self.start_timeout(WaitFor::Started).max(UP_WITHIN).saturating_add(window);
        follow_all_while_queued(followers, Aim::Started(window), timeout, &mut |index, end| {
            if let Some(name) = followed.get(index) {
                tell(name, self.start_of(name, end));
            }
        });
    }

    fn start_of(&self, name: &ProfileName, end: io::Result<FollowEnd>) -> FollowedStart {
        match end {
            Ok(FollowEnd::Ready(_)) => FollowedStart::Ready,
            Ok(FollowEnd::Live(_)) => FollowedStart::Live,
            Ok(FollowEnd::Stopped) => {
                FollowedStart::Failed { reason: Some(self.told_by(name, Desired::Stopped)) }
            }
            Ok(FollowEnd::Up(_) | FollowEnd::NeverReady(_) | FollowEnd::Supervised) => FollowedStart::Up,
            Ok(FollowEnd::Failed(reason)) => {
                FollowedStart::Failed { reason: self.last_exit(name).or(reason) }
            }
            Ok(FollowEnd::FailedToStart(reason) | FollowEnd::Unresponsive(reason)) => {
                FollowedStart::Failed { reason }
            }
            Ok(FollowEnd::Ended(GatewayEnd { how, .. })) => {
                FollowedStart::Failed { reason: how.and_then(|how| self.meant(name, how)) }
            }
            Ok(FollowEnd::Refused(reason)) => FollowedStart::Failed { reason: Some(reason) },
            Ok(FollowEnd::TimedOut(state) | FollowEnd::SupervisorStopped(_, state)) => {
                FollowedStart::Late { state }
            }
            Ok(FollowEnd::Gone) | Err(_) => FollowedStart::NotSupervised,
        }
    }
}
