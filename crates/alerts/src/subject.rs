//! *Lives here:* what an alert is about. *Does not live here:* what is said of it (`message`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// What something is told of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertSubject {
    /// The gateway of this profile.
    Gateway(String),
    /// What the gateway of this profile writes.
    Log(String),
    /// The file system of this path.
    Disk(String),
    /// Nothing in particular.
    Nothing,
}

impl fmt::Display for AlertSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(name) | Self::Log(name) => write!(f, "the gateway of {name}"),
            Self::Disk(path) => write!(f, "the file system of `{path}`"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}
