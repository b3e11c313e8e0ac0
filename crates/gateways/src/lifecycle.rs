//! *Lives here:* what making and deleting a profile means for its gateway.
//!
//! *Does not live here:* the profile's files (see [`crate::profile`]), the slot (see [`crate::manager`]).
//!
//! **Source:** HOOK-1, HOOK-2.

use crate::agent::AgentDefinition;
use crate::manager::{
    ControlError, GatewayRequest, RegisterError, Registered, ServiceManager, StartOutcome, UnregisterError,
    Unregistered,
};
use crate::profile::{self, CreateError, Created, DeleteError, Home, ProfileName};
use gatevisor_paths::by_path;
use gatevisor_wire::exit::{Exit, ExitError};

/// A profile that was just made, and what became of its gateway.
#[derive(Debug)]
pub struct NewProfile {
    /// The profile.
    pub created: Created,
    /// Its gateway; a failure does not unmake the profile.
    pub gateway: Result<NewGateway, GatewayError>,
    /// What there is to say beside it.
    pub warnings: Vec<String>,
}

/// What became of a new profile's gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewGateway {
    /// It is registered, and as the order said.
    Registered(Registered),
    /// It had a slot already, and was started as requested.
    Started(StartOutcome),
    /// It had a slot already.
    HadSlot,
    /// No supervisor runs; the next one registers it, down.
    NextTime,
    /// No supervisor runs; the desired state is recorded, and the next one starts it.
    NextTimeRunning,
}

/// Why a new profile's gateway has no slot, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// It was not registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// It was not started.
    #[error(transparent)]
    Start(#[from] ControlError),
}

impl GatewayError {
    /// Returns whether the gateway itself failed, so that its last lines say more.
    pub fn is_of_gateway(&self) -> bool {
        match self {
            Self::Register(error) => error.is_of_gateway(),
            Self::Start(error) => error.is_of_gateway(),
        }
    }
}

impl ExitError for GatewayError {
    fn exit(&self) -> Exit {
        match self {
            Self::Register(error) => error.exit(),
            Self::Start(error) => error.exit(),
        }
    }
}

/// Why a profile was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveProfileError {
    /// Its gateway is still there, so the profile is as it was.
    #[error("profile `{name}` is not deleted, because its gateway is still there")]
    Gateway {
        /// The profile.
        name: ProfileName,
        /// Why.
        #[source]
        source: UnregisterError,
    },
    /// Its files are.
    #[error(transparent)]
    Files(#[from] DeleteError),
}

impl ExitError for RemoveProfileError {
    fn exit(&self) -> Exit {
        match self {
            Self::Gateway { source, .. } => source.exit(),
            Self::Files(error) => error.exit(),
        }
    }
}

/// Makes a profile and registers its gateway: down, or with `start` up.
///
/// Without a supervisor the profile is made all the same, and a desired start is recorded for the next one.
pub fn create_profile(
    manager: &dyn ServiceManager,
    home: &Home,
    agent: &AgentDefinition,
    name: &ProfileName,
    start: bool,
    order: &GatewayRequest,
) -> Result<NewProfile, CreateError> {
    let had_slot = manager.observe(name)?.is_some();
    let created = profile::create(home, agent, name)?;
    let mut warnings: Vec<String> = created.warning.clone().into_iter().collect();
    let gateway = match manager.register(name, start, order) {
        Ok(done) => {
            warnings.extend(done.warnings);
            Ok(NewGateway::Registered(done.outcome))
        }
        Err(RegisterError::NoSupervisor { .. }) if !start => Ok(NewGateway::NextTime),
        Err(RegisterError::AlreadyRegistered { .. }) if !start && had_slot => Ok(NewGateway::HadSlot),
        // Whoever watches the profiles was quicker.
        Err(RegisterError::AlreadyRegistered { .. }) if !start => {
            Ok(NewGateway::Registered(Registered::Down))
        }
        Err(RegisterError::NoSupervisor { .. } | RegisterError::AlreadyRegistered { .. }) => {
            match manager.start(name, order) {
                Ok(done) => {
                    warnings.extend(done.warnings);
                    Ok(if had_slot {
                        NewGateway::Started(done.outcome)
                    } else {
                        NewGateway::Registered(done.outcome.into())
                    })
                }
                Err(ControlError::NoSupervisor { .. }) => Ok(NewGateway::NextTimeRunning),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    };
    Ok(NewProfile { created, gateway, warnings })
}

/// Unregisters a profile's gateway, and once its process is gone deletes the profile.
///
/// Returns what there is to say beside it. A profile whose gateway cannot be stopped is left as it is.
pub fn remove_profile(
    manager: &dyn ServiceManager,
    home: &Home,
    name: &ProfileName,
) -> Result<Vec<String>, RemoveProfileError> {
    if name.is_root() {
        return Err(DeleteError::Root.into());
    }
    let there = by_path::look_itself(home.profile_dir(name)).is_ok();
    let unregister = || {
        let failed = |source| RemoveProfileError::Gateway { name: name.clone(), source };
        manager.unregister(name).map_err(failed)
    };
    let done = unregister()?;
    match profile::delete(home, name) {
        // A slot without a profile was all there was.
        Err(DeleteError::Missing { .. }) if !there && done.outcome == Unregistered::Gone => {}
        other => other?,
    }
    // Whoever watches the profiles may have seen one without a slot just before it was gone.
    let mut warnings = done.warnings;
    warnings.extend(unregister()?.warnings);
    Ok(warnings)
}
