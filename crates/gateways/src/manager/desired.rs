//! *Lives here:* what comes before any effect: whether there is such a gateway, and its desired state on disk.
//!
//! *Does not live here:* the file itself (see [`crate::desired`]).

use std::io;

use gatevisor_wire::status::Status;
use jiff::Timestamp;

use super::errors::{ControlError, GatewayVerb};
use super::{GatewayRequest, ScandirManager};
use crate::desired::{self, Desired, DesiredState, RecordError};
use crate::marker;
use crate::profile::{self, ProfileName, ShowError};

impl ScandirManager {
    pub(super) fn has_gateway(&self, name: &ProfileName) -> bool {
        !name.is_root() || self.agent.default_profile.gateway
    }

    pub(super) fn check_profile(&self, name: &ProfileName) -> Result<(), ControlError> {
        if !self.has_gateway(name) {
            return Err(ControlError::NoGateway { name: name.clone() });
        }
        match profile::show(&self.home, &self.agent, name) {
            Ok(_) => Ok(()),
            Err(ShowError::Missing { name, path }) => Err(ControlError::NoProfile { name, path }),
            Err(ShowError::Look(error)) => Err(error.into()),
        }
    }

    /// Records what an order desired states, and returns the desired state and what there is to say about it.
    pub(super) fn record(
        &self,
        name: &ProfileName,
        desired: Desired,
        order: &GatewayRequest,
    ) -> Result<(DesiredState, Vec<String>), RecordError> {
        let desired_state = desired_state_of(desired, order);
        let recording =
            desired::record(&self.home.profile_dir(name), &self.agent.gateway.state_file, &desired_state)?;
        Ok((desired_state, recording.warning.into_iter().collect()))
    }

    /// Records a desired state once more if the agent has put an older one back meanwhile.
    pub(super) fn confirm(
        &self,
        name: &ProfileName,
        desired_state: &DesiredState,
        warnings: &mut Vec<String>,
    ) {
        let (home, file) = (self.home.profile_dir(name), &self.agent.gateway.state_file);
        if !desired::overwritten(&home, file, desired_state) {
            return;
        }
        match desired::record(&home, file, desired_state) {
            Ok(recording) => warnings.extend(recording.warning),
            Err(error) => warnings.push(format!(
                "the gateway overwrote the desired state, and it cannot be recorded again: {error}"
            )),
        }
    }

    pub(super) fn not_registered(&self, name: &ProfileName) -> ControlError {
        ControlError::NotRegistered { name: name.clone(), scandir: self.scandir.clone() }
    }

    pub(super) fn no_supervisor(&self, name: &ProfileName, desired: Desired) -> ControlError {
        ControlError::NoSupervisor { name: name.clone(), scandir: self.scandir.clone(), desired }
    }

    /// Records the desired state, and returns what there is to say, if a supervisor runs.
    pub(super) fn desired_state(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        order: &GatewayRequest,
    ) -> Result<(DesiredState, Vec<String>), ControlError> {
        self.check_profile(name)?;
        let desired = if verb == GatewayVerb::Stop { Desired::Stopped } else { Desired::Running };
        let running = self.supervisor_running()?;
        let recorded = self.record(name, desired, order).map_err(|source| ControlError::Record {
            verb,
            name: name.clone(),
            source,
        })?;
        if running { Ok(recorded) } else { Err(self.no_supervisor(name, desired)) }
    }

    /// Records the desired state for a stop, as far as that can be done at once, and returns what there is to say.
    ///
    /// A full disk, a file system that is read-only or somebody who holds the lock must not keep anybody from stopping a
    /// gateway. So `false` says that it is to be recorded when the gateway is down.
    pub(super) fn desired_state_to_stop(
        &self,
        name: &ProfileName,
        order: &GatewayRequest,
    ) -> Result<(DesiredState, bool, Vec<String>), ControlError> {
        if !self.supervisor_running()? {
            let (desired_state, warnings) = self.desired_state(GatewayVerb::Stop, name, order)?;
            return Ok((desired_state, true, warnings));
        }
        self.check_profile(name)?;
        if !self.has_slot(name)? {
            return Err(self.not_registered(name));
        }
        let desired_state = desired_state_of(Desired::Stopped, order);
        let recorded = desired::record_at_once(
            &self.home.profile_dir(name),
            &self.agent.gateway.state_file,
            &desired_state,
        );
        let (is_kept, warning) = match recorded {
            Ok(recording) => (true, recording.warning),
            Err(_) => (false, None),
        };
        Ok((desired_state, is_kept, warning.into_iter().collect()))
    }

    /// Records the desired state for a stop that has been carried out.
    pub(super) fn keep_stopped(
        &self,
        name: &ProfileName,
        desired_state: &DesiredState,
    ) -> Result<Vec<String>, RecordError> {
        let (home, file) = (self.home.profile_dir(name), &self.agent.gateway.state_file);
        desired::record(&home, file, desired_state).map(|recording| recording.warning.into_iter().collect())
    }

    /// Says to a gateway that the signal it is about to get is meant, where the agent knows such a thing; returns what went
    /// wrong about it.
    ///
    /// **Source:** GW-5, L-2, L-3.
    pub fn announce_stop(&self, name: &ProfileName) -> Option<String> {
        let planned = self.agent.gateway.planned_stop.as_ref()?;
        let status = self.slot(name).status().ok().filter(Status::is_up)?;
        let written = marker::write(&self.home.profile_dir(name), planned, status.pid?, Timestamp::now());
        // The stop itself matters more; without the marker the gateway only reports it as unexpected. And where the
        // profile has vanished, nobody would read it.
        let failed = written.err().filter(|error| error.kind() != io::ErrorKind::NotFound);
        failed.map(|error| format!("cannot write `{}` for the gateway: {error}", planned.file))
    }
}

fn desired_state_of(desired: Desired, order: &GatewayRequest) -> DesiredState {
    DesiredState { desired, by: order.by.clone(), reason: order.reason.clone(), at: Timestamp::now() }
}
