//! *Lives here:* the evidence of the watcher of gateways that one process works, and noticing when
//! there is news of it.
//!
//! *Does not live here:* looking for evidence (`crate::live`); what follows from it (`follower`).

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatevisor_liveness::Liveness;
use gatevisor_paths::by_path;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use gatevisor_wire::Pid;

use crate::live::{self, LiveState};

/// How much longer than its start deadline a process is given: the watcher looks every so often.
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
    /// Reports what the watcher publishes.
    news: Option<Inotify>,
    /// How long it may take until it shows that it works.
    deadline: Duration,
}

impl LiveEvidence {
    /// Returns the evidence of the process of a service; `None` if nobody follows it.
    pub fn of(service: &Path, pid: Pid) -> Option<Self> {
        let live = live::of_service(service, pid.get()).filter(gatevisor_slot::live::Live::looks)?;
        let deadline = Duration::from_millis(live.settings()?.start_deadline_ms).saturating_add(LATE);
        let (scandir, name) = service.parent().zip(service.file_name())?;
        let mut evidence = Self {
            scandir: scandir.to_owned(),
            service: name.to_string_lossy().into_owned(),
            pid,
            news: None,
            deadline,
        };
        evidence.watch();
        Some(evidence)
    }

    /// Returns whether it is that of this process.
    pub fn is_of(&self, pid: Pid) -> bool {
        self.pid == pid
    }

    /// Returns how long after its start it may take until it shows that it works.
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Returns what wakes who waits for it.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.news.as_ref().map(AsFd::as_fd)
    }

    /// Begins to watch; the directory does not exist before a watcher of gateways has run.
    fn watch(&mut self) {
        let what = WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        let directory = live::directory(&self.scandir);
        self.news = Inotify::new().ok().filter(|news| by_path::watch(news, directory, what).is_ok());
    }

    /// Returns what is known of a process that has been up for so long.
    pub fn look(&mut self, up: Duration) -> Shown {
        if let Some(news) = &self.news {
            news.drain();
        } else {
            self.watch();
        }
        if live::unwatched(&self.scandir).is_some() {
            return Shown::Unwatched;
        }
        let report = live::look(&self.scandir, &self.service, self.pid.get(), up.as_secs());
        let Some(report) = report else { return Shown::Unwatched };
        match report.state {
            LiveState::Said(Liveness::Live | Liveness::Degraded | Liveness::Draining) => Shown::Works,
            LiveState::Said(Liveness::Unresponsive) => Shown::Not(report.reason),
            LiveState::Said(Liveness::Up) => Shown::Unwatched,
            LiveState::Said(Liveness::Starting | Liveness::Paused | Liveness::Traced)
            | LiveState::Unknown => Shown::NotYet,
        }
    }
}
