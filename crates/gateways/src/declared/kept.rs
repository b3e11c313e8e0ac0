//! *Lives here:* what a home keeps of the file that declares its profiles, and what reports show of
//! it.
//!
//! *Does not live here:* the file itself (`file`).

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::file::{Declaration, DeclaredProfile, DriftPolicy};
use crate::desired::Desired;
use crate::files::{commit, open_directory, read_bounded, write_beside};
use crate::profile::ProfileName;

/// The name of its file in a home.
const KEPT: &str = ".gatevisor-profiles";
/// The most bytes of the file.
const MAX_BYTES: usize = 8 << 20;

/// What is kept of a declaration: the last good one, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeptDeclaration {
    /// The file that declares.
    pub file: PathBuf,
    /// Why the file, as it is now, does not count, so that the last good one does.
    #[serde(default)]
    pub problem: Option<String>,
    /// Who wrote the last good one.
    #[serde(default)]
    pub set_by: Option<String>,
    /// The profiles of the last good one.
    #[serde(default)]
    pub profiles: Vec<KeptProfile>,
}

/// What is kept of a declared profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptProfile {
    /// The profile's name, which was valid when it was read.
    pub name: String,
    /// Whether its gateway shall run.
    pub desired: Desired,
    /// What becomes of another desired state.
    pub drift: DriftPolicy,
    /// A file with variables for it.
    #[serde(default)]
    pub env_file: Option<PathBuf>,
    /// The declared state that was last carried out here.
    #[serde(default)]
    pub applied: Option<Desired>,
    /// Whether something else is desired here, and kept.
    #[serde(default)]
    pub drifts: bool,
    /// Why the declared state could not be carried out.
    #[serde(default)]
    pub problem: Option<String>,
}

impl KeptProfile {
    /// Returns whether the recorded desired state is the declared one.
    pub fn is_met(&self, recorded: Option<&str>) -> bool {
        recorded == Some(self.desired.word())
    }
}

/// What a report shows of the declaration of one profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeclaredReport {
    /// Whether its gateway shall run.
    pub desired: Desired,
    /// What becomes of another desired state.
    pub drift: DriftPolicy,
    /// Who declared it, in the writer's words.
    pub set_by: Option<String>,
    /// The file that declares it.
    pub file: PathBuf,
    /// Whether something else is desired here.
    pub drifts: bool,
    /// Why the declared state could not be carried out.
    pub problem: Option<String>,
}

impl KeptDeclaration {
    /// Returns what a home keeps; `None` if nothing is declared there, or it cannot be understood.
    pub fn read(home: &Path) -> Option<Self> {
        let bytes = read_bounded(&home.join(KEPT), MAX_BYTES).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// Returns the last good declaration of this file.
    pub(super) fn last_good(&self) -> Declaration {
        let profile = |kept: &KeptProfile| {
            let name: ProfileName = kept.name.parse().ok()?;
            let env_file = kept.env_file.clone();
            Some(DeclaredProfile { name, desired: kept.desired, drift: kept.drift, env_file })
        };
        Declaration {
            set_by: self.set_by.clone(),
            profiles: self.profiles.iter().filter_map(profile).collect(),
        }
    }

    /// Returns what is kept of a profile.
    pub fn of(&self, name: &ProfileName) -> Option<&KeptProfile> {
        self.profiles.iter().find(|profile| profile.name == name.as_str())
    }

    /// Returns what a report shows of a profile, given the word of its desired state.
    pub fn report(&self, name: &ProfileName, recorded: Option<&str>) -> Option<DeclaredReport> {
        let kept = self.of(name)?;
        Some(DeclaredReport {
            desired: kept.desired,
            drift: kept.drift,
            set_by: self.set_by.clone(),
            file: self.file.clone(),
            drifts: !kept.is_met(recorded),
            problem: kept.problem.clone(),
        })
    }

    /// Writes it into a home.
    pub(super) fn keep(&self, home: &Path) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        bytes.push(b'\n');
        let home = open_directory(home)?;
        let temporary = write_beside(home.as_fd(), KEPT, &bytes, 0o644)?;
        commit(home.as_fd(), &temporary, KEPT)
    }

    /// Removes what a home keeps.
    pub(super) fn forget(home: &Path) -> io::Result<()> {
        // A file system that is read-only refuses also to remove what is not there.
        if by_path::look_itself(home.join(KEPT)).is_err() {
            return Ok(());
        }
        match open_directory(home).map(|home| unlinkat(home, KEPT, AtFlags::empty())) {
            Ok(Ok(()) | Err(Errno::NOENT)) => Ok(()),
            Ok(Err(errno)) => Err(errno.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl DeclaredReport {
    /// Returns who declared it, as the subject of a sentence.
    pub fn who(&self) -> String {
        self.set_by.clone().unwrap_or_else(|| format!("`{}`", self.file.display()))
    }

    /// Returns what becomes of the drift, after "which is".
    pub const fn fate(&self) -> &'static str {
        match self.drift {
            DriftPolicy::Revert => "to be reverted",
            DriftPolicy::Report => "kept",
        }
    }
}
