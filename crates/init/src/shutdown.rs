//! Going down in order: services, then what they left behind, the logs, and whatever else is below us.
//!
//! Where a command is, services of a certain kind go before it and the others after it. Every stage ends with an event,
//! never after a fixed pause; the grace only bounds it. No wish is written: a container that stops still wants what it
//! wanted.
//!
//! An event that never comes holds nobody up: what cannot even be killed, because somebody traces it, say, is left behind.

use gatevisor_core::{Event, Tick};
use rustix::process::Signal;

use crate::kill::kill;
use crate::service::{Id, Role, Service};
use crate::strays;
use crate::supervisor::{Supervisor, Timer};
use crate::talk::say;

/// Milliseconds that processes without a service have between `SIGTERM` and `SIGKILL`.
const STRAY_GRACE_MS: u64 = 2000;
/// Milliseconds between two rounds of killing what did not die.
const AGAIN_MS: u64 = 500;
/// Rounds after which what did not die is left behind.
const ROUNDS: u32 = 20;
/// Rounds in a container, whose engine kills it as a whole soon: others shall have their last lines written before that.
const ROUNDS_OF_CONTAINER: u32 = 2;

/// How far the shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not begun.
    Running,
    /// The services that go before the command are going down.
    First,
    /// The command is told to end.
    Command,
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
        let now = self.now.tick.0;
        self.wake_at(Tick(now.saturating_add(self.config.grace_ms)), Timer::Shutdown);
        self.forget_pending_scan();
        let running = self.pids.len();
        say!("stopping ({running} {} running)", if running == 1 { "process" } else { "processes" });
        if self.config.container.is_none() {
            self.stage = Stage::Services;
            self.stop_services(|_| true);
            return;
        }
        self.stage = Stage::First;
        // What comes after them shall be asked as well before everything is killed.
        let alone = self.config.grace_ms.saturating_sub(self.config.grace_ms / 4);
        self.wake_at(Tick(now.saturating_add(alone)), Timer::Hurry);
        let ids = self.first();
        self.stop_services(|id| ids.contains(&id));
    }

    /// Returns the services that are stopped before the command.
    fn first(&self) -> Vec<Id> {
        let prefix = self.config.container.as_ref().map(|container| container.stop_first.as_slice());
        let is_first = |id: &Id| {
            let service = self.services.get(*id).filter(|service| service.role == Role::Main);
            service.zip(prefix).is_some_and(|(service, prefix)| service.slot.starts_with(prefix))
        };
        self.services.ids().into_iter().filter(is_first).collect()
    }

    /// Tells the services that `which` picks to go down. A logger ends after its service, when it has read everything.
    fn stop_services(&mut self, which: impl Fn(Id) -> bool) {
        for id in self.services.ids() {
            if which(id) && self.services.get(id).is_some_and(|s| s.role == Role::Main) {
                self.step(id, Event::Shutdown);
            }
        }
    }

    /// Waits no longer for those that go first, and tells everything else to end.
    pub(crate) fn hurry(&mut self) {
        if matches!(self.stage, Stage::First | Stage::Command) {
            self.stage = Stage::Services;
            self.stop_command();
            let told = self.first();
            self.stop_services(|id| !told.contains(&id));
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

    /// The grace is over, or somebody insists: kills what is in the way, and in the end leaves it behind.
    pub(crate) fn lose_patience(&mut self) {
        self.hurry();
        self.impatient = true;
        if matches!(self.stage, Stage::Running | Stage::Over | Stage::First | Stage::Command) {
            return;
        }
        self.rounds = self.rounds.saturating_add(1);
        let rounds = if self.config.container.is_some() { ROUNDS_OF_CONTAINER } else { ROUNDS };
        let gives_up = self.rounds > rounds;
        if matches!(self.stage, Stage::Services | Stage::Loggers) && (self.rounds == 1 || gives_up) {
            let names = self.running_names();
            let what = if gives_up {
                "leaving behind what cannot be killed"
            } else {
                "killing what did not stop in time"
            };
            if !names.is_empty() {
                say!("{what}: {}", names.join(", "));
            }
        }
        match self.stage {
            Stage::Running | Stage::Over | Stage::First | Stage::Command => {}
            Stage::Services | Stage::Loggers if gives_up => {
                self.stage = Stage::Logs;
                self.quit_log_daemons();
            }
            Stage::Services | Stage::Loggers => {
                self.kill_command();
                for id in self.services.ids() {
                    self.step(id, Event::KillNow);
                }
                // One of them may be what a service cannot end for.
                self.end_orphans(Signal::KILL);
                if self.rounds > 1 {
                    // Their owners may have stopped them.
                    self.kill_late_log_daemons();
                }
            }
            Stage::Logs => {
                self.give_up_log_daemons();
                if gives_up {
                    self.stage = Stage::Strays;
                    self.end_orphans(Signal::KILL);
                }
            }
            Stage::Strays if gives_up => self.stage = Stage::Over,
            Stage::Strays => self.end_orphans(Signal::KILL),
        }
        self.wake_at(self.now.tick.after(AGAIN_MS), Timer::Shutdown);
    }

    /// Returns the names of what still runs.
    fn running_names(&self) -> Vec<String> {
        let command = self.has_command().then(|| "the command".to_owned());
        let ids = self.services.ids();
        let services = ids.iter().filter_map(|&id| self.services.get(id)).map(Service::name);
        command.into_iter().chain(services).collect()
    }

    /// Moves on to the next stage when the present one is complete; returns whether all are.
    pub(crate) fn is_over(&mut self) -> bool {
        if self.stage == Stage::First && self.first().is_empty() {
            self.stage = Stage::Command;
            self.stop_command();
        }
        if self.stage == Stage::Command && !self.has_command() {
            self.stage = Stage::Services;
            self.stop_services(|_| true);
        }
        if self.stage == Stage::Services && !self.services.has(Role::Main) && !self.has_command() {
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
            // Where the grace is over, they have none either: the container would be killed as a whole.
            let late = self.config.container.is_some() && self.impatient;
            self.end_orphans(if late { Signal::KILL } else { Signal::TERM });
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

    /// Sends `signal` to every child of ours that is no service's process and no log daemon; `SIGKILL` goes to all that
    /// descends from them as well.
    fn end_orphans(&self, signal: Signal) {
        let is_orphan = |child: gatevisor_wire::Pid| {
            // A script may be what asked for the end; it has until everything else is down.
            let is_script = self.stage != Stage::Strays && self.doomed.contains_key(&child);
            // What ends a group is soon over itself, unless there is no time at all.
            let ends_group = signal != Signal::KILL && self.groups.ending.contains(&child);
            let is_known = is_script
                || ends_group
                || self.is_command(child)
                || self.pids.contains_key(&child)
                || self.is_log_daemon(child);
            !is_known
        };
        if signal == Signal::KILL {
            strays::kill_descendants(is_orphan);
        } else {
            for pid in strays::children(is_orphan) {
                kill(pid, signal, false);
            }
        }
    }
}
