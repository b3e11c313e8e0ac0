//! *Lives here:* the home of an agent, and where everything below it is.
//!
//! *Does not live here:* making any of it.
//!
//! **Source:** CLI-1 for the selected profile.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use gatevisor_wire::exit::{Exit, ExitError};

use super::name::ProfileName;
use crate::agent::AgentDefinition;

/// The directory of the named profiles below a home.
pub const PROFILES: &str = "profiles";
/// The file in a home whose lock says which of several containers runs its gateways.
pub const LOCK: &str = gatevisor_slot::home_lock::FILE;
/// The variable in a gateway's environment that names the home of its supervisor. It is there
/// whatever agent that is, so a command in the gateway finds the home without knowing the agent.
pub const VARIABLE: &str = "GATEVISOR_HOME";
/// The directory below a user's data directory that is the home if no other is named.
const DATA_NAME: &str = "gatevisor";

/// The home of an agent: the home of the root profile, with all other profiles below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    selected: ProfileName,
}

/// Why there is no home.
#[derive(Debug, thiserror::Error)]
pub enum HomePathError {
    /// Nothing tells where it is.
    #[error("no home is known; give --home DIR or set {variable}, XDG_DATA_HOME or HOME")]
    Unknown {
        /// The agent's variable.
        variable: String,
    },
    /// The path cannot be made absolute.
    #[error("`{}` cannot be a home", path.display())]
    Path {
        /// What was given.
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
}

impl ExitError for HomePathError {
    fn exit(&self) -> Exit {
        match self {
            Self::Unknown { .. } | Self::Path { .. } => Exit::Usage,
        }
    }
}

impl Home {
    /// Returns the home at `path`.
    ///
    /// If the path has the form `<root>/profiles/<name>`, it is the home of a profile. Then the
    /// root is derived from it, and that profile is the selected one.
    pub fn new(path: &Path) -> Result<Self, HomePathError> {
        let path = std::path::absolute(path)
            .map_err(|source| HomePathError::Path { path: path.to_owned(), source })?;
        let derived = path.parent().filter(|parent| parent.ends_with(PROFILES)).and_then(|profiles| {
            let name = ProfileName::from_os(path.file_name()?).ok()?;
            Some((profiles.parent()?.to_owned(), name))
        });
        let (root, selected) = derived.unwrap_or_else(|| (path, ProfileName::root()));
        // A trailing slash would show in every message.
        Ok(Self { root: root.components().collect(), selected })
    }

    /// Returns the home that a command means: the one that it names, that of the agent's variable,
    /// that of the supervisor from which it descends, or the one in the user's data directory.
    ///
    /// `variable` looks up environment variables. An empty value counts as none.
    pub fn resolve(
        named: Option<&Path>,
        agent: &AgentDefinition,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, HomePathError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let data = || set("XDG_DATA_HOME").filter(|path| path.is_absolute());
        let fallback =
            || data().or_else(|| Some(set("HOME")?.join(".local/share"))).map(|d| d.join(DATA_NAME));
        let name = agent.home_variable();
        match named.map(Path::to_owned).or_else(|| set(&name)).or_else(|| set(VARIABLE)).or_else(fallback) {
            Some(path) => Self::new(&path),
            None => Err(HomePathError::Unknown { variable: name }),
        }
    }

    /// Returns the root of the home, which is also the home of the root profile.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the profile that the path selected: the root profile, unless the path was a
    /// profile's home.
    pub const fn selected(&self) -> &ProfileName {
        &self.selected
    }

    /// Returns the directory of the named profiles.
    pub fn profiles_dir(&self) -> PathBuf {
        self.root.join(PROFILES)
    }

    /// Returns the home of one profile, whether it exists or not.
    pub fn profile_dir(&self, name: &ProfileName) -> PathBuf {
        if name.is_root() { self.root.clone() } else { self.profiles_dir().join(name.as_str()) }
    }

    /// Returns the scandir of `gatevisor up`.
    pub fn scandir(&self) -> PathBuf {
        self.root.join("run/service")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    #[test]
    fn a_home_is_a_root_or_the_home_of_a_profile_below_one() {
        for (path, root, selected) in [
            ("/opt/data", "/opt/data", "default"),
            ("/opt/data/", "/opt/data", "default"),
            ("/opt/data/profiles/coder", "/opt/data", "coder"),
            ("/opt/data/profiles/coder/", "/opt/data", "coder"),
            ("/opt/data/profiles", "/opt/data/profiles", "default"),
            ("/opt/data/profiles/Coder", "/opt/data/profiles/Coder", "default"),
            ("/opt/myprofiles/coder", "/opt/myprofiles/coder", "default"),
            ("/", "/", "default"),
        ] {
            let home = Home::new(Path::new(path)).unwrap();
            assert_eq!((home.root(), home.selected().as_str()), (Path::new(root), selected), "{path}");
        }
        let home = Home::new(Path::new("relative")).unwrap();
        assert!(home.root().is_absolute());
    }

    #[test]
    fn every_file_of_a_home_has_its_place_below_the_root() {
        let home = Home::new(Path::new("/h")).unwrap();
        assert_eq!(home.profile_dir(&ProfileName::root()), Path::new("/h"));
        assert_eq!(home.profile_dir(&"coder".parse().unwrap()), Path::new("/h/profiles/coder"));
        assert_eq!(home.scandir(), Path::new("/h/run/service"));
    }

    #[test]
    fn a_named_home_goes_before_the_variable_and_that_before_the_data_directory() {
        let agent = AgentDefinition::built_in().unwrap();
        let resolve = |named: Option<&str>, set: &[(&str, &str)]| {
            let lookup =
                |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
            match Home::resolve(named.map(Path::new), &agent, &lookup) {
                Ok(home) => home.root().display().to_string(),
                Err(error) => format!("{} {error}", error.exit_code()),
            }
        };
        let all = [("HERMES_HOME", "/v"), ("XDG_DATA_HOME", "/x"), ("HOME", "/u")];
        let lines = [
            resolve(Some("/n"), &all),
            resolve(None, &all),
            resolve(None, &[("HERMES_HOME", ""), ("XDG_DATA_HOME", "/x")]),
            resolve(None, &[(VARIABLE, "/s"), ("XDG_DATA_HOME", "/x")]),
            resolve(None, &[(VARIABLE, "/s"), ("HERMES_HOME", "/v")]),
            resolve(None, &[("XDG_DATA_HOME", "relative"), ("HOME", "/u")]),
            resolve(None, &[("HOME", "")]),
        ];
        assert_snapshot!(lines.join("\n"), @r#"
        /n
        /v
        /x/gatevisor
        /s
        /v
        /u/.local/share/gatevisor
        100 no home is known; give --home DIR or set HERMES_HOME, XDG_DATA_HOME or HOME
        "#);
    }
}
