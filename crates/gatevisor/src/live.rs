//! The watcher that finds out whether gateways work.
//!
//! *Lives here:* running it, and reporting its actions.
//! *Does not live here:* watching (`gatevisor_gateways::live`), and keeping it running (`keeper`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gatevisor_client::ServiceDir;
use gatevisor_gateways::incidents::{self, Evidence, IncidentRequest};
use gatevisor_gateways::live::{LiveNotice, LiveWatchError, LiveWatcher, Silent, beat_of};
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_sys::proc::is_stopped_by_signal;
use gatevisor_sys::process::fork_beside;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, getppid, kill_process, waitpid};

use crate::container_scandir::variable;
use crate::exit::{CommandError, Exit};
use crate::keeper::{self, Kept, ParentService};
use crate::{alerts, declared, last_lines, out};

/// The most gateways that are ended and started at the same time.
const PARALLEL: usize = 2;
/// Milliseconds that the definition's own command for evidence may take.
const EVIDENCE_MS: u64 = 3_000;

/// Starts a process that keeps the watcher running as long as this process runs. Returns that
/// process.
///
/// This process is one of these services. The new one ends it if a signal has stopped it.
pub fn beside(manager: &ScandirManager, services: [&str; 2]) -> Result<Pid, CommandError> {
    let parent = getpid();
    let stopped = Box::new(move || stopped_service(manager, services, parent));
    let parent = ParentService { what: "the process that watches the profiles", stopped };
    fork_beside(|| {
        keeper::keep(&[kept(manager), alerts::kept(manager), declared::kept(manager)], Some(&parent))
    })
    .map_err(|errno| CommandError::new(Exit::System, format!("cannot fork: {errno}")))
}

/// Returns this parent of the process that calls this, if a signal has stopped it and it is a
/// service that its supervisor has not paused.
fn stopped_service(manager: &ScandirManager, services: [&str; 2], parent: Pid) -> Option<Pid> {
    let is_parent = getppid() == Some(parent);
    let is_stopped = || is_stopped_service(manager.scandir(), services, parent.as_raw_nonzero().get());
    (is_parent && is_stopped()).then_some(parent)
}

/// Returns whether a signal has stopped this process, and it is one of these services, which its
/// supervisor has not paused.
fn is_stopped_service(scandir: &Path, services: [&str; 2], pid: i32) -> bool {
    let is_it = |name: &str| {
        let status = ServiceDir::new(scandir.join(name)).status();
        status.is_ok_and(|status| status.pid.is_some_and(|it| it.get() == pid) && !status.paused)
    };
    is_stopped_by_signal(pid) && services.into_iter().any(is_it)
}

/// Waits until that process has ended, and returns the error about it. A process that a signal has
/// stopped is ended first.
pub fn ended(keeper: Pid) -> CommandError {
    loop {
        match waitpid(Some(keeper), WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => drop(kill_process(keeper, Signal::KILL)),
            Ok(None) | Err(Errno::INTR) => {}
            Ok(Some(_)) | Err(_) => break,
        }
    }
    CommandError::new(Exit::System, "what keeps the watcher of gateways running has ended; beginning again")
}

/// Returns the watcher of gateways, for a keeper.
pub fn kept(manager: &ScandirManager) -> Kept<'_> {
    let (job, pulse) = (Box::new(|| watch(manager)), Box::new(|| pulse(manager)));
    Kept { what: "the process that watches whether gateways work", job, pulse: Some(pulse), is_wanted: None }
}

/// Returns a number that changes as long as the watcher of a scandir makes progress.
fn pulse(manager: &ScandirManager) -> Option<u64> {
    beat_of(manager.scandir()).map(|pulse| pulse.beat_ms)
}

/// Watches whether the gateways work. Returns an exit code when that is no longer possible.
fn watch(manager: &ScandirManager) -> i32 {
    let error = match LiveWatcher::new(manager.clone(), PARALLEL, tell, collect) {
        Ok(watcher) => watcher.run(),
        Err(error) => error,
    };
    // It is fine if another watcher watches them.
    if !matches!(error, LiveWatchError::Taken { .. }) {
        out::warn(&CommandError::of(Exit::System, &error).message);
    }
    i32::from(Exit::System.code())
}

/// Collects evidence about an unresponsive gateway, in a process of the watcher's; returns its
/// directory.
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

#[cfg(test)]
mod tests {
    use std::fs;

    use gatevisor_wire::status::Status;
    use gatevisor_wire::tai::Tai64n;
    use gatevisor_wire::wait::WaitStatus;

    use super::*;

    #[test]
    fn a_service_that_a_signal_has_stopped_is_told_from_one_that_runs_or_that_its_supervisor_has_paused() {
        let scandir = tempfile::tempdir().unwrap();
        let supervise = scandir.path().join("one").join("supervise");
        fs::create_dir_all(&supervise).unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let number = pid.as_raw_nonzero().get();
        let with = |paused: bool, of: i32| {
            let moment = Tai64n::now_from(std::time::SystemTime::now());
            let status = Status {
                changed: moment,
                ready_at: moment,
                pid: gatevisor_wire::Pid::new(of),
                last: WaitStatus::default(),
                paused,
                finishing: false,
                want_up: true,
                ready: false,
            };
            fs::write(supervise.join("status"), status.encode()).unwrap();
            is_stopped_service(scandir.path(), ["one", "other"], number)
        };
        assert!(!with(false, number), "it runs");
        kill_process(pid, Signal::STOP).unwrap();
        let stopped = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap().1;
        assert!(stopped.stopped());
        assert!(with(false, number), "a signal has stopped it");
        assert!(!with(true, number), "its supervisor has paused it");
        assert!(!with(false, number + 1), "the service is another process");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
