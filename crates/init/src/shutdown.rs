//! Going down in order: services, then what they left behind, the logs, and whatever else is below us.
//!
//! Every stage ends with an event, never after a fixed pause; the grace only bounds it. No wish is
//! written: a container that stops still wants what it wanted.

use gatevisor_core::{Event, Tick};
use rustix::process::{Pid, Signal, getpid, kill_process};

use crate::service::{Role, Service};
use crate::supervisor::{Supervisor, Timer};
use crate::talk::say;

/// Milliseconds that processes without a service have between `SIGTERM` and `SIGKILL`.
const STRAY_GRACE_MS: u64 = 2000;
/// Milliseconds between two rounds of killing what did not die.
const AGAIN_MS: u64 = 5000;

/// How far the shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not begun.
    Running,
    /// The services are going down, each with its logger after it.
    Services,
    /// The services are down. Loggers read what is left, up to the end of their pipes.
    Loggers,
    /// The log daemons are writing what is left.
    Logs,
    /// Processes that belong to no service are told to end.
    Strays,
    /// Nothing is left.
    Over,
}

impl Supervisor {
    /// Begins the shutdown; asked a second time, it stops waiting.
    pub(crate) fn begin_shutdown(&mut self) {
        if self.stage != Stage::Running {
            self.lose_patience();
            return;
        }
        self.stage = Stage::Services;
        self.wake_at(Tick(self.now.tick.0.saturating_add(self.config.grace_ms)), Timer::Shutdown);
        self.forget_pending_scan();
        let running = self.pids.len();
        say!("stopping ({running} {} running)", if running == 1 { "process" } else { "processes" });
        for id in self.services.ids() {
            // A logger ends after its service, when it has read everything.
            if self.services.get(id).is_some_and(|s| s.role == Role::Main) {
                self.step(id, Event::Shutdown);
            }
        }
    }

    /// Begins the shutdown, in which loggers end at once instead of reading to the end of their pipes.
    pub(crate) fn quit(&mut self) {
        let begins = self.stage == Stage::Running;
        self.begin_shutdown();
        if begins {
            for id in self.services.ids() {
                if self.services.get(id).is_some_and(|s| s.role == Role::Logger) {
                    self.step(id, Event::Shutdown);
                }
            }
        }
    }

    /// Leaves everything as it is and ends.
    pub(crate) fn abandon(&mut self) {
        self.stage = Stage::Over;
    }

    /// The grace is over, or somebody insists: kills what is in the way.
    pub(crate) fn lose_patience(&mut self) {
        match self.stage {
            Stage::Running | Stage::Over => return,
            Stage::Services | Stage::Loggers => {
                let names: Vec<String> = self
                    .services
                    .ids()
                    .iter()
                    .filter_map(|&id| self.services.get(id))
                    .map(Service::name)
                    .collect();
                if !names.is_empty() {
                    say!("killing what did not stop in time: {}", names.join(", "));
                }
                for id in self.services.ids() {
                    self.step(id, Event::KillNow);
                }
                if self.stage == Stage::Loggers {
                    self.end_orphans(Signal::KILL);
                }
            }
            Stage::Logs => self.kill_log_daemons(),
            Stage::Strays => self.end_orphans(Signal::KILL),
        }
        self.wake_at(self.now.tick.after(AGAIN_MS), Timer::Shutdown);
    }

    /// Moves on to the next stage when the present one is complete; returns whether all are.
    pub(crate) fn is_over(&mut self) -> bool {
        if self.stage == Stage::Services && !self.services.has(Role::Main) {
            self.stage = Stage::Loggers;
            if !self.slots.is_empty() {
                // What a service left behind may hold its log pipe, and the logger waits for the end of that.
                self.end_orphans(Signal::TERM);
                self.wake_at(self.now.tick.after(STRAY_GRACE_MS), Timer::Orphans);
            }
        }
        if self.stage == Stage::Loggers && self.slots.is_empty() {
            self.stage = Stage::Logs;
            self.quit_log_daemons();
        }
        if self.stage == Stage::Logs && !self.has_log_daemons() {
            self.stage = Stage::Strays;
            self.end_orphans(Signal::TERM);
            self.wake_at(self.now.tick.after(STRAY_GRACE_MS), Timer::Shutdown);
            // Notices at once when there is none.
            self.reap();
        }
        self.stage == Stage::Over
    }

    /// The time of what services left behind is over.
    pub(crate) fn kill_orphans(&mut self) {
        if self.stage == Stage::Loggers {
            self.end_orphans(Signal::KILL);
            self.wake_at(self.now.tick.after(STRAY_GRACE_MS), Timer::Orphans);
        }
    }

    /// Sends `signal` to every child of ours that is no service's process and no log daemon.
    fn end_orphans(&self, signal: Signal) {
        let ours = getpid();
        let Ok(entries) = std::fs::read_dir("/proc") else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            let (Some(pid), Some(known)) = (Pid::from_raw(number), gatevisor_wire::Pid::new(number)) else {
                continue;
            };
            // A script may be what asked for the end; it has until everything else is down.
            let is_script = self.stage != Stage::Strays && self.doomed.contains_key(&known);
            let is_known = is_script || self.pids.contains_key(&known) || self.is_log_daemon(known);
            if !is_known && parent_of(pid) == Some(ours) {
                let _ = kill_process(pid, signal);
            }
        }
    }
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The command may hold anything; what follows its last parenthesis is numbers.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok().and_then(Pid::from_raw)
}
