//! *Lives here:* the subject of an alert. *Does not live here:* the text about it (`message`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// What has a problem, or no longer has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertSubject {
    /// The gateway of this profile.
    Gateway(String),
    /// The log of the gateway of this profile.
    Log(String),
    /// The file system of this path.
    Disk(String),
    /// No subject, as for a test.
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
