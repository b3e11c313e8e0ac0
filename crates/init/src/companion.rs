//! The companion: one process that runs beside us as long as we supervise.
//!
//! *Lives here:* starting it, and replacing one that has ended or that a signal has stopped.
//! *Does not live here:* what it does, which is nothing to us; how long to wait before the next
//! start (`gatevisor_core::helper`).

use std::ffi::CString;
use std::fmt;
use std::os::fd::BorrowedFd;

use gatevisor_core::Tick;
use gatevisor_core::helper::HelperHistory;
use gatevisor_sys::spawn::Starting;
use gatevisor_wire::Pid;
use gatevisor_wire::wait::WaitStatus;
use rustix::process::Signal;

use crate::kill::kill;
use crate::spawner::Spawner;
use crate::stderr_log::say;

/// The companion, running or waiting to be started. Without words there is none.
#[derive(Debug)]
pub(crate) struct Companion {
    words: Vec<CString>,
    process: Option<Pid>,
    /// Memory that the process uses until it has reached its program.
    starting: Option<Starting>,
    history: HelperHistory,
}

impl Companion {
    pub(crate) fn new(words: Vec<CString>, seed: u64) -> Self {
        Self { words, process: None, starting: None, history: HelperHistory::new(seed) }
    }

    /// Starts it. If that fails, returns when to try again.
    pub(crate) fn start(&mut self, spawner: &Spawner, scandir: BorrowedFd<'_>, now: Tick) -> Option<Tick> {
        if self.words.is_empty() || self.process.is_some() {
            return None;
        }
        self.history.begins(now);
        match spawner.start_companion(scandir, &self.words) {
            Ok(starting) => {
                self.process = Pid::new(starting.pid());
                self.starting = Some(starting);
                None
            }
            Err(errno) => {
                let at = self.history.failed(now);
                self.report(format_args!("cannot start the watcher of this home: {errno}"));
                Some(at)
            }
        }
    }

    /// Returns whether a process is the companion.
    pub(crate) fn is(&self, pid: Pid) -> bool {
        self.process == Some(pid)
    }

    /// Notes that it has ended.
    pub(crate) fn ended(&mut self) {
        (self.process, self.starting) = (None, None);
    }

    /// Says that it has ended, and returns when to start the next one.
    pub(crate) fn start_again(&mut self, now: Tick, how: WaitStatus) -> Tick {
        self.history.works_if_it_ran_long(now);
        let at = self.history.failed(now);
        self.report(format_args!("the watcher of this home ended ({how})"));
        at
    }

    /// Says what happened. If that happens all the time, it is said once until it has worked.
    fn report(&mut self, what: fmt::Arguments<'_>) {
        if self.history.must_report() {
            say!("warning: {what}; it cannot work, and is tried again every 10 s at the latest");
        } else if !self.history.is_failing() {
            say!("warning: {what}; starting it again");
        }
    }

    /// Kills it, so that the next one takes its place: a signal has stopped it, so it does nothing
    /// and would not end.
    pub(crate) fn replace(&self) {
        if let Some(pid) = self.process.and_then(|pid| rustix::process::Pid::from_raw(pid.get())) {
            say!("warning: the watcher of this home was stopped by a signal; it is replaced");
            kill(pid, Signal::KILL, false);
        }
    }
}
