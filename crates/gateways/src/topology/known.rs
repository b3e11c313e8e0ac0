//! *Lives here:* the topology of a home as a supervisor found it at its start, kept for commands
//! and for the next supervisor.
//!
//! *Does not live here:* finding it out (`look`).
//!
//! A command has neither the supervisor's environment nor its `PATH`. And if a file cannot be read
//! today, its last known content counts.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::kept::KeptSetting;
use crate::agent::ServedFrom;
use crate::files::{LOCK_ATTEMPTS, commit, lock_directory, open_directory, read_bounded, write_beside};
use crate::profile::ProfileName;

/// The name of its file in a home.
pub const KNOWN: &str = ".gatevisor-topology";
/// The most bytes of the file.
const MAX_BYTES: usize = 4 << 20;

/// What a supervisor found out at its start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownTopology {
    /// The installed program.
    pub program: Option<PathBuf>,
    /// An identifier that changes when another file takes its place.
    pub identity: Option<String>,
    /// What the program calls its version.
    pub version: Option<String>,
    /// The variables that the rules depend on, from the environment of the supervisor.
    pub variables: BTreeMap<String, String>,
    /// Which gateway serves each profile.
    pub profiles: BTreeMap<String, ServedFrom>,
    /// What is remembered of settings that some versions of the agent write by themselves.
    pub settings: BTreeMap<String, KeptSetting>,
}

impl KnownTopology {
    /// Returns what a home keeps; `None` if nothing is kept or it may not be trusted.
    pub fn read(home: &Path) -> Option<Self> {
        let bytes = read_bounded(&home.join(KNOWN), MAX_BYTES).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// Writes it into a home, unless the same is there or there is nothing to keep.
    pub(crate) fn keep(&self, home: &Path) -> io::Result<()> {
        if Self::read(home).unwrap_or_default() == *self {
            return Ok(());
        }
        let locked = lock_directory(open_directory(home)?, LOCK_ATTEMPTS)?;
        self.write(locked.as_fd())
    }

    /// Notes which gateway serves a new profile, or forgets a profile that is gone. Does nothing if
    /// no supervisor has kept anything.
    pub(crate) fn note(home: &Path, name: &ProfileName, from: Option<ServedFrom>) -> io::Result<()> {
        let locked = lock_directory(open_directory(home)?, LOCK_ATTEMPTS)?;
        let Some(mut known) = Self::read(home) else { return Ok(()) };
        let before = match from {
            Some(from) => known.profiles.insert(name.to_string(), from),
            None => known.profiles.remove(name.as_str()),
        };
        if before == from { Ok(()) } else { known.write(locked.as_fd()) }
    }

    fn write(&self, home: BorrowedFd<'_>) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        bytes.push(b'\n');
        let temporary = write_beside(home, KNOWN, &bytes, 0o600)?;
        commit(home, &temporary, KNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_new_profile_is_added_to_what_is_kept_and_one_that_is_gone_is_taken_out() {
        let home = tempfile::tempdir().unwrap();
        let name: ProfileName = "coder".parse().unwrap();
        KnownTopology::note(home.path(), &name, Some(ServedFrom::Server)).unwrap();
        assert_eq!(KnownTopology::read(home.path()), None, "no supervisor has kept anything");
        let known = KnownTopology { version: Some("0.22.2".to_owned()), ..KnownTopology::default() };
        known.keep(home.path()).unwrap();
        KnownTopology::note(home.path(), &name, Some(ServedFrom::Server)).unwrap();
        let noted = KnownTopology::read(home.path()).unwrap();
        assert_eq!(
            (noted.profiles.get("coder"), &noted.version),
            (Some(&ServedFrom::Server), &known.version)
        );
        KnownTopology::note(home.path(), &name, None).unwrap();
        assert_eq!(KnownTopology::read(home.path()), Some(known));
    }

    #[test]
    fn a_stored_topology_is_read_again_and_anything_else_is_ignored() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(KnownTopology::read(home.path()), None);
        let mut known = KnownTopology { version: Some("0.22.2".to_owned()), ..KnownTopology::default() };
        known.profiles.insert("coder".to_owned(), ServedFrom::Server);
        known.keep(home.path()).unwrap();
        assert_eq!(KnownTopology::read(home.path()), Some(known));
        for text in ["", "[]", "{\"profiles\": {\"coder\": \"me\"}}", "{\"version\": 1}"] {
            fs::write(home.path().join(KNOWN), text).unwrap();
            assert_eq!(
                KnownTopology::read(home.path()).unwrap_or_default(),
                KnownTopology::default(),
                "{text}"
            );
        }
    }
}
