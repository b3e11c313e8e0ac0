//! Going down in order: services, then what they left behind, the logs, and whatever else is below us.
//!
//! Where a command is, services of a certain kind go before it and the others after it, as far as they are of one user
//! (`gatevisor_core::stop`). Every stage ends with an event, never after a fixed pause; the grace only bounds it. No request
//! is written: a container that stops still wants what it wanted.
//!
//! An event that never comes holds nobody up: what cannot even be killed, because somebody traces it, say, is left behind.

use std::collections::BTreeSet;

use gatevisor_core::stop::Rank;
use gatevisor_core::{ServiceInput, Tick};
use rustix::process::{Signal, WaitOptions, getpid, wait};

use crate::directory;
use crate::kill::{kill, kill_all};
use crate::orphans;
use crate::service::{Id, ServiceRole, SupervisedService};
use crate::stderr_log::say;
use crate::supervisor::{Supervisor, Timer};

/// Milliseconds that processes without a service have between `SIGTERM` and `SIGKILL`.
const ORPHAN_GRACE_MS: u64 = 2000;
/// Milliseconds between two rounds of killing what did not die.
const AGAIN_MS: u64 = 500;
/// Milliseconds of killing after which what did not die is left behind.
const KILLING_MS: u64 = 10_000;
/// The same in a container, whose engine kills it as a whole soon: others shall have their last lines written before that.
const KILLING_OF_CONTAINER_MS: u64 = 1_000;
/// Milliseconds between two hunts for processes that fork and end faster than one hunt takes.
const HUNT_AGAIN_MS: u64 = 20;
/// The dead that are collected at the very end.
const LAST_DEATHS: usize = 1 << 20;

/// How far the shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not begun.
    Running,
    /// The command and the services are going down, each user's in order, each service with its logger after it.
    Services,
    /// The services are down. Loggers read what is left, up to the end of their pipes.
    Loggers,
    /// The log daemons are writing what is left.
    Logs,
    /// Processes that belong to no service are told to end.
    Orphans,
    /// Nothing is left.
    Over,
}

impl Supervisor {
    /// Begins the shutdown; asked a second time, it stops waiting.
    pub(crate) fn begin_shutdown(&mut self) {
        if self.stage != Stage::Running {
            self.force_shutdown();
            return;
        }
        let now = self.now.tick.0;
        self.wake_at(Tick(now.saturating_add(self.config.grace_ms)), Timer::Shutdown);
        self.forget_pending_scan();
        let running = self.pids.len();
        say!("stopping ({running} {} running)", if running == 1 { "process" } else { "processes" });
        self.stage = Stage::Services;
        if self.config.container.is_some() {
            // What comes after others shall be asked as well before everything is killed.
            let alone = self.config.grace_ms.saturating_sub(self.config.grace_ms / 4);
            self.wake_at(Tick(now.saturating_add(alone)), Timer::Advance);
        }
        self.stop_due();
    }

    /// Returns when a service is told to stop, among those of its user.
    fn rank(&self, service: &SupervisedService) -> Rank {
        match &self.config.container {
            Some(container) if service.slot.starts_with(&container.stop_first) => Rank::First,
            Some(_) | None => Rank::Last,
        }
    }

    /// Returns the user whose services the command stands among: who has the scandir is whom the container is for.
    fn commands_user(&self) -> u32 {
        rustix::fs::fstat(&self.scandir).map_or_else(|_| directory::our_user(), |stat| stat.st_uid)
    }

    /// Tells everybody to stop whose turn it is. A logger ends after its service, when it has read everything.
    fn stop_due(&mut self) {
        let of = |id: Id| {
            let service = self.services.get(id).filter(|service| service.role == ServiceRole::Main)?;
            Some((id, (service.uid, self.rank(service))))
        };
        let mains: Vec<(Id, (u32, Rank))> = self.services.ids().into_iter().filter_map(of).collect();
        let mut running: BTreeSet<(u32, Rank)> = mains.iter().map(|(_, whose)| *whose).collect();
        running.extend(self.has_command().then(|| (self.commands_user(), Rank::Command)));
        let due = self.stop_order.due(&running);
        let told = mains.iter().filter(|(_, whose)| due.contains(whose));
        for &(id, _) in told {
            self.step(id, ServiceInput::Shutdown);
        }
        if due.iter().any(|(_, rank)| *rank == Rank::Command) {
            self.stop_command();
        }
    }

    /// Waits for nobody any longer, and tells everything to end.
    pub(crate) fn advance_shutdown(&mut self) {
        self.stop_order.advance();
        if self.stage == Stage::Services {
            self.stop_due();
        }
    }

    /// Begins the shutdown, in which loggers end at once instead of reading to the end of their pipes.
    pub(crate) fn quit(&mut self) {
        let begins = self.stage == Stage::Running;
        self.begin_shutdown();
        if begins {
            for id in self.services.ids() {
                if self.services.get(id).is_some_and(|s| s.role == ServiceRole::Logger) {
                    self.step(id, ServiceInput::Shutdown);
                }
            }
        }
    }

    /// Leaves everything as it is and ends.
    pub(crate) fn abandon(&mut self) {
        self.stage = Stage::Over;
    }

    /// The grace is over, or somebody insists: kills what is in the way, and in the end leaves it behind.
    pub(crate) fn force_shutdown(&mut self) {
        self.advance_shutdown();
        if matches!(self.stage, Stage::Running | Stage::Over) {
            return;
        }
        let now = self.now.tick;
        let is_first = self.killing_since.is_none();
        let since = *self.killing_since.get_or_insert(now);
        let killing = if self.config.container.is_some() { KILLING_OF_CONTAINER_MS } else { KILLING_MS };
        let gives_up = now.since(since) > killing;
        match self.stage {
            Stage::Running | Stage::Over => {}
            Stage::Services | Stage::Loggers if gives_up => {
                self.say_who_is_in_the_way("leaving behind what cannot be killed");
                self.stage = Stage::Logs;
                self.quit_log_daemons();
            }
            Stage::Services | Stage::Loggers => {
                if is_first {
                    self.say_who_is_in_the_way("killing what did not stop in time");
                }
                self.kill_command();
                for id in self.services.ids() {
                    self.step(id, ServiceInput::KillNow);
                }
                // One of them may be what a service cannot end for.
                self.end_orphans(Signal::KILL);
                if !is_first {
                    // Their owners may have stopped them.
                    self.kill_late_log_daemons();
                }
            }
            Stage::Logs => {
                self.give_up_log_daemons();
                if gives_up {
                    self.stage = Stage::Orphans;
                    self.end_orphans(Signal::KILL);
                }
            }
            Stage::Orphans if gives_up => self.stage = Stage::Over,
            Stage::Orphans => {
                self.end_orphans(Signal::KILL);
                self.wake_at(now.after(HUNT_AGAIN_MS), Timer::Shutdown);
                return;
            }
        }
        self.wake_at(now.after(AGAIN_MS), Timer::Shutdown);
    }

    fn say_who_is_in_the_way(&self, what: &str) {
        let names = self.running_names();
        if !names.is_empty() {
            say!("{what}: {}", names.join(", "));
        }
    }

    /// Returns the names of what still runs.
    fn running_names(&self) -> Vec<String> {
        let command = self.has_command().then(|| "the command".to_owned());
        let ids = self.services.ids();
        let services = ids.iter().filter_map(|&id| self.services.get(id)).map(SupervisedService::name);
        command.into_iter().chain(services).collect()
    }

    /// Moves on to the next stage when the present one is complete; returns whether all are.
    pub(crate) fn is_over(&mut self) -> bool {
        if self.stage == Stage::Services {
            self.stop_due();
        }
        if self.stage == Stage::Services && !self.services.has(ServiceRole::Main) && !self.has_command() {
            self.stage = Stage::Loggers;
            if !self.slots.is_empty() {
                // What a service left behind may hold its log pipe, and the logger waits for the end of that.
                self.end_orphans(Signal::TERM);
                self.wake_at(self.now.tick.after(ORPHAN_GRACE_MS), Timer::Orphans);
            }
        }
        if self.stage == Stage::Loggers && self.slots.is_empty() {
            self.stage = Stage::Logs;
            self.quit_log_daemons();
        }
        if self.stage == Stage::Logs && !self.has_log_daemons() {
            if !orphans::can_be_found() {
                // Nobody can be told to end, so nobody is waited for: helpers of ours end because we do.
                say!("everything that is known here has stopped");
                self.stage = Stage::Over;
                return true;
            }
            self.stage = Stage::Orphans;
            // Where the grace is over, they have none either: the container would be killed as a whole.
            let late = self.config.container.is_some() && self.killing_since.is_some();
            self.end_orphans(if late { Signal::KILL } else { Signal::TERM });
            self.wake_at(self.now.tick.after(ORPHAN_GRACE_MS), Timer::Shutdown);
            // Notices at once when there is none.
            self.reap();
        }
        self.stage == Stage::Over
    }

    /// The time of what services left behind is over.
    pub(crate) fn kill_orphans(&mut self) {
        if self.stage == Stage::Loggers {
            self.end_orphans(Signal::KILL);
            self.wake_at(self.now.tick.after(ORPHAN_GRACE_MS), Timer::Orphans);
        }
    }

    /// Sends `signal` to every child of ours that is no service's process and no log daemon; `SIGKILL` goes to all that
    /// descends from them as well.
    fn end_orphans(&mut self, signal: Signal) {
        let is_orphan = |child: gatevisor_wire::Pid| {
            // A script may be what asked for the end; it has until everything else is down.
            let is_script = self.stage != Stage::Orphans && self.unreaped.contains_key(&child);
            // What ends a group is soon over itself, unless there is no time at all.
            let ends_group = signal != Signal::KILL && self.groups.ending.contains(&child);
            let is_known = is_script
                || ends_group
                || self.is_command(child)
                || self.pids.contains_key(&child)
                || self.is_log_daemon(child);
            !is_known
        };
        if signal != Signal::KILL {
            for pid in orphans::children(is_orphan) {
                kill(pid, signal, false);
            }
            return;
        }
        if self.stage == Stage::Orphans && getpid().is_init() {
            // Nothing but ourselves is wanted any more in the whole namespace.
            kill_all(&orphans::children(is_orphan));
        }
        let mut collected = Vec::new();
        orphans::kill_descendants(is_orphan, |pid| collected.push(pid));
        for pid in collected {
            self.unreaped.remove(&pid);
            self.groups.ending.remove(&pid);
        }
    }
}

/// Collects who has ended, so that nobody else finds them unreaped when we are gone.
pub(crate) fn reap_last() {
    for _ in 0..LAST_DEATHS {
        if !matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {
            break;
        }
    }
}
