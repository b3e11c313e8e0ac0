//! Permits to start: the settings `start-parallel` and `after`. The first limits how many gateways
//! of a scandir start at the same time, because many starts at once on few processors are all
//! late. The second lets a gateway start after others.
//!
//! *Lives here:* the settings, the file of the list, and waiting for a permit.
//! *Does not live here:* who is next (`list`); waiting for another service (`after`); whether a
//! gateway works, which the caller finds out.
//!
//! The interpreter of `run` waits; neither the supervisor nor a watcher has a part in it. So a
//! waiting gateway is up for its supervisor, can be stopped like any other, and depends on no
//! process that could be missing. A start counts until the gateway has shown that it works, has
//! ended, or its time is over. Whatever is wrong with the list, a gateway is started after an hour
//! at the latest.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use gatevisor_paths::by_path;
use gatevisor_sys::clock::{monotonic_ms, timespec};
use gatevisor_sys::file;
use gatevisor_sys::proc::Process;
use gatevisor_wire::started::StartMark;
use gatevisor_wire::{Pid, files};
use rustix::event::poll;
use rustix::fs::{CWD, Mode, OFlags, fstat, mkdirat};
use rustix::io::Errno;

use crate::live::Number;
use crate::os;

mod after;
mod list;

pub use after::{AFTER_LIMIT_MS, MOST_AFTER, check_after};
pub(crate) use after::{AwaitNotice, wait_for};
pub use list::{StartDelay, StartPermit, StartPermits, StartSpan};

/// The directory of the list in a scandir. Supervisors skip names that begin with a dot.
pub const DIRECTORY: &str = ".turns";
/// The file with the list. A process locks it while it changes the list.
const LIST: &str = "list";
const NEW: &str = ".new";
const LOCK: &str = ".lock";
/// The most bytes of the list; beyond that, nobody waits.
const MAX_BYTES: usize = 1 << 20;
/// The most bytes of a process's start mark.
const MARK_BYTES: usize = 64;
/// The smallest limit that `auto` stands for.
const FEWEST: usize = 4;
/// The setting that leaves the limit to us.
pub const AUTO: &str = "auto";
/// The largest value of the setting.
const MOST: usize = 100_000;
/// Milliseconds between two looks of the process that has waited longest; others look less often.
const LOOK_MS: u64 = 25;
const LONGEST_LOOK_MS: u64 = 1_000;
/// Milliseconds after which a process that cannot change the list starts without a permit.
const STUCK_MS: u64 = 5_000;
/// Milliseconds after which a process starts without a permit, whatever the list says.
const LONGEST_WAIT_MS: u64 = 3_600_000;

/// What is known of a gateway that is starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartSeen {
    /// It has shown that it works, or is a different process by now.
    Over,
    /// It has shown no evidence yet.
    NotYet,
    /// Nobody looks whether it works.
    Unwatched,
}

/// What is known of a service that another one is to start after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwaitedStart {
    /// Its start is over: it has shown that it works, is up where nothing shows that, has ended, or
    /// is not to be started at all.
    Over,
    /// It is starting, or is about to be started.
    NotYet,
    /// Its supervisor, or the watcher of gateways, has not told anything yet, if it ever does.
    Untold,
}

/// The functions that find out about the starts of other services.
#[derive(Debug, Clone, Copy)]
pub struct StartSight {
    /// Returns what is known of the start of this process in this service directory.
    pub start: fn(&Path, i32) -> StartSeen,
    /// Returns what is known of the start of the service in this service directory.
    pub awaited: fn(&Path) -> AwaitedStart,
}

/// Returns how many gateways may be starting at the same time, according to the setting; 0 means no
/// limit.
pub fn limit(text: &str) -> Option<usize> {
    match text {
        AUTO => {
            let processors = available_parallelism().map_or(1, usize::from);
            Some(processors.saturating_mul(2).max(FEWEST))
        }
        number => number.parse().ok().filter(|number| *number <= MOST),
    }
}

/// Returns an error if the setting makes no sense before expansion.
///
/// # Errors
/// Tells what would be right.
pub fn check(setting: &Number) -> Result<(), String> {
    match setting {
        Number::Text(text) if text.contains("${") => Ok(()),
        Number::Text(text) => limit(text).map(drop).ok_or_else(wrong),
        Number::Plain(number) => limit(&number.to_string()).map(drop).ok_or_else(wrong),
    }
}

/// Returns the text about correct values.
pub(crate) fn wrong() -> String {
    format!("must be `{AUTO}`, or a number from 0 to {MOST}")
}

/// Returns the starts of a scandir that wait or are in progress, according to the list.
pub fn all(scandir: &Path) -> StartPermits {
    let opened = by_path::open(scandir, OFlags::RDONLY | OFlags::DIRECTORY)
        .and_then(|scandir| file::open_directory(&scandir, DIRECTORY));
    let mut permits = opened.map(|directory| read(&directory).unwrap_or_default()).unwrap_or_default();
    // A process that was killed while it waited stays in the list until the next start.
    permits.0.retain(|permit| permit.span.is_some() || process(permit).is_some());
    permits
}

/// Returns what the start of this process waits for; `None` if it does not wait.
pub fn delay(scandir: &Path, pid: i32) -> Option<StartDelay> {
    all(scandir).delay(pid)
}

/// The limit, how long this start counts, and the function that finds out about others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PermitRules {
    pub limit: usize,
    /// Milliseconds for which it counts if nobody looks whether it works.
    pub unwatched_ms: u64,
    pub longest_ms: u64,
    pub see: fn(&Path, i32) -> StartSeen,
}

impl PermitRules {
    fn span(&self) -> StartSpan {
        let now = monotonic_ms();
        StartSpan {
            unwatched_until_ms: now.saturating_add(self.unwatched_ms),
            until_ms: now.saturating_add(self.longest_ms),
        }
    }
}

/// Returns when the service whose directory is the working directory may start, and whether it had
/// to wait. `tell` is called once, with the number of starts before it.
pub(crate) fn take(service: &str, rules: &PermitRules, tell: &mut dyn FnMut(usize)) -> bool {
    let Some((own, place)) = own_place() else { return false };
    let (mut has_waited, mut free_at) = (false, monotonic_ms());
    let until = free_at.saturating_add(LONGEST_WAIT_MS);
    while monotonic_ms() < until {
        let before = match place.attempt(service, &own, rules) {
            Ok(Some(PermitAnswer::Now)) | Err(_) => return has_waited,
            Ok(Some(PermitAnswer::Behind(before))) => {
                free_at = monotonic_ms();
                Some(before)
            }
            // Another process changes the list, which takes a moment.
            Ok(None) if monotonic_ms().saturating_sub(free_at) > STUCK_MS => return has_waited,
            Ok(None) => None,
        };
        if let Some(before) = before.filter(|_| !std::mem::replace(&mut has_waited, true)) {
            tell(before);
        }
        pause(look_ms(before.unwrap_or_default()));
    }
    has_waited
}

/// Returns this process, and the place of the list for it, if there can be one.
fn own_place() -> Option<(Process, PermitDirectory)> {
    os::own_pid().map(Pid::get).and_then(Process::of).zip(PermitDirectory::here().ok())
}

/// The result of asking for a permit.
enum PermitAnswer {
    Now,
    /// This many wait before this one.
    Behind(usize),
}

/// The place of the list.
struct PermitDirectory {
    scandir: PathBuf,
    directory: OwnedFd,
}

impl PermitDirectory {
    /// Returns the place in the scandir that holds the working directory, if it belongs to this
    /// user.
    fn here() -> Result<Self, Errno> {
        let here =
            std::env::current_dir().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let scandir = here.parent().ok_or(Errno::NOENT)?.to_owned();
        let opened = file::open_directory(CWD, "..")?;
        match mkdirat(&opened, DIRECTORY, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let directory = file::open_directory(&opened, DIRECTORY)?;
        let is_own = fstat(&directory)?.st_uid == rustix::process::geteuid().as_raw();
        is_own.then_some(Self { scandir, directory }).ok_or(Errno::PERM)
    }

    /// Asks for a permit once; `None` if another process is just changing the list.
    fn attempt(
        &self,
        service: &str,
        own: &Process,
        rules: &PermitRules,
    ) -> Result<Option<PermitAnswer>, Errno> {
        let Some(_lock) = file::lock(&self.directory, LOCK)? else { return Ok(None) };
        // Nobody waits for a list that is too long.
        let Some(written) = read(&self.directory) else { return Ok(Some(PermitAnswer::Now)) };
        let mut permits = written.clone();
        self.forget_what_is_over(&mut permits, rules);
        // Its own note may be left, if it could not be removed.
        permits.note_awaited(own.pid, own.began, service, None);
        if !permits.0.iter().any(|permit| permit.pid == own.pid && permit.began == own.began) {
            let (pid, began, service) = (own.pid, own.began, service.to_owned());
            permits.0.push(StartPermit { pid, began, span: None, awaits: None, service, is_stopped: false });
        }
        let may_begin = permits.may_begin(own.pid, rules.limit);
        if may_begin {
            permits.begin(own.pid, rules.span());
        }
        self.publish(&written, &permits)?;
        let before = permits.before(own.pid).unwrap_or_default();
        Ok(Some(if may_begin { PermitAnswer::Now } else { PermitAnswer::Behind(before) }))
    }

    /// Writes the list if it has changed. The caller holds the lock.
    fn publish(&self, written: &StartPermits, permits: &StartPermits) -> Result<(), Errno> {
        let text = permits.encode();
        if text == written.encode() {
            return Ok(());
        }
        file::publish(&self.directory, LIST, NEW, text.as_bytes(), Mode::from_raw_mode(0o644))
    }

    /// Removes the starts that are over. Of the waiting ones, only as many are checked as may
    /// start: the others do not matter yet.
    fn forget_what_is_over(&self, permits: &mut StartPermits, rules: &PermitRules) {
        let mut waiting = 0_usize;
        permits.0.retain_mut(|permit| {
            if permit.span.is_none() && waiting >= rules.limit {
                return true;
            }
            let Some(process) = process(permit) else { return false };
            permit.is_stopped = process.is_stopped;
            let Some(span) = permit.span else {
                let waits = !self.has_begun(permit);
                let counts = waits && !permit.is_stopped && permit.awaits.is_none();
                waiting = waiting.saturating_add(usize::from(counts));
                return waits;
            };
            !self.is_over(permit, span, rules.see)
        });
    }

    /// Returns whether a process that is listed as waiting has gone on without a permit, because it
    /// could not change the list.
    fn has_begun(&self, permit: &StartPermit) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Ok(service) = by_path::open(self.scandir.join(&permit.service), flags) else { return false };
        let mut buffer = [0; MARK_BYTES];
        let mark = file::read_small(&service, files::STARTED, &mut buffer).ok();
        mark.and_then(StartMark::decode).is_some_and(|mark| mark.pid.get() == permit.pid)
    }

    fn is_over(&self, permit: &StartPermit, span: StartSpan, see: fn(&Path, i32) -> StartSeen) -> bool {
        let now = monotonic_ms();
        now >= span.until_ms
            || match see(&self.scandir.join(&permit.service), permit.pid) {
                StartSeen::Over => true,
                StartSeen::NotYet => false,
                StartSeen::Unwatched => now >= span.unwatched_until_ms,
            }
    }
}

/// Returns the process of a start, if it exists.
fn process(permit: &StartPermit) -> Option<Process> {
    Process::of(permit.pid).filter(|process| process.began == permit.began)
}

/// Returns the list, which is empty if it cannot be read; `None` if it is too long.
fn read(directory: impl AsFd) -> Option<StartPermits> {
    let mut buffer = vec![0; MAX_BYTES];
    let bytes = file::read_small(directory, LIST, &mut buffer).unwrap_or_default();
    (bytes.len() < MAX_BYTES).then(|| StartPermits::decode(bytes))
}

/// Returns the milliseconds before another look: the more starts are before this one, the more.
fn look_ms(before: usize) -> u64 {
    let before = u64::try_from(before).unwrap_or(u64::MAX).saturating_add(1);
    LOOK_MS.saturating_mul(before).min(LONGEST_LOOK_MS)
}

fn pause(ms: u64) {
    let _ = poll(&mut [], Some(&timespec(ms)));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::CWD;

    use super::*;

    /// Asks once for a permit, with a limit of one, in a scandir with this list; returns whether it
    /// got one.
    fn attempt(scandir: &Path, list: &str) -> bool {
        fs::create_dir_all(scandir.join(DIRECTORY)).unwrap();
        fs::write(scandir.join(DIRECTORY).join(LIST), list).unwrap();
        let directory = file::open_directory(CWD, scandir.join(DIRECTORY)).unwrap();
        let place = PermitDirectory { scandir: scandir.to_owned(), directory };
        let rules = PermitRules { limit: 1, unwatched_ms: 1, longest_ms: 1, see: |_, _| StartSeen::NotYet };
        let own = Process::of(std::process::id().cast_signed()).unwrap();
        matches!(place.attempt("gateway-own", &own, &rules), Ok(Some(PermitAnswer::Now)))
    }

    #[test]
    fn nobody_waits_for_a_process_that_has_gone_or_has_begun_without_a_turn_or_for_a_list_too_long() {
        let scandir = tempfile::tempdir().unwrap();
        let scandir = scandir.path();
        let other = Process::of(std::os::unix::process::parent_id().cast_signed()).unwrap();
        let waits = format!("{} {} - - gateway-other\n", other.pid, other.began);
        assert!(!attempt(scandir, &waits), "it waits for one that has waited longer");
        // As many as there were when a whole fleet was killed.
        let gone = format!("{} {} - - gateway-gone\n", other.pid, other.began.wrapping_add(1)).repeat(9);
        assert!(attempt(scandir, &gone));
        assert!(!attempt(scandir, &format!("{gone}{waits}")));
        fs::create_dir_all(scandir.join("gateway-other/data")).unwrap();
        fs::write(scandir.join("gateway-other").join(files::STARTED), format!("{} prober\n", other.pid))
            .unwrap();
        assert!(attempt(scandir, &waits));
        let endless = "1 1 1 18446744073709551615 x\n".repeat(MAX_BYTES / 20);
        assert!(attempt(scandir, &endless));
    }

    #[test]
    fn the_setting_is_a_number_or_leaves_it_to_the_machine() {
        assert_eq!((limit("0"), limit("3")), (Some(0), Some(3)));
        assert!(limit("auto").is_some_and(|limit| limit >= 4));
        for wrong in ["", "-1", "many", "1.5", "100001", "${X}"] {
            assert_eq!(limit(wrong), None, "{wrong}");
        }
    }
}
