//! *Lives here:* what comes before any effect: checking that there is such a gateway, and writing
//! its desired state to disk.
//!
//! *Does not live here:* the file itself (see [`crate::desired`]).

use std::io;

use gatevisor_wire::status::Status;
use jiff::Timestamp;

use super::errors::{ControlError, GatewayVerb};
use super::{GatewayRequest, ScandirManager};
use crate::desired::{self, Desired, DesiredState, RecordError};
use crate::planned_stop_marker;
use crate::profile::{self, ProfileName, ShowError};

impl ScandirManager {
    pub(super) fn has_gateway(&self, name: &ProfileName) -> bool {
        !name.is_root() || self.agent.default_profile.gateway
    }

    pub(crate) fn check_profile(&self, name: &ProfileName) -> Result<(), ControlError> {
        if !self.has_gateway(name) {
            return Err(ControlError::NoGateway { name: name.clone() });
        }
        match profile::show(&self.home, &self.agent, name) {
            Ok(_) => Ok(()),
            Err(ShowError::Missing { name, path }) => Err(ControlError::NoProfile { name, path }),
            Err(ShowError::Look(error)) => Err(error.into()),
        }
    }

    /// Records the desired state of a request, and returns it with the warnings.
    pub(super) fn record(
        &self,
        name: &ProfileName,
        desired: Desired,
        request: &GatewayRequest,
    ) -> Result<(DesiredState, Vec<String>), RecordError> {
        let (home, file) = (self.home.profile_dir(name), &self.agent.gateway.state_file);
        let (desired_state, recording) =
            desired::record_now(&home, file, desired_state_of(desired, request), true)?;
        Ok((desired_state, recording.warning.into_iter().collect()))
    }

    /// Records a desired state once more if the agent has replaced it by an older one meanwhile.
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
        match desired::record_unless_newer(&home, file, desired_state) {
            Ok(recording) => warnings.extend(recording.and_then(|recording| recording.warning)),
            Err(error) => warnings.push(format!(
                "the gateway overwrote the desired state, and it cannot be recorded again: {error}"
            )),
        }
    }

    pub(crate) fn not_registered(&self, name: &ProfileName) -> ControlError {
        ControlError::NotRegistered { name: name.clone(), scandir: self.scandir.clone() }
    }

    pub(super) fn no_supervisor(&self, name: &ProfileName, desired: Desired) -> ControlError {
        ControlError::NoSupervisor { name: name.clone(), scandir: self.scandir.clone(), desired }
    }

    /// Records the desired state, and returns it with the warnings. Then it is an error if no
    /// supervisor runs.
    pub(super) fn desired_state(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        request: &GatewayRequest,
    ) -> Result<(DesiredState, Vec<String>), ControlError> {
        self.check_profile(name)?;
        let desired = if verb == GatewayVerb::Stop { Desired::Stopped } else { Desired::Running };
        self.supervisor_running()?;
        let recorded = self.record(name, desired, request).map_err(|source| ControlError::Record {
            verb,
            name: name.clone(),
            source,
        })?;
        // One that has begun meanwhile may have read the record before.
        if self.supervisor_running()? { Ok(recorded) } else { Err(self.no_supervisor(name, desired)) }
    }

    /// Records the desired state for a stop if that is possible at once, and returns the warnings.
    ///
    /// A full disk, a read-only file system or a lock that somebody holds must not keep anybody
    /// from stopping a gateway. The returned `false` means that the desired state must be recorded
    /// when the supervisor was told.
    pub(super) fn desired_state_to_stop(
        &self,
        name: &ProfileName,
        request: &GatewayRequest,
    ) -> Result<(DesiredState, bool, Vec<String>), ControlError> {
        if !self.supervisor_running()? {
            let (desired_state, warnings) = self.desired_state(GatewayVerb::Stop, name, request)?;
            return Ok((desired_state, true, warnings));
        }
        self.check_profile(name)?;
        if !self.has_slot(name)? {
            return Err(self.not_registered(name));
        }
        let (home, file) = (self.home.profile_dir(name), &self.agent.gateway.state_file);
        match desired::record_now(&home, file, desired_state_of(Desired::Stopped, request), false) {
            Ok((desired_state, recording)) => {
                Ok((desired_state, true, recording.warning.into_iter().collect()))
            }
            // Later than what whoever holds the lock is recording.
            Err(_) => Ok((desired_state_of(Desired::Stopped, request), false, Vec::new())),
        }
    }

    /// Records the desired state for a stop whose supervisor was told, unless another command has
    /// recorded one since it was asked for.
    pub(super) fn keep_stopped(
        &self,
        name: &ProfileName,
        desired_state: &DesiredState,
    ) -> Result<Vec<String>, RecordError> {
        let (home, file) = (self.home.profile_dir(name), &self.agent.gateway.state_file);
        let recording = desired::record_unless_newer(&home, file, desired_state)?;
        Ok(recording.and_then(|recording| recording.warning).into_iter().collect())
    }

    /// Tells a gateway that the signal which follows is a planned stop, if the agent has a file for
    /// that. Returns what went wrong.
    ///
    /// **Source:** GW-5, L-2, L-3.
    pub fn announce_stop(&self, name: &ProfileName) -> Option<String> {
        let planned = self.agent.gateway.planned_stop.as_ref()?;
        let status = self.slot(name).status().ok().filter(Status::is_up)?;
        let written =
            planned_stop_marker::write(&self.home.profile_dir(name), planned, status.pid?, Timestamp::now());
        // The stop itself matters more. Without the marker, the gateway only reports the stop as
        // unexpected. If the profile has vanished, nobody would read the marker.
        let failed = written.err().filter(|error| error.kind() != io::ErrorKind::NotFound);
        failed.map(|error| format!("cannot write `{}` for the gateway: {error}", planned.file))
    }
}

fn desired_state_of(desired: Desired, request: &GatewayRequest) -> DesiredState {
    DesiredState { desired, by: request.by.clone(), reason: request.reason.clone(), at: Timestamp::now() }
}
