//! The watcher that finds out whether gateways work, and the process that watches the watcher.
//!
//! *Lives here:* having both run beside the watcher of profiles, and saying what they do.
//! *Does not live here:* watching (`gatevisor_gateways::live`).
//!
//! Both end with the process beside which they run. A watcher that ends is started again, and so is one that does not get on:
//! one that is stopped or stuck is killed, for it publishes nothing that counts any more.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatevisor_gateways::incidents::{self, Evidence, IncidentRequest};
use gatevisor_gateways::live::{LiveNotice, LiveWatchError, LiveWatcher, Silent, beat_of};
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_liveness::{Attended, Attention, ClockReading};
use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::process::fork_beside;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use crate::container_scandir::variable;
use crate::exit::{CommandError, Exit};
use crate::{last_lines, out};

/// Gateways that are ended and started at a time.
const PARALLEL: usize = 2;
/// How often it is looked whether the watcher gets on.
const LOOK: Duration = Duration::from_secs(15);
/// Milliseconds of our own time for which a watcher may say nothing.
const STUCK_MS: u64 = 60_000;
/// Milliseconds before a watcher that has ended is started again: after the first time, and at the most.
const FIRST_MS: u64 = 1_000;
const LONGEST_MS: u64 = 60_000;
/// Milliseconds that the definition's own command for evidence may take.
const EVIDENCE_MS: u64 = 3_000;

/// Watches beside this process, as long as it runs.
pub fn beside(manager: &ScandirManager) -> Result<(), CommandError> {
    fork_beside(|| guard(manager))
        .map(drop)
        .map_err(|errno| CommandError::new(Exit::System, format!("cannot fork: {errno}")))
}

/// Keeps a watcher running; does not return.
fn guard(manager: &ScandirManager) -> i32 {
    let mut delay = FIRST_MS;
    loop {
        let began = monotonic_ms();
        match fork_beside(|| watch(manager)) {
            Ok(worker) => mind(worker, manager.scandir()),
            Err(errno) => out::warn(&format!("cannot watch whether gateways work: cannot fork: {errno}")),
        }
        // One that ran for a while may go on at once.
        delay = if monotonic_ms().saturating_sub(began) > LONGEST_MS { FIRST_MS } else { delay };
        wait(None, Duration::from_millis(delay));
        delay = delay.saturating_mul(2).min(LONGEST_MS);
    }
}

fn watch(manager: &ScandirManager) -> i32 {
    let error = match LiveWatcher::new(manager.clone(), PARALLEL, tell, collect) {
        Ok(watcher) => watcher.run(),
        Err(error) => error,
    };
    // Another one that watches them is as good.
    if !matches!(error, LiveWatchError::Taken { .. }) {
        out::warn(&CommandError::of(Exit::System, &error).message);
    }
    i32::from(Exit::System.code())
}

/// Returns when a watcher has ended; kills one that says nothing any more.
fn mind(worker: Pid, scandir: &Path) {
    let ended = pidfd_open(worker, PidfdFlags::empty()).ok();
    let (mut attention, mut last_beat) = (Attention::default(), (None, Attended::default()));
    let planned = u64::try_from(LOOK.as_millis()).unwrap_or(u64::MAX);
    loop {
        if let Ok(Some(_)) = waitpid(Some(worker), WaitOptions::NOHANG) {
            return;
        }
        let now_ms = monotonic_ms();
        let wake = attention.wake(ClockReading { monotonic_ms: now_ms, boottime_ms: now_ms }, planned);
        let beat = beat_of(scandir).map(|pulse| pulse.beat_ms);
        if beat != last_beat.0 || wake.lapse {
            last_beat = (beat, wake.now);
        } else if wake.now.since(last_beat.1) > STUCK_MS {
            out::warn("the watcher of gateways does not get on, and is replaced");
            let _ = kill_process(worker, Signal::KILL);
            let _ = waitpid(Some(worker), WaitOptions::empty());
            return;
        }
        wait(ended.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)), LOOK);
    }
}

/// Waits for something, or for a time.
fn wait(what: Option<PollFd<'_>>, limit: Duration) {
    let mut fds: Vec<PollFd<'_>> = what.into_iter().collect();
    let timeout = Timespec::try_from(limit).ok();
    while poll(&mut fds, timeout.as_ref()) == Err(Errno::INTR) {}
}

/// Collects evidence about a gateway that does not respond, in a process of the watcher's; returns where.
fn collect(manager: &ScandirManager, silent: &Silent<'_>) -> Option<PathBuf> {
    let (home, service) = (manager.home(), manager.slot(silent.name));
    let evidence = (!silent.command.is_empty()).then(|| Evidence {
        argv: silent.command.iter().map(OsString::from).collect(),
        directory: home.profile_dir(silent.name),
        timeout_ms: EVIDENCE_MS,
    });
    let request = IncidentRequest {
        logs: &incidents::logs_of(home, silent.name),
        name: silent.name.as_str(),
        service: service.path(),
        pid: gatevisor_wire::Pid::new(silent.life.pid)?,
        start_ticks: silent.life.start_ticks,
        reason: silent.reason,
        history: silent.history,
        command: evidence.as_ref(),
        at: jiff::Timestamp::now(),
        environment_files: &incidents::environment_files(manager.agent(), home, silent.name, &variable),
        log: &|out| last_lines::for_incident(manager, silent.name, out),
    };
    match incidents::collect(&request) {
        Ok(incident) => Some(incident.path),
        Err(error) => {
            out::warn(&CommandError::of(Exit::System, &error).message);
            None
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what a watcher tells")]
fn tell(notice: LiveNotice) {
    out::say(format_args!("{notice}"));
}
