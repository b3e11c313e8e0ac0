//! The lock of the home, as `gatevisor up` takes it: of all supervisors of a home, in containers or
//! not and on whatever scandirs, one runs its gateways.
//!
//! *Lives here:* taking the lock for the supervisor, naming who has it, and what a killed one has
//! left on another scandir.
//! *Does not live here:* the lock (`gatevisor_boot::volume`); the lock of a scandir (`reconcile`).
//!
//! The lock ends with the process that has it, so one that was killed blocks nobody. What such a
//! process was just starting may keep the lock for moments, and `doctor` takes it to look whether
//! it is free. So only a supervisor that is seen to run is believed at once.
//!
//! The gateways of a killed one go on running. On the same scandir, the next supervisor ends them.
//! So a file in the home tells which scandir that was (`gatevisor_gateways::earlier`). If that has
//! been removed or moved since, the reconciliation before the next supervisor ends them.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::slice;

use gatevisor_boot::volume::{self, HeldHomeLock};
use gatevisor_client::ScanDir;
use gatevisor_doctor::facts::Holder;
use gatevisor_doctor::{
    container_boots, lock_holder, lost_supervisor, quote, scandir_of, sees_our_files, words_of,
};
use gatevisor_gateways::earlier::{self, LastScandir};
use gatevisor_gateways::reconcile::ReconcileReport;
use gatevisor_gateways::{open_lock, read_bounded, slots};
use gatevisor_paths::OpenHome;
use gatevisor_sys::proc;
use gatevisor_wire::Pid;
use rustix::event::{Timespec, poll};
use rustix::io::Errno;

use crate::context::CommandContext;
use crate::exit::{CommandError, Exit};
use crate::out;

/// How often a lock that no supervisor seems to have is tried again, and the pause between two
/// attempts.
const ATTEMPTS: u32 = 10;
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// The most bytes of `/proc/PID/cgroup` that are read.
const CGROUP_BYTES: usize = 64 << 10;
/// How many digits the number of a container has, and how many of them are shown.
const CONTAINER_DIGITS: usize = 64;
const SHOWN_DIGITS: usize = 12;

/// The lock of a home, taken for a supervisor that is about to begin.
pub struct HomeClaim {
    lock: HeldHomeLock,
    home: OpenHome,
    /// The scandir of the last supervisor, which nobody can have now.
    last: Option<LastScandir>,
}

impl HomeClaim {
    /// Returns the scandir whose processes may be ended. A note that the agent could write is not
    /// trusted for processes of others.
    pub fn earlier(&self) -> Option<&str> {
        self.last.as_ref().filter(|last| last.is_trusted).map(|last| &*last.identity)
    }

    /// Notes the scandir of the supervisor that is about to begin, and returns the lock. If some
    /// processes of the last supervisor could not be ended, the old note stays for the next start.
    pub fn follow(self, scandir: &Path, report: &ReconcileReport) -> HeldHomeLock {
        if report.is_held_back {
            return self.lock;
        }
        let noted = LastScandir::at(scandir).and_then(|now| {
            if self.last.as_ref() == Some(&now) { Ok(()) } else { Ok(now.write(&self.home)?) }
        });
        if let Err(error) = noted {
            let file = LastScandir::file_in(self.home.path());
            out::warn(&format!("cannot write down the scandir in `{}`: {error}", file.display()));
        }
        self.lock
    }
}

/// Takes the lock of the home. The inner error is a warning: it says why the home cannot be locked.
///
/// # Errors
/// Another process holds it, and runs the gateways of the home; or it was removed or replaced, and
/// the last supervisor still runs them; or the last one was killed, and its gateways still run on
/// another scandir.
pub fn claim(context: &CommandContext) -> Result<Result<HomeClaim, String>, CommandError> {
    let root = context.manager.home().root();
    let opened = OpenHome::open(root).map_err(|error| error.to_string());
    let taken = opened.and_then(|home| {
        // A file that exists and may only be read can be locked, too.
        let made = volume::make(&home);
        let taken = take(&home).map_err(|errno| made.err().unwrap_or(errno).to_string());
        taken.map(|lock| (lock, home))
    });
    match taken {
        Ok((Some(lock), home)) => {
            let last = LastScandir::noted(&home);
            if let Some(last) = &last {
                refuse_if_it_runs(last, &home, context)?;
            }
            Ok(Ok(HomeClaim { lock, home, last }))
        }
        Ok((None, _)) => Err(refused(root)),
        Err(why) => {
            let home = root.display();
            Ok(Err(format!("cannot lock the home `{home}`, so its gateways may run twice: {why}")))
        }
    }
}

/// Returns an error if the last supervisor of the home still runs, or if it was killed and its
/// gateways run on another scandir, which still exists.
fn refuse_if_it_runs(
    last: &LastScandir,
    home: &OpenHome,
    context: &CommandContext,
) -> Result<(), CommandError> {
    let is_gone = last.is_gone();
    // The same directory may have two paths.
    let here = LastScandir::at(context.manager.scandir());
    let is_elsewhere =
        here.map_or(last.path != context.manager.scandir(), |here| here.identity != last.identity);
    // The lock of this scandir tells whether a supervisor has it.
    if !is_gone && !is_elsewhere {
        return Ok(());
    }
    let (root, scandir) = (quote(home.path()), quote(&last.path));
    let lock = home.path().join(volume::FILE);
    let taken = |message: String| Err(CommandError::new(Exit::AlreadySupervised, message));
    let is_of_this_home = |pid: &i32| is_of_home(*pid, home, context);
    let holder = ScanDir::new(&last.path).holder().map(Pid::get).filter(|_| is_elsewhere);
    if let Some(pid) = holder.filter(is_of_this_home) {
        return taken(format!(
            "process {pid} supervises this home, although its lock `{}` was removed or replaced; \
             `gatevisor --home {root} --scandir {scandir} down` ends it",
            lock.display()
        ));
    }
    let left = earlier::left_of(slice::from_ref(&last.identity)).unwrap_or_default();
    if let Some(pid) = left.iter().filter_map(|left| left.service.supervisor).find(is_of_this_home) {
        return taken(format!(
            "process {pid} supervises this home, although its lock `{}` was removed or replaced, and its \
             scandir {scandir}, too; `gatevisor --home {root} down` ends it and its gateways in order",
            lock.display()
        ));
    }
    let orphans = left.iter().filter(|left| left.is_orphan());
    match orphans.flat_map(|left| &left.service.processes).next() {
        // If the scandir has gone, only this command can end its processes, so that is not an
        // error.
        Some(process) if !is_gone && was_killed(&last.path) => taken(format!(
            "the last supervisor of this home was killed, and process {} of it still runs; \
             `gatevisor --home {root} --scandir {scandir} up` ends what it left, and then `down` ends that",
            process.pid
        )),
        Some(process) if is_gone && !last.is_trusted => taken(format!(
            "process {} of an earlier supervisor still runs, and `{}`, which names its scandir, is another \
             user's, so that nothing of it is ended; `kill {}` ends it",
            process.pid,
            LastScandir::file_in(home.path()).display(),
            process.pid
        )),
        _ => Ok(()),
    }
}

/// Returns whether a process is a supervisor that `up` became with this home.
fn is_of_home(pid: i32, home: &OpenHome, context: &CommandContext) -> bool {
    let environment = proc::environment(pid);
    let variable = context.manager.agent().home_variable();
    let of_home = [variable.as_bytes(), b"=", home.path().as_os_str().as_bytes()].concat();
    // The note may be forged. The command line of another user's process may not.
    scandir_of(&words_of(pid)).is_some() && environment.split(|byte| *byte == 0).any(|set| set == of_home)
}

/// Returns whether the last supervisor of a scandir was killed. If another one runs there now, it
/// has ended the processes that were left.
fn was_killed(scandir: &Path) -> bool {
    slots::follows_a_killed_one(scandir) && !ScanDir::new(scandir).running().unwrap_or(true)
}

/// A supervisor that runs the gateways of a home, although nobody supervises the scandir in
/// question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherSupervisor {
    /// As this process sees it.
    pub pid: i32,
    /// The scandir that its command line names.
    pub scandir: PathBuf,
    /// Whether its scandir was removed or moved while it ran. No command reaches it then, but a
    /// signal ends it in order.
    pub is_lost: bool,
}

impl OtherSupervisor {
    /// Returns what it does and what to do about it, as the second half of a sentence that says
    /// that the scandir has no supervisor.
    pub fn words(&self, context: &CommandContext) -> String {
        let (pid, here) = (self.pid, context.manager.scandir());
        let (home, scandir) = (quote(context.manager.home().root()), quote(&self.scandir));
        if self.is_lost {
            format!("process {pid} supervises this home and has lost its scandir; `gatevisor down` ends it")
        } else if self.scandir == here {
            format!("process {pid} is about to supervise it, or about to end")
        } else {
            format!(
                "process {pid} supervises this home on another scandir; `gatevisor --home {home} --scandir \
                 {scandir} down` ends it"
            )
        }
    }
}

/// Returns the error that no supervisor runs on the scandir, with what to do.
pub fn not_supervised(context: &CommandContext) -> CommandError {
    let (scandir, what_to_do) = (context.manager.scandir().display(), what_to_do(context));
    CommandError::new(Exit::NotSupervised, format!("no supervisor is running on `{scandir}`; {what_to_do}"))
}

/// Returns what to do about a scandir that no supervisor runs on, as the second half of a sentence
/// that says so.
pub fn what_to_do(context: &CommandContext) -> String {
    if container_boots() {
        return "this container is still booting; try again in a moment".to_owned();
    }
    other_supervisor(context)
        .map_or_else(|| "`gatevisor up` starts one".to_owned(), |other| other.words(context))
}

/// Returns the supervisor that runs the gateways of a home on another scandir, if it can be seen
/// from here.
pub fn other_supervisor(context: &CommandContext) -> Option<OtherSupervisor> {
    let home = context.manager.home().root();
    let holder = holder(home).map(|holder| holder.pid).filter(|pid| sees_our_files(*pid));
    if let Some((pid, scandir)) = holder.and_then(|pid| Some((pid, scandir_of(&words_of(pid))?))) {
        let is_lost = lost_supervisor(home) == Some(pid);
        return Some(OtherSupervisor { pid, scandir, is_lost });
    }
    // If its lock was removed, the scandir that it has noted and its gateways show it.
    let home = OpenHome::open(home).ok()?;
    let last = LastScandir::noted(&home)?;
    let pid = living(&last, &home, context)?;
    Some(OtherSupervisor { pid, is_lost: last.is_gone(), scandir: last.path })
}

/// Returns the supervisor of a home on the scandir of the note, if it runs.
fn living(last: &LastScandir, home: &OpenHome, context: &CommandContext) -> Option<i32> {
    let holder = ScanDir::new(&last.path).holder().map(Pid::get);
    let of_gateways = || {
        let left = earlier::left_in_time(slice::from_ref(&last.identity)).unwrap_or_default();
        left.into_iter().filter_map(|left| left.service.supervisor).collect::<Vec<i32>>()
    };
    let is_its = |pid: &i32| is_of_home(*pid, home, context);
    holder.filter(is_its).or_else(|| of_gateways().into_iter().find(is_its))
}

fn take(home: &OpenHome) -> Result<Option<HeldHomeLock>, Errno> {
    for _ in 0..ATTEMPTS {
        if let Some(lock) = volume::try_take(home)? {
            return Ok(Some(lock));
        }
        if holder(home.path()).is_some_and(|holder| scandir_of(&words_of(holder.pid)).is_some()) {
            return Ok(None);
        }
        let _ = poll(&mut [], Some(&PAUSE));
    }
    volume::try_take(home)
}

/// Returns the process that has the lock, if it can be seen from here.
fn holder(home: &Path) -> Option<Holder> {
    lock_holder(&open_lock(&home.join(volume::FILE))?)
}

fn refused(home: &Path) -> CommandError {
    let lock = home.join(volume::FILE);
    let holder = holder(home);
    let words = holder.as_ref().map(|holder| words_of(holder.pid)).unwrap_or_default();
    let (by, place) = match holder {
        Some(holder) => (format!("process {} (`{}`)", holder.pid, holder.name), place(holder.pid)),
        None => {
            ("a process that cannot be seen from here, such as one of another container".to_owned(), None)
        }
    };
    // The paths of a container are its own.
    let is_in_container = matches!(place, Some(ProcessPlace::Container(_)));
    let what_to_do = match scandir_of(&words).filter(|_| !is_in_container) {
        Some(scandir) => {
            let shown = scandir.display();
            let (home, scandir) = (quote(home), quote(&scandir));
            format!(", on the scandir `{shown}`; `gatevisor --home {home} --scandir {scandir} down` ends it")
        }
        None => "; end that first, or name another home with --home".to_owned(),
    };
    let place = place.map_or_else(String::new, |place| place.to_string());
    let lock = lock.display();
    let message =
        format!("whoever holds `{lock}` runs the gateways of this home, and that is {by}{place}{what_to_do}");
    CommandError::new(Exit::AlreadySupervised, message)
}

/// Where a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ProcessPlace {
    /// In the container with this number, which is shortened.
    Container(String),
    /// In this unit of systemd.
    Unit(String),
}

impl fmt::Display for ProcessPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(number) => write!(f, " of the container {number}"),
            Self::Unit(name) => write!(f, " of the unit `{name}`"),
        }
    }
}

/// Returns where a process runs, if that is another unit or container than ours.
fn place(pid: i32) -> Option<ProcessPlace> {
    let read = |process: &str| {
        let path = PathBuf::from(format!("/proc/{process}/cgroup"));
        let bytes = read_bounded(&path, CGROUP_BYTES).ok().flatten()?;
        place_in(&String::from_utf8_lossy(&bytes))
    };
    read(&pid.to_string()).filter(|found| read("self").as_ref() != Some(found))
}

/// Returns the unit or the container in the text of `/proc/PID/cgroup`.
fn place_in(cgroup: &str) -> Option<ProcessPlace> {
    let path = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).max_by_key(|path| path.len())?;
    let container = path.rsplit('/').find_map(container_in);
    let unit = || path.rsplit('/').find(|part| part.ends_with(".service"));
    container
        .map(|number| ProcessPlace::Container(number.to_owned()))
        .or_else(|| unit().map(|name| ProcessPlace::Unit(name.to_owned())))
}

/// Returns the number of a container, shortened, from a part of a group's path. Engines put a word
/// before it and `.scope` after it.
fn container_in(part: &str) -> Option<&str> {
    let number = part.strip_suffix(".scope").unwrap_or(part).rsplit('-').next()?;
    let is_number = number.len() == CONTAINER_DIGITS && number.bytes().all(|byte| byte.is_ascii_hexdigit());
    number.get(..SHOWN_DIGITS).filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_in_a_container_or_a_unit_or_in_nothing_that_has_a_name() {
        let id = "0123456789abcdef".repeat(4);
        let unit = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/gatevisor-home.service\n";
        let container = " of the container 0123456789ab";
        for (text, expected) in [
            (unit.to_owned(), " of the unit `gatevisor-home.service`"),
            ("0::/user.slice/user-1000.slice/session-3.scope\n".to_owned(), ""),
            (format!("0::/system.slice/docker-{id}.scope\n"), container),
            (format!("12:pids:/docker/{id}\n1:name=systemd:/docker/{id}\n"), container),
            (format!("0::/kubepods/pod1/cri-containerd-{id}.scope/x\n"), container),
            ("0::/\n".to_owned(), ""),
            (String::new(), ""),
        ] {
            let found = place_in(&text).map_or_else(String::new, |place| place.to_string());
            assert_eq!(found, expected, "{text}");
        }
    }
}
