//! *Lives here:* what a supervisor found out about the topology of a home when it began, kept for
//! commands and for the next one.
//!
//! *Does not live here:* finding it out (`look`).
//!
//! A command has neither the supervisor's environment nor its `PATH`. And a file that cannot be
//! read today said something yesterday.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::kept::KeptSetting;
use crate::agent::ServedFrom;
use crate::files::{LOCK_ATTEMPTS, commit, lock_directory, open_directory, read_bounded, write_beside};
use crate::profile::ProfileName;

/// Its name in a home.
pub const KNOWN: &str = ".gatevisor-topology";
/// Bytes of it at the most.
const MAX_BYTES: usize = 4 << 20;

/// What was found out when a supervisor began.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownTopology {
    /// The installed program.
    pub program: Option<PathBuf>,
    /// What tells that file from one that took its place.
    pub identity: Option<String>,
    /// What the program calls its version.
    pub version: Option<String>,
    /// Variables that the rules ask for, as the supervisor had them.
    pub variables: BTreeMap<String, String>,
    /// Which gateway serves each profile.
    pub profiles: BTreeMap<String, ServedFrom>,
    /// What is kept of settings that some versions of the agent write by themselves.
    pub settings: BTreeMap<String, KeptSetting>,
}

impl KnownTopology {
    /// Returns what a home has; nothing where that is not ours to read, or no such thing.
    pub fn read(home: &Path) -> Option<Self> {
        let bytes = read_bounded(&home.join(KNOWN), MAX_BYTES).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// Puts it into a home, unless the same is there, or there is nothing to keep.
    pub(crate) fn keep(&self, home: &Path) -> io::Result<()> {
        if Self::read(home).unwrap_or_default() == *self {
            return Ok(());
        }
        let locked = lock_directory(open_directory(home)?, LOCK_ATTEMPTS)?;
        self.write(locked.as_fd())
    }

    /// Notes which gateway serves a profile that is new since a supervisor began, or forgets one
    /// that is gone, where a supervisor has ever kept anything.
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
