//! *Lives here:* what making and deleting a profile means for its gateway.
//!
//! *Does not live here:* the profile's files (see [`crate::profile`]), the slot (see
//! [`crate::manager`]).
//!
//! **Source:** HOOK-1, HOOK-2.

use crate::agent::AgentDefinition;
use crate::manager::{
    ControlError, GatewayRequest, LetGo, RegisterError, Registered, ServiceManager, StartOutcome,
    UnregisterError, Unregistered,
};
use crate::profile::{self, CreateError, Created, DeleteError, Home, OwnVariables, ProfileName};
use crate::ticket;
use crate::topology::KnownTopology;
use gatevisor_paths::by_path;
use gatevisor_wire::exit::{Exit, ExitError};

/// A profile that was just made, and what became of its gateway.
#[derive(Debug)]
pub struct NewProfile {
    /// The profile, and what its creation had to decide.
    pub created: Created,
    /// The result for its gateway. A failure does not remove the profile.
    pub gateway: Result<NewGateway, GatewayError>,
    /// What did not work and does not matter to the gateway now.
    pub warnings: Vec<String>,
}

/// What became of a new profile's gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewGateway {
    /// It is registered, and as requested.
    Registered(Registered),
    /// It had a slot already, and was started as requested.
    Started(StartOutcome),
    /// It had a slot already.
    HadSlot,
    /// No supervisor runs. The next one registers it, down.
    NextTime,
    /// No supervisor runs. The desired state is recorded, and the next supervisor starts it.
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
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum RemoveProfileError {
    /// Its gateway could not be unregistered, so the profile is unchanged.
    #[error("profile `{name}` is not deleted, because its gateway is still there")]
    Gateway {
        name: ProfileName,
        /// The underlying error.
        #[source]
        source: UnregisterError,
    },
    /// Its files could not be removed.
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

/// Makes a profile, and registers its gateway. With `start`, also starts it.
///
/// The variables are in its own file from the first moment on. Without a supervisor, the profile is
/// made, and a requested start is recorded for the next supervisor.
pub fn create_profile(
    manager: &dyn ServiceManager,
    home: &Home,
    agent: &AgentDefinition,
    name: &ProfileName,
    own: &OwnVariables,
    start: bool,
    request: &GatewayRequest,
) -> Result<NewProfile, CreateError> {
    let had_slot = manager.observe(name)?.is_some();
    let created = profile::create_with(home, agent, name, own)?;
    let mut warnings: Vec<String> = created.warning.clone().into_iter().collect();
    // Another program may have removed one of this name.
    warnings.extend(forget(home, name));
    let gateway = match manager.register(name, start, request) {
        Ok(done) => {
            warnings.extend(done.warnings);
            Ok(NewGateway::Registered(done.outcome))
        }
        Err(RegisterError::NoSupervisor { .. }) if !start => Ok(NewGateway::NextTime),
        Err(RegisterError::AlreadyRegistered { .. }) if !start && had_slot => Ok(NewGateway::HadSlot),
        // The watcher of profiles has registered it already.
        Err(RegisterError::AlreadyRegistered { .. }) if !start => {
            Ok(NewGateway::Registered(Registered::Down))
        }
        Err(RegisterError::NoSupervisor { .. } | RegisterError::AlreadyRegistered { .. }) => {
            match manager.start(name, request) {
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

/// Unregisters a profile's gateway, and deletes the profile when the gateway's process is gone and
/// the gateway of another profile that served it has let go of it.
///
/// Returns the warnings. If the gateway cannot be stopped, the profile is unchanged.
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
    let LetGo { was_served, warning } = manager.let_go(name);
    let mut warnings: Vec<String> = warning.into_iter().collect();
    match profile::delete(home, name) {
        // There was only a slot without a profile.
        Err(DeleteError::Missing { .. }) if !there && done.outcome == Unregistered::Gone => {}
        other => other?,
    }
    if was_served {
        warnings.extend(manager.clear_remains(name));
    }
    // The watcher of profiles may have seen a profile without a slot just before the profile was
    // gone.
    warnings.extend(done.warnings);
    // But whoever has made the profile again meanwhile keeps its gateway.
    if by_path::look_itself(home.profile_dir(name)).is_err() {
        warnings.extend(unregister()?.warnings);
        warnings.extend(forget(home, name));
    }
    Ok(warnings)
}

/// Forgets what the home keeps of an earlier profile with this name; returns why that failed.
pub(crate) fn forget(home: &Home, name: &ProfileName) -> Option<String> {
    let requests = ticket::forget(home.root(), name);
    let failed = requests.and_then(|()| KnownTopology::note(home.root(), name, None)).err()?;
    Some(format!("what is kept of an earlier profile `{name}` still counts for the next one: {failed}"))
}
