//! *Lives here:* the variables in the file of a new profile: those that the command gives, and
//! those that are unique to the profile, a port and secrets.
//!
//! *Does not live here:* making the profile (`store`); the syntax of the file
//! (`gatevisor_slot::dotenv`).
//!
//! Commands that make profiles at the same time take turns: each holds a lock on the directory of
//! profiles while it chooses a port, until the profile exists.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use gatevisor_wire::exit::{Exit, ExitError};

use super::home::Home;
use super::name::ProfileName;
use super::wanted_ports::{free, wanted};
use crate::agent::AgentDefinition;
use crate::files::{lock_directory, open_directory};

/// How many random bytes a new secret is made of.
const SECRET_BYTES: usize = 32;
/// How often taking the lock is tried. That takes a minute, because the holder makes a whole
/// profile.
const LOCK_ATTEMPTS: u32 = 3_000;

/// Variables and their values.
pub type Assignments = Vec<(String, OsString)>;

/// The variables that a command gives a new profile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnVariables {
    /// These variables. A given value is never replaced by an allotted one.
    pub given: Assignments,
    /// How its port is chosen.
    pub port: PortChoice,
}

/// The port of a new profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PortChoice {
    /// A free one, if the definition says that each profile gets one.
    #[default]
    AsDefined,
    /// One that no profile has, even if the definition asks for none.
    Free,
    /// Exactly this one, which the operator named.
    Number(u16),
}

/// Why a new profile was given no variables.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum AllotError {
    /// The definition does not say how a port is told to a gateway.
    #[error(
        "the definition of the agent `{agent}` names no variable of a port (`ports` in `[doctor]`); use --env"
    )]
    NoVariable {
        /// The name in the agent definition.
        agent: String,
    },
    /// Every port is taken.
    #[error("no port is free for another profile; give one with --port NUMBER")]
    NoPort,
    /// Another process holds the lock for too long.
    #[error("another process has locked `{}` for a minute; end it, or give a port with --port NUMBER", path.display())]
    Locked { path: PathBuf },
    /// A system call failed.
    #[error("cannot lock `{}` while a port is chosen", path.display())]
    Lock {
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
    /// The kernel gives no random bytes.
    #[error("cannot make a secret out of `/dev/urandom`")]
    Secret(#[source] io::Error),
}

impl ExitError for AllotError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoVariable { .. } | Self::NoPort => Exit::No,
            Self::Locked { .. } => Exit::TimedOut,
            Self::Lock { .. } | Self::Secret(_) => Exit::System,
        }
    }
}

/// The lock under which a port is chosen.
#[derive(Debug)]
pub(super) struct PortLock {
    _lock: Option<OwnedFd>,
}

impl PortLock {
    /// Waits for the lock, if a port will be chosen. The directory of profiles must exist.
    pub(super) fn wait(home: &Home, agent: &AgentDefinition, own: &OwnVariables) -> Result<Self, AllotError> {
        if !own.needs_free_port(agent) {
            return Ok(Self { _lock: None });
        }
        let path = home.profiles_dir();
        let failed = |source| AllotError::Lock { path: path.clone(), source };
        let directory = open_directory(&path).map_err(failed)?;
        match lock_directory(directory, LOCK_ATTEMPTS) {
            Ok(lock) => Ok(Self { _lock: Some(lock) }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(AllotError::Locked { path }),
            Err(error) => Err(failed(error)),
        }
    }
}

impl OwnVariables {
    pub(super) fn needs_free_port(&self, agent: &AgentDefinition) -> bool {
        match self.port {
            PortChoice::Number(_) => false,
            PortChoice::Free => true,
            PortChoice::AsDefined => {
                let variable = agent.doctor.ports.first().map(|port| &port.variable);
                agent.profile.own_port && !self.given.iter().any(|(name, _)| Some(name) == variable)
            }
        }
    }

    /// Returns all variables of the new profile. `_port_lock` must be held until the profile
    /// exists.
    pub(super) fn complete(
        &self,
        home: &Home,
        agent: &AgentDefinition,
        others: impl Iterator<Item = ProfileName>,
        _port_lock: &PortLock,
    ) -> Result<Assignments, AllotError> {
        let mut all = self.given.clone();
        let definition = agent.doctor.ports.first();
        let no_variable = || AllotError::NoVariable { agent: agent.name.clone() };
        if let PortChoice::Number(port) = self.port {
            all.push((definition.ok_or_else(no_variable)?.variable.clone(), port.to_string().into()));
        } else if self.needs_free_port(agent) {
            let definition = definition.ok_or_else(no_variable)?;
            let taken: Vec<u16> = others.flat_map(|name| wanted(home, agent, &name)).collect();
            let port = free(definition, &taken, home.root()).ok_or(AllotError::NoPort)?;
            all.push((definition.variable.clone(), port.to_string().into()));
        }
        for name in &agent.profile.secrets {
            if !all.iter().any(|(given, _)| given == name) {
                all.push((name.clone(), secret().map_err(AllotError::Secret)?.into()));
            }
        }
        Ok(all)
    }
}

/// Returns 64 random hex digits.
fn secret() -> io::Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    Ok(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::profile::{create, create_with};

    fn openclaw(root: &Path) -> (AgentDefinition, Home) {
        let agent = AgentDefinition::load(Some(Path::new("openclaw"))).unwrap();
        let home = Home::resolve(Some(root), &agent, &|_| None).unwrap();
        (agent, home)
    }

    #[test]
    fn profiles_that_are_made_at_once_get_ports_and_secrets_of_their_own_and_keep_them() {
        let place = tempfile::tempdir().unwrap();
        // Not even the home is there when all of them begin.
        let root = place.path().join("home");
        let create_one = |n: usize| {
            let root = root.clone();
            std::thread::spawn(move || {
                let (agent, home) = openclaw(&root);
                let name = format!("p{n}").parse().unwrap();
                create(&home, &agent, &name).unwrap();
                std::fs::read_to_string(home.profile_dir(&name).join(".env")).unwrap()
            })
        };
        let threads: Vec<_> = (0..8).map(create_one).collect();
        let files: Vec<String> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let values = |key: &str| -> BTreeSet<String> {
            let line = |text: &String| {
                text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned).unwrap()
            };
            files.iter().map(line).collect()
        };
        let ports = values("OPENCLAW_GATEWAY_PORT=");
        assert_eq!(ports.len(), 8, "{ports:?}");
        let numbers: Vec<u16> = ports.iter().map(|port| port.parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1].abs_diff(pair[0]) >= 20), "{ports:?}");
        let secrets = values("OPENCLAW_GATEWAY_TOKEN=");
        assert_eq!(secrets.len(), 8);
        assert!(secrets.iter().all(|secret| secret.len() == 64));
        let mode = std::fs::metadata(root.join("profiles/p0/.env")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_somebody_gives_a_new_profile_is_not_allotted() {
        let place = tempfile::tempdir().unwrap();
        let (agent, home) = openclaw(place.path());
        let given = [("OPENCLAW_GATEWAY_TOKEN", "mine"), ("OPENCLAW_GATEWAY_PORT", "19999")];
        let given = given.map(|(name, value)| (name.to_owned(), OsString::from(value)));
        let own = OwnVariables { given: given.into(), port: PortChoice::AsDefined };
        create_with(&home, &agent, &"coder".parse().unwrap(), &own).unwrap();
        let text = std::fs::read_to_string(home.root().join("profiles/coder/.env")).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, ["OPENCLAW_GATEWAY_TOKEN=mine", "OPENCLAW_GATEWAY_PORT=19999"]);
    }

    #[test]
    fn a_definition_without_a_variable_of_a_port_makes_no_profile_with_one() {
        let place = tempfile::tempdir().unwrap();
        let (mut agent, home) = openclaw(&place.path().join("home"));
        agent.doctor.ports.clear();
        let own = OwnVariables { port: PortChoice::Number(9123), ..OwnVariables::default() };
        let error = create_with(&home, &agent, &"coder".parse().unwrap(), &own).unwrap_err();
        assert!(error.to_string().contains("names no variable of a port"), "{error}");
        assert!(!home.root().exists(), "something of it remains");
    }
}
