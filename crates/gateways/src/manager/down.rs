//! *Lives here:* bringing gateways down.
//!
//! *Does not live here:* removing their slots (see `withdraw`).

use std::cell::{Cell, RefCell};
use std::io;
use std::time::{Duration, Instant};

use gatevisor_client::{
    Beside, Condition, SendError, ServiceDir, WaitError, Waited, act_all_beside, status_view,
};
use gatevisor_wire::control::Control;

use super::errors::{ControlError, GatewayVerb};
use super::follow::after;
use super::{Done, GatewayRequest, STOPPED_FOR, ScandirManager, StopOutcome, WaitFor};
use crate::agent::ServedFrom;
use crate::desired::{Desired, DesiredState, RecordError};
use crate::planned_stop_marker;
use crate::profile::ProfileName;

/// A gateway that is about to be stopped.
struct Stopping<'a> {
    name: &'a ProfileName,
    dir: ServiceDir,
    was_down: bool,
    desired_state: DesiredState,
    /// Whether the desired state is recorded.
    is_kept: Cell<bool>,
    warnings: RefCell<Vec<String>>,
}

/// What was begun for one of many.
enum Begun<'a> {
    /// A stop of its own gateway.
    Own(Result<Stopping<'a>, ControlError>),
    /// It has none of its own, and this came of it.
    Served(Result<Done<StopOutcome>, ControlError>),
}

impl<'a> Begun<'a> {
    fn own(&self) -> Option<&Stopping<'a>> {
        match self {
            Self::Own(begun) => begun.as_ref().ok(),
            Self::Served(_) => None,
        }
    }
}

/// The result of telling a supervisor; `None` if nothing was waited for.
type DownAnswer = Result<Option<Waited>, WaitError>;

impl ScandirManager {
    pub(super) fn stop_many(
        &self,
        names: &[ProfileName],
        request: &GatewayRequest,
    ) -> Vec<Result<Done<StopOutcome>, ControlError>> {
        // First, as long as the gateway that serves them can be asked.
        let stops_server = names.iter().any(ProfileName::is_root);
        let begun: Vec<_> = names
            .iter()
            .map(|name| match self.meant_gateway(name) {
                ServedFrom::Own => Begun::Own(self.begin_stop(name, names, request)),
                ServedFrom::Server | ServedFrom::Nobody => {
                    Begun::Served(self.stop_served(name, request, stops_server))
                }
            })
            .collect();
        let own: Vec<&Stopping<'_>> = begun.iter().filter_map(Begun::own).collect();
        let told = Instant::now();
        let mut answers = self.tell_down(&own, request).into_iter();
        let waited = told.elapsed();
        let finish = |begun: Begun<'_>| match begun {
            Begun::Served(done) => done,
            // `answers` has one element for each stop that was begun.
            Begun::Own(begun) => begun.and_then(|stopping| {
                let answer = answers.next().unwrap_or(Ok(Some(Waited::SupervisorGone)));
                self.finish_stop(stopping, answer, waited)
            }),
        };
        begun.into_iter().map(finish).collect()
    }

    fn begin_stop<'a>(
        &self,
        name: &'a ProfileName,
        names: &[ProfileName],
        request: &GatewayRequest,
    ) -> Result<Stopping<'a>, ControlError> {
        let (desired_state, is_kept, mut warnings) = self.desired_state_to_stop(name, request)?;
        if name.is_root() {
            warnings.extend(self.warning_of_server(names));
        }
        let dir = self.slot(name);
        let was_down = dir.status().is_ok_and(|status| status.pid.is_none() && !status.want_up);
        warnings.extend(self.announce_stop(name));
        let standing = self.standing();
        if !standing.allows() {
            warnings
                .push(format!("the desired state is recorded, but nothing is stopped elsewhere: {standing}"));
        }
        Ok(Stopping {
            name,
            dir,
            was_down,
            desired_state,
            is_kept: Cell::new(is_kept),
            warnings: RefCell::new(warnings),
        })
    }

    /// Returns what is to be said before the gateway that serves other profiles is stopped.
    fn warning_of_server(&self, stopped: &[ProfileName]) -> Option<String> {
        let names: Vec<String> = self.wanting_server(stopped).iter().map(ToString::to_string).collect();
        (!names.is_empty()).then(|| {
            let names = names.join(", ");
            let them = if names.contains(',') { "them" } else { "it" };
            format!(
                "{names} shall run, and this gateway serves {them}: nobody does until it is started again, as the \
                 next start of the supervisor does for {them}; `gatevisor gateway stop --all` stops {them}, too"
            )
        })
    }

    /// Says how it went, when what could not be kept before is kept or cannot be.
    fn finish_stop(
        &self,
        stopping: Stopping<'_>,
        answer: DownAnswer,
        waited: Duration,
    ) -> Result<Done<StopOutcome>, ControlError> {
        let kept = if stopping.is_kept.get() { Ok(()) } else { self.keep_told(&stopping) };
        let name = stopping.name.clone();
        let stopped = self.outcome_of_stop(&stopping, answer, waited);
        match (kept, stopped) {
            (Ok(()), Ok(outcome)) => {
                let mut warnings = stopping.warnings.into_inner();
                self.confirm(&name, &stopping.desired_state, &mut warnings);
                if matches!(outcome, StopOutcome::Told | StopOutcome::WasDown) {
                    warnings.extend(self.warning_of_stopped_supervisor());
                }
                Ok(Done { outcome, warnings })
            }
            (Ok(()), Err(error)) => Err(error),
            (Err(source), Ok(_)) => Err(ControlError::StoppedForNow { name, source }),
            (Err(source), Err(stop)) => {
                Err(ControlError::NeitherStoppedNorKept { name, stop: Box::new(stop), source })
            }
        }
    }

    fn outcome_of_stop(
        &self,
        stopping: &Stopping<'_>,
        answer: DownAnswer,
        waited: Duration,
    ) -> Result<StopOutcome, ControlError> {
        let Stopping { name, ref dir, was_down, .. } = *stopping;
        let outcome = match answer {
            Ok(_) if was_down => StopOutcome::WasDown,
            Ok(None) => StopOutcome::Told,
            Ok(Some(Waited::Reached | Waited::Failed)) => StopOutcome::Down,
            Ok(Some(Waited::SupervisorGone)) => {
                return Err(ControlError::SupervisorGone { name: name.clone() });
            }
            Ok(Some(Waited::TimedOut)) => {
                let overruled = self.overruled(name, GatewayVerb::Stop, stopping.desired_state.at);
                return Err(overruled.unwrap_or_else(|| self.late_stop(name, dir, waited)));
            }
            Err(WaitError::Missing { .. }) => return Err(self.not_registered(name)),
            Err(WaitError::Send(SendError::NotSupervised { .. })) => {
                return Err(self.no_supervisor(name, Desired::Stopped));
            }
            Err(error) => {
                let (verb, name, source) = (GatewayVerb::Stop, name.clone(), io::Error::other(error));
                return Err(ControlError::System { verb, name, source });
            }
        };
        if outcome != StopOutcome::Told
            && let Some(planned) = &self.agent.gateway.planned_stop
        {
            planned_stop_marker::clear(&self.home.profile_dir(name), planned);
        }
        Ok(outcome)
    }

    /// Tells supervisors to bring gateways down for good, and waits for all of them at once, except
    /// for those that another command has started since.
    fn tell_down(&self, all: &[&Stopping<'_>], request: &GatewayRequest) -> Vec<DownAnswer> {
        let dirs: Vec<ServiceDir> = all.iter().map(|stopping| stopping.dir.clone()).collect();
        let down = [Control::DownAndDisable];
        let mut settle = || {
            for stopping in all {
                // Whoever has the lock mostly gives it back soon. If not, it is tried again when
                // the gateway is down.
                if !stopping.is_kept.get() {
                    let _ = self.keep_told(stopping);
                }
                self.settle(stopping.name, Desired::Stopped, Some(stopping.desired_state.at));
            }
        };
        if request.wait == WaitFor::Nothing {
            let send = |dir: &ServiceDir| dir.send(&down).map(|()| None).map_err(WaitError::from);
            let answers = dirs.iter().map(send).collect();
            settle();
            return answers;
        }
        let told = Instant::now();
        let is_superseded = |stopping: &&Stopping<'_>| {
            let since = Some(stopping.desired_state.at);
            self.commanded_since(stopping.name, since) == Some(Desired::Running)
        };
        let gives_up = |index: usize| {
            let is_superseded = all.get(index).is_some_and(is_superseded);
            // One that is stopped for a moment only is not worth a word.
            is_superseded || (told.elapsed() >= STOPPED_FOR && self.stopped_supervisor().is_some())
        };
        let beside = Beside { on_sent: Some(&mut settle), gives_up: Some(&gives_up) };
        let deadline = Some(after(request.timeout.unwrap_or_else(|| self.stop_timeout())));
        let answers = act_all_beside(&dirs, &down, Condition::Finished, deadline, beside, &mut |_, _| {});
        answers.into_iter().map(|answer| answer.map(Some)).collect()
    }

    /// Records the desired state of a stop that was told before it could be recorded.
    fn keep_told(&self, stopping: &Stopping<'_>) -> Result<(), RecordError> {
        let warnings = self.keep_stopped(stopping.name, &stopping.desired_state)?;
        stopping.warnings.borrow_mut().extend(warnings);
        stopping.is_kept.set(true);
        // A start that came before this stop may have told its supervisor after it, and has found
        // nothing newer in the record.
        self.settle(stopping.name, Desired::Running, None);
        Ok(())
    }

    /// Returns why a gateway is not down in time.
    fn late_stop(&self, name: &ProfileName, dir: &ServiceDir, after: Duration) -> ControlError {
        let (verb, name) = (GatewayVerb::Stop, name.clone());
        let state = status_view::observe(dir).state.to_string();
        if let Some(pid) = self.stopped_supervisor() {
            return ControlError::SupervisorStopped { verb, name, pid, state };
        }
        // Somebody who recorded nothing. A supervisor that had no time yet to read the command has
        // not been told otherwise.
        if after >= STOPPED_FOR && dir.status().is_ok_and(|status| status.want_up) {
            return ControlError::Started { by: self.told_by(&name, Desired::Running), name };
        }
        ControlError::TimedOut { verb, name, after, state }
    }
}
