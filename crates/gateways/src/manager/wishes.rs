//! *Lives here:* what comes before any effect: whether there is such a gateway, and its wish on disk.
//!
//! *Does not live here:* the file itself (see [`crate::desired`]).

use std::io;

use gatevisor_wire::status::Status;
use jiff::Timestamp;

use super::errors::{ControlError, Verb};
use super::{Order, ScandirManager};
use crate::desired::{self, Desired, RecordError, Wish};
use crate::marker;
use crate::profile::{self, ProfileName};

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
            Err(_) => Err(ControlError::NoProfile { name: name.clone(), path: self.home.profiles_dir() }),
        }
    }

    /// Records what an order wishes, and returns the wish and what there is to say about it.
    pub(super) fn record(
        &self,
        name: &ProfileName,
        desired: Desired,
        order: &Order,
    ) -> Result<(Wish, Vec<String>), RecordError> {
        let wish = Wish { desired, by: order.by.clone(), reason: order.reason.clone(), at: Timestamp::now() };
        let recording = desired::record(&self.home.profile_dir(name), &self.agent.gateway.state_file, &wish)?;
        Ok((wish, recording.warning.into_iter().collect()))
    }

    /// Records a wish once more if the agent has put an older one back meanwhile.
    pub(super) fn confirm(&self, name: &ProfileName, wish: &Wish, warnings: &mut Vec<String>) {
        let (home, file) = (self.home.profile_dir(name), &self.agent.gateway.state_file);
        if !desired::overwritten(&home, file, wish) {
            return;
        }
        match desired::record(&home, file, wish) {
            Ok(recording) => warnings.extend(recording.warning),
            Err(error) => warnings
                .push(format!("the gateway overwrote the wish, and it cannot be recorded again: {error}")),
        }
    }

    pub(super) fn not_registered(&self, name: &ProfileName) -> ControlError {
        ControlError::NotRegistered { name: name.clone(), scandir: self.scandir.clone() }
    }

    pub(super) fn no_supervisor(&self, name: &ProfileName, desired: Desired) -> ControlError {
        ControlError::NoSupervisor { name: name.clone(), scandir: self.scandir.clone(), desired }
    }

    /// Records the wish, and returns what there is to say, if a supervisor runs.
    pub(super) fn wish(
        &self,
        verb: Verb,
        name: &ProfileName,
        order: &Order,
    ) -> Result<(Wish, Vec<String>), ControlError> {
        self.check_profile(name)?;
        let desired = if verb == Verb::Stop { Desired::Stopped } else { Desired::Running };
        let running = self.supervisor_running();
        if running && verb == Verb::Stop && !self.slot(name).path().is_dir() {
            return Err(self.not_registered(name));
        }
        let recorded = self.record(name, desired, order).map_err(|source| ControlError::Record {
            verb,
            name: name.clone(),
            source,
        })?;
        if running { Ok(recorded) } else { Err(self.no_supervisor(name, desired)) }
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
