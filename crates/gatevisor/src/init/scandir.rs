//! The run-time directories of a container, whatever an earlier life left in them.
//!
//! *Lives here:* the order of the attempts, who makes them, and the messages to the operator.
//! *Does not live here:* each attempt (`gatevisor_boot::runtime_directories`).
//!
//! Usually the scandir is renamed and made anew, which takes no time. A child does the parts that
//! take time, within a limit, so that a request to end is obeyed meanwhile. After the limit, the
//! scandir is put elsewhere.

use std::io;
use std::path::Path;
use std::time::Duration;

use gatevisor_boot::child::{ChildError, ChildRunner};
use gatevisor_boot::runtime_directories::{OldScandir, RuntimeDirectories};
use gatevisor_sys::user::{self, User};
use gatevisor_sys::{Errno, process, signal};
use rustix::process::{WaitOptions, setpriority_process, waitpid};

use super::limits;
use super::stop::Stop;
use crate::out;

/// The priority of the process that removes files for which nobody waits.
const LOWEST: i32 = 19;

/// Makes the run-time directories with an empty scandir. The scandir is elsewhere if its own place
/// cannot be emptied.
pub(super) fn make(
    directories: &mut RuntimeDirectories,
    user: Option<&User>,
    runner: &mut ChildRunner,
    limit: Option<Duration>,
) -> Result<io::Result<()>, Stop> {
    let old = match directories.begin(user) {
        Ok(old) => old,
        Err(error) => return Ok(Err(error)),
    };
    let is_usable = match old {
        OldScandir::None | OldScandir::Aside => true,
        OldScandir::Stays(reason) => is_cleared(directories, user, reason, runner, limit)?,
    };
    let finished = finish(directories, user, is_usable);
    if finished.is_ok() && old != OldScandir::None {
        remove_later(directories, user);
    }
    Ok(finished)
}

fn finish(directories: &mut RuntimeDirectories, user: Option<&User>, is_usable: bool) -> io::Result<()> {
    let usual = directories.scandir.clone();
    let problem = match is_usable.then(|| directories.finish(user)) {
        Some(Ok(())) => return Ok(()),
        Some(Err(error)) => format!(": {error}"),
        None => String::new(),
    };
    directories.move_elsewhere()?;
    directories.finish(user)?;
    out::warn(&format!(
        "`{}` cannot be used in this life{problem}; services are in `{}`, where the agent's own command line does not look",
        usual.display(),
        directories.scandir.display()
    ));
    Ok(())
}

/// Lets a child empty the scandir; returns whether only mounts are left.
fn is_cleared(
    directories: &RuntimeDirectories,
    user: Option<&User>,
    reason: Errno,
    runner: &mut ChildRunner,
    limit: Option<Duration>,
) -> Result<bool, Stop> {
    let ended = runner.run(limit, || {
        let report = match directories.clear(user) {
            Ok(report) => report,
            Err(error) => {
                out::warn(&format!("cannot empty `{}`: {error}", directories.scandir.display()));
                return 1;
            }
        };
        for mount in report.mounts {
            out::warn(&format!("`{}` is another file system, and is left alone", shown(directories, &mount)));
        }
        for problem in &report.problems {
            out::warn(&format!("cannot remove `{}`: {}", shown(directories, &problem.path), problem.why));
        }
        i32::from(!report.problems.is_empty())
    });
    match ended {
        Ok(status) => Ok(status.success()),
        Err(error @ ChildError::TooLong(_)) => {
            out::warn(&format!(
                "emptying `{}`, which could not be renamed ({reason}), {error} (`{}`)",
                directories.scandir.display(),
                limits::STEP_VARIABLE
            ));
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn shown(directories: &RuntimeDirectories, path: &Path) -> String {
    directories.scandir.join(path).display().to_string()
}

/// Starts a process that removes the scandirs of earlier lives while the container starts: first
/// the agent's files as the agent, then the few of root's as root.
fn remove_later(directories: &RuntimeDirectories, user: Option<&User>) {
    let job = || {
        signal::unblock_all();
        let _ = setpriority_process(None, LOWEST);
        let Some(user) = user else {
            directories.remove_old(|_| true);
            return 0;
        };
        let child = process::fork_child(|| {
            if user::assume(user).is_ok() {
                directories.remove_old(|_| true);
            }
            0
        });
        if let Ok(child) = child {
            let _ = waitpid(Some(child), WaitOptions::empty());
        }
        directories.remove_old_of_roots();
        0
    };
    if let Err(errno) = process::fork_beside(job) {
        out::warn(&format!("what was in the scandir before is not removed: {errno}"));
    }
}
