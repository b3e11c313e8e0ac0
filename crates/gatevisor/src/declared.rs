//! The watcher of the file that declares profiles.
//!
//! *Lives here:* running it, and reporting its actions.
//! *Does not live here:* reading that file and carrying it out (`gatevisor_gateways::declared`),
//! and keeping the watcher running (`keeper`).

use std::path::PathBuf;

use gatevisor_gateways::declared::{DeclarationWatcher, VARIABLE};
use gatevisor_gateways::manager::ScandirManager;

use crate::container_scandir::variable;
use crate::exit::{CommandError, Exit};
use crate::keeper::Kept;
use crate::out;

/// Returns the process that carries out what a file declares, as a keeper takes it.
pub fn kept(manager: &ScandirManager) -> Kept<'_> {
    let is_wanted = Box::new(|| path().is_some());
    let job = Box::new(|| watch(manager));
    Kept { what: "the process that watches the profiles file", job, pulse: None, is_wanted: Some(is_wanted) }
}

/// Returns the file that the environment names.
fn path() -> Option<PathBuf> {
    variable(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Carries out what the file declares. Returns an exit code when that is no longer possible.
fn watch(manager: &ScandirManager) -> i32 {
    let Some(path) = path() else { return i32::from(Exit::Done.code()) };
    let error = DeclarationWatcher::new(manager, path, tell).run();
    out::warn(&CommandError::of(Exit::System, &error).message);
    i32::from(Exit::System.code())
}

fn tell(notice: &str) {
    out::say(notice);
}
