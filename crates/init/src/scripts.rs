//! The scripts of a scandir: what is run on a signal instead of what the signal does, and what is
//! executed at the end.
//!
//! **Source:** s6-svscan(8), <https://skarnet.org/software/s6/s6-svscan.html>

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gatevisor_sys::{Errno, file, process, signal};
use gatevisor_wire::files;
use rustix::fs::{Access, AtFlags, accessat, fstat, statat};
use rustix::process::fchdir;

use crate::spawner::Spawner;
use crate::stderr_log::say;

/// Where the scripts are.
const FOLDER: &str = ".s6-svscan/";

/// What is executed when everything has ended.
const FINISH: &CStr = c".s6-svscan/finish";

/// What is executed when that cannot be.
const CRASH: &CStr = c".s6-svscan/crash";

/// The signals that can have a script.
const SCRIPTS: [(i32, &CStr); 8] = [
    (signal::SIGTERM, c".s6-svscan/SIGTERM"),
    (signal::SIGINT, c".s6-svscan/SIGINT"),
    (signal::SIGQUIT, c".s6-svscan/SIGQUIT"),
    (signal::SIGHUP, c".s6-svscan/SIGHUP"),
    (signal::SIGUSR1, c".s6-svscan/SIGUSR1"),
    (signal::SIGUSR2, c".s6-svscan/SIGUSR2"),
    (signal::SIGPWR, c".s6-svscan/SIGPWR"),
    (signal::SIGWINCH, c".s6-svscan/SIGWINCH"),
];

/// Returns whether the scandir has this script and we may run it; says so where it has and we may
/// not.
///
/// It runs as the supervisor's user, so neither it nor its directory nor the scandir may belong to
/// anybody but that user and root: a user who may rename one of them could put another program
/// there when this one has been looked at.
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

/// Returns the directory of the scripts and the name of one, where something has that name.
fn find<'a>(scandir: BorrowedFd<'_>, script: &'a CStr) -> Option<(OwnedFd, &'a str)> {
    let name = script.to_str().ok()?.strip_prefix(FOLDER)?;
    let svscan = file::open_directory(scandir, files::SVSCAN).ok()?;
    statat(&svscan, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some((svscan, name))
}

/// Returns whether nobody but root and us decides what a script is. No link is followed before that
/// is known.
fn is_ours_alone(scandir: BorrowedFd<'_>, svscan: &OwnedFd, name: &str) -> Result<bool, Errno> {
    let ours = rustix::process::geteuid().as_raw();
    let safe =
        |stat: rustix::fs::Stat| (stat.st_uid == 0 || stat.st_uid == ours) && stat.st_mode & 0o022 == 0;
    if !safe(fstat(scandir)?) || !safe(fstat(svscan)?) {
        return Ok(false);
    }
    statat(svscan, name, AtFlags::empty()).map(safe)
}

/// Runs the script of a signal as a child that nobody waits for; returns false where the scandir
/// has none.
pub(crate) fn divert(spawner: &mut Spawner, scandir: impl AsFd, signal: i32) -> bool {
    let Some((_, script)) = SCRIPTS.iter().find(|(number, _)| *number == signal) else { return false };
    if !may_run(&scandir, script) {
        return false;
    }
    let started = spawner.start_script(scandir.as_fd(), script);
    if let Err(errno) = &started {
        say!("warning: cannot run `{}`: {errno}", script.to_string_lossy());
    }
    started.is_ok()
}

/// Replaces this process by the scandir's `finish`, in the scandir and without arguments, if there
/// is one.
///
/// Where it cannot be executed, which is said, `crash` takes its place. Returns where there is
/// neither.
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
