//! The scandir of a container, and whether we are in a container.
//!
//! *Lives here:* the usual places, and the variable for another one.
//! *Does not live here:* making them (`gatevisor_boot::places`).

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;

/// The variable that names the scandir, as upstream's reconciler reads it.
pub const SCANDIR_VARIABLE: &str = "S6_PROFILE_GATEWAY_SCANDIR";

/// The directory of a container's run-time files.
pub const CONTAINER_RUN: &str = "/run";

/// The scandir of a container's supervisor. It exists only if there is one.
pub const CONTAINER_SCANDIR: &str = "/run/service";
const CONTAINER_BASE: &str = "/run/s6/basedir";
/// The link to the scandir if it is not in its usual place.
const CONTAINER_LINK: &str = "/run/s6/scandir";

/// Returns the value of a variable of the environment.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Returns the scandir of a container: the usual one, unless root's boot has put it elsewhere.
pub fn containers_scandir() -> PathBuf {
    let link = Path::new(CONTAINER_LINK);
    let is_roots = std::fs::symlink_metadata(link).is_ok_and(|found| found.uid() == 0);
    let elsewhere = is_roots.then(|| std::fs::read_link(link).ok()).flatten();
    elsewhere.unwrap_or_else(|| CONTAINER_SCANDIR.into())
}

/// Returns the scandir of the container that we are in, if that has a supervisor.
pub fn container_scandir() -> Option<PathBuf> {
    let scandir = containers_scandir();
    let is_there = Path::new(CONTAINER_BASE).is_dir() && by_path::is_directory(scandir.join(".s6-svscan"));
    is_there.then_some(scandir)
}
