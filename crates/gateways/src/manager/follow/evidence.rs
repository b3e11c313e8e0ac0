//! *Lives here:* the evidence of the watcher of gateways that one process works.
//!
//! *Does not live here:* looking for evidence (`crate::live`); noticing new evidence (`news`); what
//! follows from it (`follower`).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gatevisor_liveness::Liveness;
use gatevisor_wire::Pid;

use crate::live::{self, LiveState};

/// How late the watcher may be to see and report something, because it scans at intervals.
const LATE: Duration = Duration::from_secs(5);

/// What is known of whether a process works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// Nobody looks.
    Unwatched,
    /// There is no evidence so far, and it is too early to blame the process.
    NotYet,
    /// The watcher has found evidence.
    Works,
    /// It does not respond, for this reason.
    Not(Option<String>),
}

/// The evidence of a process that is followed.
pub(super) struct LiveEvidence {
    scandir: PathBuf,
    service: String,
    pid: Pid,
    /// How long after its start it may take to show that it works.
    deadline: Duration,
    /// When the wait began.
    since: Instant,
}

impl LiveEvidence {
    /// Returns the evidence of the process of a service; `None` if nobody follows it.
    pub fn of(service: &Path, pid: Pid) -> Option<Self> {
        let live = live::of_service(service, pid.get()).filter(gatevisor_slot::live::Live::looks)?;
        // The watcher decides, so it is waited for until it can report that the process does not
        // respond, and why.
        let deadline = Duration::from_millis(live.settings()?.silent_start_ms()).saturating_add(LATE);
        let (scandir, name) = service.parent().zip(service.file_name())?;
        let service = name.to_string_lossy().into_owned();
        Some(Self { scandir: scandir.to_owned(), service, pid, deadline, since: Instant::now() })
    }

    /// Returns whether it is the evidence of this process.
    pub fn is_of(&self, pid: Pid) -> bool {
        self.pid == pid
    }

    /// Returns how long after its start it may take until it shows that it works.
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Returns the rest of the time for which it is waited for.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.since.elapsed())
    }

    /// Returns what is known of a process that has been up for `up`.
    pub fn look(&self, up: Duration) -> Shown {
        if live::unwatched(&self.scandir).is_some() {
            return Shown::Unwatched;
        }
        let report = live::look(&self.scandir, &self.service, self.pid.get(), up.as_secs());
        let Some(report) = report else { return Shown::Unwatched };
        match report.state {
            _ if report.has_shown() => Shown::Works,
            LiveState::Said(Liveness::Unresponsive) => Shown::Not(report.reason),
            LiveState::Said(Liveness::Up) => Shown::Unwatched,
            LiveState::Said(_) | LiveState::Unknown => Shown::NotYet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_process_that_shows_nothing_is_waited_for_until_the_watcher_can_say_that_it_does_not_respond() {
        let place = tempfile::tempdir().unwrap();
        let service = place.path().join("gateway-a");
        fs::create_dir_all(service.join("data")).unwrap();
        let pid = Pid::new(i32::try_from(std::process::id()).unwrap()).unwrap();
        let settings = "start-deadline-ms = \"1000\"\ninterval-ms = \"2000\"\nmisses = \"3\"\n\
                        heartbeat = { file = \"beat\" }\n";
        fs::write(service.join("data/live"), format!("# pid {}\n{settings}", pid.get())).unwrap();
        let evidence = LiveEvidence::of(&service, pid).unwrap();
        assert_eq!(evidence.deadline(), Duration::from_secs(7) + LATE);
    }
}
