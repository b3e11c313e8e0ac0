//! Going down in order: services, then what they left behind, the logs, and whatever else is below
//! us.
//!
//! *Lives here:* which part does what for an action of the shutdown, and what is left.
//! *Does not live here:* the stages and their time (`gatevisor_core::shutdown`). No desired state
//! is written: a container that stops still wants what it wanted.

use std::collections::BTreeSet;

use gatevisor_core::ServiceInput;
use gatevisor_core::Tick;
use gatevisor_core::shutdown::{Remaining, Shutdown, ShutdownAction, ShutdownActions, ShutdownStage};
use gatevisor_core::stop::Rank;
use gatevisor_wire::Pid;
use rustix::process::{Signal, getpid};

use super::Supervisor;
use crate::id::Id;
use crate::kill::{kill, kill_all};
use crate::orphans;
use crate::reactor::Timer;
use crate::service::{ServiceRole, SupervisedService};
use crate::stderr_log::say;

impl Supervisor {
    /// Begins the shutdown; asked a second time, it waits for nobody any longer.
    pub(super) fn begin_shutdown(&mut self) {
        self.shut_down(Shutdown::ask);
    }

    /// Begins the shutdown, in which loggers end at once instead of reading to the end of their
    /// pipes.
    pub(super) fn quit(&mut self) {
        self.shut_down(Shutdown::quit);
    }

    /// Does what is due in the shutdown.
    pub(super) fn shutdown_is_due(&mut self) {
        self.shut_down(Shutdown::due);
    }

    /// Moves on in the shutdown as far as what is left allows; returns whether it is over.
    pub(super) fn is_over(&mut self) -> bool {
        while !self.shutdown.is_running() && self.shutdown.stage() != ShutdownStage::Over {
            let mut actions = ShutdownActions::new();
            let has_moved = self.shutdown.look(self.reactor.now().tick, &self.remaining(), &mut actions);
            self.act(actions);
            if !has_moved {
                break;
            }
        }
        self.shutdown.stage() == ShutdownStage::Over
    }

    /// Takes in that no child process is left.
    pub(super) fn no_child_is_left(&mut self) {
        let mut actions = ShutdownActions::new();
        self.shutdown.no_child_is_left(&mut actions);
        self.act(actions);
    }

    fn shut_down(&mut self, step: impl FnOnce(&mut Shutdown, Tick, &Remaining, &mut ShutdownActions)) {
        let mut actions = ShutdownActions::new();
        let (now, left) = (self.reactor.now().tick, self.remaining());
        step(&mut self.shutdown, now, &left, &mut actions);
        self.act(actions);
    }

    fn act(&mut self, actions: ShutdownActions) {
        self.reactor.set(&mut self.shutdown_alarm, Timer::Shutdown, self.shutdown.deadline());
        for action in actions {
            self.act_once(action);
        }
    }

    fn act_once(&mut self, action: ShutdownAction) {
        match action {
            ShutdownAction::Begin => {
                self.scanner.stop();
                let running = self.services.processes();
                say!("stopping ({running} {} running)", if running == 1 { "process" } else { "processes" });
            }
            ShutdownAction::Stop(whom) => self.stop(&whom),
            ShutdownAction::StopLoggers => {
                for id in self.ids_of(|service| service.role == ServiceRole::Logger) {
                    self.step(id, ServiceInput::Shutdown);
                }
            }
            ShutdownAction::SayKilling => self.say_who_is_in_the_way("killing what did not stop in time"),
            ShutdownAction::SayLeftBehind => {
                self.say_who_is_in_the_way("leaving behind what cannot be killed");
            }
            ShutdownAction::Kill => {
                self.command.kill();
                for id in self.services.ids() {
                    self.step(id, ServiceInput::KillNow);
                }
            }
            ShutdownAction::QuitLogDaemons => self.with_logs(|logs, with| logs.quit(with)),
            ShutdownAction::KillLateLogDaemons => self.logs.kill_late(),
            ShutdownAction::GiveUpLogDaemons => self.logs.give_up(),
            ShutdownAction::AskOrphans => {
                for pid in orphans::children(|child| self.is_orphan(child, Signal::TERM)) {
                    kill(pid, Signal::TERM, false);
                }
            }
            ShutdownAction::KillOrphans => self.kill_orphans(),
            ShutdownAction::Collect => self.reap(),
            ShutdownAction::SayKnownStopped => say!("everything that is known here has stopped"),
            ShutdownAction::SayStopped => say!("everything has stopped"),
        }
    }

    /// Returns what is left to end.
    fn remaining(&self) -> Remaining {
        let stage = self.shutdown.stage();
        if stage > ShutdownStage::Services {
            return Remaining {
                ranks: BTreeSet::new(),
                has_entries: !self.entries.is_empty(),
                has_log_daemons: self.logs.are_running(),
                can_find_orphans: stage != ShutdownStage::Logs || orphans::can_be_found(),
            };
        }
        let mut ranks: BTreeSet<(u32, Rank)> = self.mains().into_iter().map(|(_, whose)| whose).collect();
        // The container is for the user who owns the scandir.
        ranks.extend(self.command.is_running().then(|| (self.scandir.owner(), Rank::Command)));
        Remaining { ranks, has_entries: !self.entries.is_empty(), ..Remaining::default() }
    }

    /// Returns the services that are told to stop, each with its user and its rank. A logger ends
    /// after its service, when it has read everything.
    fn mains(&self) -> Vec<(Id, (u32, Rank))> {
        let of = |id: Id| {
            let service = self.services.get(id).filter(|service| service.role == ServiceRole::Main)?;
            Some((id, (service.uid, self.rank(service))))
        };
        self.services.ids().into_iter().filter_map(of).collect()
    }

    /// Returns when a service is told to stop, among those of its user.
    fn rank(&self, service: &SupervisedService) -> Rank {
        let stops_first = self.settings.stop_first.as_ref();
        if stops_first.is_some_and(|first| service.entry.starts_with(first)) {
            Rank::First
        } else {
            Rank::Last
        }
    }

    fn ids_of(&self, is_meant: impl Fn(&SupervisedService) -> bool) -> Vec<Id> {
        let ids = self.services.ids().into_iter();
        ids.filter(|&id| self.services.get(id).is_some_and(&is_meant)).collect()
    }

    /// Tells those to stop whose turn it is.
    fn stop(&mut self, whom: &[(u32, Rank)]) {
        for (id, whose) in self.mains() {
            if whom.contains(&whose) {
                self.step(id, ServiceInput::Shutdown);
            }
        }
        if whom.iter().any(|(_, rank)| *rank == Rank::Command) {
            self.command.stop();
        }
    }

    fn say_who_is_in_the_way(&self, what: &str) {
        let command = self.command.is_running().then(|| "the command".to_owned());
        let ids = self.services.ids();
        let services = ids.iter().filter_map(|&id| self.services.get(id)).map(SupervisedService::name);
        let names: Vec<String> = command.into_iter().chain(services).collect();
        if !names.is_empty() {
            say!("{what}: {}", names.join(", "));
        }
    }

    /// Returns whether a child of ours is no service's process, no log daemon and not the command.
    fn is_orphan(&self, child: Pid, signal: Signal) -> bool {
        // A script may be what asked for the end; it has until everything else is down.
        let is_script = self.shutdown.stage() != ShutdownStage::Orphans && self.spawner.is_unreaped(child);
        // What ends a group is soon over itself, unless there is no time at all.
        let ends_group = signal != Signal::KILL && self.spawner.ends_group(child);
        let is_known = is_script
            || ends_group
            || self.command.is(child)
            || self.services.of_process(child).is_some()
            || self.logs.is_daemon(child);
        !is_known
    }

    /// Kills the orphans and all that descends from them.
    fn kill_orphans(&mut self) {
        let is_orphan = |child| self.is_orphan(child, Signal::KILL);
        if self.shutdown.stage() == ShutdownStage::Orphans && getpid().is_init() {
            // Nothing but ourselves is wanted any more in the whole namespace.
            kill_all(&orphans::children(is_orphan));
        }
        let mut collected = Vec::new();
        orphans::kill_descendants(is_orphan, |pid| collected.push(pid));
        for pid in collected {
            self.spawner.reaped(pid);
        }
    }
}
