//! *Lives here:* bringing gateways down.
//!
//! *Does not live here:* taking their slots away (see `withdraw`).

use std::io;
use std::time::Duration;

use gatevisor_client::{Condition, SendError, ServiceDir, WaitError, Waited, act_all, status_view};
use gatevisor_wire::control::Control;

use super::errors::{ControlError, Verb};
use super::scandir::after;
use super::{Done, Order, ScandirManager, Stopped, WaitFor};
use crate::desired::{Desired, Wish};
use crate::marker;
use crate::profile::ProfileName;

/// A gateway that is about to be stopped.
struct Stopping<'a> {
    name: &'a ProfileName,
    dir: ServiceDir,
    was_down: bool,
    wish: Wish,
    warnings: Vec<String>,
}

/// What came of telling a supervisor; `None` where nothing was waited for.
type Answer = Result<Option<Waited>, WaitError>;

impl ScandirManager {
    pub(super) fn stop_many(
        &self,
        names: &[ProfileName],
        order: &Order,
    ) -> Vec<Result<Done<Stopped>, ControlError>> {
        let begun: Vec<_> = names.iter().map(|name| self.begin_stop(name, order)).collect();
        let dirs: Vec<ServiceDir> = begun.iter().flatten().map(|stopping| stopping.dir.clone()).collect();
        let patience = order.timeout.unwrap_or_else(|| self.stop_timeout());
        let mut answers = tell_down(&dirs, order.wait, patience).into_iter();
        let finish = |begun: Result<Stopping<'_>, ControlError>| {
            // One answer for each that was begun.
            begun.and_then(|stopping| {
                let answer = answers.next().unwrap_or(Ok(Some(Waited::SupervisorGone)));
                self.finish_stop(stopping, answer, patience)
            })
        };
        begun.into_iter().map(finish).collect()
    }

    fn begin_stop<'a>(&self, name: &'a ProfileName, order: &Order) -> Result<Stopping<'a>, ControlError> {
        let (wish, mut warnings) = self.wish(Verb::Stop, name, order)?;
        let dir = self.slot(name);
        let was_down = dir.status().is_ok_and(|status| status.pid.is_none() && !status.want_up);
        warnings.extend(self.announce_stop(name));
        Ok(Stopping { name, dir, was_down, wish, warnings })
    }

    fn finish_stop(
        &self,
        stopping: Stopping<'_>,
        answer: Answer,
        patience: Duration,
    ) -> Result<Done<Stopped>, ControlError> {
        let Stopping { name, dir, was_down, wish, mut warnings } = stopping;
        let outcome = match answer {
            Ok(_) if was_down => Stopped::WasDown,
            Ok(None) => Stopped::Told,
            Ok(Some(Waited::Reached | Waited::Failed)) => Stopped::Down,
            Ok(Some(Waited::SupervisorGone)) => {
                return Err(ControlError::SupervisorGone { name: name.clone() });
            }
            Ok(Some(Waited::TimedOut)) => {
                let state = status_view::observe(&dir).state.to_string();
                let (verb, name) = (Verb::Stop, name.clone());
                return Err(ControlError::TimedOut { verb, name, after: patience, state });
            }
            Err(WaitError::Missing { .. }) => return Err(self.not_registered(name)),
            Err(WaitError::Send(SendError::NotSupervised { .. })) => {
                return Err(self.no_supervisor(name, Desired::Stopped));
            }
            Err(error) => {
                let (verb, name, source) = (Verb::Stop, name.clone(), io::Error::other(error));
                return Err(ControlError::System { verb, name, source });
            }
        };
        if outcome != Stopped::Told
            && let Some(planned) = &self.agent.gateway.planned_stop
        {
            marker::clear(&self.home.profile_dir(name), planned);
        }
        self.confirm(name, &wish, &mut warnings);
        Ok(Done { outcome, warnings })
    }
}

/// Tells supervisors to bring services down and not to start them again, and waits for all of them at once.
fn tell_down(dirs: &[ServiceDir], wait: WaitFor, patience: Duration) -> Vec<Answer> {
    let down = [Control::DownAndDisable];
    if wait == WaitFor::Nothing {
        return dirs.iter().map(|dir| dir.send(&down).map(|()| None).map_err(WaitError::from)).collect();
    }
    let answers = act_all(dirs, &down, Condition::Finished, Some(after(patience)), &mut |_, _| {});
    answers.into_iter().map(|answer| answer.map(Some)).collect()
}
