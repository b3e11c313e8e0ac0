//! *Lives here:* the error of not being allowed to look, and which refused looks concern a home.
//!
//! *Does not live here:* looking (see `gatevisor_client::look`), and the list of refused looks (see
//! `gatevisor_sys::refused`).

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use gatevisor_sys::refused::{self, RefusedLook};
use gatevisor_wire::exit::{Exit, ExitError};

use crate::profile::ProfileName;

/// This process may not look, so it does not know what is there. That is never reported as if
/// nothing were there.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell {what} `{}`; ask as its owner or as root", path.display())]
pub struct LookError {
    /// What cannot be known, as words before the path.
    pub what: &'static str,
    /// The path that cannot be looked at.
    pub path: PathBuf,
    /// The error of the system call.
    #[source]
    pub source: io::Error,
}

impl ExitError for LookError {
    fn exit(&self) -> Exit {
        Exit::System
    }
}

impl LookError {
    /// Returns the error for an error of the kernel at this path.
    pub fn at(path: &Path, source: impl Into<io::Error>) -> Self {
        Self { what: "what is in", path: path.to_owned(), source: source.into() }
    }
}

impl From<RefusedLook> for LookError {
    fn from(RefusedLook { path, errno }: RefusedLook) -> Self {
        Self::at(&path, errno)
    }
}

/// Returns the looks at a home and at the gateways of a scandir that this process was refused since
/// it keeps a list.
pub fn refused_looks(home: &Path, scandir: Option<&Path>) -> Vec<LookError> {
    // Mostly there is none, and nothing needs to be found out.
    if !refused::any() {
        return Vec::new();
    }
    let homes = spellings(home);
    let scandirs = scandir.map(spellings).unwrap_or_default();
    refused::all(|path| concerns(path, &homes, &scandirs)).into_iter().map(LookError::from).collect()
}

/// Returns a path, and how the kernel spells it.
fn spellings(path: &Path) -> Vec<PathBuf> {
    let kernels = by_path::directory(path).map_err(io::Error::from).and_then(by_path::path_of);
    [Ok(path.to_owned()), kernels].into_iter().flatten().collect()
}

/// Returns whether a path is in a home, or is that of a scandir or in the slot of a gateway. Other
/// services than gateways may be closed to the owner of the home.
fn concerns(path: &Path, homes: &[PathBuf], scandirs: &[PathBuf]) -> bool {
    match scandirs.iter().find_map(|scandir| path.strip_prefix(scandir).ok()) {
        Some(rest) => {
            let entry = rest.components().next();
            entry.is_none_or(|entry| ProfileName::of_service(entry.as_os_str().as_bytes()).is_some())
        }
        None => homes.iter().any(|home| path.starts_with(home)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_look_concerns_a_home_its_scandir_and_its_gateways_and_nothing_else() {
        let (homes, scandirs) = ([PathBuf::from("/home/a")], [PathBuf::from("/home/a/run/service")]);
        for (path, expected) in [
            ("/home/a", true),
            ("/home/a/profiles/coder/gateway_state.json", true),
            ("/home/a/run/service", true),
            ("/home/a/run/service/gateway-coder/supervise/control", true),
            ("/home/a/run/service/.s6-svscan/lock", false),
            ("/home/a/run/service/nginx/supervise/control", false),
            ("/home/ab", false),
            ("/proc/1/environ", false),
        ] {
            assert_eq!(concerns(Path::new(path), &homes, &scandirs), expected, "{path}");
        }
    }
}
