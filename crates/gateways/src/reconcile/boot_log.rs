//! *Lives here:* the record of every reconciliation below the home.
//!
//! *Does not live here:* the logs of gateways.
//!
//! **Source:** REC-14, REC-15.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gatevisor_wire::exit::error_chain;
use rustix::fs::{Mode, OFlags, open};

use super::{ReconcileSettings, ReconciledProfile};

/// The size in bytes from which the log is set aside before the next lines.
const ROTATE_BYTES: u64 = 262_144;

/// Appends one line for each profile. A log that has become too long is first renamed, in the place
/// of an older one.
///
/// If it cannot be renamed, that is a warning, and the lines are appended nevertheless.
pub(super) fn append(
    settings: &ReconcileSettings<'_>,
    actions: &[ReconciledProfile],
    warnings: &mut Vec<String>,
) -> io::Result<()> {
    let path = settings.home.root().join(&settings.agent.gateway.boot_log);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    if fs::symlink_metadata(&path).is_ok_and(|meta| meta.len() >= ROTATE_BYTES)
        && let Err(error) = fs::rename(&path, set_aside(&path))
    {
        warnings.push(format!("cannot rotate the boot log `{}`: {}", path.display(), error_chain(&error)));
    }
    let at = settings.now.strftime("%Y-%m-%dT%H:%M:%S%z");
    let mut lines = String::new();
    for action in actions {
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{at} {action}");
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = open(&path, flags, Mode::from_raw_mode(0o644))?;
    Ok(gatevisor_sys::file::write_all(file, lines.as_bytes())?)
}

fn set_aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}
