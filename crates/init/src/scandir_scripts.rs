//! The scripts of a scandir: those that run on a signal instead of its usual effect, and the one
//! that is executed at the end.
//!
//! *Lives here:* finding scripts, and running them. *Does not live here:* which signal has which
//! script (`gatevisor_core::request`).
//!
//! **Source:** s6-svscan(8), <https://skarnet.org/software/s6/s6-svscan.html>

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gatevisor_core::request;
use gatevisor_sys::{Errno, file, process};
use gatevisor_wire::files;
use rustix::fs::{Access, AtFlags, Stat, accessat, fstat, statat};
use rustix::process::fchdir;

use crate::directory;
use crate::spawner::Spawner;
use crate::stderr_log::say;

/// The directory of the scripts.
const FOLDER: &str = ".s6-svscan/";

/// Executed when everything has ended.
const FINISH: &CStr = c".s6-svscan/finish";

/// Executed if `finish` cannot be.
const CRASH: &CStr = c".s6-svscan/crash";

/// Returns whether the scandir has this script and we may run it; reports a script that we may not
/// run.
///
/// It runs as the supervisor's user. So it, its directory and the scandir must belong to that user
/// or root: a user who may rename one of them could replace the script after it was examined.
fn may_run(scandir: impl AsFd, script: &CStr) -> bool {
    let Some((svscan, name)) = find(scandir.as_fd(), script) else { return false };
    let refused = match is_ours_alone(scandir.as_fd(), &svscan, name) {
        Ok(true) => match accessat(&svscan, name, Access::EXEC_OK, AtFlags::empty()) {
            Ok(()) => return true,
            Err(Errno::NOENT) => return false,
            Err(errno) => errno.to_string(),
        },
        Ok(false) => {
            "others than its owner, who must be root or us, may change it or rename what it is in".to_owned()
        }
        Err(errno) => errno.to_string(),
    };
    say!("warning: `{}` is not run: {refused}", script.to_string_lossy());
    false
}

/// Returns the directory of the scripts and the name of one, if that name exists.
fn find<'a>(scandir: BorrowedFd<'_>, script: &'a CStr) -> Option<(OwnedFd, &'a str)> {
    let name = script.to_str().ok()?.strip_prefix(FOLDER)?;
    let svscan = file::open_directory(scandir, files::SVSCAN).ok()?;
    statat(&svscan, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some((svscan, name))
}

/// Returns whether only root and we control a script. No link is followed before that is known.
fn is_ours_alone(scandir: BorrowedFd<'_>, svscan: &OwnedFd, name: &str) -> Result<bool, Errno> {
    let is_safe = |stat: Stat| directory::ownership(&stat).is_only_of(directory::our_user());
    if !is_safe(fstat(scandir)?) || !is_safe(fstat(svscan)?) {
        return Ok(false);
    }
    statat(svscan, name, AtFlags::empty()).map(is_safe)
}

/// Runs the script of a signal as a child that nobody waits for; returns false if the scandir has
/// none.
pub(crate) fn divert(spawner: &mut Spawner, scandir: impl AsFd, signal: u8) -> bool {
    let Some(script) = request::script_of(signal).filter(|script| may_run(&scandir, script)) else {
        return false;
    };
    let started = spawner.start_script(scandir.as_fd(), script);
    if let Err(errno) = &started {
        say!("warning: cannot run `{}`: {errno}", script.to_string_lossy());
    }
    started.is_ok()
}

/// Replaces this process by the scandir's `finish`, in the scandir and without arguments, if it
/// exists.
///
/// If `finish` cannot be executed, that is reported, and `crash` is executed instead. Returns if
/// there is neither.
pub(crate) fn become_finish(spawner: &Spawner, scandir: impl AsFd) {
    let scandir = scandir.as_fd();
    if find(scandir, FINISH).is_some() {
        become_script(spawner, scandir, FINISH);
        become_script(spawner, scandir, CRASH);
    }
}

fn become_script(spawner: &Spawner, scandir: BorrowedFd<'_>, script: &CStr) {
    if !may_run(scandir, script) {
        return;
    }
    let environment = spawner.environment_of_next_program();
    let errno = fchdir(scandir)
        .err()
        .unwrap_or_else(|| process::exec(script, &[script.to_owned()], environment.strings()));
    say!("warning: cannot execute `{}`: {errno}", script.to_string_lossy());
}
